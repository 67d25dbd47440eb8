/* pd_connectivity: the definitions of its header, whatever the neighbours and the instruction
 * set; what is undefined; what is refused. Against MNE: tests/unit/test_connectivity.py. */
#include "block.h"
#include "check.h"
#include "pd_connectivity.h"
#include "random.h"

#include <errno.h>
#include <string.h>

#define lanes JOIN(lanes, SUFFIX)
#define lanes_at JOIN(lanes_at, SUFFIX)
#define bits JOIN(bits, SUFFIX)
#define row_of JOIN(row_of, SUFFIX)
#define find_largest JOIN(find_largest, SUFFIX)
#define keep JOIN(keep, SUFFIX)
#define rule_out_flat JOIN(rule_out_flat, SUFFIX)
#define sums JOIN(sums, SUFFIX)
#define add_up JOIN(add_up, SUFFIX)
#define share JOIN(share, SUFFIX)
#define measure JOIN(measure, SUFFIX)
#define put JOIN(put, SUFFIX)
#define run_band JOIN(run_band, SUFFIX)
#define pd_connectivity_run JOIN(run, SUFFIX)

#define VERSIONED "../../csrc/pd_connectivity_run.c"
#include "versions.h"
#undef pd_connectivity_run
#undef share

#define MANY 11                     /* a group of lanes and three channels */
#define SEGMENT 32
#define N 200
#define BANDS 3
#define CELLS ((size_t)PD_MEASURES * BANDS * MANY * MANY)

static const struct pd_band bands[BANDS] = {{10, 20}, {20, 40}, {41, 42}};    /* the last is empty */
static double window[SEGMENT];

static struct pd_connectivity_config config_of(uint32_t channels)
{
    return (struct pd_connectivity_config){
        .welch = {.rate_hz = 100, .window = window, .nperseg = SEGMENT, .noverlap = 12,
                  .nfft = SEGMENT, .max_segments = 9, .detrend = PD_DETREND_CONSTANT},
        .bands = bands, .n_channels = channels, .n_bands = BANDS};
}

static struct pd_connectivity make(uint32_t channels, void **memory)
{
    struct pd_connectivity_config config = config_of(channels);
    struct pd_connectivity plan;
    size_t bytes = pd_connectivity_bytes(&config);
    *memory = block(bytes);
    int rc = pd_connectivity_init(&plan, &config, *memory, bytes);
    CHECK(rc == 0, "%d", rc);
    return plan;
}

static double *signals(void)        /* of something common, late by a sample a channel, and noise */
{
    double *x = block(N * MANY * sizeof *x), common[N + MANY];
    for (uint32_t j = 0; j < N + MANY; j++) common[j] = uniform() - 0.5;
    for (uint32_t i = 0; i < N * MANY; i++) {
        x[i] = common[i / MANY + i % MANY] + uniform() - 0.5;
    }
    return x;
}

/* The header's formulas in one bin, in complex long double. */
static void expect(const struct pd_welch *w, const double *x, uint32_t i, uint32_t j, uint32_t k,
                   long double *value)
{
    long double re = 0, im = 0, p_re = 0, p_im = 0, size = 0, square = 0, sign = 0, p_i = 0, p_j = 0;
    uint32_t count = 0;
    for (uint32_t from = 0; from + SEGMENT <= N; from += w->hop, count++) {
        long double z[2][2] = {{0}};
        for (uint32_t which = 0; which < 2; which++) {
            const double *at = x + from * MANY + (which ? j : i);
            long double mean = 0;
            for (uint32_t t = 0; t < SEGMENT; t++) mean += at[t * MANY] / (long double)SEGMENT;
            for (uint32_t t = 0; t < SEGMENT; t++) {
                long double angle = 6.283185307179586476925286766559L * (t * k % SEGMENT) / SEGMENT;
                z[which][0] += (at[t * MANY] - mean) * w->window[t] * cosl(angle);
                z[which][1] -= (at[t * MANY] - mean) * w->window[t] * sinl(angle);
            }
        }
        long double c_re = z[0][0] * z[1][0] + z[0][1] * z[1][1];
        long double c_im = z[0][1] * z[1][0] - z[0][0] * z[1][1], c = hypotl(c_re, c_im);
        re += c_re, im += c_im, p_re += c_re / c, p_im += c_im / c;
        size += fabsl(c_im), square += c_im * c_im, sign += c_im > 0 ? 1 : -1;
        p_i += z[0][0] * z[0][0] + z[0][1] * z[0][1];
        p_j += z[1][0] * z[1][0] + z[1][1] * z[1][1];
    }
    value[PD_PLV] += hypotl(p_re, p_im) / count;
    value[PD_PLI] += fabsl(sign) / count;
    value[PD_WPLI] += fabsl(im) / size;
    value[PD_WPLI2] += (im * im - square) / (size * size - square);
    value[PD_IMCOH] += im / sqrtl(p_i * p_j);
    value[PD_COH] += hypotl(re, im) / sqrtl(p_i * p_j);
}

