/* pd_fft, pd_spectrum: the sums that they stand for, whatever the length, the neighbours and the
 * instruction set; what a missing value does; what is refused. Against SciPy:
 * tests/unit/test_spectrum.py. */
#include "block.h"
#include "check.h"
#include "pd_fft.h"
#include "pd_spectrum.h"
#include "random.h"

#include <errno.h>
#include <string.h>

#define lanes JOIN(lanes, SUFFIX)
#define lanes_at JOIN(lanes_at, SUFFIX)
#define bits JOIN(bits, SUFFIX)
#define bits_at JOIN(bits_at, SUFFIX)
#define butterfly JOIN(butterfly, SUFFIX)
#define run_pass JOIN(run_pass, SUFFIX)
#define run_passes JOIN(run_passes, SUFFIX)
#define multiply JOIN(multiply, SUFFIX)
#define convolve JOIN(convolve, SUFFIX)
#define split_lanes JOIN(split_lanes, SUFFIX)
#define cross JOIN(cross, SUFFIX)
#define missing JOIN(missing, SUFFIX)
#define pd_fft_forward JOIN(forward, SUFFIX)
#define pd_fft_inverse JOIN(inverse, SUFFIX)
#define pd_rfft_forward JOIN(real, SUFFIX)
#define row JOIN(row, SUFFIX)
#define take JOIN(take, SUFFIX)
#define level JOIN(level, SUFFIX)
#define segment JOIN(segment, SUFFIX)
#define pd_welch_segment JOIN(welch_segment, SUFFIX)
#define add_power JOIN(add_power, SUFFIX)
#define median JOIN(median, SUFFIX)
#define median_bias JOIN(median_bias, SUFFIX)
#define take_medians JOIN(take_medians, SUFFIX)
#define put JOIN(put, SUFFIX)
#define pd_welch_psd JOIN(psd, SUFFIX)

/* Called before it is defined: the library's header declares only its own. */
#define INVERSE(set) double *inverse_##set(const struct pd_fft *, double *, double *)
INVERSE(baseline);
INVERSE(avx2);
INVERSE(avx512);

#define VERSIONED "../../csrc/pd_fft_run.c"
#include "versions.h"
#define VERSIONED "../../csrc/pd_spectrum_run.c"
#include "versions.h"
#undef pd_fft_forward
#undef pd_fft_inverse
#undef pd_rfft_forward
#undef pd_welch_segment
#undef pd_welch_psd
#undef row
#undef missing

#define L PD_FFT_LANES
#define TURN 6.283185307179586476925286766559L

static int same(const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (isnan(a[i]) && isnan(b[i])) continue;
        if (memcmp(&a[i], &b[i], sizeof *a) != 0) return 0;
    }
    return 1;
}

/* -- transforms ------------------------------------------------------------------------- */

typedef double *transform_fn(const struct pd_fft *, double *, double *);
typedef double *real_fn(const struct pd_rfft *, double *, double *);

struct kit {
    struct pd_fft fft;
    struct pd_rfft rfft;
    void *tables, *real_tables;
    double *a, *b;
    size_t bytes;
};

static struct kit make(uint32_t n)
{
    struct kit kit = {0};
    size_t bytes = pd_fft_buffer_bytes(n), real = pd_rfft_buffer_bytes(n);
    kit.bytes = bytes > real ? bytes : real;
    kit.a = block(kit.bytes);
    kit.b = block(kit.bytes);
    kit.tables = block(pd_fft_table_bytes(n));
    kit.real_tables = block(pd_rfft_table_bytes(n));
    int rc = pd_fft_init(&kit.fft, n, kit.tables, pd_fft_table_bytes(n), kit.a, kit.b);
    CHECK(rc == 0, "length %u: %d", n, rc);
    rc = pd_rfft_init(&kit.rfft, n, kit.real_tables, pd_rfft_table_bytes(n), kit.a, kit.b);
    CHECK(rc == 0, "real length %u: %d", n, rc);
    return kit;
}

static void drop(struct kit *kit)
{
    free(kit->a);
    free(kit->b);
    free(kit->tables);
    free(kit->real_tables);
}

/* Bin k of lane `lane`, by the definition, in long double. */
static void by_definition(const double *z, uint32_t n, uint32_t k, uint32_t lane, int sign,
                          long double *re, long double *im)
{
    *re = *im = 0;
    for (uint32_t j = 0; j < n; j++) {
        long double angle = sign * TURN * (long double)((uint64_t)j * k % n) / n;
        long double c = cosl(angle), s = sinl(angle);
        const double *at = z + (size_t)j * 2 * L + lane;
        *re += at[0] * c - at[L] * s;
        *im += at[0] * s + at[L] * c;
    }
}

