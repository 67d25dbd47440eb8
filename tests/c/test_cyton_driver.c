/* Cyton packets into the native ring: scales, auxiliary bytes, a Daisy's halves, what is counted. */
#include <string.h>

#include "check.h"
#include "pd_cyton.h"

#define SLOTS 4096
static _Atomic uint64_t memory[8 + SLOTS * (1 + PD_NATIVE_WORDS(21))];

struct rig {
    struct pd_ring ring;
    struct pd_intake_counts counts;
    struct pd_intake intake;
    struct pd_cyton_driver driver;
};

static void set_up(struct rig *rig)
{
    const double gain[8] = { 24, 24, 24, 24, 24, 24, 12, 1 };
    CHECK(!pd_ring_create(&rig->ring, memory, sizeof memory, PD_NATIVE_WORDS(11), SLOTS, 0));
    CHECK(!pd_intake_init(&rig->intake, &rig->ring, &rig->counts, 250, 256, 11));
    pd_cyton_driver_init(&rig->driver, &rig->intake, PD_CYTON_CHANNELS, gain, PD_CYTON_ACCEL);
}

static const struct pd_native *frame(const struct rig *rig, uint64_t index)
{
    static uint64_t words[PD_NATIVE_WORDS(11)];
    CHECK(!pd_ring_read(&rig->ring, index, words), "frame %llu", (unsigned long long)index);
    return (const struct pd_native *)words;
}

static void test_feed_scales_by_each_gain_and_reads_the_accelerometer(void)
{
    struct rig rig;
    set_up(&rig);
    struct pd_cyton_packet packet = { .counter = 7, .stop = 0xC0,
                                      .count = { 1, -2, 3, -4, 5, -6, 7, -8 },
                                      .aux = { 0x1F, 0x40, 0xE0, 0xC0, 0x00, 0x08 } };
    uint8_t bytes[2 * PD_CYTON_BYTES];
    pd_cyton_encode(&packet, bytes);
    packet.counter = 8;
    packet.stop = 0xC1;
    pd_cyton_encode(&packet, bytes + PD_CYTON_BYTES);
    pd_cyton_feed(&rig.driver, bytes, sizeof bytes, PD_NS_PER_S);
    const struct pd_native *first = frame(&rig, 0);
    CHECK(first->behind == 1 && first->arrival_ns == PD_NS_PER_S);
    CHECK(fabs(first->value[0] - 4.5e6 / 24 / 8388607) < 1e-15);
    CHECK(fabs(first->value[6] - 7 * 4.5e6 / 12 / 8388607) < 1e-14);
    CHECK(fabs(first->value[7] + 8 * 4.5e6 / 8388607) < 1e-12);
    CHECK(first->value[8] == 1.0 && first->value[9] == -1.0 && first->value[10] == 0.001);
    const struct pd_native *second = frame(&rig, 1);
    CHECK(second->behind == 0 && second->value[8] == 1.0, "a reading is held between two packets");
    for (int i = 9; i < 9 + 25; i++) {
        packet.counter = (uint8_t)i;
        pd_cyton_encode(&packet, bytes);
        pd_cyton_feed(&rig.driver, bytes, PD_CYTON_BYTES, PD_NS_PER_S + (i - 7) * 4 * PD_NS_PER_MS);
    }
    CHECK(isnan(frame(&rig, 26)->value[8]), "raw aux is no accelerometer: the reading is too old");
}

static void test_stamped_packets_bring_one_axis_each_and_the_boards_time(void)
{
    struct rig rig;
    set_up(&rig);
    uint8_t bytes[PD_CYTON_BYTES];
    for (int i = 0; i < 20; i++) {
        const uint32_t ms = 0xFFFFFFF0u + 4 * (uint32_t)i;      /* goes round on the way */
        struct pd_cyton_packet packet = {
            .counter = (uint8_t)i, .stop = i ? 0xC4 : 0xC3,
            .aux = { i % 10 >= 7 ? (uint8_t)(i % 10) : 0, 0, (uint8_t)(ms >> 24), (uint8_t)(ms >> 16),
                     (uint8_t)(ms >> 8), (uint8_t)ms } };
        pd_cyton_encode(&packet, bytes);
        pd_cyton_feed(&rig.driver, bytes, sizeof bytes, PD_NS_PER_S + i * 4 * PD_NS_PER_MS);
        const struct pd_native *native = frame(&rig, (uint64_t)i);
        CHECK(native->device_ns == (0xFFFFFFF0ll + 4 * i) * PD_NS_PER_MS);
        for (int a = 0; a < 3; a++)
            CHECK(i < 7 + a ? isnan(native->value[8 + a])
                            : native->value[8 + a] == (7 + a) * 256 * 0.002 / 16, "axis %d of %d", a, i);
    }
}

