/* pd_source: what each frame of the grid is, in virtual time. */
#include <errno.h>

#include "source_rig.h"

/* 1.1 ms: so that no grid instant lies on the edge of a rule. */
#define GRID_OFFSET_NS 1100000
#define STEP_NS PD_NS_PER_MS

struct run {
    uint64_t first, n;              /* lost samples */
};

static int is_lost(const struct run *runs, int n_runs, uint64_t index)
{
    for (int i = 0; i < n_runs; i++)
        if (index >= runs[i].first && index < runs[i].first + runs[i].n) return 1;
    return 0;
}

/* Sample i arrives when it was taken; the source is stepped in between. */
static void play(struct rig *rig, uint64_t first, uint64_t end, const struct run *runs, int n_runs)
{
    const int64_t grid_t0_ns = rig->t0_ns + GRID_OFFSET_NS;
    for (uint64_t i = first; i < end; i++) {
        if (!is_lost(runs, n_runs, i)) arrive(rig, i, 0, taken_ns(rig, i));
        for (int64_t now_ns = taken_ns(rig, i); now_ns < taken_ns(rig, i + 1); now_ns += STEP_NS)
            pd_source_step(&rig->source, now_ns, grid_t0_ns, UINT64_MAX);
    }
}

static double position(const struct rig *rig, int64_t t_ns)
{
    return (double)(t_ns - rig->t0_ns) / rig->period_ns;
}

/* The flags that WIRE.md gives a frame at native position p, from the losses. */
static uint32_t flags_of(const struct rig *rig, double p, const struct run *runs, int n_runs)
{
    const int64_t newest = (int64_t)floor(p) + HALF, oldest = newest - TAPS + 1;
    const double near = 0.5 * PD_GRID_NS / rig->period_ns;
    uint32_t flags = 0;
    for (int i = 0; i < n_runs; i++) {
        int64_t first = (int64_t)runs[i].first, last = first + (int64_t)runs[i].n - 1;
        if (last < oldest || first > newest) continue;
        if ((double)runs[i].n * rig->period_ns > (double)rig->config.bridge_ns)
            return PD_GRID_MISSING;
        flags |= PD_GRID_BRIDGED;
        for (int64_t n = first; n <= last; n++)
            if (fabs((double)n - p) <= near) flags |= PD_GRID_MISSING;
    }
    return flags;
}

static void check_events(struct rig *rig, const struct run *runs, int n_runs)
{
    struct pd_event event;
    int gaps = 0;
    while (next_event(rig, &event)) {
        if (event.kind != PD_EVENT_GAP) {
            CHECK(event.kind != PD_EVENT_OVERRUN, "%lld from %lld", (long long)event.b,
                  (long long)event.a);
            continue;
        }
        CHECK(gaps < n_runs && event.a == (int64_t)runs[gaps].first &&
              event.b == (int64_t)runs[gaps].n, "gap %d: %lld from %lld", gaps,
              (long long)event.b, (long long)event.a);
        CHECK(event.source == 2);
        gaps++;
    }
    CHECK(gaps == n_runs, "%d gap events", gaps);
}