static void is_the_transform(uint32_t n, transform_fn *run, int sign, const char *name)
{
    struct kit kit = make(n);
    double *z = noise((size_t)n * 2 * L);
    memset(kit.a, 0xff, kit.bytes);         /* NaN: what is not given is not read */
    memset(kit.b, 0xff, kit.bytes);
    memcpy(kit.a, z, (size_t)n * 2 * L * sizeof *z);
    const double *out = run(&kit.fft, kit.a, kit.b);
    uint32_t step = n > 20 ? n / 7 : 1;
    for (uint32_t k = 0; k < n; k += step) {
        uint32_t lane = k % L;
        long double re, im;
        by_definition(z, n, k, lane, sign, &re, &im);
        double error = (double)hypotl(out[k * 2 * L + lane] - re, out[k * 2 * L + L + lane] - im);
        CHECK(error <= 4e-15 * sqrt(n), "%s, length %u, bin %u: %g off", name, n, k, error);
    }
    free(z);
    drop(&kit);
}

static void real_ones_are_half_of_it(uint32_t n, real_fn *run, const char *name)
{
    struct kit kit = make(n);
    double *x = noise((size_t)n * L), *z = block((size_t)n * 2 * L * sizeof *z);
    memset(z, 0, (size_t)n * 2 * L * sizeof *z);
    for (uint32_t j = 0; j < n; j++) memcpy(z + (size_t)j * 2 * L, x + (size_t)j * L, L * sizeof *x);
    memset(kit.a, 0xff, kit.bytes);
    memset(kit.b, 0xff, kit.bytes);
    memcpy(kit.a, x, (size_t)n * L * sizeof *x);
    const double *out = run(&kit.rfft, kit.a, kit.b);
    uint32_t step = n > 20 ? n / 7 : 1;
    for (uint32_t k = 0; k <= n / 2; k += step) {
        uint32_t lane = k % L;
        long double re, im;
        by_definition(z, n, k, lane, -1, &re, &im);
        double error = (double)hypotl(out[k * 2 * L + lane] - re, out[k * 2 * L + L + lane] - im);
        CHECK(error <= 4e-15 * sqrt(n), "%s, real length %u, bin %u: %g off", name, n, k, error);
    }
    free(x);
    free(z);
    drop(&kit);
}

static const uint32_t lengths[] = {1,  2,  3,  4,  5,  6,   7,   8,   9,   10,  11,  12,  13,  15,
                                   16, 18, 20, 25, 30, 31,  32,  45,  49,  60,  64,  97,  100, 121,
                                   125, 128, 194, 243, 250, 251, 254, 256, 500, 625, 1000, 1009};
#define N_LENGTHS (sizeof lengths / sizeof *lengths)

static void transforms(transform_fn *forward, transform_fn *inverse, real_fn *real,
                       const char *name)
{
    for (size_t i = 0; i < N_LENGTHS; i++) {
        is_the_transform(lengths[i], forward, -1, name);
        is_the_transform(lengths[i], inverse, 1, name);
        real_ones_are_half_of_it(lengths[i], real, name);
    }
}

static void transforms_have_the_same_bits(transform_fn *forward, real_fn *real, const char *name)
{
    for (size_t i = 0; i < N_LENGTHS; i++) {
        uint32_t n = lengths[i];
        struct kit one = make(n), two = make(n);
        double *z = noise((size_t)n * 2 * L);
        memcpy(one.a, z, (size_t)n * 2 * L * sizeof *z);
        memcpy(two.a, z, (size_t)n * 2 * L * sizeof *z);
        const double *p = forward_baseline(&one.fft, one.a, one.b);
        const double *q = forward(&two.fft, two.a, two.b);
        CHECK(same(p, q, (size_t)n * 2 * L), "%s, length %u", name, n);
        memcpy(one.a, z, (size_t)n * L * sizeof *z);
        memcpy(two.a, z, (size_t)n * L * sizeof *z);
        p = real_baseline(&one.rfft, one.a, one.b);
        q = real(&two.rfft, two.a, two.b);
        CHECK(same(p, q, (size_t)(n / 2 + 1) * 2 * L), "%s, real length %u", name, n);
        free(z);
        drop(&one);
        drop(&two);
    }
}

