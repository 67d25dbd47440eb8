/* The clock's contract, one behaviour a function. How well it does under each
 * kind of jitter is swept in tests/sim/test_clock.py. */
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "pd_clock.h"

#define RATE_HZ 250.0
#define PERIOD_NS 4000000LL
#define START_NS (7 * PD_NS_PER_S)

static uint64_t random_state;

static double random_unit(void)         /* xorshift64*, the same on every machine */
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (double)((random_state * 0x2545F4914F6CDD1DULL) >> 11) * 0x1p-53;
}

static int64_t exponential_ns(double mean_ns)
{
    return (int64_t)(-mean_ns * log1p(-random_unit()));
}

static int64_t true_ns(uint64_t index)
{
    return START_NS + (int64_t)index * PERIOD_NS;
}

struct events {
    int count[4];
    uint64_t first[4];
};

/* Samples from `first` to before `end`, with exponential delays; `extra_ns` later. */
static struct events feed(struct pd_clock *clock, uint64_t first, uint64_t end, double mean_ns,
                          int64_t extra_ns)
{
    struct events events = { { 0 }, { 0 } };
    for (uint64_t index = first; index < end; index++) {
        int64_t arrival_ns = true_ns(index) + extra_ns + exponential_ns(mean_ns);
        int event = pd_clock_observe(clock, index, arrival_ns, 0);
        if (events.count[event]++ == 0) events.first[event] = index;
    }
    return events;
}

static struct pd_clock fresh(void)
{
    struct pd_clock clock;
    random_state = 88172645463325252ULL;
    pd_clock_init(&clock, RATE_HZ, 0.0, 0);
    return clock;
}

static void locks_once_after_a_fifth_of_a_second(void)
{
    struct pd_clock clock = fresh();
    struct events events = feed(&clock, 0, 2500, 3e6, 0);
    CHECK(events.count[PD_CLOCK_LOCKED] == 1);
    CHECK(events.first[PD_CLOCK_LOCKED] == 49, "%llu",
          (unsigned long long)events.first[PD_CLOCK_LOCKED]);
    CHECK(events.count[PD_CLOCK_RELOCKED] + events.count[PD_CLOCK_FOLLOWED] == 0);
    CHECK(pd_clock_is_locked(&clock));
}

static void a_stale_backlog_is_no_lock(void)
{
    struct pd_clock clock = fresh();
    for (uint64_t index = 0; index < 500; index++)
        pd_clock_observe(&clock, index, true_ns(500), 0);
    CHECK(!pd_clock_is_locked(&clock));
    feed(&clock, 500, 550, 3e6, 0);
    CHECK(pd_clock_is_locked(&clock));
    CHECK(fabs(pd_clock_time_ns(&clock, 550.0, true_ns(550))) < 1e6);
}

static void undelayed_samples_are_told_to_the_nanosecond(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 25000, 0.0, 0);
    CHECK(fabs(pd_clock_time_ns(&clock, 24999.0, true_ns(24999))) < 1.0);
    CHECK(fabs(pd_clock_time_ns(&clock, 30000.5, true_ns(30000)) - 0.5 * PERIOD_NS) < 1.0);
}

static void index_is_the_inverse_of_time(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 7000, 3e6, 0);
    for (double index = 6900.25; index < 7100.0; index += 13.5) {
        int64_t t_ns = (int64_t)llround(pd_clock_time_ns(&clock, index, 0));
        double back = pd_clock_index(&clock, t_ns, 6000) + 6000.0;
        CHECK(fabs(back - index) < 1e-6, "%f became %f", index, back);
    }
}

static void digits_survive_days_and_great_indices(void)
{
    struct pd_clock clock = fresh();
    uint64_t first = 1ULL << 40;
    int64_t start_ns = 1LL << 61;
    for (uint64_t n = 0; n < 100; n++)
        pd_clock_observe(&clock, first + n, start_ns + (int64_t)n * PERIOD_NS, 0);
    uint64_t later = 250ULL * 86400 * 10;   /* ten days on, the crystal went on */
    for (uint64_t n = later; n < later + 1000; n++)
        pd_clock_observe(&clock, first + n, start_ns + (int64_t)n * PERIOD_NS, 0);
    uint64_t last = later + 999;
    double error_ns = pd_clock_time_ns(&clock, (double)(first + last),
                                       start_ns + (int64_t)last * PERIOD_NS);
    CHECK(fabs(error_ns) < 2.0, "%f", error_ns);
    CHECK(fabs(pd_clock_index(&clock, start_ns + (int64_t)last * PERIOD_NS, first + last)) < 1e-6);
}

