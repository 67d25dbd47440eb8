/* Intake: a wrapping counter and the time of arrival give each sample its place. */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "pd_intake.h"

#define PERIOD_NS (4 * PD_NS_PER_MS)
#define SLOTS 1024
#define WORDS PD_NATIVE_WORDS(1)

static _Atomic uint64_t memory[8 + SLOTS * (1 + WORDS)];

struct rig {
    struct pd_ring ring;
    struct pd_intake_counts counts;
    struct pd_intake intake;
};

static void set_up(struct rig *rig, uint32_t modulus)
{
    CHECK(!pd_ring_create(&rig->ring, memory, sizeof memory, WORDS, SLOTS, 0), "ring");
    CHECK(!pd_intake_init(&rig->intake, &rig->ring, &rig->counts, 250, modulus, 1), "intake");
}

/* Sample n of a device that began at 1 s, `late_ns` after it was taken. */
static int arrive(struct rig *rig, uint64_t n, int64_t late_ns)
{
    double value = (double)n;
    return pd_intake_counted(&rig->intake, (uint32_t)(n % 256), 0,
                             PD_NS_PER_S + (int64_t)n * PERIOD_NS + late_ns, PD_NO_TIME, &value);
}

static void stream(struct rig *rig, uint64_t from, uint64_t to)
{
    for (uint64_t n = from; n < to; n++) arrive(rig, n, 0);
}

static const struct pd_native *frame(const struct rig *rig, uint64_t index)
{
    static uint64_t words[WORDS];
    memset(words, 0, sizeof words);
    CHECK(!pd_ring_read(&rig->ring, index, words), "frame %llu", (unsigned long long)index);
    return (const struct pd_native *)words;
}

static void test_the_first_sample_begins_a_segment(void)
{
    struct rig rig;
    set_up(&rig, 256);
    CHECK(arrive(&rig, 77, 0) == 1, "accepted");
    const struct pd_native *first = frame(&rig, 0);
    CHECK(first->flags == PD_NATIVE_RESET && first->lost_before == 0, "flags %u", first->flags);
    CHECK(first->value[0] == 77.0 && rig.counts.resets == 1, "value");
}

/* A multiple of the counter's range shows in the arrival time alone. */
static void test_a_loss_has_its_true_length(void)
{
    const uint64_t losses[] = { 1, 2, 100, 254, 255, 256, 257, 300, 511, 512, 700, 1000 };
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        for (int64_t late_ms = 0; late_ms <= 60; late_ms += 20) {
            struct rig rig;
            set_up(&rig, 256);
            stream(&rig, 0, 500);
            uint64_t n = 500 + losses[i];
            CHECK(arrive(&rig, n, late_ms * PD_NS_PER_MS) == 1, "%llu", (unsigned long long)n);
            const struct pd_native *after = frame(&rig, n);
            CHECK(after->value[0] == (double)n && after->lost_before == losses[i],
                  "loss of %llu: %u", (unsigned long long)losses[i], after->lost_before);
            CHECK(rig.counts.lost == losses[i] && rig.counts.accepted == 501, "counts");
        }
    }
}

static void test_each_lost_sample_is_a_frame_without_a_value(void)
{
    struct rig rig;
    set_up(&rig, 256);
    stream(&rig, 0, 10);
    stream(&rig, 15, 20);
    for (uint64_t i = 0; i < 20; i++) {
        int lost = i >= 10 && i < 15;
        const struct pd_native *one = frame(&rig, i);
        CHECK(!!(one->flags & PD_NATIVE_LOST) == lost, "index %llu", (unsigned long long)i);
        CHECK(lost ? isnan(one->value[0]) : one->value[0] == (double)i, "value %g", one->value[0]);
    }
}

static void test_a_loss_longer_than_the_ring_keeps_the_index(void)
{
    struct rig rig;
    set_up(&rig, 256);
    stream(&rig, 0, 10);
    uint64_t n = 10 + 5 * SLOTS;
    arrive(&rig, n, 0);
    CHECK(frame(&rig, n)->lost_before == 5 * SLOTS, "%u", frame(&rig, n)->lost_before);
    uint64_t words[WORDS];
    CHECK(pd_ring_read(&rig.ring, 11, words) == -EOVERFLOW, "what is gone is gone");
}

