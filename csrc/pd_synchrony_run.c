/* The part of phase synchrony that runs each window, for all instruction sets; vectors as in
 * pd_fft_run.c. */
#include "pd_synchrony.h"

#include <math.h>
#include <string.h>

#include "pd_noise.h"
#include "pd_simd.h"

#define WIDTH 4                     /* lanes of a vector: PD_FFT_LANES is a multiple */

typedef double lanes __attribute__((vector_size(WIDTH * sizeof(double))));
typedef double lanes_at __attribute__((vector_size(WIDTH * sizeof(double)),
                                       aligned(sizeof(double)), may_alias));

#define INLINED static inline __attribute__((always_inline))

#define ROW (2 * PD_FFT_LANES)
#define SD_OF_MAD 1.4826022185056018    /* of a normal distribution */
#define VARIANCE_OF_PLV 0.21460183660255172     /* of n phases, times n: 1 - pi / 4 */

INLINED double *signal_of(const struct pd_synchrony *plan, double *signals, uint32_t group)
{
    return signals + (size_t)group * plan->n_samples * ROW;
}

/* Positive frequencies of the band, twice: what takes them back is the analytic signal times
 * n_samples. 0 Hz and half the rate are there once, as in scipy.signal.hilbert. */
INLINED void keep_band(const struct pd_synchrony *plan, const double *z, double *to)
{
    uint32_t n = plan->n_samples, first = plan->filtered ? 0 : plan->first_bin;
    uint32_t count = plan->filtered ? n / 2 + 1 : plan->n_bins;
    memset(to, 0, (size_t)n * ROW * sizeof *to);
    for (uint32_t k = first; k < first + count; k++) {
        double weight = k == 0 || 2 * k == n ? 1 : 2;
        for (uint32_t i = 0; i < ROW; i++) to[(size_t)k * ROW + i] = weight * z[k * ROW + i];
    }
}

INLINED void find_largest(const double *x, size_t x_stride, uint32_t n, uint32_t width,
                          double *largest)
{
    for (uint32_t lane = 0; lane < PD_FFT_LANES; lane++) largest[lane] = 0;
    for (uint32_t j = 0; j < n; j++) {
        for (uint32_t lane = 0; lane < width; lane++) {
            double size = fabs(x[j * x_stride + lane]);
            largest[lane] = size > largest[lane] ? size : largest[lane];
        }
    }
}

/* Phasors into `to`, powers into `power`. NaN stays NaN; a silent sample has no phase, and is 0. */
INLINED void keep_phases(const double *a, uint32_t n, double *to, double *power)
{
    for (uint32_t lane = 0; lane < PD_FFT_LANES; lane++) power[lane] = 0;
    for (uint32_t j = 0; j < n; j++, a += ROW, to += ROW) {
        for (uint32_t lane = 0; lane < PD_FFT_LANES; lane++) {
            double re = a[lane], im = a[PD_FFT_LANES + lane], square = re * re + im * im;
            double size = square == 0 ? 1 : sqrt(square);
            power[lane] += square;
            to[lane] = re / size;
            to[PD_FFT_LANES + lane] = im / size;
        }
    }
}

INLINED void find_phases(struct pd_synchrony *plan, const double *x, size_t x_stride)
{
    uint32_t n = plan->n_samples;
    for (uint32_t group = 0; group < plan->n_groups; group++) {
        uint32_t from = group * PD_FFT_LANES, left = plan->n_channels - from;
        uint32_t width = left < PD_FFT_LANES ? left : PD_FFT_LANES;
        double largest[PD_FFT_LANES], power[PD_FFT_LANES];
        find_largest(x + from, x_stride, n, width, largest);
        keep_band(plan, pd_welch_segment(&plan->welch, x + from, x_stride, width), plan->a);
        keep_phases(pd_fft_inverse(&plan->fft, plan->a, plan->b), n,
                    signal_of(plan, plan->phases, group), power);
        for (uint32_t lane = 0; lane < width; lane++) {
            double rms = sqrt(power[lane] / n) / n;
            plan->sound[from + lane] = rms > PD_FLAT * largest[lane];    /* not so for NaN */
        }
    }
}