static void nan_stays_in_its_lane(void)
{
    static const uint32_t some[] = {64, 45, 97};
    for (size_t i = 0; i < 3; i++) {
        uint32_t n = some[i];
        struct kit whole = make(n), torn = make(n);
        double *z = noise((size_t)n * 2 * L);
        memcpy(whole.a, z, (size_t)n * 2 * L * sizeof *z);
        z[(n / 2) * 2 * L + 3] = z[(n / 2) * 2 * L + L + 3] = NAN;
        memcpy(torn.a, z, (size_t)n * 2 * L * sizeof *z);
        const double *p = pd_fft_forward(&whole.fft, whole.a, whole.b);
        const double *q = pd_fft_forward(&torn.fft, torn.a, torn.b);
        for (size_t at = 0; at < (size_t)n * 2 * L; at++) {
            CHECK(at % L == 3 ? isnan(q[at]) : p[at] == q[at], "length %u, value %zu", n, at);
        }
        free(z);
        drop(&whole);
        drop(&torn);
    }
}

static void lengths_that_are_none_are_refused(void)
{
    struct pd_fft fft;
    struct pd_rfft rfft;
    double a[64], tables[64];
    CHECK(pd_fft_table_bytes(0) == 0 && pd_rfft_table_bytes(PD_FFT_MAX + 1) == 0);
    CHECK(pd_fft_init(&fft, 0, tables, sizeof tables, a, a) == -EINVAL);
    CHECK(pd_fft_init(&fft, 4, tables, 7 * sizeof(double), a, a) == -EINVAL);
    CHECK(pd_rfft_init(&rfft, 4, (char *)tables + 4, sizeof tables - 4, a, a) == -EINVAL);
}

/* -- spectra ---------------------------------------------------------------------------- */

typedef int psd_fn(struct pd_welch *, const double *, size_t, uint32_t, uint32_t, double *, size_t);

struct planned {
    struct pd_welch welch;
    void *memory;
    double *window;
};

static struct planned plan(struct pd_welch_config config)
{
    struct planned p = {.window = noise(config.nperseg)};
    config.window = p.window;
    size_t bytes = pd_welch_bytes(&config);
    p.memory = block(bytes);
    int rc = pd_welch_init(&p.welch, &config, p.memory, bytes);
    CHECK(rc == 0, "%d", rc);
    return p;
}

static void drop_plan(struct planned *p)
{
    free(p->memory);
    free(p->window);
}

/* Welch's sum by its definition: one channel, mean taken out, mean over segments. */
static void expect(const struct pd_welch *w, const double *x, size_t stride, uint32_t n,
                   uint32_t k, long double *power)
{
    uint32_t segments = 0;
    *power = 0;
    for (uint32_t from = 0; from + w->nperseg <= n; from += w->hop, segments++) {
        long double mean = 0, re = 0, im = 0, scale = 0;
        for (uint32_t j = 0; j < w->nperseg; j++) mean += x[(from + j) * stride];
        mean /= w->nperseg;
        for (uint32_t j = 0; j < w->nperseg; j++) {
            long double angle = TURN * (long double)((uint64_t)j * k % w->nfft) / w->nfft;
            long double value = (x[(from + j) * stride] - mean) * w->window[j];
            re += value * cosl(angle);
            im -= value * sinl(angle);
            scale += (long double)w->window[j] * w->window[j];
        }
        *power += (re * re + im * im) / (100 * scale) * (k > 0 && 2 * k != w->nfft ? 2 : 1);
    }
    *power /= segments;
}

#define MANY 19                     /* two groups of lanes and three channels */

static void the_sum_is_welchs(psd_fn *psd, const char *name)
{
    static const uint32_t cases[][4] = {{64, 32, 64, 200}, {50, 0, 50, 130}, {31, 30, 40, 60},
                                        {20, 7, 33, 20}};
    for (size_t i = 0; i < 4; i++) {
        struct planned p = plan((struct pd_welch_config){
            .rate_hz = 100, .nperseg = cases[i][0], .noverlap = cases[i][1], .nfft = cases[i][2],
            .detrend = PD_DETREND_CONSTANT});
        uint32_t n = cases[i][3], bins = p.welch.n_bins;
        double *x = noise((size_t)n * MANY), *out = block((size_t)bins * MANY * sizeof *out);
        CHECK(psd(&p.welch, x, MANY, n, MANY, out, MANY) == 0);
        for (uint32_t channel = 0; channel < MANY; channel += 3) {
            double largest = 0;
            for (uint32_t k = 0; k < bins; k++) largest = fmax(largest, out[k * MANY + channel]);
            for (uint32_t k = 0; k < bins; k++) {
                long double power;
                expect(&p.welch, x + channel, MANY, n, k, &power);
                CHECK(fabsl(out[k * MANY + channel] - power) <= 1e-14 * largest,
                      "%s, case %zu, channel %u, bin %u", name, i, channel, k);
            }
        }
        free(x);
        free(out);
        drop_plan(&p);
    }
}

