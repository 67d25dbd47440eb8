#define _GNU_SOURCE
#include "pd_engine.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LATE_DEADLINE_NS 7800000LL          /* DESIGN.md: a grid frame, 7.8 ms */
#define BEAT_DEADLINE_NS (3 * PD_NS_PER_MS)
#define WORK_DEADLINE_NS (2 * PD_NS_PER_MS)
#define SAY_LATE_EVERY_NS PD_NS_PER_S

void pd_engine_begin(struct pd_engine *engine, int64_t grid_t0_ns)
{
    engine->state.grid_t0_ns = grid_t0_ns;
    engine->state.beat_ns = grid_t0_ns + PD_BEAT_NS;
    engine->state.late_said_ns = grid_t0_ns;
}

int pd_engine_init(struct pd_engine *engine, struct pd_ring *events, int64_t grid_t0_ns)
{
    if (events->words != PD_EVENT_WORDS) return -EINVAL;
    memset(engine, 0, sizeof *engine);
    engine->events = events;
    engine->state.wake_ns = PD_NO_TIME;
    pd_engine_begin(engine, grid_t0_ns);
    pd_hist_init(&engine->tick, LATE_DEADLINE_NS);
    pd_hist_init(&engine->beat, BEAT_DEADLINE_NS);
    pd_hist_init(&engine->work, WORK_DEADLINE_NS);
    return 0;
}

struct pd_plan *pd_engine_swap(struct pd_engine *engine, struct pd_plan *plan)
{
    return atomic_exchange_explicit(&engine->plan, plan, memory_order_acq_rel);
}

static void account_lateness(struct pd_engine *engine, int64_t now_ns)
{
    struct pd_engine_state *state = &engine->state;
    if (state->wake_ns != PD_NO_TIME) {
        int64_t late_ns = now_ns - state->wake_ns;
        pd_hist_add(&engine->tick, late_ns);
        if (late_ns > LATE_DEADLINE_NS) {
            state->late_count++;
            if (late_ns > state->late_worst_ns) state->late_worst_ns = late_ns;
        }
    } else if (now_ns > state->beat_ns) {
        /* Heartbeats before the first step are not missed: nobody was there. */
        state->beat_ns += PD_BEAT_NS * ((now_ns - state->beat_ns + PD_BEAT_NS - 1) / PD_BEAT_NS);
    }
    if (now_ns >= state->beat_ns) {
        int64_t late_ns = now_ns - state->beat_ns;
        int64_t missed = late_ns / PD_BEAT_NS;      /* counted and skipped, never replayed */
        pd_hist_add(&engine->beat, late_ns);
        state->beats++;
        state->beats_skipped += (uint64_t)missed;
        state->late_skipped += (uint64_t)missed;
        state->beat_ns += PD_BEAT_NS * (1 + missed);
    }
    if (state->late_count && now_ns - state->late_said_ns >= SAY_LATE_EVERY_NS) {
        union {
            struct pd_event event;
            uint64_t words[PD_EVENT_WORDS];
        } out = { .event = { .t_ns = now_ns, .kind = PD_EVENT_LATE_TICK,
                             .a = (int64_t)state->late_count, .b = state->late_worst_ns,
                             .c = (int64_t)state->late_skipped } };
        pd_ring_push(engine->events, out.words);
        state->late_said_ns = now_ns;
        state->late_count = state->late_skipped = 0;
        state->late_worst_ns = 0;
    }
}

/* In records that the writer can take; a replay puts them together again. */
static void journal_part(struct pd_spsc *tap, const struct pd_source *source, int64_t now_ns,
                         const void *from, size_t left)
{
    for (const uint8_t *at = from; left;) {
        uint32_t part = left < PD_JOURNAL_MAX_BODY / 2 ? (uint32_t)left : PD_JOURNAL_MAX_BODY / 2;
        pd_journal_put(tap, PD_JOURNAL_SOURCE_STATE, source->config.slot, now_ns, at, part);
        at += part;
        left -= part;
    }
}

/* A new journal begins with the state that the next step starts from. */
static void journal_state(struct pd_engine *engine, struct pd_spsc *tap, int64_t now_ns,
                          const struct pd_plan *plan)
{
    engine->state.events_next = pd_ring_next(engine->events);
    pd_journal_put(tap, PD_JOURNAL_ENGINE_STATE, 0, now_ns, &engine->state, sizeof engine->state);
    for (uint32_t i = 0; plan && i < plan->n_sources; i++) {
        const struct pd_source *source = plan->source[i];
        const struct pd_analysis *analysis = source->analysis;
        journal_part(tap, source, now_ns, source->state, pd_source_arena_bytes(&source->config));
        if (analysis) {
            pd_analysis_settle(source->analysis);
            journal_part(tap, source, now_ns, analysis->state,
                         pd_analysis_arena_bytes(&analysis->config));
        }
    }
}