/* PLV of channel i with each lane of a group. */
INLINED void lock(const struct pd_synchrony *plan, uint32_t i, uint32_t group, double *plv)
{
    uint32_t n = plan->n_samples;
    for (uint32_t lane = 0; lane < PD_FFT_LANES; lane += WIDTH) {
        const double *a = signal_of(plan, plan->phases, i / PD_FFT_LANES) + i % PD_FFT_LANES;
        const double *b = signal_of(plan, plan->phases, group) + lane;
        lanes re = {0}, im = {0};
        for (uint32_t j = 0; j < n; j++, a += ROW, b += ROW) {
            lanes b_re = *(const lanes_at *)b, b_im = *(const lanes_at *)(b + PD_FFT_LANES);
            re += a[0] * b_re + a[PD_FFT_LANES] * b_im;
            im += a[PD_FFT_LANES] * b_re - a[0] * b_im;
        }
        for (uint32_t k = 0; k < WIDTH; k++) plv[lane + k] = sqrt(re[k] * re[k] + im[k] * im[k]) / n;
    }
}

/* Sum of the PLV over pairs in use, which are listed; NaN when one of them has none. */
INLINED double lock_all(struct pd_synchrony *plan, const uint8_t *use, double *matrix,
                        uint32_t *n_pairs)
{
    uint32_t channels = plan->n_channels;
    double sum = 0;
    *n_pairs = 0;
    for (uint32_t i = 1; i < channels; i++) {
        double plv[PD_FFT_LANES];
        for (uint32_t j = 0; j < i; j++) {
            if (j % PD_FFT_LANES == 0) lock(plan, i, j / PD_FFT_LANES, plv);
            if (use != NULL && !(use[i] && use[j])) continue;
            double value = plan->sound[i] && plan->sound[j] ? plv[j % PD_FFT_LANES] : NAN;
            plan->pairs[*n_pairs][0] = i;
            plan->pairs[*n_pairs][1] = j;
            *n_pairs += 1;
            sum += value;
            if (matrix == NULL) continue;
            matrix[(size_t)i * channels + j] = matrix[(size_t)j * channels + i] = value;
        }
    }
    return sum;
}

/* -- the null --------------------------------------------------------------------------- */

/* How far a channel's largest bin is from its frequency, in bins, exact for a sinusoid: by what
 * the bins beside it differ (Jacobsen and Kootsookos 2007). Half a bin at most. */
INLINED double find_rest(const double *z, uint32_t n)
{
    uint32_t best = 0;
    double largest = -1;
    for (uint32_t k = 0; k < n; k++) {
        double re = z[(size_t)k * ROW], im = z[(size_t)k * ROW + PD_FFT_LANES];
        double power = re * re + im * im;
        best = power > largest ? k : best;
        largest = power > largest ? power : largest;
    }
    const double *here = z + (size_t)best * ROW;
    const double *below = z + (size_t)(best ? best - 1 : n - 1) * ROW;
    const double *above = z + (size_t)(best + 1 < n ? best + 1 : 0) * ROW;
    double re = below[0] - above[0], im = below[PD_FFT_LANES] - above[PD_FFT_LANES];
    double to_re = 2 * here[0] - below[0] - above[0];
    double to_im = 2 * here[PD_FFT_LANES] - below[PD_FFT_LANES] - above[PD_FFT_LANES];
    double rest = (re * to_re + im * to_im) / (to_re * to_re + to_im * to_im);
    if (isnan(rest)) return 0;                      /* no phases, or none that differ */
    return rest > 0.5 ? 0.5 : rest < -0.5 ? -0.5 : rest;
}

