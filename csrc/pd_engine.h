/* Engine: the tick. Everything with a deadline happens in pd_engine_step, on the
 * real clock by the tick thread, or on a virtual clock by whoever calls it.
 *
 * What a step does is the plan: an immutable list of sources, swapped by one
 * atomic pointer between two steps. Whoever swaps may free the old plan (and
 * sources and analyses that only it held) once `steps`, read after the swap, has grown by one,
 * or, when no thread runs, at once.
 *
 * The step is C without locks, allocation or system calls. The thread adds the
 * sleep and at most one eventfd write a step, for the event loop.
 */
#ifndef PD_ENGINE_H
#define PD_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "pd_hist.h"
#include "pd_journal.h"
#include "pd_source.h"
#include "pd_time.h"

#define PD_MAX_SOURCES 8
#define PD_NOTIFY_OTHER (1ull << 32)
#define PD_TICK_STACK (256 * 1024)

struct pd_plan {
    uint64_t serial;
    uint32_t n_sources;
    struct pd_source *source[PD_MAX_SOURCES];
    struct pd_analysis *analysis[PD_MAX_SOURCES];   /* behind each; NULL: what is there */
};

struct pd_engine_state {            /* plain: saved with the journal */
    int64_t grid_t0_ns;
    int64_t wake_ns;                /* when this step was to happen; PD_NO_TIME before the first */
    int64_t beat_ns;                /* next heartbeat */
    uint64_t beats, beats_skipped;
    int64_t late_said_ns, late_worst_ns;    /* late ticks not told yet */
    uint64_t late_count, late_skipped;
    uint64_t events_next;           /* in a saved state: index of the first event after it */
};

struct pd_engine {
    struct pd_engine_state state;
    struct pd_ring *events;
    _Atomic(struct pd_plan *) plan;
    _Atomic uint64_t steps;
    _Atomic(struct pd_spsc *) tap;  /* intake journal, or NULL */
    struct pd_spsc *tap_begun;
    struct pd_hist tick;            /* lateness of a step: now − planned */
    struct pd_hist beat;            /* lateness of a heartbeat */
    struct pd_hist work;            /* what a step takes; the thread only */
    /* the thread */
    pthread_t thread;
    void *stack;                    /* PD_TICK_STACK bytes, locked; the caller's */
    int notify_fd, priority, cpu;
    _Atomic int stop, running, promote_error;
};

/* `events` has PD_EVENT_WORDS words. */
int pd_engine_init(struct pd_engine *engine, struct pd_ring *events, int64_t grid_t0_ns);

/* Before the first step: the grid begins then, and not when the engine was made. */
void pd_engine_begin(struct pd_engine *engine, int64_t grid_t0_ns);

/* Returns the old plan (NULL at first). */
struct pd_plan *pd_engine_swap(struct pd_engine *engine, struct pd_plan *plan);

enum { PD_NEWS_FRAMES = 1, PD_NEWS_OTHER = 2 };     /* windows, events */

/* limits: for each source of the plan, the native index to stop before; NULL: all
 * that is there. Returns the instant of the next step; *news: what there is for
 * others. */
int64_t pd_engine_step(struct pd_engine *engine, int64_t now_ns, const uint64_t *limits, int *news);

/* Starts and ends the tick thread. notify_fd: an eventfd, to which each step with news
 * adds 1, and PD_NOTIFY_OTHER where there is more than frames. Priority 0: not promoted. 0 or -errno. A refused promotion is no error: promote_error. */
int pd_engine_start(struct pd_engine *engine, int notify_fd, int priority, int cpu);
void pd_engine_stop(struct pd_engine *engine);

#endif
