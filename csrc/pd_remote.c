#include "pd_remote.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/socket.h>

#include "pd_time.h"

#define MISSING 1u                              /* flag of WIRE.md */
#define MOST_AHEAD (128u * 86400u)              /* frames that can be lost at once: a day */

int pd_remote_init(struct pd_remote *remote, struct pd_intake *intake, uint32_t frame_bytes, int fd)
{
    if (frame_bytes > PD_REMOTE_MAX_BYTES || intake->modulus ||
        frame_bytes < PD_REMOTE_HEAD + 4 * intake->n_values)
        return -EINVAL;
    memset(remote, 0, sizeof *remote);
    remote->intake = intake;
    remote->n_channels = intake->n_values;
    remote->frame_bytes = frame_bytes;
    remote->fd = fd;
    atomic_init(&remote->heard_ns, PD_NO_TIME);
    atomic_init(&remote->fault, PD_REMOTE_WHOLE);
    return 0;
}

static uint32_t check(struct pd_remote_state *state, uint64_t index, int64_t t_ns)
{
    if (!state->begun) {
        state->begun = 1;
        state->first_index = index;
        state->first_ns = t_ns;
        return PD_REMOTE_WHOLE;
    }
    if (index < state->next) return PD_REMOTE_INDEX;
    if (index - state->next > MOST_AHEAD) return PD_REMOTE_JUMP;
    /* Modulo 2^64 on both sides: hostile times overflow nothing. */
    uint64_t apart_ns = (uint64_t)t_ns - (uint64_t)state->first_ns;
    if (apart_ns != (index - state->first_index) * (uint64_t)PD_GRID_NS) return PD_REMOTE_TIME;
    return PD_REMOTE_WHOLE;
}

/* 0 when the frame breaks the stream. */
static int take(struct pd_remote *remote, const uint8_t *frame, uint32_t behind, int64_t arrival_ns)
{
    uint64_t index;
    int64_t t_ns;
    uint32_t flags;
    memcpy(&index, frame, 8);
    memcpy(&t_ns, frame + 8, 8);
    memcpy(&flags, frame + 16, 4);
    uint32_t fault = check(&remote->state, index, t_ns);
    if (fault != PD_REMOTE_WHOLE) {
        atomic_store_explicit(&remote->fault, fault, memory_order_release);
        if (remote->fd >= 0) shutdown(remote->fd, SHUT_RDWR);
        return 0;
    }
    remote->state.next = index + 1;
    if (flags & MISSING) return 1;
    double value[PD_MAX_VALUES];
    for (uint32_t ch = 0; ch < remote->n_channels; ch++) {
        float uv;
        memcpy(&uv, frame + PD_REMOTE_HEAD + 4 * ch, 4);
        if (!isfinite(uv)) return 1;
        value[ch] = uv;
    }
    pd_intake_indexed(remote->intake, index - remote->state.first_index, behind, arrival_ns, t_ns,
                      value);
    return 1;
}

void pd_remote_feed(void *self, const uint8_t *bytes, size_t n, int64_t arrival_ns)
{
    struct pd_remote *remote = self;
    struct pd_remote_state *state = &remote->state;
    const uint32_t size = remote->frame_bytes;
    atomic_store_explicit(&remote->heard_ns, arrival_ns, memory_order_relaxed);
    int whole = atomic_load_explicit(&remote->fault, memory_order_relaxed) == PD_REMOTE_WHOLE;
    size_t left = (state->n_pending + n) / size;        /* frames that this read completes */
    while (whole && left) {
        left--;
        const uint8_t *frame = bytes;
        size_t used = size;
        if (state->n_pending) {
            used = size - state->n_pending;
            memcpy(state->pending + state->n_pending, bytes, used);
            frame = state->pending;
            state->n_pending = 0;
        }
        whole = take(remote, frame, left > UINT32_MAX ? UINT32_MAX : (uint32_t)left, arrival_ns);
        bytes += used;
        n -= used;
    }
    if (whole && n) {
        memcpy(state->pending + state->n_pending, bytes, n);
        state->n_pending += (uint32_t)n;
    } else if (!whole) {
        pd_intake_junk(remote->intake, n > UINT32_MAX ? UINT32_MAX : (uint32_t)n);
    }
}
