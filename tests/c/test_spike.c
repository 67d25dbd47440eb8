/* pd_spike: the same bits whatever the blocks, the stride and the instruction set; what is missing; what
 * is refused; exact medians. Against NumPy and SciPy: tests/unit/test_spike.py. */
#include "block.h"
#include "check.h"
#include "pd_spike.h"
#include "pd_spike_state.h"
#include "random.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define row_is_whole JOIN(row_is_whole, SUFFIX)
#define any_of JOIN(any_of, SUFFIX)
#define find_gaps JOIN(find_gaps, SUFFIX)
#define find_missing JOIN(find_missing, SUFFIX)
#define all_missing JOIN(all_missing, SUFFIX)
#define load JOIN(load, SUFFIX)
#define run_sections JOIN(run_sections, SUFFIX)
#define run_group JOIN(run_group, SUFFIX)
#define start_lane JOIN(start_lane, SUFFIX)
#define run_gaps JOIN(run_gaps, SUFFIX)
#define filter JOIN(filter, SUFFIX)
#define sum_of JOIN(sum_of, SUFFIX)
#define reference_of JOIN(reference_of, SUFFIX)
#define refer JOIN(refer, SUFFIX)
#define subtract JOIN(subtract, SUFFIX)
#define found_edge JOIN(found_edge, SUFFIX)
#define find_edges JOIN(find_edges, SUFFIX)
#define mark_missing JOIN(mark_missing, SUFFIX)
#define give_row JOIN(give_row, SUFFIX)
#define feed_noise JOIN(feed_noise, SUFFIX)
#define end_bin JOIN(end_bin, SUFFIX)
#define detect JOIN(detect, SUFFIX)
#define run JOIN(run, SUFFIX)
#define pd_spike_run_f32 JOIN(f32, SUFFIX)
#define pd_spike_run_i16 JOIN(i16, SUFFIX)

#define VERSIONED "../../csrc/pd_spike_run.c"
#include "versions.h"

#undef pd_spike_run_f32
#undef pd_spike_run_i16

#define CHANNELS 37                 /* two groups of lanes and five channels */
#define ROWS 2600
#define STRIDE 41
#define BINS 40
#define EVENTS 4000
#define RATE_HZ 3000.0

typedef int run_f32(struct pd_spike *, const float *, size_t, uint32_t, struct pd_spike_out *);
typedef int run_i16(struct pd_spike *, const int16_t *, size_t, uint32_t, struct pd_spike_out *);

static const struct pd_sos_section sections[3] = {
    {.b0 = 0.3, .b1 = 0.1, .b2 = -0.4, .a1 = -0.5, .a2 = 0.3},
    {.b0 = 1.0, .b1 = -1.9, .b2 = 0.9, .a1 = 0.2, .a2 = 0.5},
    {.b0 = 0.9, .b1 = -0.2, .b2 = 0.1, .a1 = -0.1, .a2 = 0.2},
};

static struct pd_spike_config config_of(uint32_t reference, uint32_t on)
{
    return (struct pd_spike_config){
        .rate_hz = RATE_HZ, .bin_samples = 75.3, .threshold = 2.5, .scale = 1, .refractory = 3,
        .n_channels = CHANNELS, .n_sections = 3, .reference = reference, .reference_on = on,
        .polarity = PD_SPIKE_BOTH, .sections = sections};
}

static struct pd_spike *make(const struct pd_spike_config *config)
{
    const size_t bytes = pd_spike_bytes(config->n_channels, config->n_sections);
    void *memory = block_at(64, bytes);
    int rc = pd_spike_init(memory, bytes, config, NULL);
    CHECK(rc == 0, "%d", rc);
    return memory;
}

static float *recording(void)
{
    float *x = block(ROWS * STRIDE * sizeof *x);
    for (size_t i = 0; i < ROWS * STRIDE; i++)
        x[i] = (float)(uniform() + uniform() + uniform() - 1.5 + 40 * (double)(i % STRIDE));
    for (uint32_t row = 0; row < ROWS; row++)
        for (uint32_t c = CHANNELS; c < STRIDE; c++) x[row * STRIDE + c] = NAN; /* nobody's */
    for (uint32_t row = 700; row < 900; row++) x[row * STRIDE + 20] = NAN;
    x[901 * STRIDE + 3] = INFINITY;
    for (uint32_t c = 0; c < CHANNELS; c++) x[1500 * STRIDE + c] = -2e9f;
    return x;
}

