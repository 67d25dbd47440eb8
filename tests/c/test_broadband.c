/* pd_broadband: one bin a call, on time or late, in a pump's thread beside a reader. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "check.h"
#include "pd_broadband.h"
#include "pd_pump.h"

#define CHANNELS 5
#define SAMPLES 1000
#define RATE_HZ 10000.0
#define BIN_NS 5000000
#define SLOTS 64

struct rig {
    struct pd_broadband device;
    struct pd_ring ring;
    void *spike, *memory;
    float *x;
    uint64_t record[16];
};

static const struct pd_sos_section sections[1] = {
    {.b0 = 0.3, .b1 = 0.1, .b2 = -0.4, .a1 = -0.5, .a2 = 0.3}};

static struct rig *make(int loop, double rate_hz)
{
    struct rig *rig = calloc(1, sizeof *rig);
    const struct pd_spike_config config = {
        .rate_hz = rate_hz, .bin_samples = 50, .threshold = 3, .scale = 1, .refractory = 10,
        .n_channels = CHANNELS, .n_sections = 1, .reference = PD_SPIKE_MEDIAN,
        .polarity = PD_SPIKE_BOTH, .sections = sections};
    const size_t bytes = pd_spike_bytes(CHANNELS, 1);
    rig->spike = aligned_alloc(64, bytes);
    CHECK(pd_spike_init(rig->spike, bytes, &config, NULL) == 0, "");
    const uint32_t words = pd_broadband_words(CHANNELS);
    CHECK(words == 3 + 2 + 1, "%u", words);
    rig->memory = malloc(pd_ring_bytes(words, SLOTS));
    CHECK(!pd_ring_create(&rig->ring, rig->memory, pd_ring_bytes(words, SLOTS), words, SLOTS, 0),
          "");
    rig->x = malloc(SAMPLES * CHANNELS * sizeof *rig->x);
    uint32_t random = 1;
    for (uint32_t i = 0; i < SAMPLES * CHANNELS; i++) {
        random = random * 1664525u + 1013904223u;
        rig->x[i] = (float)(random >> 8) * 0x1p-24f;
    }
    const struct pd_broadband_source source = {.f32 = rig->x, .n_samples = SAMPLES, .loop = loop,
                                               .n_channels = CHANNELS, .rate_hz = rate_hz,
                                               .late_ns = BIN_NS};
    CHECK(!pd_broadband_init(&rig->device, &source, rig->spike, &rig->ring, rig->record), "");
    return rig;
}

static void drop(struct rig *rig)
{
    free(rig->spike);
    free(rig->memory);
    free(rig->x);
    free(rig);
}

static void test_one_bin_a_call(void)
{
    struct rig *rig = make(0, RATE_HZ);
    uint64_t frame[16];
    CHECK(pd_broadband_advance(&rig->device, 1000) == 1000 + BIN_NS, "");
    CHECK(pd_broadband_advance(&rig->device, 1000 + BIN_NS - 1) == 1000 + BIN_NS, "");
    CHECK(pd_ring_next(&rig->ring) == 0, "");
    const int64_t late = 1000 + 10 * BIN_NS;
    for (int64_t i = 1; i <= 10; i++)
        CHECK(pd_broadband_advance(&rig->device, late) == 1000 + (i + 1) * BIN_NS, "");
    CHECK(pd_broadband_advance(&rig->device, late) == late + BIN_NS, "");
    CHECK(pd_ring_next(&rig->ring) == 10 && rig->device.late == 8, "");
    for (uint64_t i = 0; i < 10; i++) {
        CHECK(pd_ring_read(&rig->ring, i, frame) == 0, "");
        CHECK(frame[0] == i && frame[1] == 1000 + (i + 1) * BIN_NS, "");
        CHECK(frame[2] == (i < 8 ? PD_BROADBAND_LATE : 0), "");
    }
    for (int i = 0; i < 20; i++) pd_broadband_advance(&rig->device, INT64_MAX / 2);
    CHECK(pd_ring_next(&rig->ring) == 20 && rig->device.ended, "");
    CHECK(pd_broadband_advance(&rig->device, INT64_MAX / 2) == PD_BROADBAND_NEVER, "");
    drop(rig);
}

static void test_it_begins_again_within_a_bin(void)
{
    struct rig *rig = make(1, RATE_HZ);
    rig->device.source.n_samples = 70;
    uint64_t frame[16];
    pd_broadband_advance(&rig->device, 0);
    for (int i = 0; i < 4; i++) pd_broadband_advance(&rig->device, 20 * BIN_NS);
    const uint64_t wrapped[] = {0, 1, 1, 0};    /* samples 0-49, 50-99, 100-149, 150-199 */
    for (uint64_t i = 0; i < 4; i++) {
        CHECK(pd_ring_read(&rig->ring, i, frame) == 0, "");
        CHECK((frame[2] & PD_BROADBAND_WRAPPED) == wrapped[i] * PD_BROADBAND_WRAPPED, "%u", (unsigned)i);
    }
    drop(rig);
}

static void test_a_pump_plays_it(void)
{
    struct rig *rig = make(1, 1e6);             /* a bin each 50 µs */
    struct pd_driver driver = {.self = &rig->device, .advance = pd_broadband_advance};
    struct pd_pump *pump = malloc(sizeof *pump);
    CHECK(pd_pump_start(pump, &driver, -1, -1, 0, -1) == 0, "");
    uint64_t next = 0, frame[16], spikes = 0;
    while (next < 2000) {
        const int rc = pd_ring_read(&rig->ring, next, frame);
        if (rc == -EAGAIN) {
            sched_yield();
            continue;
        }
        if (rc == 0) {
            CHECK(frame[0] == next, "");
            uint16_t counts[CHANNELS];
            memcpy(counts, frame + PD_BROADBAND_HEAD_WORDS, sizeof counts);
            for (int c = 0; c < CHANNELS; c++) spikes += counts[c];
        }
        next++;
    }
    pd_pump_stop(pump);
    CHECK(atomic_load(&rig->device.bins) >= 2000, "");
    CHECK(spikes <= atomic_load(&rig->device.spikes), "");
    free(pump);
    drop(rig);
}

static void test_what_can_not_be_is_refused(void)
{
    struct rig *rig = make(0, RATE_HZ);
    struct pd_broadband device;
#define REFUSED(change)                                                                   \
    do {                                                                                  \
        struct pd_broadband_source source = rig->device.source;                           \
        change;                                                                           \
        CHECK(pd_broadband_init(&device, &source, rig->spike, &rig->ring, rig->record)    \
              == -EINVAL, #change);                                                       \
    } while (0)
    const int16_t both = 0;
    REFUSED(source.i16 = &both);
    REFUSED(source.f32 = NULL);
    REFUSED(source.n_samples = 0);
    REFUSED(source.n_channels = 0);
    REFUSED(source.n_channels = 50);
    REFUSED(source.rate_hz = NAN);
    REFUSED(source.late_ns = -1);
    pd_broadband_advance(&rig->device, 0);
    pd_broadband_advance(&rig->device, BIN_NS);
    REFUSED((void)source);          /* the detector has begun */
    drop(rig);
}

int main(void)
{
    test_one_bin_a_call();
    test_it_begins_again_within_a_bin();
    test_a_pump_plays_it();
    test_what_can_not_be_is_refused();
    return check_report("broadband");
}