static void a_known_constant_delay_is_taken_off(void)
{
    struct pd_clock clock;
    pd_clock_init(&clock, RATE_HZ, 0.0, 700 * PD_NS_PER_US);
    feed(&clock, 0, 1000, 0.0, 700 * PD_NS_PER_US);
    CHECK(fabs(pd_clock_time_ns(&clock, 999.0, true_ns(999))) < 1.0);
}

static void newer_samples_of_the_same_read_are_counted_back(void)
{
    struct pd_clock clock = fresh();
    for (uint64_t index = 0; index < 2000; index++) {
        uint64_t newest = index | 3;        /* reads of four, none late */
        pd_clock_observe(&clock, index, true_ns(newest), (uint32_t)(newest - index));
    }
    CHECK(fabs(pd_clock_time_ns(&clock, 1999.0, true_ns(1999))) < 1.0);
    struct pd_clock_report report;
    pd_clock_get_report(&clock, &report);
    CHECK(report.clump == 4.0, "%f", report.clump);
    CHECK(report.uncertainty_ns >= PERIOD_NS);
}

static void a_read_longer_than_a_block_tells_as_much_as_its_newest_sample(void)
{
    struct pd_clock clock = fresh();
    double worst_ns = 0.0;
    for (uint64_t index = 0; index < 20000; index++) {
        uint64_t newest = index | 255;
        pd_clock_observe(&clock, index, true_ns(newest), (uint32_t)(newest - index));
        if (!pd_clock_is_locked(&clock)) continue;
        worst_ns = fmax(worst_ns, fabs(pd_clock_time_ns(&clock, (double)index, true_ns(index))));
    }
    CHECK(pd_clock_is_locked(&clock) && worst_ns < 1.0, "%f", worst_ns);
}

static void a_gap_in_the_indices_changes_nothing(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 15000, 3e6, 0);
    struct events events = feed(&clock, 16250, 16260, 3e6, 0);
    CHECK(events.count[PD_CLOCK_NONE] == 10);
    CHECK(fabs(pd_clock_time_ns(&clock, 16259.0, true_ns(16259))) < 1e5);
}

static void an_index_that_does_not_grow_is_ignored(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 5000, 3e6, 0);
    struct pd_clock before;
    memcpy(&before, &clock, sizeof before);
    CHECK(pd_clock_observe(&clock, 4999, true_ns(9000), 0) == PD_CLOCK_NONE);
    CHECK(pd_clock_observe(&clock, 17, true_ns(9001), 0) == PD_CLOCK_NONE);
    CHECK(memcmp(&before, &clock, sizeof clock) == 0);
}

static void a_copy_goes_on_like_the_original(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 5000, 3e6, 0);
    struct pd_clock copy;
    memcpy(&copy, &clock, sizeof copy);
    uint64_t kept_state = random_state;
    feed(&clock, 5000, 60000, 3e6, 0);
    random_state = kept_state;
    feed(&copy, 5000, 60000, 3e6, 0);
    CHECK(memcmp(&copy, &clock, sizeof clock) == 0);
}

static void a_small_shift_of_the_delay_is_slewed(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 15000, 3e6, 0);
    double before_ns = pd_clock_time_ns(&clock, 14999.0, 0), least_step_ns = 1e12;
    int followed = 0;
    for (uint64_t index = 15000; index < 17500; index++) {
        int64_t arrival_ns = true_ns(index) + 10 * PD_NS_PER_MS + exponential_ns(3e6);
        int event = pd_clock_observe(&clock, index, arrival_ns, 0);
        CHECK(event == PD_CLOCK_NONE || event == PD_CLOCK_FOLLOWED);
        followed += event == PD_CLOCK_FOLLOWED;
        double now_ns = pd_clock_time_ns(&clock, (double)index, 0);
        if (now_ns - before_ns < least_step_ns) least_step_ns = now_ns - before_ns;
        before_ns = now_ns;
    }
    CHECK(followed == 1, "%d", followed);
    CHECK(least_step_ns > 0.9 * PERIOD_NS, "%f", least_step_ns);
    CHECK(fabs(pd_clock_time_ns(&clock, 17499.0, true_ns(17499)) - 1e7) < 2e5);
}