static void test_flags_of_losses(void)
{
    /* 250 Hz, 4 ms a sample: 20 ms are 5 samples. */
    static const struct {
        const char *name;
        int n_runs;
        struct run runs[4];
    } table[] = {
        { "none", 0, { { 0 } } },
        { "single", 1, { { 700, 1 } } },
        { "at the bridge's limit", 1, { { 700, 5 } } },
        { "one longer", 1, { { 700, 6 } } },
        { "second sample of all", 1, { { 1, 1 } } },
        { "long, second sample of all", 1, { { 1, 50 } } },
        { "every other sample", 4, { { 700, 1 }, { 702, 1 }, { 704, 1 }, { 706, 1 } } },
        { "two under one filter", 2, { { 700, 5 }, { 710, 5 } } },
        { "short and long under one filter", 2, { { 700, 2 }, { 708, 6 } } },
        { "long and short under one filter", 2, { { 700, 6 }, { 710, 1 } } },
        { "a second", 1, { { 700, 250 } } },
        { "more than the ring", 1, { { 700, 3 * NATIVE_SLOTS } } },
        { "more than the ring, then another", 2, { { 700, 3 * NATIVE_SLOTS }, { 3780, 3 } } },
    };
    for (unsigned t = 0; t < sizeof table / sizeof *table; t++) {
        struct rig *rig = rig_make(250);
        const struct run *runs = table[t].runs;
        const int n_runs = table[t].n_runs;
        const uint64_t end = n_runs && runs[0].n > NATIVE_SLOTS ? 4300 : 1200;
        play(rig, 0, end, runs, n_runs);
        int wrong = 0, checked = 0;
        double worst = 0;
        for (uint64_t g = 192; g < pd_ring_next(&rig->grid); g++) {
            struct grid_frame frame = frame_at(&rig->grid, g);
            double p = position(rig, frame.t_ns);
            uint32_t expected = flags_of(rig, p, runs, n_runs);
            uint32_t got = frame.flags & ~(uint32_t)PD_GRID_DISCONTINUITY;
            if (p < TAPS) continue;
            checked++;
            wrong += got != expected;
            if (wrong == 1 && got != expected)
                CHECK(0, "%s: frame at sample %.3f has %u, not %u", table[t].name, p, got, expected);
            if (expected == PD_GRID_MISSING) {
                wrong += !isnan(frame.value[0]);
                continue;
            }
            worst = fmax(worst, fabs(frame.value[0] - p));      /* a ramp is bridged exactly */
            if (expected == 0) worst = fmax(worst, fabs(frame.value[1] - truth(rig, p, 1)));
            worst = fmax(worst, fabs(frame.value[2] - 50000));
        }
        CHECK(checked > 200 && wrong == 0, "%s: %d of %d", table[t].name, wrong, checked);
        CHECK(worst < 0.02, "%s: %g", table[t].name, worst);
        check_events(rig, runs, n_runs);
        rig_free(rig);
    }
}

static void test_every_instant_once_and_exact(void)
{
    struct rig *rig = rig_make(250);
    play(rig, 0, 1000, NULL, 0);
    const uint64_t next = pd_ring_next(&rig->grid);
    const double waits_ms = (double)(rig->config.delay_ns + rig->config.hold_ns) / 1e6;
    CHECK((double)next > (4000 - waits_ms) * 0.128 - 2, "%llu", (unsigned long long)next);
    for (uint64_t g = 0; g < next; g++) {
        struct grid_frame frame = frame_at(&rig->grid, g);
        CHECK(frame.t_ns == rig->t0_ns + GRID_OFFSET_NS + (int64_t)g * PD_GRID_NS);
        CHECK(frame.due_ns == frame.t_ns + rig->config.delay_ns + rig->config.hold_ns);
    }
    rig_free(rig);
}

static void test_a_known_tone_at_many_rates(void)
{
    static const double rates[] = { 125, 128, 160, 250, 256, 500, 512, 1000 };
    for (unsigned r = 0; r < sizeof rates / sizeof *rates; r++) {
        struct rig *rig = rig_make(rates[r]);
        play(rig, 0, (uint64_t)(4 * rates[r]), NULL, 0);
        double worst = 0, worst_constant = 0;
        int whole = 0;
        for (uint64_t g = 256; g < pd_ring_next(&rig->grid); g++) {
            struct grid_frame frame = frame_at(&rig->grid, g);
            double p = position(rig, frame.t_ns);
            whole += (frame.flags & PD_GRID_MISSING) == 0;
            worst = fmax(worst, fabs(frame.value[1] - truth(rig, p, 1)));
            worst_constant = fmax(worst_constant, fabs(frame.value[2] - 50000));
        }
        CHECK(whole > 200, "%g Hz: %d", rates[r], whole);
        CHECK(worst < 0.2, "%g Hz: %g of 100", rates[r], worst);
        CHECK(worst_constant < 1e-7, "%g Hz: %g", rates[r], worst_constant);
        rig_free(rig);
    }
}

/* -- what comes late ---------------------------------------------------------- */

struct stall {
    uint64_t emitted_late, missing, silent, resumed;
    double worst;
};

