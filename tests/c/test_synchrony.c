/* pd_synchrony: phase locking by its definition, its null surrogate by surrogate, the same
 * bits on every instruction set; what is undefined; what is refused. Against SciPy, and what
 * z says of coupling: tests/unit/test_synchrony.py. */
#include "block.h"
#include "check.h"
#include "pd_synchrony.h"
#include "random.h"

#include <complex.h>
#include <errno.h>
#include <string.h>

#define lanes JOIN(lanes, SUFFIX)
#define lanes_at JOIN(lanes_at, SUFFIX)
#define signal_of JOIN(signal_of, SUFFIX)
#define keep_band JOIN(keep_band, SUFFIX)
#define find_largest JOIN(find_largest, SUFFIX)
#define keep_phases JOIN(keep_phases, SUFFIX)
#define find_phases JOIN(find_phases, SUFFIX)
#define lock JOIN(lock, SUFFIX)
#define lock_all JOIN(lock_all, SUFFIX)
#define find_rest JOIN(find_rest, SUFFIX)
#define take_out_rests JOIN(take_out_rests, SUFFIX)
#define transform_phases JOIN(transform_phases, SUFFIX)
#define cross_pairs JOIN(cross_pairs, SUFFIX)
#define smallest JOIN(smallest, SUFFIX)
#define median JOIN(median, SUFFIX)
#define lock_surrogates JOIN(lock_surrogates, SUFFIX)
#define find_null JOIN(find_null, SUFFIX)
#define pd_synchrony_run JOIN(run, SUFFIX)

#define VERSIONED "../../csrc/pd_synchrony_run.c"
#include "versions.h"
#undef pd_synchrony_run

#define CHANNELS 5
#define MANY 11                     /* a group of lanes and three channels */
#define N 120
#define RATE_HZ 200.0
#define SURROGATES 20
#define L PD_FFT_LANES

static struct pd_synchrony_config config_of(uint32_t channels)
{
    return (struct pd_synchrony_config){.rate_hz = RATE_HZ, .low_hz = 30, .high_hz = 90,
                                        .n_samples = N, .n_channels = channels,
                                        .n_surrogates = SURROGATES, .seed = 3};
}

static struct pd_synchrony make(struct pd_synchrony_config config, void **memory)
{
    struct pd_synchrony plan;
    size_t bytes = pd_synchrony_bytes(&config);
    *memory = block(bytes);
    int rc = pd_synchrony_init(&plan, &config, *memory, bytes);
    CHECK(rc == 0, "%d", rc);
    return plan;
}

static double *signals(uint32_t channels, double coupling)
{
    double *x = block(N * channels * sizeof *x);
    for (uint32_t t = 0; t < N; t++) {
        double common = uniform() - 0.5;
        for (uint32_t i = 0; i < channels; i++) {
            x[t * channels + i] = coupling * common + (1 - coupling) * (uniform() - 0.5);
        }
    }
    return x;
}

typedef void run_fn(struct pd_synchrony *, const double *, size_t, uint32_t, const uint8_t *,
                    double *, struct pd_synchrony_result *);

/* A channel's phases, turned back by what its frequency is off a whole bin. */
static void whole_bins(const struct pd_synchrony *plan, uint32_t channel, double _Complex *to)
{
    const double *u = plan->phases + (size_t)(channel / L) * N * 2 * L + channel % L;
    double _Complex z[N];
    uint32_t best = 0;
    for (uint32_t k = 0; k < N; k++) {
        z[k] = 0;
        for (uint32_t t = 0; t < N; t++) {
            z[k] += (u[t * 2 * L] + I * u[t * 2 * L + L]) * cexp(-2 * M_PI * I * (k * t % N) / N);
        }
        if (cabs(z[k]) > cabs(z[best])) best = k;
    }
    double _Complex below = z[(best + N - 1) % N], above = z[(best + 1) % N];
    double rest = creal((below - above) / (2 * z[best] - below - above));
    rest = fmax(-0.5, fmin(0.5, rest));
    for (uint32_t t = 0; t < N; t++) {
        to[t] = (u[t * 2 * L] + I * u[t * 2 * L + L]) * cexp(-2 * M_PI * I * rest * t / N);
    }
}

/* PLV of two channels in whole bins, one of them `shift` samples later and `turns` bins higher. */
static double shifted(const double _Complex *u, const double _Complex *v, uint32_t shift,
                      uint32_t turns)
{
    double _Complex sum = 0;
    for (uint32_t t = 0; t < N; t++) {
        double angle = -2 * M_PI * turns * (t + shift) / N;
        sum += u[(t + shift) % N] * cexp(I * angle) * conj(v[t]);
    }
    return cabs(sum) / N;
}

