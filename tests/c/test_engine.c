/* pd_engine: the step in virtual time, and the thread around it. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pd_engine.h"
#include "source_rig.h"

struct bench {
    struct rig *rig;
    struct pd_engine engine;
    struct pd_plan plan;
};

static struct bench *make_bench(void)
{
    struct bench *bench = calloc(1, sizeof *bench);
    bench->rig = rig_make(250);
    CHECK(pd_engine_init(&bench->engine, &bench->rig->events, bench->rig->t0_ns) == 0);
    bench->plan = (struct pd_plan){ .serial = 7, .n_sources = 1, .source = { &bench->rig->source } };
    CHECK(pd_engine_swap(&bench->engine, &bench->plan) == NULL);
    return bench;
}

static void free_bench(struct bench *bench)
{
    rig_free(bench->rig);
    free(bench);
}

static int64_t step(struct bench *bench, int64_t after_ns, int *news)
{
    return pd_engine_step(&bench->engine, bench->rig->t0_ns + after_ns, NULL, news);
}

static void test_init_refuses_another_ring(void)
{
    struct rig *rig = rig_make(250);
    struct pd_engine engine;
    CHECK(pd_engine_init(&engine, &rig->native, 0) == -EINVAL);
    rig_free(rig);
}

static void test_a_step_says_when_the_next_one_is(void)
{
    struct bench *bench = make_bench();
    const int64_t wait_ns = bench->rig->config.delay_ns + bench->rig->config.hold_ns;   /* 68 ms */
    int news = 7;
    CHECK(step(bench, 0, &news) == bench->rig->t0_ns + PD_BEAT_NS && news == 0);
    CHECK(step(bench, 50 * PD_NS_PER_MS, NULL) == bench->rig->t0_ns + wait_ns);
    CHECK(step(bench, wait_ns, &news) == bench->rig->t0_ns + 75 * PD_NS_PER_MS && news == 1);
    CHECK(pd_ring_next(&bench->rig->grid) == 1);
    CHECK(step(bench, 75 * PD_NS_PER_MS, &news) == bench->rig->t0_ns + wait_ns + PD_GRID_NS);
    CHECK(news == 0 && bench->engine.steps == 4);
    free_bench(bench);
}

/* Stepped just when it asked to be, it does all on time. */
static void test_steps_at_the_instants_asked_for_are_never_late(void)
{
    struct bench *bench = make_bench();
    struct rig *rig = bench->rig;
    const int64_t end_ns = rig->t0_ns + 4 * PD_NS_PER_S;
    uint64_t next = 0;
    for (int64_t now_ns = rig->t0_ns; now_ns < end_ns;) {
        for (; taken_ns(rig, next) <= now_ns; next++) arrive(rig, next, 0, taken_ns(rig, next));
        uint64_t seen = pd_ring_next(&rig->grid);
        int64_t wake_ns = pd_engine_step(&bench->engine, now_ns, NULL, NULL);
        for (; seen < pd_ring_next(&rig->grid); seen++)
            CHECK(frame_at(&rig->grid, seen).due_ns == now_ns, "frame %llu", (unsigned long long)seen);
        CHECK(wake_ns > now_ns && wake_ns <= now_ns + PD_BEAT_NS);
        now_ns = wake_ns;
    }
    CHECK(bench->engine.state.beats == 4000 / 25 - 1);
    CHECK(bench->engine.state.beats_skipped == 0);
    CHECK(bench->engine.tick.max_ns == 0 && bench->engine.beat.max_ns == 0);
    free_bench(bench);
}