static void spectra_have_the_same_bits_alone_and_on_each_set(psd_fn *psd, const char *name)
{
    for (uint32_t choice = 0; choice < 6; choice++) {
        struct planned p = plan((struct pd_welch_config){
            .rate_hz = 100, .nperseg = 50, .noverlap = 20, .nfft = 50 + choice,
            .detrend = choice % 3, .scaling = choice % 2, .average = choice / 3,
            .max_segments = 10});
        uint32_t bins = p.welch.n_bins;
        double *x = noise(200 * MANY), *out = block((size_t)bins * MANY * sizeof *out);
        x[40 * MANY + 2] = NAN;
        x[41 * MANY + 10] = -INFINITY;
        x[42 * MANY + 11] = 1.1 * PD_SPECTRUM_LARGEST;
        x[199 * MANY + 12] = NAN;           /* behind the last segment: 5 · 30 + 50 = 200 */
        psd(&p.welch, x, MANY, 199, MANY, out, MANY);
        for (uint32_t channel = 0; channel < MANY; channel++) {
            double *alone = block(199 * sizeof *alone), *one = block(bins * sizeof *one);
            for (uint32_t j = 0; j < 199; j++) alone[j] = x[j * MANY + channel];
            psd_baseline(&p.welch, alone, 1, 199, 1, one, 1);
            int missing = channel == 2 || channel == 10 || channel == 11;
            for (uint32_t k = 0; k < bins; k++) {
                CHECK(same(&out[k * MANY + channel], &one[k], 1), "%s, %u", name, channel);
                CHECK(isnan(one[k]) == missing, "channel %u, bin %u: %g", channel, k, one[k]);
            }
            free(alone);
            free(one);
        }
        free(x);
        free(out);
        drop_plan(&p);
    }
}

static void a_constant_has_the_power_zero_and_few_samples_none(void)
{
    struct planned p = plan((struct pd_welch_config){
        .rate_hz = 100, .nperseg = 64, .noverlap = 32, .nfft = 64, .detrend = PD_DETREND_LINEAR});
    double x[128], out[33];
    for (uint32_t j = 0; j < 128; j++) x[j] = 62e3 + 0.1;
    CHECK(pd_welch_psd(&p.welch, x, 1, 128, 1, out, 1) == 0);
    for (uint32_t k = 0; k < 33; k++) CHECK(out[k] == 0, "bin %u: %g", k, out[k]);
    CHECK(pd_welch_psd(&p.welch, x, 1, 63, 1, out, 1) == 0);
    for (uint32_t k = 0; k < 33; k++) CHECK(isnan(out[k]), "bin %u: %g", k, out[k]);
    double power;
    for (uint32_t k = 0; k < 33; k++) out[k] = 1;
    pd_welch_band(&p.welch, out, 1, 1, 10, 11, &power);
    CHECK(isnan(power), "one bin has no area: %g", power);
    pd_welch_band(&p.welch, out, 1, 1, 10, 12.5, &power);
    CHECK(power == p.welch.bin_hz, "10.9375 to 12.5 Hz: %g", power);
    pd_welch_band(&p.welch, out, 1, 1, NAN, 50, &power);
    CHECK(isnan(power), "no band: %g", power);
    drop_plan(&p);
}

