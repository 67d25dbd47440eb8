/* pd_source: taking over from one before it, limits, what it refuses, what it reports, in virtual time. */
#include <errno.h>

#include "source_play.h"

static void test_a_warmed_source_goes_on_with_the_same_values(void)
{
    static const struct run runs[] = { { 400, 3 }, { 600, 9 } };
    struct rig *rig = rig_make(250);
    play(rig, 0, 800, runs, 2);

    struct pd_ring grid;
    size_t bytes = pd_ring_bytes(PD_GRID_WORDS(CHANNELS), GRID_SLOTS);
    void *memory = calloc(1, bytes);
    pd_ring_create(&grid, memory, bytes, PD_GRID_WORDS(CHANNELS), GRID_SLOTS,
                   pd_ring_next(&rig->grid));
    struct pd_source warmed;
    void *arena = rig_source(rig, &warmed, &grid);
    const uint64_t events = pd_ring_next(&rig->events), first = pd_ring_next(&grid);
    pd_source_warm(&warmed, 0, rig->source.taken, rig->t0_ns + GRID_OFFSET_NS);
    CHECK(pd_ring_next(&rig->events) == events, "what was told already is not told again");
    CHECK(warmed.taken == rig->source.taken);
    warmed.before = &rig->source;

    const int64_t grid_t0_ns = rig->t0_ns + GRID_OFFSET_NS;
    for (uint64_t i = 800; i < 1200; i++) {
        arrive(rig, i, 0, taken_ns(rig, i));
        pd_source_step(&rig->source, taken_ns(rig, i), grid_t0_ns, UINT64_MAX);
        pd_source_step(&warmed, taken_ns(rig, i), grid_t0_ns, UINT64_MAX);
    }
    CHECK(pd_ring_next(&grid) == pd_ring_next(&rig->grid) && pd_ring_next(&grid) > first + 150);
    int wrong = 0;
    for (uint64_t g = first; g < pd_ring_next(&grid); g++) {
        struct grid_frame a = frame_at(&rig->grid, g), b = frame_at(&grid, g);
        wrong += memcmp(&a, &b, sizeof a) != 0;
    }
    CHECK(wrong == 0, "%d frames differ", wrong);
    free(memory);
    free(arena);
    rig_free(rig);
}

static void test_a_tick_that_slept_longer_than_the_ring_says_so(void)
{
    static const struct run table[] = { { 0, 0 }, { 2470, 20 }, { 2474, 4 }, { 3000, 3 } };
    for (unsigned t = 0; t < sizeof table / sizeof *table; t++) {
        struct rig *rig = rig_make(250);
        play(rig, 0, 500, NULL, 0);
        rig->next_event = pd_ring_next(&rig->events);
        const uint64_t seen = rig->source.taken;
        for (uint64_t i = 500; i < 3500; i++)
            if (!is_lost(&table[t], 1, i)) arrive(rig, i, 0, taken_ns(rig, i));
        /* 3500 − 1024 = 2476 is the oldest that is left: twice inside a loss, which then has
         * no sample before it to bridge from. */
        pd_source_step(&rig->source, taken_ns(rig, 3500), rig->t0_ns + GRID_OFFSET_NS, UINT64_MAX);
        struct pd_event event;
        uint64_t overrun = 0, gap = 0;
        while (next_event(rig, &event)) {
            if (event.kind == PD_EVENT_GAP) gap += (uint64_t)event.b;
            if (event.kind != PD_EVENT_OVERRUN) continue;
            CHECK(event.a == (int64_t)seen, "case %u: from %lld", t, (long long)event.a);
            overrun += (uint64_t)event.b;
        }
        const uint64_t oldest = t == 1 || t == 2 ? table[t].first : 2476;
        CHECK(overrun == oldest - seen, "case %u: %llu", t, (unsigned long long)overrun);
        CHECK(gap == table[t].n, "case %u: %llu", t, (unsigned long long)gap);
        int invented = 0, whole = 0;
        for (uint64_t g = 256; g < pd_ring_next(&rig->grid); g++) {
            struct grid_frame frame = frame_at(&rig->grid, g);
            uint32_t kind = frame.flags & (PD_GRID_MISSING | PD_GRID_BRIDGED);
            invented += (kind == PD_GRID_MISSING) != !!isnan(frame.value[0]);
            whole += kind == 0;
        }
        CHECK(invented == 0 && whole > 400, "case %u: %d, %d", t, invented, whole);
        rig_free(rig);
    }
}