static void a_correction_changes_the_rate_by_five_percent_at_most(void)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        struct pd_clock clock = fresh();
        int64_t before_shift_ns = sign < 0 ? 45 * PD_NS_PER_MS : 0;
        int64_t after_shift_ns = sign < 0 ? 0 : 45 * PD_NS_PER_MS;
        feed(&clock, 0, 15000, 1e5, before_shift_ns);
        double before_ns = pd_clock_time_ns(&clock, 14999.0, 0);
        for (uint64_t index = 15000; index < 17500; index++) {
            int64_t arrival_ns = true_ns(index) + after_shift_ns + exponential_ns(1e5);
            pd_clock_observe(&clock, index, arrival_ns, 0);
            double now_ns = pd_clock_time_ns(&clock, (double)index, 0);
            CHECK(fabs((now_ns - before_ns) / PERIOD_NS - 1.0) < 0.051);
            before_ns = now_ns;
        }
        CHECK(fabs(before_ns - (double)(true_ns(17499) + after_shift_ns)) < 1e5);
    }
}

static void a_great_shift_of_the_delay_is_stepped_once(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 15000, 3e6, 0);
    struct events events = feed(&clock, 15000, 17500, 3e6, 100 * PD_NS_PER_MS);
    CHECK(events.count[PD_CLOCK_RELOCKED] == 1);
    CHECK(events.first[PD_CLOCK_RELOCKED] >= 15000 + 700);      /* 3 s: no stall */
    CHECK(events.first[PD_CLOCK_RELOCKED] <= 15000 + 900);
    struct pd_clock_report report;
    pd_clock_get_report(&clock, &report);
    CHECK(report.steps == 1 && report.follows == 1);
}

static void a_queue_that_drains_is_waited_for(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 15000, 1e5, 0);
    int64_t free_ns = true_ns(15000) + 2 * PD_NS_PER_S;     /* the link has 1.4 times the rate */
    for (uint64_t index = 15000; index < 17500; index++) {
        int64_t sent_ns = true_ns(index) + exponential_ns(1e5);
        free_ns = (sent_ns > free_ns ? sent_ns : free_ns) + PERIOD_NS * 10 / 14;
        CHECK(pd_clock_observe(&clock, index, free_ns, 0) != PD_CLOCK_RELOCKED);
    }
    CHECK(fabs(pd_clock_time_ns(&clock, 17499.0, true_ns(17499))) < 4e6);
}

static void a_delay_that_grew_is_followed_though_the_rate_rose_too(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 15000, 1e5, 0);
    int relocked = 0;
    for (uint64_t index = 15000; index < 17500; index++) {
        int64_t taken_ns = true_ns(index) + 100 * PD_NS_PER_MS - (int64_t)(index - 15000) * 800;
        relocked += pd_clock_observe(&clock, index, taken_ns + exponential_ns(1e5), 0) ==
                    PD_CLOCK_RELOCKED;
    }
    CHECK(relocked == 1, "%d", relocked);
}

static void an_earlier_delay_is_believed_within_half_a_second(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 15000, 3e6, 100 * PD_NS_PER_MS);
    struct events events = feed(&clock, 15000, 17500, 3e6, 0);
    CHECK(events.count[PD_CLOCK_RELOCKED] == 1);
    CHECK(events.first[PD_CLOCK_RELOCKED] <= 15000 + 160);
}

static void one_impossibly_early_sample_is_not_believed(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 15000, 3e6, 0);
    pd_clock_observe(&clock, 15000, true_ns(15000) - PD_NS_PER_S, 0);
    struct events events = feed(&clock, 15001, 17500, 3e6, 0);
    CHECK(events.count[PD_CLOCK_NONE] == 2499);
    CHECK(fabs(pd_clock_time_ns(&clock, 17499.0, true_ns(17499))) < 1e5);
}

static void a_stall_of_the_host_is_waited_out(void)
{
    struct pd_clock clock = fresh();
    feed(&clock, 0, 15000, 3e6, 0);
    for (uint64_t index = 15000; index < 15500; index++) {
        int event = pd_clock_observe(&clock, index, true_ns(15500) + (int64_t)(index - 15000), 0);
        CHECK(event == PD_CLOCK_NONE);
        CHECK(fabs(pd_clock_time_ns(&clock, (double)index, true_ns(index))) < 1e5);
    }
    CHECK(feed(&clock, 15501, 17500, 3e6, 0).count[PD_CLOCK_NONE] == 1999);
}