/* Phasors turned back by `rest` bins, each lane by its own. */
INLINED void take_out_rests(const double *u, const double *rest, uint32_t n, double *to)
{
    double re[PD_FFT_LANES], im[PD_FFT_LANES], step_re[PD_FFT_LANES], step_im[PD_FFT_LANES];
    for (uint32_t lane = 0; lane < PD_FFT_LANES; lane++) {
        pd_noise_sincos(pd_noise_phase(-rest[lane] / n), &step_im[lane], &step_re[lane]);
        re[lane] = 1;
        im[lane] = 0;
    }
    for (uint32_t j = 0; j < n; j++, u += ROW, to += ROW) {
        for (uint32_t lane = 0; lane < PD_FFT_LANES; lane++) {
            double u_re = u[lane], u_im = u[PD_FFT_LANES + lane];
            to[lane] = u_re * re[lane] - u_im * im[lane];
            to[PD_FFT_LANES + lane] = u_re * im[lane] + u_im * re[lane];
            double next = re[lane] * step_re[lane] - im[lane] * step_im[lane];
            im[lane] = re[lane] * step_im[lane] + im[lane] * step_re[lane];
            re[lane] = next;
        }
    }
}

INLINED void transform_phases(struct pd_synchrony *plan)
{
    uint32_t n = plan->n_samples;
    size_t bytes = (size_t)n * ROW * sizeof(double);
    for (uint32_t group = 0; group < plan->n_groups; group++) {
        const double *u = signal_of(plan, plan->phases, group);
        double rest[PD_FFT_LANES];
        memcpy(plan->a, u, bytes);
        const double *z = pd_fft_forward(&plan->fft, plan->a, plan->b);
        for (uint32_t lane = 0; lane < PD_FFT_LANES; lane++) rest[lane] = find_rest(z + lane, n);
        take_out_rests(u, rest, n, plan->a);
        memcpy(signal_of(plan, plan->transforms, group), pd_fft_forward(&plan->fft, plan->a, plan->b),
               bytes);
    }
}

/* U_i, shifted by PD_SYNCHRONY_BINS, times conj(U_j), a pair a lane. */
INLINED void cross_pairs(const struct pd_synchrony *plan, uint32_t from, uint32_t count, double *to)
{
    uint32_t n = plan->n_samples;
    memset(to, 0, (size_t)n * ROW * sizeof *to);
    for (uint32_t lane = 0; lane < count; lane++) {
        uint32_t i = plan->pairs[from + lane][0], j = plan->pairs[from + lane][1];
        const double *u = signal_of(plan, plan->transforms, i / PD_FFT_LANES) + i % PD_FFT_LANES;
        const double *v = signal_of(plan, plan->transforms, j / PD_FFT_LANES) + j % PD_FFT_LANES;
        uint32_t k = PD_SYNCHRONY_BINS % n;
        for (uint32_t f = 0; f < n; f++, k = k + 1 < n ? k + 1 : 0) {
            double u_re = u[(size_t)k * ROW], u_im = u[(size_t)k * ROW + PD_FFT_LANES];
            double v_re = v[(size_t)f * ROW], v_im = v[(size_t)f * ROW + PD_FFT_LANES];
            to[(size_t)f * ROW + lane] = u_re * v_re + u_im * v_im;
            to[(size_t)f * ROW + PD_FFT_LANES + lane] = u_im * v_re - u_re * v_im;
        }
    }
}

/* The k-th smallest of n, the smaller ones being put before it: Hoare's selection. */
INLINED double smallest(double *values, int64_t n, int64_t k)
{
    int64_t low = 0, high = n - 1;
    while (low < high) {
        double pivot = values[k];
        int64_t i = low, j = high;
        do {
            while (values[i] < pivot) i++;
            while (values[j] > pivot) j--;
            if (i <= j) {
                double value = values[i];
                values[i++] = values[j];
                values[j--] = value;
            }
        } while (i <= j);
        if (j < k) low = i;
        if (i > k) high = j;
    }
    return values[k];
}

