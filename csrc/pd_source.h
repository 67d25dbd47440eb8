/* Source: a device as the tick sees it. Native samples in, grid frames out.
 *
 * It takes the samples of the native ring in order, teaches the clock, bridges
 * short losses, keeps the last second, and gives each instant of the 128 Hz grid
 * exactly one frame: resampled, or MISSING. A source without a native ring gives
 * MISSING frames: so the grid goes on while there is no device.
 *
 * Owner: the tick thread, or whoever steps the virtual clock. Nothing blocks or
 * allocates. The arena is the caller's: state and history, no pointers, so that
 * the journal can save it and a replay restore it.
 */
#ifndef PD_SOURCE_H
#define PD_SOURCE_H

#include <stdatomic.h>
#include <stdint.h>

#include "pd_analysis.h"
#include "pd_clock.h"
#include "pd_event.h"
#include "pd_grid.h"
#include "pd_native.h"
#include "pd_resample.h"
#include "pd_ring.h"

struct pd_source_config {
    double rate_hz;                 /* nominal; 0 without a device */
    double prior_ppm;
    int64_t transport_ns;
    int64_t hold_ns, bridge_ns, lost_after_ns;
    int64_t delay_ns;               /* of the resampler: the newest sample needed is this much later */
    uint32_t n_channels;            /* on the grid: the first of the native values */
    uint32_t n_values;
    uint32_t slot;                  /* the device's number in events and journal */
    uint32_t flags;                 /* set in each frame: PD_GRID_SIMULATED */
    struct pd_resample resample;
};

struct pd_source_state {
    struct pd_clock clock;
    uint64_t next;                  /* next native index to take */
    uint64_t good_until;            /* one past the newest sample that was there */
    uint64_t valid_from;            /* first index of this segment */
    uint64_t grid_next;             /* next grid index */
    int64_t newest_ns;              /* arrival of the newest sample taken, or PD_NO_TIME */
    int64_t silent_since_ns;        /* PD_NO_TIME while samples come */
    uint32_t discontinuity;         /* the next whole frame is the first of its kind */
    uint32_t reserved;
};

#define PD_REPORT_WORDS ((sizeof(struct pd_clock_report) + 7) / 8)
#define PD_REPORT_SLOTS 4

struct pd_source {
    struct pd_source_config config;
    double period_ns;
    const struct pd_ring *native;   /* NULL without a device */
    struct pd_ring *grid;
    struct pd_ring *events;
    struct pd_analysis *analysis;   /* what is behind it, or NULL; the caller's */
    int64_t grid_t0_ns;             /* of the last step */
    int muted;                      /* warming: events were told already */
    const struct pd_source *before; /* whose place it takes at its first step, or NULL */
    uint32_t n_rows;                /* a power of two; each row is kept twice, so that any
                                       window of it lies in one piece */
    struct pd_source_state *state;  /* in the arena */
    double *rows;                   /* [2 × n_rows][n_values], in the arena */
    uint32_t *run;                  /* [n_rows]: 0, or the length of the loss that it lies in */
    _Atomic uint64_t taken;         /* = state.next, for other threads */
    struct pd_ring reports;         /* the clock's, for other threads */
    uint64_t report_memory[sizeof(struct pd_ring_head) / 8 + PD_REPORT_SLOTS * (1 + PD_REPORT_WORDS)];
    uint64_t frame[PD_GRID_WORDS(PD_MAX_VALUES)];
    uint64_t sample[PD_NATIVE_WORDS(PD_MAX_VALUES)];
};

/* Bytes of the arena for this configuration; 0 when it can't be. */
size_t pd_source_arena_bytes(const struct pd_source_config *config);

/* `arena` is zeroed. The first sample taken will be the native ring's next one.
 * 0 or -EINVAL. */
int pd_source_init(struct pd_source *source, const struct pd_source_config *config, void *arena,
                   size_t arena_bytes, const struct pd_ring *native, struct pd_ring *grid,
                   struct pd_ring *events);

/* Before the source is in a plan: takes the native samples [first, until), or those of
 * them that are still there, in silence. grid_t0_ns as in a step. Set `before` to the source whose place it takes:
 * its first step then goes on where that one left off, and nothing is told twice. */
void pd_source_warm(struct pd_source *source, uint64_t first, uint64_t until, int64_t grid_t0_ns);

/* Emits what is due by now_ns, taking native samples up to index `limit`.
 * Returns how many frames and windows it emitted. grid_t0_ns: the instant of grid index 0. */
int pd_source_step(struct pd_source *source, int64_t now_ns, int64_t grid_t0_ns, uint64_t limit);

/* Tick, between two steps: this analysis is behind it from now on (NULL: the one that is). It has
 * learnt from the signal ring that both have. */
void pd_source_replace(struct pd_source *source, struct pd_analysis *analysis, int64_t grid_t0_ns);

/* When the next frame is due. */
int64_t pd_source_due(const struct pd_source *source, int64_t grid_t0_ns);

/* When to look for the last sample of the window that comes next: as it is expected, or, while it
 * lets itself be waited for, a millisecond from now. INT64_MAX: at the next frame will do. */
int64_t pd_source_window_due(const struct pd_source *source, int64_t now_ns, int64_t grid_t0_ns);

/* Any thread: the clock's last report, whole. 0, or -EAGAIN before the first. */
int pd_source_get_report(const struct pd_source *source, struct pd_clock_report *report);

#endif