/* Samples from 500 on come `late_ms` late, in one delivery, and are on time after. */
static struct stall play_stall(int late_ms)
{
    struct rig *rig = rig_make(250);
    const int64_t grid_t0_ns = rig->t0_ns + GRID_OFFSET_NS;
    const int64_t from_ns = taken_ns(rig, 500), until_ns = from_ns + late_ms * PD_NS_PER_MS;
    struct stall out = { 0 };
    uint64_t next = 0;
    play(rig, 0, 500, NULL, 0);
    next = 500;
    uint64_t seen = pd_ring_next(&rig->grid);
    const uint64_t before = seen;
    for (int64_t now_ns = from_ns; now_ns < from_ns + PD_NS_PER_S; now_ns += STEP_NS) {
        uint64_t newest = next;
        if (now_ns >= until_ns)
            while (taken_ns(rig, newest) <= now_ns) newest++;
        for (; next < newest; next++) arrive(rig, next, (uint32_t)(newest - 1 - next), now_ns);
        pd_source_step(&rig->source, now_ns, grid_t0_ns, UINT64_MAX);
        for (; seen < pd_ring_next(&rig->grid); seen++) {
            struct grid_frame frame = frame_at(&rig->grid, seen);
            union {
                struct pd_grid head;
                struct grid_frame whole;
            } in = { .whole = frame };
            uint8_t bytes[24 + 4 * CHANNELS];
            uint32_t flags;
            pd_grid_encode(&in.head, seen, CHANNELS, now_ns, 7800000, bytes);
            memcpy(&flags, bytes + 16, 4);
            out.missing += (flags & PD_GRID_MISSING) != 0;
            out.emitted_late += (flags & (PD_GRID_LATE | PD_GRID_MISSING)) == PD_GRID_LATE;
            CHECK(!(flags & PD_GRID_MISSING) == !isnan(frame.value[0]));
            if (!(flags & PD_GRID_MISSING))
                out.worst = fmax(out.worst, fabs(frame.value[0] - position(rig, frame.t_ns)));
        }
    }
    CHECK(seen - before >= 126 && seen - before <= 129, "%llu frames",
          (unsigned long long)(seen - before));
    struct pd_event event;
    while (next_event(rig, &event)) {
        CHECK(event.kind != PD_EVENT_GAP);
        if (event.kind == PD_EVENT_SILENT) {
            out.silent++;
            CHECK(event.a == 499, "newest is %lld", (long long)event.a);
        }
        if (event.kind == PD_EVENT_RESUMED) {
            out.resumed++;
            CHECK(event.a == 500);
            CHECK(fabs(event.x - (late_ms + 4) / 1e3) < 3e-3, "%g s", event.x);
        }
    }
    rig_free(rig);
    return out;
}

static void test_samples_within_the_hold_are_not_late(void)
{
    struct stall stall = play_stall(18);
    CHECK(stall.emitted_late == 0 && stall.missing == 0 && stall.silent == 0);
}

static void test_late_samples_are_waited_for(void)
{
    struct stall stall = play_stall(90);
    CHECK(stall.emitted_late >= 6, "%llu", (unsigned long long)stall.emitted_late);
    CHECK(stall.missing == 0 && stall.silent == 0 && stall.resumed == 0);
    CHECK(stall.worst < 0.25, "%g samples", stall.worst);
}

static void test_silence_is_missing_until_samples_come_again(void)
{
    struct stall stall = play_stall(400);
    /* Frames that were given up while silence lasted; those after come from the samples. */
    CHECK(stall.missing > 30 && stall.missing < 60, "%llu", (unsigned long long)stall.missing);
    CHECK(stall.silent == 1 && stall.resumed == 1, "%llu, %llu", (unsigned long long)stall.silent,
          (unsigned long long)stall.resumed);
    CHECK(stall.worst < 0.25, "%g samples", stall.worst);
}

/* -- new segments ------------------------------------------------------------- */

static int count_events(struct rig *rig, uint32_t kind)
{
    struct pd_event event;
    int n = 0;
    while (next_event(rig, &event)) n += event.kind == kind;
    return n;
}