/* Frames that fall due in one step, 2 s late, are what they are in steps of 1 ms. */
static void test_a_late_step_sees_losses_as_one_in_time_does(void)
{
    static const struct run runs[] = { { 510, 1 }, { 530, 5 }, { 600, 1 }, { 602, 1 }, { 640, 6 },
                                       { 700, 100 }, { 870, 2 } };
    const int n_runs = sizeof runs / sizeof *runs;
    struct rig *in_time = rig_make(250), *late = rig_make(250);
    play(in_time, 0, 1000, runs, n_runs);
    play(late, 0, 500, NULL, 0);
    for (uint64_t i = 500; i < 1000; i++)
        if (!is_lost(runs, n_runs, i)) arrive(late, i, 0, taken_ns(late, i));
    pd_source_step(&late->source, taken_ns(late, 1000) - STEP_NS, late->t0_ns + GRID_OFFSET_NS,
                   UINT64_MAX);
    CHECK(pd_ring_next(&late->grid) == pd_ring_next(&in_time->grid));
    int flags = 0;
    double worst = 0;
    for (uint64_t g = 192; g < pd_ring_next(&late->grid); g++) {
        struct grid_frame a = frame_at(&in_time->grid, g), b = frame_at(&late->grid, g);
        flags += a.flags != b.flags;
        if (!isnan(a.value[0])) worst = fmax(worst, fabs(a.value[0] - b.value[0]));
    }
    CHECK(flags == 0, "%d frames differ", flags);
    CHECK(worst < 1e-3, "%g samples", worst);
    CHECK(count_events(late, PD_EVENT_SILENT) == 0);
    rig_free(in_time);
    rig_free(late);
}

/* -- limits ------------------------------------------------------------------- */

static void test_history_is_as_long_as_the_settings_want(void)
{
    struct rig *rig = rig_make(250);
    free(rig->arena);
    rig->config.hold_ns = 3 * PD_NS_PER_S;
    rig->config.bridge_ns = 2 * PD_NS_PER_S;
    rig->arena = rig_source(rig, &rig->source, &rig->grid);
    static const struct run runs[] = { { 700, 450 } };
    play(rig, 0, 2500, runs, 1);
    int missing = 0, wrong = 0;
    for (uint64_t g = 64; g < pd_ring_next(&rig->grid); g++) {
        struct grid_frame frame = frame_at(&rig->grid, g);
        missing += frame.flags == PD_GRID_MISSING;
        wrong += fabs(frame.value[0] - position(rig, frame.t_ns)) > 0.25;
    }
    CHECK(missing == 0 && wrong == 0, "%d missing, %d wrong", missing, wrong);
    rig_free(rig);
}

static void test_without_a_device_every_frame_is_missing(void)
{
    struct rig *rig = rig_make(250);
    struct pd_source idle;
    struct pd_source_config config = { .n_channels = CHANNELS, .n_values = CHANNELS,
                                       .flags = PD_GRID_SIMULATED };
    void *arena = calloc(1, pd_source_arena_bytes(&config));
    CHECK(pd_source_init(&idle, &config, arena, pd_source_arena_bytes(&config), NULL, &rig->grid,
                         &rig->events) == 0);
    CHECK(pd_source_step(&idle, 10 * PD_GRID_NS, 0, UINT64_MAX) == 11);
    for (uint64_t g = 0; g < 11; g++) {
        struct grid_frame frame = frame_at(&rig->grid, g);
        CHECK(frame.flags == (PD_GRID_MISSING | PD_GRID_SIMULATED) && isnan(frame.value[0]));
    }
    free(arena);
    rig_free(rig);
}

static void test_nothing_at_or_past_the_limit_is_taken(void)
{
    struct rig *rig = rig_make(250);
    for (uint64_t i = 0; i < 500; i++) arrive(rig, i, 0, taken_ns(rig, i));
    pd_source_step(&rig->source, taken_ns(rig, 500), rig->t0_ns, 123);
    CHECK(rig->source.taken == 123);
    pd_source_step(&rig->source, taken_ns(rig, 500), rig->t0_ns, 124);
    CHECK(rig->source.taken == 124);
    rig_free(rig);
}

