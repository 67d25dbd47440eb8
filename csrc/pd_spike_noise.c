/* Exact medians of a full window, sixteen channels at a time: the bits of the median from
 * the highest down, by counting. Magnitudes are in the order of their bits. */
#include <math.h>
#include <string.h>

#include "pd_simd.h"
#include "pd_spike_state.h"

typedef int32_t ints __attribute__((vector_size(32)));
typedef int32_t ints_at __attribute__((vector_size(32), aligned(4), may_alias));

#define MIDDLE ((int32_t)PD_SPIKE_WINDOW / 2)

PD_MULTIVERSION
static void find_medians(const float *window, size_t stride, float *medians)
{
    int32_t values[PD_SPIKE_WINDOW][PD_SPIKE_LANES];
    for (uint32_t row = 0; row < PD_SPIKE_WINDOW; row++)
        memcpy(values[row], window + row * stride, sizeof values[row]);
    ints found0 = {0}, found1 = {0};
    for (int32_t bit = 1 << 30; bit; bit >>= 1) {
        const ints try0 = found0 | bit, try1 = found1 | bit;
        ints below0 = {0}, below1 = {0};
        for (uint32_t row = 0; row < PD_SPIKE_WINDOW; row++) {
            below0 += *(const ints_at *)values[row] < try0;             /* -1 for each */
            below1 += *(const ints_at *)(values[row] + 8) < try1;
        }
        found0 |= bit & (below0 >= -MIDDLE);
        found1 |= bit & (below1 >= -MIDDLE);
    }
    memcpy(medians, &found0, sizeof found0);
    memcpy(medians + 8, &found1, sizeof found1);
}

static void take(struct pd_spike_view *v, uint32_t channel, float median)
{
    const struct pd_spike *spike = v->head;
    if (v->quiet[channel] > spike->window_start) return;
    if (!(median > fabsf(v->level[channel]) * 0x1p-20f && median > PD_SPIKE_LEAST)) {
        v->windows[channel] = 0;
        v->noise[channel] = NAN;
        v->flags[channel] |= PD_SPIKE_FLAG_UNARMED;
    } else {
        const float estimate = median / 0.6745f;
        if (v->windows[channel] == 0) {
            v->noise[channel] = 0;
            v->flags[channel] |= PD_SPIKE_FLAG_UNARMED;
        }
        if (v->windows[channel] < PD_SPIKE_TRACK) v->windows[channel]++;
        v->noise[channel] += (estimate - v->noise[channel]) / (float)v->windows[channel];
    }
    pd_spike_arm(v, channel);
}

void pd_spike_take_window(struct pd_spike_view *v)
{
    const uint32_t n = v->head->n_padded, n_channels = v->head->n_channels;
    float medians[PD_SPIKE_LANES];
    for (uint32_t group = 0; group < n; group += PD_SPIKE_LANES) {
        find_medians(v->window + group, n, medians);
        for (uint32_t lane = 0; lane < PD_SPIKE_LANES && group + lane < n_channels; lane++)
            take(v, group + lane, medians[lane]);
    }
}