struct result {
    uint16_t *counts;
    uint8_t *flags;
    struct pd_spike_event *events;
    float *y;
    uint32_t n_bins, n_events;
};

static struct result run_all(run_f32 *go, struct pd_spike *spike, const float *x, uint32_t most)
{
    struct result all = {.counts = block(BINS * CHANNELS * 2), .flags = block(BINS * CHANNELS),
                         .events = block(EVENTS * sizeof *all.events),
                         .y = block(ROWS * CHANNELS * sizeof(float))};
    for (uint32_t at = 0, n; at < ROWS; at += n) {
        n = most == ROWS ? ROWS : (uint32_t)(uniform() * most);
        if (n > ROWS - at) n = ROWS - at;
        struct pd_spike_out out = {
            .counts = all.counts + all.n_bins * CHANNELS, .flags = all.flags + all.n_bins * CHANNELS,
            .max_bins = BINS - all.n_bins, .events = all.events + all.n_events,
            .max_events = EVENTS - all.n_events, .y = all.y + at * CHANNELS,
            .y_stride = CHANNELS};
        int rc = go(spike, x + at * STRIDE, STRIDE, n, &out);
        CHECK(rc == 0 && out.overflow == 0, "%d", rc);
        all.n_bins += out.n_bins;
        all.n_events += out.n_events;
    }
    return all;
}

static void drop(struct result *r)
{
    free(r->counts);
    free(r->flags);
    free(r->events);
    free(r->y);
}

static void same(const struct result *a, const struct result *b, const char *what)
{
    CHECK(a->n_bins == 34 && b->n_bins == 34, "%s: %u, %u bins", what, a->n_bins, b->n_bins);
    CHECK(a->n_events > 200 && a->n_events == b->n_events, "%s: %u, %u", what, a->n_events,
          b->n_events);
    CHECK(!memcmp(a->counts, b->counts, a->n_bins * CHANNELS * sizeof *a->counts), "%s", what);
    CHECK(!memcmp(a->flags, b->flags, a->n_bins * CHANNELS), "%s", what);
    CHECK(!memcmp(a->events, b->events, a->n_events * sizeof *a->events), "%s", what);
    CHECK(!memcmp(a->y, b->y, ROWS * CHANNELS * sizeof *a->y), "%s", what);
}

#define F32(set) f32_##set
#define I16(set) i16_##set

static void test_blocks_and_instruction_sets(void)
{
    static run_f32 *const runs[] = EACH_VERSION(F32);
    float *x = recording();
    for (uint32_t reference = PD_SPIKE_NO_REFERENCE; reference <= PD_SPIKE_MEDIAN; reference++) {
        for (uint32_t on = PD_SPIKE_ON_BAND; on <= PD_SPIKE_ON_RAW; on++) {
            const struct pd_spike_config config = config_of(reference, on);
            struct pd_spike *spike = make(&config), *other = make(&config);
            struct result whole = run_all(f32_baseline, spike, x, ROWS);
            struct result cut = run_all(f32_baseline, other, x, 90);
            same(&whole, &cut, "blocks");
            drop(&cut);
            for (uint32_t version = 1; version < VERSIONS; version++) {
                if (!machine_runs(version)) continue;
                pd_spike_reset(other);
                cut = run_all(runs[version], other, x, 200);
                same(&whole, &cut, version_names[version]);
                drop(&cut);
            }
            drop(&whole);
            free(spike);
            free(other);
        }
    }
    free(x);
}