static void test_a_late_step_gives_all_frames_and_skips_heartbeats(void)
{
    struct bench *bench = make_bench();
    struct rig *rig = bench->rig;
    for (uint64_t i = 0; i < 500; i++) {
        arrive(rig, i, 0, taken_ns(rig, i));
        pd_engine_step(&bench->engine, taken_ns(rig, i), NULL, NULL);
    }
    const uint64_t beats = bench->engine.state.beats, before = pd_ring_next(&rig->grid);
    for (uint64_t i = 500; i < 1250; i++) arrive(rig, i, 0, taken_ns(rig, i));
    rig->next_event = pd_ring_next(&rig->events);
    const int64_t now_ns = rig->t0_ns + 5 * PD_NS_PER_S;
    pd_engine_step(&bench->engine, now_ns, NULL, NULL);

    CHECK(bench->engine.state.beats == beats + 1);
    CHECK(bench->engine.state.beats_skipped == 120 && bench->engine.state.beats + 120 == 200,
          "%llu", (unsigned long long)bench->engine.state.beats_skipped);
    CHECK(bench->engine.state.beat_ns == now_ns + PD_BEAT_NS);
    const int64_t due = 5 * PD_NS_PER_S - rig->config.delay_ns - rig->config.hold_ns;
    CHECK(pd_ring_next(&rig->grid) == (uint64_t)(due / PD_GRID_NS) + 1);
    int missing = 0;
    double worst = 0;
    for (uint64_t g = before; g < pd_ring_next(&rig->grid); g++) {
        struct grid_frame frame = frame_at(&rig->grid, g);
        missing += (frame.flags & PD_GRID_MISSING) != 0;
        CHECK(frame.t_ns == rig->t0_ns + (int64_t)g * PD_GRID_NS);
        worst = fmax(worst, fabs(frame.value[0] - (double)(frame.t_ns - rig->t0_ns) / 4e6));
    }
    CHECK(missing == 0 && worst < 0.02, "%d, %g", missing, worst);

    struct pd_event event;
    int late = 0;
    while (next_event(rig, &event)) {
        if (event.kind != PD_EVENT_LATE_TICK) continue;
        late++;
        CHECK(event.a == 1 && event.c == 120, "%lld ticks, %lld heartbeats", (long long)event.a,
              (long long)event.c);
        CHECK(event.b > 2900 * PD_NS_PER_MS && event.b < 3100 * PD_NS_PER_MS);
    }
    CHECK(late == 1);
    CHECK(bench->engine.tick.missed == 1 && bench->engine.beat.missed == 1);
    free_bench(bench);
}

static void test_heartbeats_before_the_first_step_are_not_missed(void)
{
    struct bench *bench = make_bench();
    step(bench, 10 * PD_NS_PER_S + 1, NULL);
    CHECK(bench->engine.state.beats_skipped == 0 && bench->engine.beat.missed == 0);
    CHECK(bench->engine.state.beat_ns == bench->rig->t0_ns + 10 * PD_NS_PER_S + PD_BEAT_NS);
    free_bench(bench);
}