typedef int run_fn(struct pd_connectivity *, const double *, size_t, uint32_t, double *);

static double at(const double *out, uint32_t measure, uint32_t band, uint32_t i, uint32_t j)
{
    return out[((measure * BANDS + band) * MANY + i) * MANY + j];
}

static void definitions_hold(run_fn *run, const char *name)
{
    void *memory;
    struct pd_connectivity plan = make(MANY, &memory);
    double *x = signals(), *out = block(CELLS * sizeof *out);
    CHECK(run(&plan, x, MANY, N, out) == 0);
    for (uint32_t band = 0; band < 2; band++) {
        uint32_t first, count = pd_welch_bins(&plan.welch, bands[band].low_hz,
                                              bands[band].high_hz, &first);
        for (uint32_t i = 0; i < MANY; i++) {
            for (uint32_t j = 0; j < i; j++) {
                long double value[PD_MEASURES] = {0};
                for (uint32_t k = first; k < first + count; k++) expect(&plan.welch, x, i, j, k, value);
                for (uint32_t m = 0; m < PD_MEASURES; m++) {
                    double told = at(out, m, band, i, j), other = at(out, m, band, j, i);
                    CHECK(fabsl(told - value[m] / count) <= 1e-13, "%s: measure %u of %u, %u in %u: %g",
                          name, m, i, j, band, told);
                    CHECK(other == (m == PD_IMCOH ? -told : told), "%s: %g, %g", name, told, other);
                }
            }
            CHECK(isnan(at(out, PD_COH, band, i, i)), "a channel is no pair");
        }
        CHECK(isnan(at(out, PD_PLV, 2, 1, 0)), "a band without bins");
    }
    free(x);
    free(out);
    free(memory);
}

static int same(const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!(isnan(a[i]) && isnan(b[i])) && memcmp(&a[i], &b[i], sizeof *a) != 0) return 0;
    }
    return 1;
}

static void sets_have_the_same_bits(run_fn *run, const char *name)
{
    void *memory;
    struct pd_connectivity plan = make(MANY, &memory);
    double *x = signals(), *p = block(CELLS * sizeof *p), *q = block(CELLS * sizeof *q);
    x[77 * MANY + 4] = INFINITY;
    run_baseline(&plan, x, MANY, N, p);
    run(&plan, x, MANY, N, q);
    CHECK(same(p, q, CELLS), "%s", name);
    free(x);
    free(p);
    free(q);
    free(memory);
}