static void test_init_refuses(void)
{
    struct rig *rig = rig_make(250);
    struct pd_source source;
    size_t bytes = pd_source_arena_bytes(&rig->config);
    void *arena = calloc(1, bytes);
    struct pd_source_config config = rig->config;
    CHECK(pd_source_init(&source, &config, arena, bytes - 1, &rig->native, &rig->grid,
                         &rig->events) == -EINVAL);
    CHECK(pd_source_init(&source, &config, arena, bytes, NULL, &rig->grid, &rig->events) == -EINVAL);
    CHECK(pd_source_init(&source, &config, arena, bytes, &rig->grid, &rig->grid, &rig->events) ==
          -EINVAL);
    CHECK(pd_source_init(&source, &config, arena, bytes, &rig->native, &rig->native, &rig->events) ==
          -EINVAL);
    CHECK(pd_source_init(&source, &config, arena, bytes, &rig->native, &rig->grid,
                         &rig->native) == -EINVAL);
    config.n_channels = 0;
    CHECK(pd_source_arena_bytes(&config) == 0);
    config.n_channels = CHANNELS + 2;
    CHECK(pd_source_arena_bytes(&config) == 0, "more channels than values");
    config = rig->config;
    config.rate_hz = -1;
    CHECK(pd_source_arena_bytes(&config) == 0);
    config.rate_hz = NAN;
    CHECK(pd_source_arena_bytes(&config) == 0);
    free(arena);
    rig_free(rig);
}

static void test_the_clock_reports(void)
{
    struct rig *rig = rig_make(250);
    struct pd_clock_report report;
    CHECK(pd_source_get_report(&rig->source, &report) == -EAGAIN);
    play(rig, 0, 2500, NULL, 0);
    CHECK(pd_source_get_report(&rig->source, &report) == 0);
    CHECK(report.locked && fabs(report.rate_hz - 250) < 0.01, "%g", report.rate_hz);
    rig_free(rig);
}

static void test_encoding(void)
{
    union {
        struct pd_grid head;
        struct grid_frame frame;
    } in = { .frame = { .t_ns = 5000000000, .due_ns = 5070000000, .flags = PD_GRID_BRIDGED,
                        .value = { 1.5, -2.25, 50000 } } };
    static const struct { int64_t now_ns; uint32_t flags, age_us; } table[] = {
        { 5077800000, PD_GRID_BRIDGED, 77800 },
        { 5077800001, PD_GRID_BRIDGED | PD_GRID_LATE, 77800 },
        { 4000000000, PD_GRID_BRIDGED, 0 },
        { INT64_MAX / 2, PD_GRID_BRIDGED | PD_GRID_LATE, UINT32_MAX },
    };
    for (unsigned t = 0; t < sizeof table / sizeof *table; t++) {
        uint8_t out[24 + 4 * CHANNELS];
        pd_grid_encode(&in.head, 77, CHANNELS, table[t].now_ns, 7800000, out);
        uint64_t index;
        int64_t t_ns;
        uint32_t flags, age_us;
        float value[CHANNELS];
        memcpy(&index, out, 8);
        memcpy(&t_ns, out + 8, 8);
        memcpy(&flags, out + 16, 4);
        memcpy(&age_us, out + 20, 4);
        memcpy(value, out + 24, sizeof value);
        CHECK(index == 77 && t_ns == 5000000000 && flags == table[t].flags &&
              age_us == table[t].age_us, "case %u: %u, %u", t, flags, age_us);
        CHECK(value[0] == 1.5f && value[1] == -2.25f && value[2] == 50000.0f);
    }
    in.head.flags = PD_GRID_MISSING | PD_GRID_BRIDGED;
    uint8_t out[24 + 4 * CHANNELS];
    float value;
    pd_grid_encode(&in.head, 77, CHANNELS, 0, 0, out);
    memcpy(&value, out + 24, sizeof value);
    CHECK(isnan(value), "MISSING is NaN on the wire, bridged or not");
}

int main(void)
{
    test_a_warmed_source_goes_on_with_the_same_values();
    test_a_tick_that_slept_longer_than_the_ring_says_so();
    test_a_late_step_sees_losses_as_one_in_time_does();
    test_history_is_as_long_as_the_settings_want();
    test_without_a_device_every_frame_is_missing();
    test_nothing_at_or_past_the_limit_is_taken();
    test_init_refuses();
    test_the_clock_reports();
    test_encoding();
    return check_report("source_life");
}
