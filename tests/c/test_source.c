/* pd_source: what each frame of the grid is, in virtual time. */
#include "source_play.h"

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
    return check_report("source");
}