static void test_a_copy_is_refused_and_counted(void)
{
    struct rig rig;
    set_up(&rig, 256);
    stream(&rig, 0, 10);
    CHECK(arrive(&rig, 9, PERIOD_NS / 2) == 0, "refused");
    stream(&rig, 10, 12);
    CHECK(rig.counts.duplicates == 1 && rig.counts.lost == 0, "counts");
    CHECK(frame(&rig, 10)->duplicates == 1 && frame(&rig, 11)->duplicates == 0, "told once");
}

static void test_a_counter_from_the_future_is_refused(void)
{
    struct rig rig;
    set_up(&rig, 256);
    stream(&rig, 0, 100);
    double value = -1;
    CHECK(!pd_intake_counted(&rig.intake, 200, 0, PD_NS_PER_S + 100 * PERIOD_NS, PD_NO_TIME, &value),
          "refused");
    stream(&rig, 101, 200);
    CHECK(rig.counts.strays == 1 && rig.counts.lost == 1, "counts");
    CHECK(frame(&rig, 150)->value[0] == 150.0, "value");
}

static void test_a_device_that_counts_anew_begins_a_segment_in_time(void)
{
    struct rig rig;
    set_up(&rig, 256);
    stream(&rig, 0, 100);
    for (uint32_t i = 0; i < 20; i++) {             /* the counter has jumped by 120 */
        double value = i;
        pd_intake_counted(&rig.intake, 220 + i, 0, PD_NS_PER_S + (100 + i) * PERIOD_NS, PD_NO_TIME,
                          &value);
    }
    CHECK(rig.counts.resets == 2, "resets %llu", (unsigned long long)rig.counts.resets);
    CHECK(frame(&rig, 107)->flags == PD_NATIVE_RESET, "the eighth that goes on from the first");
    CHECK(frame(&rig, 107)->value[0] == 7.0 && frame(&rig, 119)->value[0] == 19.0, "in its place");
}

static void test_a_reset_goes_on_as_far_as_time_has_passed(void)
{
    struct rig rig;
    set_up(&rig, 256);
    stream(&rig, 0, 100);
    pd_intake_reset(&rig.intake);
    double value = 5;
    pd_intake_counted(&rig.intake, 0, 0, PD_NS_PER_S + 350 * PERIOD_NS, PD_NO_TIME, &value);
    CHECK(frame(&rig, 350)->flags == PD_NATIVE_RESET && frame(&rig, 350)->lost_before == 250, "place");
}

/* A clump read late: each packet stands as many periods back as there are newer ones. */
static void test_a_clump_after_a_stall_keeps_its_places(void)
{
    struct rig rig;
    set_up(&rig, 256);
    stream(&rig, 0, 100);
    for (uint32_t i = 0; i < 600; i++) {
        double value = 100 + i;
        pd_intake_counted(&rig.intake, (100 + i) % 256, 599 - i, PD_NS_PER_S + 699 * PERIOD_NS,
                          PD_NO_TIME, &value);
    }
    CHECK(rig.counts.lost == 0 && rig.counts.accepted == 700, "counts");
    CHECK(frame(&rig, 400)->value[0] == 400.0 && frame(&rig, 400)->behind == 299, "frame");
}

/* The one packet that came through after a long loss waited in a clump: it says
 * nothing against those that come in time. */
static void test_a_late_packet_after_a_long_loss_makes_nobody_early(void)
{
    for (uint64_t loss = 1; loss <= 1000; loss++) {
        struct rig rig;
        set_up(&rig, 256);
        stream(&rig, 0, 500);
        uint64_t n = 500 + loss;
        arrive(&rig, n, 60 * PD_NS_PER_MS);
        stream(&rig, n + 20, n + 40);
        CHECK(rig.counts.strays == 0 && rig.counts.resets == 1 && rig.counts.lost == loss + 19,
              "loss of %llu: %llu lost, %llu strays, %llu resets", (unsigned long long)loss,
              (unsigned long long)rig.counts.lost, (unsigned long long)rig.counts.strays,
              (unsigned long long)rig.counts.resets);
    }
}