/* A driver of its own form, fed packet by packet. */
static void set_up_as(struct rig *rig, uint32_t n_channels, enum pd_cyton_aux aux)
{
    double gain[16];
    for (int c = 0; c < 16; c++) gain[c] = 24;
    const uint32_t n = n_channels + pd_cyton_n_aux(aux);
    CHECK(!pd_ring_create(&rig->ring, memory, sizeof memory, PD_NATIVE_WORDS(n), 64, 0));
    CHECK(!pd_intake_init(&rig->intake, &rig->ring, &rig->counts, n_channels > 8 ? 125 : 250,
                          n_channels > 8 ? 128 : 256, n));
    pd_cyton_driver_init(&rig->driver, &rig->intake, n_channels, gain, aux);
}

static void feed_one(struct rig *rig, struct pd_cyton_packet packet, int64_t t_ns)
{
    uint8_t bytes[PD_CYTON_BYTES];
    pd_cyton_encode(&packet, bytes);
    pd_cyton_feed(&rig->driver, bytes, sizeof bytes, t_ns);
}

static void read_words(const struct rig *rig, uint64_t index, uint64_t *words)
{
    CHECK(!pd_ring_read(&rig->ring, index, words));
}

static void test_inputs_and_markers_are_read_from_raw_packets(void)
{
    uint64_t words[PD_NATIVE_WORDS(16)];
    const struct pd_native *native = (const struct pd_native *)words;
    struct rig rig;
    set_up_as(&rig, 8, PD_CYTON_DIGITAL);
    /* The firmware's order: D11 D12, D13 D17, 0 D18. */
    feed_one(&rig, (struct pd_cyton_packet){ .stop = 0xC1, .aux = { 1, 0, 0, 1, 0, 1 } }, PD_NS_PER_S);
    read_words(&rig, 0, words);
    const double want[] = { 1, 0, 0, 1, 1 };
    CHECK(!memcmp(native->value + 8, want, sizeof want));

    set_up_as(&rig, 8, PD_CYTON_ANALOG);
    feed_one(&rig, (struct pd_cyton_packet){ .stop = 0xC1, .aux = { 3, 0xFF, 0, 0, 0, 1 } }, PD_NS_PER_S);
    read_words(&rig, 0, words);
    CHECK(native->value[8] == 3.3 && native->value[9] == 0 && fabs(native->value[10] - 3.3 / 1023) < 1e-15);

    set_up_as(&rig, 8, PD_CYTON_MARKER);
    for (uint8_t i = 0; i < 3; i++)
        feed_one(&rig, (struct pd_cyton_packet){ .counter = i, .stop = 0xC1,
                                                 .aux = { 0, i == 1 ? 'M' : 0 } },
                 PD_NS_PER_S + i * 4 * PD_NS_PER_MS);
    for (uint64_t i = 0; i < 3; i++) {
        read_words(&rig, i, words);
        CHECK(native->marker == (i == 1 ? 'M' : 0), "marker %u at %u", native->marker, (unsigned)i);
    }
}

static void test_a_daisys_halves_make_a_sample_and_a_lost_half_loses_it(void)
{
    enum { PAIRS = 300 };
    uint64_t words[PD_NATIVE_WORDS(16)];
    const struct pd_native *native = (const struct pd_native *)words;
    struct rig rig;
    set_up_as(&rig, 16, PD_CYTON_MARKER);
    for (int i = 0; i <= 2 * PAIRS; i++) {      /* begins with the half of a sample before it */
        if (i == 101 || i == 202) continue;     /* a first half and a second half are lost */
        struct pd_cyton_packet packet = { .counter = (uint8_t)i, .stop = 0xC1 };
        for (int c = 0; c < 8; c++) packet.count[c] = 100 * i + c;
        feed_one(&rig, packet, PD_NS_PER_S + i * 4 * PD_NS_PER_MS);
        if (i % 2 || i == 0 || i == 102) continue;
        uint64_t pair = (uint64_t)(i / 2 - 1);
        CHECK(pd_ring_next(&rig.ring) == pair + 1, "after packet %d: %u", i, (unsigned)pd_ring_next(&rig.ring));
        read_words(&rig, pair, words);
        const double scale = pd_cyton_uv_per_count(24);
        for (int c = 0; c < 16; c++)
            CHECK(native->value[c] == (c < 8 ? 100 * (i - 1) + c : 100 * i + c - 8) * scale);
        CHECK(native->lost_before == (i == 104 || i == 204), "%d: %u", i, native->lost_before);
    }
    CHECK(atomic_load(&rig.counts.lost) == 2 && atomic_load(&rig.counts.accepted) == PAIRS - 2);
}