static void test_the_ticks_record_says_how_far_it_saw(void)
{
    static uint8_t buffer[1 << 18], record[1 << 18];
    struct pd_spsc tap;
    struct bench *bench = make_bench();
    struct rig *rig = bench->rig;
    pd_spsc_init(&tap, buffer, sizeof buffer);
    for (uint64_t i = 0; i < 100; i++) arrive(rig, i, 0, taken_ns(rig, i));
    step(bench, 400 * PD_NS_PER_MS, NULL);
    atomic_store(&bench->engine.tap, &tap);
    struct pd_engine_state state = bench->engine.state;
    state.events_next = pd_ring_next(bench->engine.events);     /* what saving adds */
    for (uint64_t i = 100; i < 110; i++) arrive(rig, i, 0, taken_ns(rig, i));
    step(bench, 440 * PD_NS_PER_MS, NULL);
    const uint64_t limit = 113;
    for (uint64_t i = 110; i < 120; i++) arrive(rig, i, 0, taken_ns(rig, i));
    pd_engine_step(&bench->engine, rig->t0_ns + 480 * PD_NS_PER_MS, &limit, NULL);
    atomic_store(&bench->engine.tap, NULL);
    step(bench, 500 * PD_NS_PER_MS, NULL);

    static const unsigned kinds[] = { PD_JOURNAL_ENGINE_STATE, PD_JOURNAL_SOURCE_STATE,
                                      PD_JOURNAL_TICK, PD_JOURNAL_TICK };
    static const uint64_t seen[] = { 0, 0, 110, 113 };
    int64_t took;
    unsigned n = 0;
    while ((took = pd_spsc_take(&tap, record, sizeof record)) > 0) {
        struct pd_journal_record head;
        memcpy(&head, record, sizeof head);
        CHECK(n < 4 && head.kind == kinds[n], "record %u is a %u", n, head.kind);
        if (n == 0) CHECK(memcmp(record + sizeof head, &state, sizeof state) == 0);
        if (n == 1) CHECK(head.bytes == pd_source_arena_bytes(&rig->config) && head.source == 2);
        if (n >= 2 && n < 4) {
            uint64_t tick[2];
            CHECK(head.bytes == sizeof tick);
            memcpy(tick, record + sizeof head, sizeof tick);
            CHECK(tick[0] == 7 && tick[1] == seen[n], "%llu", (unsigned long long)tick[1]);
        }
        n++;
    }
    CHECK(n == 4, "%u records", n);
    free_bench(bench);
}

static void test_without_a_plan_it_only_beats(void)
{
    struct bench *bench = make_bench();
    CHECK(pd_engine_swap(&bench->engine, NULL) == &bench->plan);
    int news = 1;
    step(bench, PD_BEAT_NS, &news);
    CHECK(bench->engine.state.beats == 1 && news == 0);
    free_bench(bench);
}

/* -- the thread --------------------------------------------------------------- */

static void wait_for_steps(struct pd_engine *engine, uint64_t steps)
{
    while (atomic_load(&engine->steps) < steps) sched_yield();
}

static void test_the_thread_ticks_and_tells(void)
{
    struct bench *bench = make_bench();
    struct pd_engine *engine = &bench->engine;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    engine->state.grid_t0_ns = pd_time_now();
    for (int again = 0; again < 3; again++) {
        CHECK(pd_engine_start(engine, fd, 0, -1) == 0);
        struct pollfd on = { .fd = fd, .events = POLLIN };
        CHECK(poll(&on, 1, 10000) == 1);
        uint64_t told = 0;
        CHECK(read(fd, &told, sizeof told) == sizeof told && told > 0);
        CHECK(atomic_load(&engine->running) == 1 && atomic_load(&engine->promote_error) == 0);
        pd_engine_stop(engine);
        CHECK(atomic_load(&engine->running) == 0);
    }
    CHECK(pd_ring_next(&bench->rig->grid) > 0);
    CHECK(engine->work.count >= engine->steps);
    close(fd);
    free_bench(bench);
}

static cpu_set_t cores_in_tick;
static void *note_cores(void *unused)
{
    (void)unused;
    cpu_set_t before;
    pthread_getaffinity_np(pthread_self(), sizeof before, &before);
    CHECK(pd_thread_promote(1000, sched_getcpu()) == -EINVAL);
    pthread_getaffinity_np(pthread_self(), sizeof cores_in_tick, &cores_in_tick);
    CHECK(CPU_EQUAL(&before, &cores_in_tick), "the thread is as it was");
    return NULL;
}

static void test_a_refused_promotion_is_said_and_it_ticks(void)
{
    struct bench *bench = make_bench();
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bench->engine.state.grid_t0_ns = pd_time_now();
    CHECK(pd_engine_start(&bench->engine, fd, 1000, -1) == 0);     /* no system has this priority */
    wait_for_steps(&bench->engine, 3);
    CHECK(atomic_load(&bench->engine.promote_error) == EINVAL);
    pd_engine_stop(&bench->engine);
    close(fd);
    free_bench(bench);

    pthread_t thread;
    pthread_create(&thread, NULL, note_cores, NULL);
    pthread_join(thread, NULL);
}