static void rows_come_each_hop_whatever_the_blocks(void)
{
    struct planned p = plan((struct pd_welch_config){
        .rate_hz = 100, .nperseg = 32, .noverlap = 20, .nfft = 32, .detrend = PD_DETREND_CONSTANT});
    enum { CHANNELS = 3, N = 200, BINS = 17, ROWS = (N - 32) / 12 + 1 };
    double *x = noise(N * CHANNELS), recent[32 * CHANNELS], out[ROWS * BINS * CHANNELS];
    struct pd_rows rows;
    pd_rows_init(&rows, CHANNELS, -200);
    uint32_t done = 0;
    for (uint32_t from = 0, count; from < N; from += count) {
        count = (uint32_t)(40 * uniform() * uniform());
        if (count > N - from) count = N - from;
        uint32_t due = pd_rows_due(&rows, &p.welch, count);
        double *mine = block((size_t)due * BINS * CHANNELS * sizeof *mine);
        pd_rows_push(&rows, &p.welch, recent, x + from * CHANNELS, CHANNELS, count, mine);
        if (due > 0) memcpy(&out[done * BINS * CHANNELS], mine, due * BINS * CHANNELS * sizeof *mine);
        done += due;
        free(mine);
    }
    CHECK(done == ROWS, "%u rows", done);
    for (uint32_t r = 0; r < ROWS; r++) {
        double power[BINS * CHANNELS];
        pd_welch_psd(&p.welch, x + r * 12 * CHANNELS, CHANNELS, 32, CHANNELS, power, CHANNELS);
        for (uint32_t i = 0; i < BINS * CHANNELS; i++) {
            double db = 10 * log10(power[i]), told = out[r * BINS * CHANNELS + i];
            CHECK(fabs(told - db) <= 1e-9, "row %u: %g, not %g dB", r, told, db);
        }
    }
    free(x);
    drop_plan(&p);
}

static void plans_that_cannot_be_are_refused(void)
{
    double window[64], memory[8192];
    for (uint32_t j = 0; j < 64; j++) window[j] = j % 2 ? 1 : -1;
    struct pd_welch_config good = {.rate_hz = 100, .window = window, .nperseg = 64, .noverlap = 32,
                                   .nfft = 64};
    struct pd_welch welch;
    size_t need = pd_welch_bytes(&good);
    CHECK(need > 0 && need <= sizeof memory, "%zu bytes", need);
    CHECK(pd_welch_init(&welch, &good, memory, need) == 0);
    CHECK(pd_welch_init(&welch, &good, memory, need - 1) == -EINVAL);
    struct pd_welch_config bad[7] = {good, good, good, good, good, good, good};
    bad[0].rate_hz = NAN;
    bad[1].noverlap = 64;
    bad[2].nfft = 63;
    bad[3].nperseg = 0;
    bad[4].detrend = 3;
    bad[5].average = PD_AVERAGE_MEDIAN;
    bad[6].nfft = PD_FFT_MAX + 1;
    for (uint32_t i = 0; i < 7; i++) CHECK(pd_welch_bytes(&bad[i]) == 0, "case %u", i);
    struct pd_welch_config spectrum = good;
    spectrum.scaling = PD_SCALING_SPECTRUM;
    CHECK(pd_welch_init(&welch, &spectrum, memory, need) == -EINVAL, "a window of sum 0");
    window[5] = NAN;
    CHECK(pd_welch_init(&welch, &good, memory, need) == -EINVAL, "a window of NaN");
    struct planned p = plan((struct pd_welch_config){
        .rate_hz = 100, .nperseg = 8, .nfft = 8, .average = PD_AVERAGE_MEDIAN, .max_segments = 3});
    double x[32] = {0}, out[5];
    CHECK(pd_welch_psd(&p.welch, x, 1, 32, 1, out, 1) == -EINVAL, "a median of four");
    drop_plan(&p);
}

#define FORWARD(set) forward_##set
#define REAL(set) real_##set
#define PSD(set) psd_##set

int main(void)
{
    static transform_fn *const forwards[] = EACH_VERSION(FORWARD);
    static real_fn *const reals[] = EACH_VERSION(REAL);
    static psd_fn *const psds[] = EACH_VERSION(PSD);
    transforms(pd_fft_forward, pd_fft_inverse, pd_rfft_forward, "chosen at run time");
    transforms(forward_baseline, inverse_baseline, real_baseline, "baseline");
    the_sum_is_welchs(pd_welch_psd, "chosen at run time");
    spectra_have_the_same_bits_alone_and_on_each_set(pd_welch_psd, "chosen at run time");
    for (uint32_t version = 1; version < VERSIONS; version++) {
        const char *name = version_names[version];
        if (!machine_runs(version)) continue;
        transforms_have_the_same_bits(forwards[version], reals[version], name);
        the_sum_is_welchs(psds[version], name);
        spectra_have_the_same_bits_alone_and_on_each_set(psds[version], name);
    }
    nan_stays_in_its_lane();
    lengths_that_are_none_are_refused();
    a_constant_has_the_power_zero_and_few_samples_none();
    rows_come_each_hop_whatever_the_blocks();
    plans_that_cannot_be_are_refused();
    return check_report("spectrum");
}
