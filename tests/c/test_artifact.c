/* pd_artifact: that neither the cut of the samples nor the instruction set changes a bit, that
 * what left the window has left none, what is refused, and that nothing reads or
 * writes outside. Against NumPy: tests/unit/test_artifact.py. */
#include "block.h"
#include "check.h"
#include "pd_artifact.h"
#include "random.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define gather_values JOIN(gather_values, SUFFIX)
#define add_step JOIN(add_step, SUFFIX)
#define gather_steps JOIN(gather_steps, SUFFIX)
#define gather_bins JOIN(gather_bins, SUFFIX)
#define in_order JOIN(in_order, SUFFIX)
#define survey_counts JOIN(survey_counts, SUFFIX)
#define may_be_flat JOIN(may_be_flat, SUFFIX)
#define survey_flat JOIN(survey_flat, SUFFIX)
#define survey_steps JOIN(survey_steps, SUFFIX)
#define survey_boxes JOIN(survey_boxes, SUFFIX)
#define pd_artifact_gather JOIN(gather, SUFFIX)
#define pd_artifact_add JOIN(add, SUFFIX)
#define pd_artifact_periodogram JOIN(periodogram, SUFFIX)
#define pd_artifact_survey JOIN(survey, SUFFIX)

#define VERSIONED "../../csrc/pd_artifact_sums.c"
#include "versions.h"

#undef pd_artifact_gather
#undef pd_artifact_add
#undef pd_artifact_periodogram
#undef pd_artifact_survey

#define MOST_CHANNELS 19
#define MOST_SAMPLES 900

static double samples[MOST_SAMPLES * MOST_CHANNELS];
static uint8_t roles[MOST_CHANNELS];

static struct pd_artifact_config usual(uint32_t channels, uint32_t hop, uint32_t n_blocks)
{
    struct pd_artifact_config config = {
        .rate_hz = 250, .roles = roles, .n_channels = channels, .hop = hop, .n_blocks = n_blocks,
        .box = n_blocks / 10 ? n_blocks / 10 : 1, .flat = n_blocks / 5, .lag = hop > 2 ? 2 : 1,
        .low_uv = -187500, .high_uv = 187500, .flat_uv = 0.5, .line_hz = {50, 60},
        .eeg_hz = {4, 30}, .emg_hz = {70, 110},
    };
    for (uint32_t kind = 0; kind < PD_ARTIFACT_KINDS; kind++) {
        config.curve[kind] = (struct pd_artifact_curve){.threshold = 1, .floor = 20, .weight = 2,
                                                        .power = 2, .least = 1};
    }
    return config;
}

/* Exactly as large as it has to be, so that a sanitizer sees one byte more. */
static struct pd_artifact *make(const struct pd_artifact_config *config)
{
    size_t bytes = pd_artifact_bytes(config);
    CHECK(bytes > 0, "hop %u", config->hop);
    struct pd_artifact *a = block(bytes);
    CHECK(pd_artifact_init(a, config) == 0, "hop %u", config->hop);
    CHECK(a->bytes == bytes, "%zu", a->bytes);
    return a;
}

static int alike(struct pd_artifact *first, struct pd_artifact *second)
{
    struct pd_artifact_report a, b;
    pd_artifact_read(first, &a);
    pd_artifact_read(second, &b);
    if (memcmp(&a, &b, sizeof a)) return 0;
    for (uint32_t kind = 0; kind < PD_ARTIFACT_KINDS; kind++) {
        size_t bytes = first->config.n_channels * sizeof(double);
        if (memcmp(pd_artifact_scores(first, kind), pd_artifact_scores(second, kind), bytes)) {
            return 0;
        }
        if (memcmp(pd_artifact_values(first, kind), pd_artifact_values(second, kind), bytes)) {
            return 0;
        }
    }
    return 1;
}

static void any_cut_of_the_samples_gives_the_same_bits(void)
{
    struct pd_artifact_config config = usual(19, 5, 50);
    struct pd_artifact *whole = make(&config), *cut = make(&config);
    uint8_t lost[60];
    for (uint32_t at = 0; at < MOST_SAMPLES;) {
        uint32_t n = 1 + below(60);
        if (at + n > MOST_SAMPLES) n = MOST_SAMPLES - at;
        for (uint32_t i = 0; i < n; i++) lost[i] = (uint8_t)(below(20) == 0);
        pd_artifact_push(whole, samples + at * 19, 19, n, lost);
        for (uint32_t i = 0; i < n; i++) {
            pd_artifact_push(cut, samples + (at + i) * 19, 19, 1, lost + i);
        }
        at += n;
        CHECK(alike(whole, cut), "after %u", at);
        CHECK(whole->report.samples == (at < 250 ? 0 : 250), "after %u", at);
        CHECK(whole->report.defined == (at < 250 ? 0 : (1u << PD_ARTIFACT_KINDS) - 1), "%u", at);
    }
    free(whole);
    free(cut);
}

