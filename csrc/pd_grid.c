#include "pd_grid.h"

#include <math.h>
#include <string.h>

#include "pd_time.h"

void pd_grid_encode(const struct pd_grid *frame, uint64_t index, uint32_t n_channels,
                    int64_t now_ns, int64_t deadline_ns, uint8_t *out)
{
    int64_t age_us = (now_ns - frame->t_ns) / PD_NS_PER_US;
    uint32_t age = age_us < 0 ? 0 : age_us > (int64_t)UINT32_MAX ? UINT32_MAX : (uint32_t)age_us;
    uint32_t flags = frame->flags;
    if (now_ns > frame->due_ns + deadline_ns) flags |= PD_GRID_LATE;
    memcpy(out, &index, 8);
    memcpy(out + 8, &frame->t_ns, 8);
    memcpy(out + 16, &flags, 4);
    memcpy(out + 20, &age, 4);
    for (uint32_t ch = 0; ch < n_channels; ch++) {
        float value = flags & PD_GRID_MISSING ? NAN : (float)frame->value[ch];
        memcpy(out + 24 + 4 * ch, &value, 4);
    }
}
