#include "pd_play.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* How soon to look again for a row that is not there yet. */
#define LOOK_AGAIN_NS (2 * PD_NS_PER_MS)

int pd_play_init(struct pd_play *play, struct pd_intake *intake, uint64_t *rows, uint64_t n_rows,
                 int marker_fd)
{
    if (!intake || !rows || n_rows < 2 || (n_rows & (n_rows - 1))) return -EINVAL;
    memset(play, 0, sizeof *play);
    play->intake = intake;
    play->rows = rows;
    play->n_rows = n_rows;
    play->marker_fd = marker_fd;
    play->state.start_ns = PD_NO_TIME;
    atomic_init(&play->filled, 0);
    atomic_init(&play->end, UINT64_MAX);
    atomic_init(&play->played, 0);
    atomic_init(&play->starved, 0);
    atomic_init(&play->start_ns, PD_NO_TIME);
    return 0;
}

static struct pd_play_row *row_at(const struct pd_play *play, uint64_t n)
{
    size_t words = PD_PLAY_WORDS(play->intake->n_values);
    return (struct pd_play_row *)(play->rows + (size_t)(n & (play->n_rows - 1)) * words);
}

uint64_t pd_play_room(const struct pd_play *play)
{
    uint64_t filled = atomic_load_explicit(&play->filled, memory_order_relaxed);
    return play->n_rows - (filled - atomic_load_explicit(&play->played, memory_order_acquire));
}

struct pd_play_row *pd_play_row(const struct pd_play *play, uint64_t k)
{
    return row_at(play, atomic_load_explicit(&play->filled, memory_order_relaxed) + k);
}

void pd_play_fill(struct pd_play *play, uint64_t n)
{
    uint64_t filled = atomic_load_explicit(&play->filled, memory_order_relaxed);
    atomic_store_explicit(&play->filled, filled + n, memory_order_release);
}

void pd_play_finish(struct pd_play *play)
{
    uint64_t filled = atomic_load_explicit(&play->filled, memory_order_relaxed);
    atomic_store_explicit(&play->end, filled, memory_order_release);
}

static void play_row(struct pd_play *play, const struct pd_play_row *row, int64_t arrival_ns)
{
    if (row->flags & PD_PLAY_RESET) pd_intake_reset(play->intake);
    if (row->flags & PD_PLAY_LOST) return;
    pd_intake_indexed(play->intake, play->state.next, row->behind, arrival_ns, row->device_ns,
                      row->value);
}

static int64_t advance(struct pd_play *play, int64_t now_ns, int *marked)
{
    struct pd_play_state *state = &play->state;
    for (;;) {
        /* `end` first: once it is known, so are all rows before it. */
        uint64_t end = atomic_load_explicit(&play->end, memory_order_acquire);
        uint64_t filled = atomic_load_explicit(&play->filled, memory_order_acquire);
        if (state->next == end) return PD_DRIVER_ENDED;
        if (state->next == filled) {
            if (state->waited_for != (int64_t)state->next + 1) {
                state->waited_for = (int64_t)state->next + 1;
                atomic_fetch_add_explicit(&play->starved, 1, memory_order_relaxed);
            }
            return now_ns + LOOK_AGAIN_NS;
        }
        const struct pd_play_row *row = row_at(play, state->next);
        int64_t due_ns = state->start_ns + row->at_ns;
        if (due_ns > now_ns) return due_ns;
        /* What had to be waited for was not there before now. */
        play_row(play, row, state->waited_for == (int64_t)state->next + 1 ? now_ns : due_ns);
        *marked |= (row->flags & PD_PLAY_MARKED) != 0;
        state->next++;
        atomic_store_explicit(&play->played, state->next, memory_order_release);
    }
}

int64_t pd_play_advance(void *self, int64_t now_ns)
{
    struct pd_play *play = self;
    if (play->state.start_ns == PD_NO_TIME) {
        play->state.start_ns = now_ns;
        atomic_store_explicit(&play->start_ns, now_ns, memory_order_release);
    }
    int marked = 0;
    int64_t next_ns = advance(play, now_ns, &marked);
    const uint64_t one = 1;
    /* A full eventfd counter already tells what this would. */
    if (marked && play->marker_fd >= 0 && write(play->marker_fd, &one, sizeof one) < 0)
        return next_ns;
    return next_ns;
}