static void what_left_the_window_left_no_bit(double value)
{
    struct pd_artifact_config config = usual(9, 5, 50);
    struct pd_artifact *clean = make(&config), *struck = make(&config);
    for (uint32_t at = 0; at < 800; at++) {
        double row[9];
        memcpy(row, samples + at * 9, sizeof row);
        pd_artifact_push(clean, row, 9, 1, NULL);
        if (at == 321) row[8] = value;
        pd_artifact_push(struck, row, 9, 1, NULL);
        CHECK(alike(clean, struck) == (at < 324 || at >= 325 + 249), "sample %u", at);
    }
    free(clean);
    free(struck);
}

static void any_shape_stays_within_its_memory(void)
{
    for (uint32_t round = 0; round < 60; round++) {
        uint32_t channels = 1 + below(MOST_CHANNELS), n_blocks = 8 + 2 * below(30);
        struct pd_artifact_config config = usual(channels, 1 + below(12), n_blocks);
        config.box = 1 + below(n_blocks / 3);
        config.flat = 1 + below(n_blocks);
        config.lag = 1 + below(config.hop);
        if (round % 4 == 0) config.line_hz[0] = config.line_hz[1] = 0;
        if (round % 5 == 0) config.emg_hz[0] = config.emg_hz[1] = 0;
        if (round % 6 == 0) config.low_uv = config.high_uv = NAN;
        config.curve[PD_ARTIFACT_POP].least = 1 + below(2 * channels);
        struct pd_artifact *a = make(&config);
        double *row = block(channels * sizeof *row);
        for (uint32_t at = 0; at < MOST_SAMPLES; at++) {
            for (uint32_t c = 0; c < channels; c++) {
                row[c] = below(2000) ? samples[at * channels + c] : NAN;
            }
            pd_artifact_push(a, row, channels, 1, NULL);
            if (at % 37) continue;
            struct pd_artifact_report report;
            pd_artifact_read(a, &report);
            for (uint32_t kind = 0; kind < PD_ARTIFACT_KINDS; kind++) {
                double score = report.score[kind];
                CHECK(isnan(score) ? !(report.defined >> kind & 1) : score >= 0 && score <= 1,
                      "kind %u: %g", kind, score);
                CHECK(!(report.defined & ~report.available));
            }
        }
        free(row);
        free(a);
    }
}

static void a_copy_goes_on_elsewhere(void)
{
    struct pd_artifact_config config = usual(4, 6, 40);
    struct pd_artifact *first = make(&config), *second = make(&config);
    pd_artifact_push(first, samples, 4, 500, NULL);
    unsigned char *saved = block(first->bytes);
    memcpy(saved, first, first->bytes);
    CHECK(pd_artifact_restore(second, saved, first->bytes) == 0);
    CHECK(alike(first, second));
    pd_artifact_push(first, samples + 2000, 4, 77, NULL);
    pd_artifact_push(second, samples + 2000, 4, 77, NULL);
    CHECK(alike(first, second));

    config.curve[2].threshold = 1.5;
    struct pd_artifact *other = make(&config);
    CHECK(pd_artifact_restore(other, saved, first->bytes) == -EINVAL, "another threshold");
    config.curve[2].threshold = 1;
    roles[1] ^= PD_ARTIFACT_IGNORED;
    struct pd_artifact *ignoring = make(&config);
    roles[1] ^= PD_ARTIFACT_IGNORED;
    CHECK(pd_artifact_restore(ignoring, saved, first->bytes) == -EINVAL, "another role");
    CHECK(pd_artifact_restore(second, saved, first->bytes - 8) == -EINVAL, "cut short");
    CHECK(other->count == 0 && ignoring->count == 0);
    free(saved);
    free(first);
    free(second);
    free(other);
    free(ignoring);
}

