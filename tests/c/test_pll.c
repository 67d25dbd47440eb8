/* pd_pll: that neither the cut of the samples nor the instruction set changes a bit, that what
 * left the window has left none, what is refused, and that nothing reads or writes outside. Against
 * NumPy's least squares and the Cramér-Rao bound: tests/unit/test_pll.py. */
#include "block.h"
#include "check.h"
#include "pd_pll.h"
#include "pd_pll_places.h"
#include "pd_pll_run.h"
#include "random.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define sinusoid JOIN(sinusoid, SUFFIX)
#define take_root JOIN(take_root, SUFFIX)
#define turn_pair JOIN(turn_pair, SUFFIX)
#define turn_all JOIN(turn_all, SUFFIX)
#define collect_side JOIN(collect_side, SUFFIX)
#define interpolate JOIN(interpolate, SUFFIX)
#define fit_sinusoid JOIN(fit_sinusoid, SUFFIX)
#define find_top JOIN(find_top, SUFFIX)
#define search JOIN(search, SUFFIX)
#define follow_envelope JOIN(follow_envelope, SUFFIX)
#define take_out JOIN(take_out, SUFFIX)
#define solve_side JOIN(solve_side, SUFFIX)
#define pack_forms JOIN(pack_forms, SUFFIX)
#define fit_envelope JOIN(fit_envelope, SUFFIX)
#define pd_pll_take JOIN(take, SUFFIX)
#define pd_pll_gather JOIN(gather, SUFFIX)
#define pd_pll_turn JOIN(turn, SUFFIX)
#define pd_pll_collect JOIN(collect, SUFFIX)
#define pd_pll_solve JOIN(solve, SUFFIX)
#define pd_pll_factorise JOIN(factorise, SUFFIX)
#define pd_pll_count_sample JOIN(count_sample, SUFFIX)

#define VERSIONED "../../csrc/pd_pll_run.c"
#include "versions.h"
#define VERSIONED "../../csrc/pd_pll_tables.c"
#include "versions.h"

#undef pd_pll_take
#undef pd_pll_gather
#undef pd_pll_turn
#undef pd_pll_collect
#undef pd_pll_solve
#undef pd_pll_factorise
#undef pd_pll_count_sample

#define MOST_CHANNELS 11
#define MOST_SAMPLES 800

static double samples[MOST_SAMPLES * MOST_CHANNELS];

/* 10.2 of 250 Hz on an electrode's offset, in noise that grows from channel to channel. */
static void draw(void)
{
    for (uint32_t i = 0; i < MOST_SAMPLES; i++) {
        for (uint32_t c = 0; c < MOST_CHANNELS; c++) {
            double noise = uniform() + uniform() + uniform() - 1.5;
            samples[i * MOST_CHANNELS + c] = 62e3 + 3 * cos(0.25635396 * i + c) + 0.6 * c * noise;
        }
    }
}

static struct pd_pll_config config_of(uint32_t channels)
{
    return (struct pd_pll_config){.rate_hz = 250, .ref_hz = 10, .mains_hz = {50, 60},
                                  .n_channels = channels};
}

/* Exactly as large as it has to be, so that a sanitizer sees one byte more. */
static struct pd_pll *make(const struct pd_pll_config *config)
{
    size_t bytes = pd_pll_bytes(config);
    CHECK(bytes > 0, "%g Hz", config->ref_hz);
    struct pd_pll *pll = block(bytes);
    CHECK(pd_pll_init(pll, config) == 0, "%g Hz", config->ref_hz);
    CHECK(pll->bytes == bytes, "%zu", pll->bytes);
    return pll;
}

static int alike_in(struct pd_pll *a, struct pd_pll *b, uint32_t channel)
{
    struct pd_pll_report first, second;
    pd_pll_read(a, channel, &first);
    pd_pll_read(b, channel, &second);
    return !memcmp(&first, &second, sizeof first);
}