/* Events and windows that there have been. */
static uint64_t count_others(const struct pd_engine *engine, const struct pd_plan *plan)
{
    uint64_t n = pd_ring_next(engine->events);
    for (uint32_t i = 0; plan && i < plan->n_sources; i++)
        if (plan->source[i]->analysis) n += pd_ring_next(plan->source[i]->analysis->windows);
    return n;
}

int64_t pd_engine_step(struct pd_engine *engine, int64_t now_ns, const uint64_t *limits, int *news)
{
    struct pd_engine_state *state = &engine->state;
    struct pd_plan *plan = atomic_load_explicit(&engine->plan, memory_order_acquire);
    struct pd_spsc *tap = atomic_load_explicit(&engine->tap, memory_order_acquire);
    uint32_t n = plan ? plan->n_sources : 0;
    /* Here and not in the thread: both clocks must give the same bits. */
    unsigned fp = pd_fp_enter();
    for (uint32_t i = 0; i < n; i++)
        pd_source_replace(plan->source[i], plan->analysis[i], state->grid_t0_ns);
    if (tap != engine->tap_begun) {
        engine->tap_begun = tap;
        if (tap) journal_state(engine, tap, now_ns, plan);
    }
    const uint64_t others_before = count_others(engine, plan);
    account_lateness(engine, now_ns);

    struct {
        uint64_t serial;
        uint64_t seen[PD_MAX_SOURCES];
    } tick = { 0 };
    int emitted = 0;
    int64_t wake_ns = state->beat_ns;
    for (uint32_t i = 0; i < n; i++) {
        struct pd_source *source = plan->source[i];
        uint64_t limit = source->native ? pd_ring_next(source->native) : 0;
        if (limits && limits[i] < limit) limit = limits[i];
        tick.seen[i] = limit;
        emitted += pd_source_step(source, now_ns, state->grid_t0_ns, limit);
        int64_t due_ns = pd_source_due(source, state->grid_t0_ns);
        /* A frame that waits for its samples is looked at again a grid period on. */
        if (due_ns <= now_ns) due_ns += PD_GRID_NS * (1 + (now_ns - due_ns) / PD_GRID_NS);
        if (due_ns < wake_ns) wake_ns = due_ns;
        due_ns = pd_source_window_due(source, now_ns, state->grid_t0_ns);
        if (due_ns < wake_ns) wake_ns = due_ns;
    }
    if (tap) {
        tick.serial = plan ? plan->serial : 0;
        pd_journal_put(tap, PD_JOURNAL_TICK, 0, now_ns, &tick, (uint32_t)((1 + n) * sizeof(uint64_t)));
    }
    pd_fp_leave(fp);
    state->wake_ns = wake_ns;
    const int others = count_others(engine, plan) != others_before;
    if (news) *news = (emitted > 0 ? PD_NEWS_FRAMES : 0) | (others ? PD_NEWS_OTHER : 0);
    atomic_fetch_add_explicit(&engine->steps, 1, memory_order_release);
    return wake_ns;
}

static void *run(void *argument)
{
    struct pd_engine *engine = argument;
    if (engine->priority > 0)
        atomic_store_explicit(&engine->promote_error, -pd_thread_promote(engine->priority, engine->cpu),
                              memory_order_relaxed);
    pd_thread_touch_stack(PD_TICK_STACK / 2);

    int64_t wake_ns = pd_time_now();
    engine->state.wake_ns = PD_NO_TIME;
    while (!atomic_load_explicit(&engine->stop, memory_order_acquire)) {
        if (pd_time_sleep_until(wake_ns) == -EINTR) continue;
        int64_t now_ns = pd_time_now();
        int news = 0;
        wake_ns = pd_engine_step(engine, now_ns, NULL, &news);
        pd_hist_add(&engine->work, pd_time_now() - now_ns);
        /* Full means that the event loop has been told often enough. */
        const uint64_t told = 1 + (news & PD_NEWS_OTHER ? PD_NOTIFY_OTHER : 0);
        if (news && write(engine->notify_fd, &told, sizeof told) < 0 && errno != EAGAIN) break;
    }
    atomic_store_explicit(&engine->running, 0, memory_order_release);
    return NULL;
}

int pd_engine_start(struct pd_engine *engine, int notify_fd, int priority, int cpu)
{
    engine->notify_fd = notify_fd;
    engine->priority = priority;
    engine->cpu = cpu;
    atomic_store(&engine->stop, 0);
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc) return -rc;
    if (engine->stack) rc = pthread_attr_setstack(&attr, engine->stack, PD_TICK_STACK);
    /* Before it can load a plan: who swaps frees at once while nothing runs. */
    atomic_store(&engine->running, 1);
    if (rc == 0) rc = pthread_create(&engine->thread, &attr, run, engine);
    if (rc) atomic_store(&engine->running, 0);
    pthread_attr_destroy(&attr);
    return -rc;
}

void pd_engine_stop(struct pd_engine *engine)
{
    atomic_store_explicit(&engine->stop, 1, memory_order_release);
    pthread_join(engine->thread, NULL);
}