static void what_can_not_be_is_refused(void)
{
    struct pd_artifact_config good = usual(8, 5, 50), bad;
    CHECK(pd_artifact_bytes(&good) > 0);
#define REFUSED(change) do { bad = good; change; \
        CHECK(pd_artifact_bytes(&bad) == 0, #change); \
        CHECK(pd_artifact_init(NULL, &bad) == -EINVAL, #change); } while (0)
    REFUSED(bad.rate_hz = NAN);
    REFUSED(bad.rate_hz = INFINITY);
    REFUSED(bad.rate_hz = 200);         /* 110 Hz does not fit */
    REFUSED(bad.n_channels = 0);
    REFUSED(bad.n_channels = PD_ARTIFACT_MAX_CHANNELS + 1);
    REFUSED(bad.hop = 0);
    REFUSED(bad.hop = PD_ARTIFACT_MAX_HOP + 1);
    REFUSED(bad.n_blocks = 49);
    REFUSED(bad.n_blocks = PD_ARTIFACT_MIN_BLOCKS - 2);
    REFUSED(bad.n_blocks = PD_ARTIFACT_MAX_BLOCKS + 2);
    REFUSED(bad.box = 0);
    REFUSED(bad.box = 17);
    REFUSED(bad.flat = 0);
    REFUSED(bad.flat = 51);
    REFUSED(bad.lag = 0);
    REFUSED(bad.lag = 6);
    REFUSED(bad.flat_uv = NAN);
    REFUSED(bad.low_uv = NAN);
    REFUSED(bad.low_uv = bad.high_uv);
    REFUSED(bad.line_hz[1] = -1);
    REFUSED(bad.eeg_hz[0] = NAN);
    REFUSED(bad.eeg_hz[1] = 3);
    REFUSED(bad.emg_hz[1] = 125);
    REFUSED(bad.curve[0].threshold = 0);
    REFUSED(bad.curve[1].floor = NAN);
    REFUSED(bad.curve[2].weight = -1);
    REFUSED(bad.curve[3].power = 0);
    REFUSED(bad.curve[4].power = PD_ARTIFACT_MAX_POWER + 1);
    REFUSED(bad.curve[5].least = 0);
}

/* -- instruction sets --------------------------------------------------------------- */

#define HOP 6
#define BLOCKS 40
#define BINS 30
#define WINDOW (HOP * BLOCKS)

struct kit {
    void (*gather)(const struct pd_artifact_config *, struct pd_artifact_stats *, double *,
                   const pd_artifact_lanes *, const pd_artifact_lanes *, const double *,
                   const struct pd_artifact_bin *, uint32_t, uint32_t);
    void (*add)(double *, const double *, const double *, size_t);
    void (*periodogram)(const struct pd_artifact_config *, const double *, const double *,
                        const struct pd_artifact_bin *, uint32_t, uint32_t,
                        struct pd_artifact_power *);
    void (*survey)(const struct pd_artifact_config *, const struct pd_artifact_stats *, uint32_t,
                   pd_artifact_lanes *, struct pd_artifact_window *, pd_artifact_lanes *);
};

struct result {
    struct pd_artifact_stats stats[BLOCKS];
    double node[BINS * 2 * PD_ARTIFACT_LANES];
    struct pd_artifact_power power;
    struct pd_artifact_window window;
    pd_artifact_lanes transients[BLOCKS];
};

static void go(const struct kit *kit, const double *turns, struct result *out)
{
    struct pd_artifact_config config = usual(8, HOP, BLOCKS);
    struct pd_artifact_bin bins[BINS];
    pd_artifact_lanes scratch[BLOCKS];
    double node[BINS * 2 * PD_ARTIFACT_LANES];
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < BINS; i++) {
        bins[i] = (struct pd_artifact_bin){i + 1, i > 0 && i + 1 < BINS ? 1u << i % 4 : 0};
    }
    for (uint32_t block = 0; block < BLOCKS; block++) {
        const pd_artifact_lanes *rows = (const pd_artifact_lanes *)(void *)samples
                                        + (block + 1) * HOP;
        kit->gather(&config, &out->stats[block], node, rows, rows - HOP, turns, bins, BINS,
                    block * HOP);
        kit->add(out->node, out->node, node, BINS * 2 * PD_ARTIFACT_LANES);
    }
    kit->periodogram(&config, out->node, turns, bins, BINS, 3 * HOP, &out->power);
    kit->survey(&config, out->stats, 3, scratch, &out->window, out->transients);
}

#define KIT(set) {gather_##set, add_##set, periodogram_##set, survey_##set}

static void every_instruction_set_gives_the_same_bits(void)
{
    static const struct kit kits[] = EACH_VERSION(KIT);
    static struct result expected, out;
    double turns[2 * WINDOW];
    for (uint32_t i = 0; i < WINDOW; i++) {
        turns[i] = cos(2 * 3.141592653589793 * i / WINDOW);
        turns[WINDOW + i] = sin(2 * 3.141592653589793 * i / WINDOW);
    }
    go(&kits[0], turns, &expected);
    CHECK(expected.power.emg[7] > 0 && expected.window.step[7] > 0);
    for (uint32_t version = 1; version < VERSIONS; version++) {
        if (!machine_runs(version)) continue;
        go(&kits[version], turns, &out);
        CHECK(!memcmp(&out, &expected, sizeof out), "%s", version_names[version]);
    }
}

int main(void)
{
    for (uint32_t i = 0; i < MOST_SAMPLES * MOST_CHANNELS; i++) samples[i] = 62e3 + 9 * uniform();
    for (uint32_t c = 0; c < MOST_CHANNELS; c++) {
        roles[c] = c % 3 ? PD_ARTIFACT_BEHIND : PD_ARTIFACT_FRONTAL;
    }
    any_cut_of_the_samples_gives_the_same_bits();
    what_left_the_window_left_no_bit(200e3);
    what_left_the_window_left_no_bit(NAN);
    what_left_the_window_left_no_bit(INFINITY);
    any_shape_stays_within_its_memory();
    a_copy_goes_on_elsewhere();
    what_can_not_be_is_refused();
    every_instruction_set_gives_the_same_bits();
    return check_report("artifact");
}