INLINED double median(double *values, uint32_t n)
{
    double upper = smallest(values, n, n / 2);
    if (n % 2) return upper;
    double lower = values[0];
    for (uint32_t i = 1; i < n / 2; i++) lower = values[i] > lower ? values[i] : lower;
    return (lower + upper) / 2;
}

/* PLV of all surrogates: a transform of a product of transforms has all shifts of a pair. */
INLINED void lock_surrogates(struct pd_synchrony *plan, uint32_t n_pairs)
{
    uint32_t n = plan->n_samples, count = plan->n_surrogates;
    double scale = 1 / ((double)n * n);
    for (uint32_t from = 0; from < n_pairs; from += PD_FFT_LANES) {
        uint32_t left = n_pairs - from, width = left < PD_FFT_LANES ? left : PD_FFT_LANES;
        cross_pairs(plan, from, width, plan->a);
        const double *all = pd_fft_inverse(&plan->fft, plan->a, plan->b);
        for (uint32_t lane = 0; lane < width; lane++) {
            const uint32_t *pair = plan->pairs[from + lane];
            double *values = plan->values + (size_t)(from + lane) * count;
            for (uint32_t s = 0; s < count; s++) {
                const uint32_t *shifts = plan->shifts + (size_t)s * plan->n_channels;
                uint32_t shift = (shifts[pair[0]] + n - shifts[pair[1]]) % n;
                double re = all[(size_t)shift * ROW + lane];
                double im = all[(size_t)shift * ROW + PD_FFT_LANES + lane];
                values[s] = sqrt(re * re + im * im) * scale;
            }
        }
    }
}

INLINED void find_null(struct pd_synchrony *plan, uint32_t n_pairs,
                       struct pd_synchrony_result *result)
{
    uint32_t count = plan->n_surrogates;
    for (uint32_t s = 0; s < count; s++) plan->sums[s] = 0;
    for (uint32_t pair = 0; pair < n_pairs; pair++) {
        const double *values = plan->values + (size_t)pair * count;
        double *deviations = plan->sorted + (size_t)pair * count;
        memcpy(deviations, values, count * sizeof *values);
        double middle = median(deviations, count);
        for (uint32_t s = 0; s < count; s++) {
            plan->sums[s] += values[s];
            deviations[s] = fabs(values[s] - middle);
        }
    }
    double mad = median(plan->sorted, n_pairs * count);
    double floor = sqrt(VARIANCE_OF_PLV / plan->n_bins / n_pairs);
    double sd = SD_OF_MAD * mad / sqrt(n_pairs);
    result->null_median = median(plan->sums, count) / n_pairs;
    result->null_sd = sd > floor ? sd : floor;
}

PD_MULTIVERSION
void pd_synchrony_run(struct pd_synchrony *plan, const double *x, size_t x_stride, uint32_t n,
                      const uint8_t *use, double *matrix, struct pd_synchrony_result *result)
{
    uint32_t n_pairs;
    *result = (struct pd_synchrony_result){NAN, NAN, NAN, NAN, NAN};
    for (size_t i = 0; matrix != NULL && i < (size_t)plan->n_channels * plan->n_channels; i++) {
        matrix[i] = NAN;
    }
    if (!plan->possible || n < plan->n_samples) return;
    find_phases(plan, x + (size_t)(n - plan->n_samples) * x_stride, x_stride);
    double sum = lock_all(plan, use, matrix, &n_pairs);
    if (n_pairs == 0 || isnan(sum)) return;
    transform_phases(plan);
    lock_surrogates(plan, n_pairs);
    find_null(plan, n_pairs, result);
    result->plv = sum / n_pairs;
    result->dispersion = 1 - result->plv;
    result->z = (result->plv - result->null_median) / result->null_sd;
}