/* PLV of two phases in the plan. */
static double locking(struct pd_synchrony *plan, uint32_t i, uint32_t j)
{
    const double *u = plan->phases + (size_t)(i / L) * N * 2 * L + i % L;
    const double *v = plan->phases + (size_t)(j / L) * N * 2 * L + j % L;
    double re = 0, im = 0;
    for (uint32_t t = 0; t < N; t++, u += 2 * L, v += 2 * L) {
        re += u[0] * v[0] + u[L] * v[L];
        im += u[L] * v[0] - u[0] * v[L];
    }
    return hypot(re, im) / N;
}

static int ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double middle(double *values, uint32_t n)
{
    qsort(values, n, sizeof *values, ascending);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void the_null_is_that_of_the_header(run_fn *run, const char *name)
{
    void *memory;
    enum { PAIRS = CHANNELS * (CHANNELS - 1) / 2 };
    struct pd_synchrony plan = make(config_of(CHANNELS), &memory);
    double *x = signals(CHANNELS, 0.4), matrix[CHANNELS * CHANNELS];
    double means[SURROGATES] = {0}, deviations[PAIRS * SURROGATES], plv = 0;
    struct pd_synchrony_result result;
    run(&plan, x, CHANNELS, N, NULL, matrix, &result);
    double _Complex whole[CHANNELS][N];
    for (uint32_t i = 0; i < CHANNELS; i++) whole_bins(&plan, i, whole[i]);
    uint32_t pair = 0;
    for (uint32_t i = 1; i < CHANNELS; i++) {
        for (uint32_t j = 0; j < i; j++, pair++) {
            double values[SURROGATES], sorted[SURROGATES];
            for (uint32_t s = 0; s < SURROGATES; s++) {
                const uint32_t *shifts = plan.shifts + s * CHANNELS;
                values[s] = shifted(whole[i], whole[j], (shifts[i] + N - shifts[j]) % N,
                                    PD_SYNCHRONY_BINS);
                means[s] += values[s] / PAIRS;
            }
            memcpy(sorted, values, sizeof values);
            double its_own = middle(sorted, SURROGATES), value = locking(&plan, i, j);
            for (uint32_t s = 0; s < SURROGATES; s++) {
                deviations[pair * SURROGATES + s] = fabs(values[s] - its_own);
            }
            CHECK(fabs(matrix[i * CHANNELS + j] - value) < 1e-13, "%s: %u, %u", name, i, j);
            CHECK(matrix[i * CHANNELS + j] == matrix[j * CHANNELS + i]);
            plv += value / PAIRS;
        }
    }
    double floor = sqrt((1 - M_PI / 4) / plan.n_bins / PAIRS);
    double sd = fmax(1.4826022185056018 * middle(deviations, PAIRS * SURROGATES) / sqrt(PAIRS), floor);
    double null = middle(means, SURROGATES);
    CHECK(fabs(result.plv - plv) < 1e-13 && result.dispersion == 1 - result.plv, "%g", result.plv);
    CHECK(fabs(result.null_median - null) < 1e-12, "%s: %g, not %g", name, result.null_median, null);
    CHECK(fabs(result.null_sd - sd) < 1e-12, "%s: %g, not %g", name, result.null_sd, sd);
    CHECK(fabs(result.z - (plv - null) / sd) < 1e-9, "%s: %g", name, result.z);
    free(x);
    free(memory);
}

static void sets_have_the_same_bits(run_fn *run, const char *name)
{
    void *memory;
    struct pd_synchrony plan = make(config_of(MANY), &memory);
    struct pd_synchrony_result p, q;
    double *x = signals(MANY, 0.3), a[MANY * MANY], b[MANY * MANY];
    run_baseline(&plan, x, MANY, N, NULL, a, &p);
    run(&plan, x, MANY, N, NULL, b, &q);
    CHECK(memcmp(&p, &q, sizeof p) == 0, "%s: z %a, %a", name, p.z, q.z);
    for (uint32_t i = 0; i < MANY * MANY; i++) CHECK(a[i] == b[i] || (isnan(a[i]) && isnan(b[i])));
    free(x);
    free(memory);
}

static void all_is_nan(struct pd_synchrony_config config, const double *x, uint32_t n,
                       const uint8_t *use, const char *why)
{
    void *memory;
    struct pd_synchrony plan = make(config, &memory);
    struct pd_synchrony_result result;
    pd_synchrony_run(&plan, x, config.n_channels, n, use, NULL, &result);
    CHECK(isnan(result.plv) && isnan(result.dispersion) && isnan(result.z), "%s: %g", why, result.z);
    CHECK(isnan(result.null_median) && isnan(result.null_sd), "%s", why);
    free(memory);
}

static void what_is_undefined_is_nan(void)
{
    struct pd_synchrony_config config = config_of(CHANNELS), slow = config, narrow = config;
    double *x = signals(CHANNELS, 0.5);
    uint8_t use[CHANNELS] = {1, 1, 1, 1, 0}, one[CHANNELS] = {0, 0, 1, 0, 0};
    slow.rate_hz = 179;
    all_is_nan(slow, x, N, NULL, "under 180 Hz");
    narrow.high_hz = 40;
    all_is_nan(narrow, x, N, NULL, "seven bins");
    all_is_nan(config, x, N - 1, NULL, "too few samples");
    all_is_nan(config, NULL, 0, NULL, "no samples");
    all_is_nan(config, x, N, one, "one channel in use");
    double *alone = signals(1, 0);
    all_is_nan(config_of(1), alone, N, NULL, "one channel");
    static const double missing[] = {NAN, INFINITY, -1.1 * PD_SPECTRUM_LARGEST};
    for (uint32_t k = 0; k < 3; k++) {
        double kept = x[40 * CHANNELS + 4];
        x[40 * CHANNELS + 4] = missing[k];
        all_is_nan(config, x, N, NULL, "a value that is none");
        x[40 * CHANNELS + 4] = kept;
    }
    static const double slopes[] = {0, 0.25};
    for (uint32_t k = 0; k < 2; k++) {
        for (uint32_t t = 0; t < N; t++) x[t * CHANNELS + 4] = 62e3 + 0.1 + slopes[k] * t;
        all_is_nan(config, x, N, NULL, "a line");
    }

    void *memory;
    struct pd_synchrony plan = make(config, &memory);
    struct pd_synchrony_result with, without;
    double matrix[CHANNELS * CHANNELS], four[N * 4];
    pd_synchrony_run(&plan, x, CHANNELS, N, NULL, matrix, &with);
    for (uint32_t i = 0; i < CHANNELS; i++) {
        for (uint32_t j = 0; j < CHANNELS; j++) {
            int nothing = i == j || i == 4 || j == 4;
            CHECK(isnan(matrix[i * CHANNELS + j]) == nothing, "pair %u, %u", i, j);
        }
    }
    pd_synchrony_run(&plan, x, CHANNELS, N, use, matrix, &with);
    CHECK(with.z > 3, "without the flat channel: %g", with.z);
    void *other;
    struct pd_synchrony of_four = make(config_of(4), &other);
    for (uint32_t t = 0; t < N; t++) memcpy(&four[t * 4], &x[t * CHANNELS], 4 * sizeof *four);
    pd_synchrony_run(&of_four, four, 4, N, NULL, NULL, &without);
    CHECK(with.plv == without.plv, "%g, %g", with.plv, without.plv);
    free(memory);
    free(other);
    free(x);
    free(alone);
}

static void the_newest_samples_count(void)
{
    void *memory;
    struct pd_synchrony plan = make(config_of(CHANNELS), &memory);
    struct pd_synchrony_result last, all;
    double *x = signals(CHANNELS, 0.2), *longer = block((N + 9) * CHANNELS * sizeof *longer);
    for (uint32_t i = 0; i < 9 * CHANNELS; i++) longer[i] = NAN;
    memcpy(longer + 9 * CHANNELS, x, N * CHANNELS * sizeof *x);
    pd_synchrony_run(&plan, x, CHANNELS, N, NULL, NULL, &last);
    pd_synchrony_run(&plan, longer, CHANNELS, N + 9, NULL, NULL, &all);
    CHECK(memcmp(&last, &all, sizeof last) == 0);
    free(x);
    free(longer);
    free(memory);
}

static void plans_that_cannot_be_are_refused(void)
{
    struct pd_synchrony_config good = config_of(3), bad[8];
    for (uint32_t i = 0; i < 8; i++) bad[i] = good;
    bad[0].rate_hz = NAN;
    bad[1].low_hz = 90;
    bad[2].low_hz = NAN;
    bad[3].n_channels = 0;
    bad[4].n_channels = PD_SYNCHRONY_MAX_CHANNELS + 1;
    bad[5].n_samples = 0;
    bad[6].n_surrogates = 0;
    bad[7].n_surrogates = PD_SYNCHRONY_MAX_SURROGATES + 1;
    for (uint32_t i = 0; i < 8; i++) CHECK(pd_synchrony_bytes(&bad[i]) == 0, "case %u", i);
    size_t need = pd_synchrony_bytes(&good);
    void *memory = block(need);
    struct pd_synchrony plan;
    CHECK(pd_synchrony_init(&plan, &good, memory, need - 1) == -EINVAL);
    CHECK(pd_synchrony_init(&plan, &good, (char *)memory + 4, need) == -EINVAL);
    free(memory);
}

#define RUN(set) run_##set

int main(void)
{
    static run_fn *const runs[] = EACH_VERSION(RUN);
    the_null_is_that_of_the_header(pd_synchrony_run, "chosen at run time");
    the_null_is_that_of_the_header(run_baseline, "baseline");
    sets_have_the_same_bits(pd_synchrony_run, "chosen at run time");
    for (uint32_t version = 1; version < VERSIONS; version++) {
        if (machine_runs(version)) sets_have_the_same_bits(runs[version], version_names[version]);
    }
    what_is_undefined_is_nan();
    the_newest_samples_count();
    plans_that_cannot_be_are_refused();
    return check_report("synchrony");
}