/* Channel 2 has a NaN, 5 is constant, 6 and 7 are the same, 8 is far too small beside its offset. */
static void what_is_undefined_is_nan(void)
{
    void *memory;
    struct pd_connectivity plan = make(MANY, &memory);
    double *x = signals(), *out = block(CELLS * sizeof *out), means[PD_MEASURES * BANDS];
    uint8_t use[MANY];
    x[50 * MANY + 2] = NAN;
    for (uint32_t t = 0; t < N; t++) {
        x[t * MANY + 5] = 62e3 + 0.1;
        x[t * MANY + 7] = x[t * MANY + 6];
        x[t * MANY + 8] = 1e6 + 1e-9 * x[t * MANY + 8];
    }
    CHECK(pd_connectivity_run(&plan, x, MANY, N, out) == 0);
    for (uint32_t i = 0; i < MANY; i++) {
        int bad_i = i == 2 || i == 5 || i == 8;
        use[i] = !bad_i;
        for (uint32_t j = 0; j < i; j++) {
            int bad = bad_i || j == 2 || j == 5 || j == 8;
            for (uint32_t m = 0; m < PD_MEASURES; m++) {
                CHECK(isnan(at(out, m, 0, i, j)) == bad, "measure %u of %u, %u", m, i, j);
            }
        }
    }
    CHECK(fabs(at(out, PD_COH, 0, 7, 6) - 1) < 1e-14 && at(out, PD_WPLI, 0, 7, 6) == 0
          && at(out, PD_WPLI2, 0, 7, 6) == 0 && at(out, PD_PLI, 0, 7, 6) == 0, "the same twice");
    pd_connectivity_means(&plan, out, NULL, means);
    CHECK(isnan(means[0]));
    pd_connectivity_means(&plan, out, use, means);
    CHECK(means[0] > 0 && means[0] < 1 && means[PD_IMCOH * BANDS] > 0, "%g", means[0]);
    memset(use, 0, sizeof use);
    use[3] = 1;
    pd_connectivity_means(&plan, out, use, means);
    CHECK(isnan(means[0]), "one channel has no pairs");

    static const uint32_t few[] = {0, SEGMENT - 1, SEGMENT, SEGMENT + 19};
    double *y = signals();
    for (uint32_t k = 0; k < 4; k++) {
        double *some = block(few[k] * MANY * sizeof *some);
        if (few[k] > 0) memcpy(some, y, few[k] * MANY * sizeof *some);
        CHECK(pd_connectivity_run(&plan, some, MANY, few[k], out) == 0);
        for (size_t i = 0; i < CELLS; i++) CHECK(isnan(out[i]), "%u samples: %g", few[k], out[i]);
        free(some);
    }
    free(x);
    free(y);
    free(out);
    free(memory);
}

static void plans_that_cannot_be_are_refused(void)
{
    struct pd_connectivity_config good = config_of(3), bad[6] = {good, good, good, good, good, good};
    bad[0].n_channels = 0;
    bad[1].n_channels = PD_CONNECTIVITY_MAX_CHANNELS + 1;
    bad[2].n_bands = 0;
    bad[3].n_bands = PD_CONNECTIVITY_MAX_BANDS + 1;
    bad[4].welch.max_segments = 0;
    bad[5].welch.rate_hz = -1;
    for (uint32_t i = 0; i < 6; i++) CHECK(pd_connectivity_bytes(&bad[i]) == 0, "case %u", i);
    struct pd_connectivity plan;
    size_t need = pd_connectivity_bytes(&good);
    void *memory = block(need), *own;
    CHECK(pd_connectivity_init(&plan, &good, memory, need - 1) == -EINVAL);
    free(memory);
    plan = make(MANY, &own);
    double *x = block(220 * MANY * sizeof *x), *out = block(CELLS * sizeof *out);
    CHECK(pd_connectivity_run(&plan, x, MANY, 212, out) == -EINVAL, "ten segments");
    free(x);
    free(out);
    free(own);
}

#define RUN(set) run_##set

int main(void)
{
    static run_fn *const runs[] = EACH_VERSION(RUN);
    for (uint32_t t = 0; t < SEGMENT; t++) window[t] = 0.1 + uniform();
    definitions_hold(pd_connectivity_run, "chosen at run time");
    definitions_hold(run_baseline, "baseline");
    sets_have_the_same_bits(pd_connectivity_run, "chosen at run time");
    for (uint32_t version = 1; version < VERSIONS; version++) {
        if (machine_runs(version)) sets_have_the_same_bits(runs[version], version_names[version]);
    }
    what_is_undefined_is_nan();
    plans_that_cannot_be_are_refused();
    return check_report("connectivity");
}