static void any_cut_of_the_samples_gives_the_same_bits(void)
{
    struct pd_pll_config config = config_of(11);
    struct pd_pll *whole = make(&config), *cut = make(&config);
    double *x = block(sizeof samples);
    memcpy(x, samples, sizeof samples);
    for (uint32_t i = 0; i < 40; i++) x[below(MOST_SAMPLES * MOST_CHANNELS)] = i % 2 ? NAN : 1e13;
    uint32_t defined = 0;
    for (uint32_t at = 0; at < MOST_SAMPLES;) {
        uint32_t n = 1 + below(60);
        if (at + n > MOST_SAMPLES) n = MOST_SAMPLES - at;
        pd_pll_push(whole, x + at * 11, 11, n);
        for (uint32_t i = 0; i < n; i++) pd_pll_push(cut, x + (at + i) * 11, 11, 1);
        at += n;
        for (uint32_t c = 0; c < 11; c++) {
            struct pd_pll_report report;
            CHECK(alike_in(whole, cut, c), "channel %u after %u", c, at);
            pd_pll_read(whole, c, &report);
            CHECK((at < 250) == (report.state == PD_PLL_FILLING), "after %u", at);
            defined += report.defined != 0;
        }
    }
    CHECK(defined > 100, "%u", defined);
    free(x);
    free(whole);
    free(cut);
}

static void what_left_the_window_left_no_bit(double value)
{
    struct pd_pll_config config = config_of(4);
    struct pd_pll *clean = make(&config), *struck = make(&config);
    pd_pll_push(clean, samples, MOST_CHANNELS, 320);
    pd_pll_push(struck, samples, MOST_CHANNELS, 320);
    for (uint32_t at = 320; at < 640; at++) {
        double row[4];
        memcpy(row, samples + at * MOST_CHANNELS, sizeof row);
        pd_pll_push(clean, row, 4, 1);
        if (at == 333) row[2] = value;
        pd_pll_push(struck, row, 4, 1);
        if (at > 345 && at < 570 && at % 10) continue;
        struct pd_pll_report a, b;
        pd_pll_read(clean, 2, &a);
        pd_pll_read(struck, 2, &b);
        a.locked = b.locked = 0;    /* which remembers more than the window */
        int same = !memcmp(&a, &b, sizeof a), inside = at >= 333 && at < 583;
        CHECK(same || inside, "sample %u", at);
        CHECK(at < 333 || !inside || !same, "sample %u: not noticed", at);
        CHECK(alike_in(clean, struck, 1), "the channel beside, sample %u", at);
    }
    free(clean);
    free(struck);
}

static void any_shape_stays_within_its_memory(void)
{
    uint32_t made = 0, defined = 0;
    for (uint32_t round = 0; round < 25; round++) {
        struct pd_pll_config config = {
            .rate_hz = 60 + 400 * uniform(), .ref_hz = 1 + 60 * uniform() * uniform(),
            .span_hz = 0.2 + 2 * uniform(), .window_s = 0.3 + 1.5 * uniform(),
            .mains_hz = {round % 3 ? 50 : 0, round % 4 ? 60 : 0},
            .n_channels = 1 + below(MOST_CHANNELS),
        };
        if (pd_pll_bytes(&config) == 0) continue;
        made++;
        struct pd_pll *pll = make(&config);
        double *x = block(MOST_CHANNELS * 40 * sizeof *x);
        for (uint32_t at = 0; at < 3 * pll->samples;) {
            uint32_t n = 1 + below(40);
            for (uint32_t i = 0; i < n * config.n_channels; i++) {
                double turns = config.ref_hz / config.rate_hz * (at + i / config.n_channels);
                x[i] = below(200) ? 3 * cos(6.283185307179586 * turns) + uniform() : NAN;
            }
            pd_pll_push(pll, x, config.n_channels, n);
            at += n;
            for (uint32_t c = 0; c < config.n_channels; c++) {
                struct pd_pll_report report;
                pd_pll_read(pll, c, &report);
                CHECK(report.defined == !isnan(report.phase_rad), "state %d", report.state);
                CHECK(report.defined == (report.state == PD_PLL_DEFINED), "%d", report.state);
                if (!report.defined) continue;
                defined++;
                CHECK(fabs(report.phase_rad) <= 3.1415926535897936, "%g", report.phase_rad);
                CHECK(fabs(report.phase_error_rad) <= 3.1415926535897936);
                CHECK(report.plv >= 0 && report.plv <= 1, "%g", report.plv);
                CHECK(report.sd_rad >= 0 && report.amplitude_uv > 0);
            }
        }
        free(x);
        free(pll);
    }
    CHECK(made > 10 && defined > 300, "%u configurations, %u reports", made, defined);
}