static void test_no_room_for_bins_does_nothing(void)
{
    const struct pd_spike_config config = config_of(PD_SPIKE_AVERAGE, PD_SPIKE_ON_BAND);
    struct pd_spike *spike = make(&config);
    float *x = recording();
    uint16_t *counts = block(CHANNELS * sizeof *counts);
    struct pd_spike_out out = {.counts = counts, .max_bins = 1};
    CHECK(pd_spike_bins(spike, 74) == 0 && pd_spike_bins(spike, 75) == 1, "");
    CHECK(pd_spike_bins(spike, 149) == 1 && pd_spike_bins(spike, 150) == 2, "");
    CHECK(f32_baseline(spike, x, STRIDE, 150, &out) == -ENOSPC, "");
    CHECK(pd_spike_index(spike) == 0, "");
    CHECK(f32_baseline(spike, x, STRIDE, 149, &out) == 0, "");
    CHECK(out.n_bins == 1 && pd_spike_bin(spike) == 1 && pd_spike_bin_end(spike) == 150, "");
    free(x);
    free(counts);
    free(spike);
}

static void test_spikes_beyond_the_list_are_counted(void)
{
    struct pd_spike_config config = config_of(PD_SPIKE_AVERAGE, PD_SPIKE_ON_BAND);
    float *x = recording();
    struct pd_spike *spike = make(&config);
    struct result all = run_all(f32_baseline, spike, x, ROWS);
    pd_spike_reset(spike);
    struct pd_spike_event *events = block(7 * sizeof *events);
    uint16_t *counts = block(BINS * CHANNELS * sizeof *counts);
    struct pd_spike_out out = {.counts = counts, .max_bins = BINS, .events = events,
                               .max_events = 7};
    CHECK(f32_baseline(spike, x, STRIDE, ROWS, &out) == 0, "");
    CHECK(out.n_events == 7 && out.overflow == all.n_events - 7, "");
    CHECK(!memcmp(events, all.events, 7 * sizeof *events), "");
    CHECK(!memcmp(counts, all.counts, all.n_bins * CHANNELS * sizeof *counts), "");
    drop(&all);
    free(x);
    free(counts);
    free(events);
    free(spike);
}