static void test_after_a_reset_nothing_pending_is_left(void)
{
    struct rig rig;
    set_up(&rig);
    struct pd_driver driver = { .self = &rig.driver, .intake = &rig.intake, .feed = pd_cyton_feed,
                                .reset = pd_cyton_reset };
    feed_one(&rig, (struct pd_cyton_packet){ .counter = 5, .stop = 0xC0, .aux = { 1 } }, PD_NS_PER_S);
    const uint8_t part[20] = { 0xA0, 6 };
    pd_driver_feed(&driver, part, sizeof part, PD_NS_PER_S);
    pd_driver_reset(&driver);
    feed_one(&rig, (struct pd_cyton_packet){ .counter = 0, .stop = 0xC0 }, 3 * PD_NS_PER_S);
    const struct pd_native *native = frame(&rig, 500);      /* 2 s later */
    CHECK(native->flags == PD_NATIVE_RESET && native->lost_before == 499 && isnan(native->value[8]));
    CHECK(native->junk_bytes == 0);
}

static void test_feed_counts_what_is_behind_over_a_long_stall(void)
{
    enum { MANY = 1500 };
    static uint8_t bytes[MANY * PD_CYTON_BYTES];
    struct rig rig;
    set_up(&rig);
    struct pd_cyton_packet packet = { .stop = 0xC0 };
    pd_cyton_encode(&packet, bytes);
    pd_cyton_feed(&rig.driver, bytes, PD_CYTON_BYTES, PD_NS_PER_S);
    for (int i = 0; i < MANY; i++) {
        packet.counter = (uint8_t)(i + 1);
        packet.count[0] = i + 1;
        pd_cyton_encode(&packet, bytes + i * PD_CYTON_BYTES);
    }
    pd_cyton_feed(&rig.driver, bytes, sizeof bytes, PD_NS_PER_S + MANY * 4 * PD_NS_PER_MS);
    CHECK(rig.counts.accepted == MANY + 1 && rig.counts.lost == 0);
    for (int i = 1; i <= MANY; i++)
        CHECK(frame(&rig, (uint64_t)i)->behind == (uint32_t)(MANY - i), "packet %d", i);
}

static void test_a_copy_is_not_counted_as_behind(void)
{
    struct rig rig;
    set_up(&rig);
    uint8_t bytes[3 * PD_CYTON_BYTES];
    struct pd_cyton_packet packet = { .counter = 1, .stop = 0xC0 };
    pd_cyton_encode(&packet, bytes);
    packet.counter = 2;
    pd_cyton_encode(&packet, bytes + PD_CYTON_BYTES);
    pd_cyton_encode(&packet, bytes + 2 * PD_CYTON_BYTES);
    pd_cyton_feed(&rig.driver, bytes, sizeof bytes, PD_NS_PER_S);
    CHECK(frame(&rig, 0)->behind == 1);
    CHECK(rig.counts.accepted == 2 && rig.counts.duplicates == 1);
}

static void test_junk_is_told_with_the_packet_that_follows(void)
{
    struct rig rig;
    set_up(&rig);
    uint8_t bytes[PD_CYTON_BYTES + 3] = "$$$";
    struct pd_cyton_packet packet = { .stop = 0xC0 };
    pd_cyton_encode(&packet, bytes + 3);
    pd_cyton_feed(&rig.driver, bytes, sizeof bytes, PD_NS_PER_S);
    CHECK(rig.counts.junk_bytes == 3 && frame(&rig, 0)->junk_bytes == 3);
}

int main(void)
{
    test_feed_scales_by_each_gain_and_reads_the_accelerometer();
    test_feed_counts_what_is_behind_over_a_long_stall();
    test_a_copy_is_not_counted_as_behind();
    test_junk_is_told_with_the_packet_that_follows();
    test_stamped_packets_bring_one_axis_each_and_the_boards_time();
    test_inputs_and_markers_are_read_from_raw_packets();
    test_a_daisys_halves_make_a_sample_and_a_lost_half_loses_it();
    test_after_a_reset_nothing_pending_is_left();
    return check_report("cyton_driver");
}