/* Frames with DISCONTINUITY from grid index g on; each must be the first whole one after others. */
static int discontinuities(struct rig *rig, uint64_t g)
{
    int n = 0, after_missing = 1;
    for (; g < pd_ring_next(&rig->grid); g++) {
        uint32_t flags = frame_at(&rig->grid, g).flags;
        if (flags & PD_GRID_DISCONTINUITY) {
            n++;
            CHECK(after_missing && !(flags & PD_GRID_MISSING));
        }
        after_missing = (flags & PD_GRID_MISSING) != 0;
    }
    return n;
}

static void test_the_first_whole_frame_of_all_is_discontinuous(void)
{
    struct rig *rig = rig_make(250);
    play(rig, 0, 1000, NULL, 0);
    CHECK(discontinuities(rig, 0) == 1);
    CHECK(count_events(rig, PD_EVENT_CLOCK_LOCKED) == 1);
    rig_free(rig);
}

static void test_a_reset_is_discontinuous_once(void)
{
    struct rig *rig = rig_make(250);
    play(rig, 0, 1000, NULL, 0);
    const uint64_t g = pd_ring_next(&rig->grid);
    rig->next_event = pd_ring_next(&rig->events);
    /* Away for 1 s; its own count goes on where the intake puts it. */
    pd_intake_reset(&rig->intake);
    rig->t0_ns += PD_NS_PER_S + 1234567;
    const int64_t grid_t0_ns = 1000 * PD_NS_PER_S + GRID_OFFSET_NS;
    for (uint64_t i = 1000; i < 2000; i++) {
        arrive(rig, i, 0, taken_ns(rig, i));
        for (int64_t now_ns = taken_ns(rig, i); now_ns < taken_ns(rig, i + 1); now_ns += STEP_NS)
            pd_source_step(&rig->source, now_ns, grid_t0_ns, UINT64_MAX);
    }
    CHECK(discontinuities(rig, g) == 1);
    double worst = 0;
    for (uint64_t k = pd_ring_next(&rig->grid) - 256; k < pd_ring_next(&rig->grid); k++) {
        struct grid_frame frame = frame_at(&rig->grid, k);
        worst = fmax(worst, fabs(frame.value[0] - position(rig, frame.t_ns)));
    }
    CHECK(worst < 0.25, "%g samples", worst);
    CHECK(count_events(rig, PD_EVENT_RESET) == 1);
    rig_free(rig);
}

static void test_a_relock_is_discontinuous_once(void)
{
    struct rig *rig = rig_make(250);
    play(rig, 0, 1000, NULL, 0);
    const uint64_t g = pd_ring_next(&rig->grid);
    rig->next_event = pd_ring_next(&rig->events);
    const int64_t grid_t0_ns = rig->t0_ns + GRID_OFFSET_NS;
    rig->t0_ns -= 200 * PD_NS_PER_MS;       /* no delay can be that much shorter */
    for (uint64_t i = 1050; i < 2000; i++) {
        arrive(rig, i, 0, taken_ns(rig, i));
        for (int64_t now_ns = taken_ns(rig, i); now_ns < taken_ns(rig, i + 1); now_ns += STEP_NS)
            pd_source_step(&rig->source, now_ns, grid_t0_ns, UINT64_MAX);
    }
    CHECK(discontinuities(rig, g) == 1);
    CHECK(count_events(rig, PD_EVENT_CLOCK_RELOCKED) == 1);
    rig_free(rig);
}

/* -- taking over -------------------------------------------------------------- */

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
    test_flags_of_losses();
    test_every_instant_once_and_exact();
    test_a_known_tone_at_many_rates();
    test_samples_within_the_hold_are_not_late();
    test_late_samples_are_waited_for();
    test_silence_is_missing_until_samples_come_again();
    test_the_first_whole_frame_of_all_is_discontinuous();
    test_a_reset_is_discontinuous_once();
    test_a_relock_is_discontinuous_once();
    test_a_warmed_source_goes_on_with_the_same_values();
    test_a_tick_that_slept_longer_than_the_ring_says_so();
    test_a_late_step_sees_losses_as_one_in_time_does();
    test_history_is_as_long_as_the_settings_want();
    test_without_a_device_every_frame_is_missing();
    test_nothing_at_or_past_the_limit_is_taken();
    test_init_refuses();
    test_the_clock_reports();
    test_encoding();
    return check_report("source");
}