static void a_restart_forgets_the_offset_and_keeps_the_rate(void)
{
    struct pd_clock clock = fresh();
    for (uint64_t index = 0; index < 30000; index++) {  /* 80 ppm slow */
        int64_t t_ns = true_ns(index) + (int64_t)(index * 320);
        pd_clock_observe(&clock, index, t_ns + exponential_ns(1e5), 0);
    }
    pd_clock_restart(&clock);
    CHECK(!pd_clock_is_locked(&clock));
    int64_t away_ns = 3 * PD_NS_PER_S + 1234567;
    int locked = 0;
    for (uint64_t index = 30000; index < 30060; index++) {
        int64_t t_ns = true_ns(index) + (int64_t)(index * 320) + away_ns;
        locked += pd_clock_observe(&clock, index, t_ns + exponential_ns(1e5), 0) == PD_CLOCK_LOCKED;
    }
    CHECK(locked == 1);
    struct pd_clock_report report;
    pd_clock_get_report(&clock, &report);
    double ppm = (RATE_HZ / report.rate_hz - 1.0) * 1e6;
    CHECK(fabs(ppm - 80.0) < 1.0, "%f", ppm);
    CHECK(report.steps == 0);
}

static void half_and_twice_the_nominal_rate_are_found(void)
{
    for (int twice = 0; twice < 2; twice++) {
        struct pd_clock clock = fresh();
        int64_t period_ns = twice ? PERIOD_NS / 2 : PERIOD_NS * 2;
        for (uint64_t index = 0; index < 20000; index++)
            pd_clock_observe(&clock, index, START_NS + (int64_t)index * period_ns, 0);
        struct pd_clock_report report;
        pd_clock_get_report(&clock, &report);
        CHECK(fabs(report.rate_hz * (double)period_ns * 1e-9 - 1.0) < 1e-6, "%f", report.rate_hz);
    }
}

static void garbage_leaves_a_clock_that_can_be_read(void)
{
    struct pd_clock clock = fresh();
    uint64_t index = 0;
    for (int n = 0; n < 200000; n++) {
        index += 1 + (random_unit() < 0.01 ? (uint64_t)(random_unit() * 1e5) : 0);
        int64_t arrival_ns = true_ns(index) + (int64_t)((random_unit() - 0.5) * 1e11);
        pd_clock_observe(&clock, index, arrival_ns, (uint32_t)(random_unit() * 1e3));
        if (n % 1000 == 999) {
            double t_ns = pd_clock_time_ns(&clock, (double)index, 0);
            CHECK(pd_clock_is_locked(&clock) && isfinite(t_ns));
            CHECK(pd_clock_time_ns(&clock, (double)index + 1.0, 0) > t_ns);
        }
    }
    /* And one that finds back. */
    feed(&clock, index + 1, index + 15000, 1e5, 0);
    CHECK(fabs(pd_clock_time_ns(&clock, (double)index, true_ns(index))) < 1e6);
}

int main(void)
{
    locks_once_after_a_fifth_of_a_second();
    a_stale_backlog_is_no_lock();
    undelayed_samples_are_told_to_the_nanosecond();
    index_is_the_inverse_of_time();
    digits_survive_days_and_great_indices();
    a_known_constant_delay_is_taken_off();
    newer_samples_of_the_same_read_are_counted_back();
    a_read_longer_than_a_block_tells_as_much_as_its_newest_sample();
    a_gap_in_the_indices_changes_nothing();
    an_index_that_does_not_grow_is_ignored();
    a_copy_goes_on_like_the_original();
    a_small_shift_of_the_delay_is_slewed();
    a_correction_changes_the_rate_by_five_percent_at_most();
    a_great_shift_of_the_delay_is_stepped_once();
    a_queue_that_drains_is_waited_for();
    a_delay_that_grew_is_followed_though_the_rate_rose_too();
    an_earlier_delay_is_believed_within_half_a_second();
    one_impossibly_early_sample_is_not_believed();
    a_stall_of_the_host_is_waited_out();
    a_restart_forgets_the_offset_and_keeps_the_rate();
    half_and_twice_the_nominal_rate_are_found();
    garbage_leaves_a_clock_that_can_be_read();
    return check_report("clock");
}