static void test_a_device_off_its_rate_is_followed(void)
{
    const double ppm[] = { -10000, -200, 200, 10000 };
    for (size_t p = 0; p < 4; p++) {
        struct rig rig;
        set_up(&rig, 256);
        for (uint64_t n = 0; n < 200000; n++) {
            if (n % 1000 >= 970) continue;          /* with losses on the way */
            double value = (double)n, taken = (double)n * PERIOD_NS / (1 + ppm[p] * 1e-6);
            pd_intake_counted(&rig.intake, n % 256, 0, PD_NS_PER_S + (int64_t)taken, PD_NO_TIME,
                              &value);
        }
        CHECK(frame(&rig, 199969)->value[0] == 199969.0, "%g ppm", ppm[p]);
        CHECK(rig.counts.lost == 30 * 199 && rig.counts.resets == 1, "%g ppm: %llu lost", ppm[p],
              (unsigned long long)rig.counts.lost);
    }
}

static void test_junk_is_told_with_the_next_sample(void)
{
    struct rig rig;
    set_up(&rig, 256);
    stream(&rig, 0, 5);
    pd_intake_junk(&rig.intake, 30);
    pd_intake_junk(&rig.intake, 3);
    stream(&rig, 5, 7);
    CHECK(frame(&rig, 5)->junk_bytes == 33 && frame(&rig, 6)->junk_bytes == 0, "frames");
    CHECK(rig.counts.junk_bytes == 33, "counts");
}

static void test_an_index_of_its_own_needs_no_time(void)
{
    struct rig rig;
    set_up(&rig, 0);
    double value = 1;
    CHECK(pd_intake_indexed(&rig.intake, 1000, 0, PD_NS_PER_S, 42, &value) == 1, "first");
    CHECK(pd_intake_indexed(&rig.intake, 1005, 0, PD_NS_PER_S, 43, &value) == 1, "after a loss");
    CHECK(pd_intake_indexed(&rig.intake, 1005, 0, PD_NS_PER_S, 43, &value) == 0, "a copy");
    CHECK(frame(&rig, 5)->lost_before == 4 && frame(&rig, 5)->device_ns == 43, "frame");
}

static void test_what_cant_be_is_refused(void)
{
    struct rig rig;
    set_up(&rig, 256);
    CHECK(pd_intake_init(&rig.intake, &rig.ring, &rig.counts, 0, 256, 1) == -EINVAL, "rate");
    CHECK(pd_intake_init(&rig.intake, &rig.ring, &rig.counts, NAN, 256, 1) == -EINVAL, "NaN rate");
    CHECK(pd_intake_init(&rig.intake, &rig.ring, &rig.counts, 250, 1, 1) == -EINVAL, "modulus");
    CHECK(pd_intake_init(&rig.intake, &rig.ring, &rig.counts, 250, 256, 2) == -EINVAL, "ring words");
    CHECK(pd_intake_init(&rig.intake, &rig.ring, &rig.counts, 250, 256, 0) == -EINVAL, "no values");
}

int main(void)
{
    test_the_first_sample_begins_a_segment();
    test_a_loss_has_its_true_length();
    test_each_lost_sample_is_a_frame_without_a_value();
    test_a_loss_longer_than_the_ring_keeps_the_index();
    test_a_copy_is_refused_and_counted();
    test_a_counter_from_the_future_is_refused();
    test_a_device_that_counts_anew_begins_a_segment_in_time();
    test_a_reset_goes_on_as_far_as_time_has_passed();
    test_a_clump_after_a_stall_keeps_its_places();
    test_a_late_packet_after_a_long_loss_makes_nobody_early();
    test_a_device_off_its_rate_is_followed();
    test_junk_is_told_with_the_next_sample();
    test_an_index_of_its_own_needs_no_time();
    test_what_cant_be_is_refused();
    return check_report("intake");
}