struct feeder {
    struct rig *rig;
    _Atomic int stop;
};

static void *keep_arriving(void *argument)
{
    struct feeder *feeder = argument;
    uint64_t i = 0;
    while (!atomic_load(&feeder->stop)) {
        int64_t now_ns = pd_time_now();
        for (; taken_ns(feeder->rig, i) <= now_ns; i++)
            if (i % 50) arrive(feeder->rig, i, 0, now_ns);
        pd_time_sleep_until(now_ns + PD_NS_PER_MS);
    }
    return NULL;
}

struct own_plan {                   /* a plan, and a source that only it holds */
    struct pd_plan plan;
    struct pd_source source;
    void *arena;
};

static struct own_plan *make_plan(struct rig *rig, uint64_t serial)
{
    struct own_plan *own = calloc(1, sizeof *own);
    own->arena = rig_source(rig, &own->source, &rig->grid);
    own->plan = (struct pd_plan){ .serial = serial, .n_sources = 1, .source = { &own->source } };
    return own;
}

/* By the header's rule: swap, read `steps`, free once it has grown by one. */
static void test_plans_are_swapped_and_freed_while_it_runs(void)
{
    struct bench *bench = make_bench();
    struct pd_engine *engine = &bench->engine;
    struct feeder feeder = { .rig = bench->rig };
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bench->rig->t0_ns = engine->state.grid_t0_ns = pd_time_now();
    struct own_plan *own = make_plan(bench->rig, 1);
    pd_engine_swap(engine, &own->plan);
    pthread_t thread;
    CHECK(pd_engine_start(engine, fd, 0, -1) == 0);
    pthread_create(&thread, NULL, keep_arriving, &feeder);

    uint64_t read = 0, torn = 0;
    for (uint64_t serial = 2; serial < 60; serial++) {
        struct own_plan *fresh = make_plan(bench->rig, serial);
        pd_source_warm(&fresh->source, 0, atomic_load(&own->source.taken),
                       engine->state.grid_t0_ns);
        CHECK(pd_engine_swap(engine, &fresh->plan) == &own->plan);
        uint64_t steps = atomic_load_explicit(&engine->steps, memory_order_acquire);
        while (atomic_load_explicit(&engine->steps, memory_order_acquire) == steps) {
            for (; read < pd_ring_next(&bench->rig->grid); read++)
                torn += frame_at(&bench->rig->grid, read).t_ns !=
                        engine->state.grid_t0_ns + (int64_t)read * PD_GRID_NS;
            sched_yield();
        }
        free(own->arena);
        free(own);
        own = fresh;
    }
    atomic_store(&feeder.stop, 1);
    pthread_join(thread, NULL);
    pd_engine_stop(engine);
    CHECK(torn == 0 && read > 10);
    free(own->arena);
    free(own);
    close(fd);
    free_bench(bench);
}

static void test_locking_the_text_gives_bytes_or_the_reason(void)
{
    int64_t locked = pd_text_lock();
    CHECK(locked > 0 || locked == -EPERM || locked == -ENOMEM || locked == -EAGAIN, "%lld",
          (long long)locked);
}

int main(void)
{
    test_init_refuses_another_ring();
    test_a_step_says_when_the_next_one_is();
    test_steps_at_the_instants_asked_for_are_never_late();
    test_a_late_step_gives_all_frames_and_skips_heartbeats();
    test_heartbeats_before_the_first_step_are_not_missed();
    test_the_ticks_record_says_how_far_it_saw();
    test_without_a_plan_it_only_beats();
    test_the_thread_ticks_and_tells();
    test_a_refused_promotion_is_said_and_it_ticks();
    test_plans_are_swapped_and_freed_while_it_runs();
    test_locking_the_text_gives_bytes_or_the_reason();
    return check_report("engine");
}