static void a_copy_goes_on_elsewhere(void)
{
    struct pd_pll_config config = config_of(9);
    struct pd_pll *first = make(&config), *second = make(&config);
    pd_pll_tie(first, 100, 123456789);
    pd_pll_push(first, samples, 11, 333);
    unsigned char *saved = block(first->bytes);
    memcpy(saved, first, first->bytes);
    CHECK(pd_pll_restore(second, saved, first->bytes) == 0);
    pd_pll_push(first, samples + 11 * 333, 11, 150);
    pd_pll_push(second, samples + 11 * 333, 11, 150);
    for (uint32_t c = 0; c < 9; c++) CHECK(alike_in(first, second, c), "channel %u", c);

    config.ref_hz += 0.1;
    struct pd_pll *other = make(&config);
    CHECK(pd_pll_restore(other, saved, first->bytes) == -EINVAL, "another frequency");
    CHECK(pd_pll_restore(second, saved, first->bytes - 8) == -EINVAL, "cut short");
    CHECK(other->count == 0);
    free(saved);
    free(first);
    free(second);
    free(other);
}

static void what_can_not_be_is_refused(void)
{
    struct pd_pll_config good = config_of(8), bad;
    CHECK(pd_pll_bytes(&good) > 0);
#define REFUSED(change) do { bad = good; change; \
        CHECK(pd_pll_bytes(&bad) == 0, #change); \
        CHECK(pd_pll_init(NULL, &bad) == -EINVAL, #change); } while (0)
    REFUSED(bad.rate_hz = NAN);
    REFUSED(bad.rate_hz = INFINITY);
    REFUSED(bad.rate_hz = 24);
    REFUSED(bad.ref_hz = 0.7);
    REFUSED(bad.ref_hz = 100.5);
    REFUSED(bad.ref_hz = NAN);
    REFUSED(bad.span_hz = -1);
    REFUSED(bad.span_hz = 4.1);
    REFUSED(bad.window_s = 0.12);
    REFUSED(bad.window_s = 66);
    REFUSED(bad.window_s = NAN);
    REFUSED(bad.false_alarm = 0.2);
    REFUSED(bad.false_alarm = -0.1);
    REFUSED(bad.mains_hz[1] = -50);
    REFUSED(bad.mains_hz[0] = NAN);
    REFUSED(bad.n_channels = 0);
    REFUSED(bad.n_channels = PD_PLL_MAX_CHANNELS + 1);
    bad = good;
    bad.window_s = 4;
    CHECK(pd_pll_bytes(&bad) > 0);
    bad.window_s = 4.1;
    CHECK(pd_pll_bytes(&bad) == 0, "a span of more than 4 bins");
}

/* -- instruction sets --------------------------------------------------------------- */

#define MOST_DOUBLES 40000

struct kit {
    int (*take)(const double *, size_t, uint32_t, uint32_t, double *, uint8_t *);
    void (*gather)(double *, const double *, const double *, uint32_t, uint32_t);
    void (*turn)(const struct pd_pll *, double *, const double *, const double *);
    void (*collect)(const struct pd_pll *, double *, const double *const *, const double *,
                    uint32_t, const double *);
    void (*solve)(const struct pd_pll *, const struct pd_pll_fit *, double *,
                  struct pd_pll_lanes *);
    void (*factorise)(const struct pd_pll *, const struct pd_pll_fit *);
    void (*count_sample)(const struct pd_pll *, double *, uint32_t, double);
};

/* A window with missing samples, from its rows to its fits; all into `out`, its length returned. */
static size_t go(const struct kit *kit, const struct pd_pll *pll, double *out)
{
    struct pd_pll_fit fit = fit_at(pll, pll->part);
    uint32_t n = pll->n_sums, blocks = pll->samples / pll->hop;
    size_t size = (size_t)n * PD_PLL_LANES, gram = (size_t)n * n;
    double *sums = out, *total = sums + blocks * size, *taken = total + size;
    const double *parts[64];
    double offsets[64];
    uint8_t missing[64];
    CHECK(blocks < 64 && pll->hop <= 64);
    memset(sums, 0, blocks * size * sizeof *sums);
    memcpy(fit.gram, at(pll, pll->gram), gram * sizeof *fit.gram);
    for (uint32_t b = 0; b < blocks; b++) {
        double *block = sums + b * size;
        const double *from = samples + (size_t)b * pll->hop * MOST_CHANNELS;
        CHECK(kit->take(from, MOST_CHANNELS, PD_PLL_LANES, pll->hop, taken, missing) == 0);
        kit->gather(block, at(pll, pll->rows), taken, n, pll->hop);
        kit->turn(pll, block, block, at(pll, pll->middles) + b * 2 * pll->n_frequencies);
        parts[b] = block;
        offsets[b] = (2.0 * b + 1.0) / blocks - 1;
    }
    for (uint32_t i = 0; i < 40; i++) kit->count_sample(pll, fit.gram, 5 * i + 3, -1);
    kit->factorise(pll, &fit);
    kit->collect(pll, total, parts, offsets, blocks, at(pll, pll->ends));
    struct pd_pll_lanes lanes;
    memset(&lanes, 0, sizeof lanes);
    kit->solve(pll, &fit, total, &lanes);
    double *next = taken + (size_t)pll->hop * PD_PLL_LANES;
    size_t doubles = (fit.norm + 2) - fit.gram;
    memcpy(next, fit.gram, doubles * sizeof *next);
    memcpy(next + doubles, &lanes, sizeof lanes);
    return (size_t)(next - out) + doubles + sizeof lanes / sizeof(double);
}

#define KIT(set) \
    {take_##set, gather_##set, turn_##set, collect_##set, solve_##set, factorise_##set, \
     count_sample_##set}

static void every_instruction_set_gives_the_same_bits(void)
{
    static const struct kit kits[] = EACH_VERSION(KIT);
    struct pd_pll_config config = config_of(8);
    struct pd_pll *pll = make(&config);
    double *expected = block(MOST_DOUBLES * sizeof *expected);
    double *out = block(MOST_DOUBLES * sizeof *out);
    size_t n = go(&kits[0], pll, expected);
    CHECK(n <= MOST_DOUBLES, "%zu", n);
    struct pd_pll_lanes lanes;
    memcpy(&lanes, expected + n - sizeof lanes / sizeof(double), sizeof lanes);
    for (uint32_t lane = 0; lane < PD_PLL_LANES; lane++) {
        CHECK(isfinite(lanes.power[lane]) && isfinite(lanes.steady[lane]), "lane %u", lane);
        CHECK(lanes.hertz[lane] >= pll->low_hz && lanes.hertz[lane] <= pll->high_hz);
    }
    for (uint32_t version = 1; version < VERSIONS; version++) {
        if (!machine_runs(version)) continue;
        CHECK(go(&kits[version], pll, out) == n && !memcmp(out, expected, n * sizeof *out), "%s",
              version_names[version]);
    }
    free(expected);
    free(out);
    free(pll);
}

int main(void)
{
    draw();
    any_cut_of_the_samples_gives_the_same_bits();
    what_left_the_window_left_no_bit(NAN);
    what_left_the_window_left_no_bit(-INFINITY);
    what_left_the_window_left_no_bit(1e200);
    what_left_the_window_left_no_bit(262e3);
    any_shape_stays_within_its_memory();
    a_copy_goes_on_elsewhere();
    what_can_not_be_is_refused();
    every_instruction_set_gives_the_same_bits();
    return check_report("pll");
}