static void test_int16(void)
{
    static run_i16 *const runs[] = EACH_VERSION(I16);
    struct pd_spike_config config = config_of(PD_SPIKE_MEDIAN, PD_SPIKE_ON_BAND);
    config.scale = 0.195;
    struct pd_spike *spike = make(&config), *other = make(&config);
    int16_t *counts = block(500 * CHANNELS * sizeof *counts);
    float *x = block(500 * CHANNELS * sizeof *x), *y = block(500 * CHANNELS * sizeof *y);
    float *z = block(500 * CHANNELS * sizeof *z);
    uint16_t *bins = block(BINS * CHANNELS * sizeof *bins);
    for (uint32_t i = 0; i < 500 * CHANNELS; i++) {
        counts[i] = (int16_t)(65536 * uniform() - 32768);
        x[i] = (float)counts[i] * 0.195f;
    }
    struct pd_spike_out out = {.counts = bins, .max_bins = BINS, .y = y, .y_stride = CHANNELS};
    CHECK(i16_baseline(spike, counts, CHANNELS, 500, &out) == 0, "");
    out.y = z;
    CHECK(f32_baseline(other, x, CHANNELS, 500, &out) == 0, "");
    CHECK(!memcmp(y, z, 500 * CHANNELS * sizeof *y), "");
    for (uint32_t version = 1; version < VERSIONS; version++) {
        if (!machine_runs(version)) continue;
        pd_spike_reset(spike);
        CHECK(runs[version](spike, counts, CHANNELS, 500, &out) == 0, "%s", version_names[version]);
        CHECK(!memcmp(y, z, 500 * CHANNELS * sizeof *y), "%s", version_names[version]);
    }
    free(counts);
    free(x);
    free(y);
    free(z);
    free(bins);
    free(spike);
    free(other);
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void test_the_median_by_counting_is_that_by_sorting(void)
{
    float slope = 0;
    for (uint32_t round = 0; round < 4000; round++) {
        const uint32_t count = 1 + (uint32_t)(uniform() * 90);
        float *values = block(count * sizeof *values);
        int32_t *keys = block(96 * sizeof *keys);
        double spread = pow(10, 20 * uniform() - 10);
        for (uint32_t i = 0; i < 96; i++) keys[i] = INT32_MAX;
        for (uint32_t i = 0; i < count; i++) {
            values[i] = (float)(spread * (uniform() - 0.5));
            if (round % 3 == 0) values[i] = (float)(int)(6 * uniform() - 3);
            if (round % 5 == 0 && uniform() < 0.3) values[i] *= 1e6f;
            int32_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            keys[i] = pd_spike_key(bits);
        }
        float guess = (float)(spread * (uniform() - 0.5));
        if (round % 7 == 0) guess = 1e9f;
        float found = pd_spike_median(keys, 96, count, guess, &slope);
        qsort(values, count, sizeof *values, ascending);
        float expected = (values[(count - 1) / 2] + values[count / 2]) * 0.5f;
        CHECK(found == expected, "%u values: %g, not %g", count, found, expected);
        free(values);
        free(keys);
    }
}

static void test_what_can_not_be_is_refused(void)
{
    const struct pd_spike_config right = config_of(PD_SPIKE_AVERAGE, PD_SPIKE_ON_BAND);
    const size_t bytes = pd_spike_bytes(CHANNELS, 3);
    unsigned char *memory = block_at(64, bytes + 64);
    const uint8_t none[CHANNELS] = {0};
    struct pd_sos_section wrong[3];
#define REFUSED(change, error)                                                            \
    do {                                                                                  \
        struct pd_spike_config config = right;                                            \
        change;                                                                           \
        CHECK(pd_spike_init(memory, bytes, &config, NULL) == (error), #change);           \
    } while (0)
    CHECK(pd_spike_init(memory, bytes, &right, NULL) == 0, "");
    CHECK(pd_spike_init(memory, bytes - 1, &right, NULL) == -EINVAL, "");
    CHECK(pd_spike_init(memory + 8, bytes, &right, NULL) == -EINVAL, "");
    CHECK(pd_spike_init(memory, bytes, &right, none) == -EINVAL, "");
    REFUSED(config.n_channels = 0, -EINVAL);
    REFUSED(config.n_channels = PD_SPIKE_MAX_CHANNELS + 1, -EINVAL);
    REFUSED(config.n_sections = 0, -EINVAL);
    REFUSED(config.n_sections = PD_SPIKE_MAX_SECTIONS + 1, -EINVAL);
    REFUSED(config.rate_hz = NAN, -EINVAL);
    REFUSED(config.bin_samples = 0.5, -EINVAL);
    REFUSED(config.bin_samples = NAN, -EINVAL);
    REFUSED(config.threshold = -1, -EINVAL);
    REFUSED(config.scale = INFINITY, -EINVAL);
    REFUSED(config.refractory = 0, -EINVAL);
    REFUSED(config.reference = 3, -EINVAL);
    REFUSED(config.reference_on = 2, -EINVAL);
    REFUSED(config.polarity = 0, -EINVAL);
    REFUSED(config.polarity = 4, -EINVAL);
    memcpy(wrong, sections, sizeof wrong);
    wrong[1].a2 = 1;
    REFUSED(config.sections = wrong, -EDOM);
    wrong[1].a2 = 1 - 1e-9;         /* stable, but not in float32 */
    wrong[1].a1 = 0;
    REFUSED(config.sections = wrong, -ERANGE);
    memcpy(wrong, sections, sizeof wrong);
    for (int i = 0; i < 3; i++) wrong[i].b0 = 1e6;
    for (int i = 0; i < 3; i++) wrong[i].b1 = -1e6;
    REFUSED(config.sections = wrong, 0);
    CHECK(pd_spike_good((struct pd_spike *)memory, none) == -EINVAL, "");
    free(memory);
}

int main(void)
{
    test_blocks_and_instruction_sets();
    test_no_room_for_bins_does_nothing();
    test_spikes_beyond_the_list_are_counted();
    test_int16();
    test_the_median_by_counting_is_that_by_sorting();
    test_what_can_not_be_is_refused();
    return check_report("spike");
}
