/* The part of the spectra that runs each window, for all instruction sets; vectors as in
 * pd_fft_run.c. */
#include "pd_spectrum.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_simd.h"

#define WIDTH 4                     /* lanes of a vector: PD_FFT_LANES is a multiple */

typedef double lanes __attribute__((vector_size(WIDTH * sizeof(double))));
typedef double lanes_at __attribute__((vector_size(WIDTH * sizeof(double)),
                                       aligned(sizeof(double)), may_alias));
typedef int64_t bits __attribute__((vector_size(WIDTH * sizeof(int64_t))));
typedef int64_t bits_at __attribute__((vector_size(WIDTH * sizeof(int64_t)),
                                       aligned(sizeof(int64_t)), may_alias));

#define INLINED static inline __attribute__((always_inline))

struct missing {                    /* a lane is negative that had a value that is none */
    int64_t of[PD_FFT_LANES] __attribute__((aligned(64)));
};

INLINED double *row(double *lanes_of, size_t index)
{
    return lanes_of + index * PD_FFT_LANES;
}

/* Rows into lanes, those that no channel has being 0; values that are none told by their bits as
 * in pd_sos_run.c. */
INLINED void take(const double *x, size_t x_stride, uint32_t n, uint32_t width, double *to,
                  struct missing *missing)
{
    double largest = PD_SPECTRUM_LARGEST;
    int64_t largest_bits;
    memcpy(&largest_bits, &largest, sizeof largest_bits);
    if (width < PD_FFT_LANES) memset(to, 0, (size_t)n * PD_FFT_LANES * sizeof *to);
    for (uint32_t j = 0; j < n; j++) {
        if (width == PD_FFT_LANES) {
            memcpy(row(to, j), x + j * x_stride, PD_FFT_LANES * sizeof *to);
        } else {
            for (uint32_t i = 0; i < width; i++) row(to, j)[i] = x[j * x_stride + i];
        }
    }
    for (uint32_t lane = 0; lane < PD_FFT_LANES; lane += WIDTH) {
        bits beyond = *(bits_at *)(missing->of + lane);
        for (uint32_t j = 0; j < n; j++) {
            beyond |= largest_bits - (*(const bits_at *)(row(to, j) + lane) & INT64_MAX);
        }
        *(bits_at *)(missing->of + lane) = beyond;
    }
}

/* Takes the mean, or the line, out, and puts the window on. The first value goes before: a
 * constant leaves exactly 0, and 62 mV of offset no rounding. */
INLINED void level(const struct pd_welch *welch, double *x)
{
    uint32_t n = welch->nperseg;
    lanes first = *(lanes_at *)x, mean = {0}, slope = {0};
    if (welch->detrend == PD_DETREND_NONE) {
        first = (lanes){0};
    } else {
        for (uint32_t j = 0; j < n; j++) mean += *(lanes_at *)row(x, j) - first;
        mean /= (double)n;
    }
    double middle = 0.5 * (n - 1);
    if (welch->detrend != PD_DETREND_LINEAR || n == 1) {
        for (uint32_t j = 0; j < n; j++) {
            *(lanes_at *)row(x, j) = (*(lanes_at *)row(x, j) - first - mean) * welch->window[j];
        }
        return;
    }
    for (uint32_t j = 0; j < n; j++) {
        slope += (j - middle) * (*(lanes_at *)row(x, j) - first - mean);
    }
    slope /= welch->time_power;
    for (uint32_t j = 0; j < n; j++) {
        lanes value = *(lanes_at *)row(x, j) - first - mean - slope * (j - middle);
        *(lanes_at *)row(x, j) = value * welch->window[j];
    }
}

INLINED double *segment(struct pd_welch *welch, const double *x, size_t x_stride, uint32_t width,
                        struct missing *missing)
{
    take(x, x_stride, welch->nperseg, width, welch->a, missing);
    for (uint32_t lane = 0; lane < PD_FFT_LANES; lane += WIDTH) level(welch, welch->a + lane);
    memset(row(welch->a, welch->nperseg), 0,
           (size_t)(welch->nfft - welch->nperseg) * PD_FFT_LANES * sizeof(double));
    return pd_rfft_forward(&welch->fft, welch->a, welch->b);
}

PD_MULTIVERSION
const double *pd_welch_segment(struct pd_welch *welch, const double *x, size_t x_stride,
                               uint32_t width)
{
    struct missing missing = {{0}};
    double *z = segment(welch, x, x_stride, width, &missing);
    for (uint32_t lane = 0; lane < width; lane++) {
        if (missing.of[lane] >= 0) continue;
        for (uint32_t k = 0; k < 2 * welch->n_bins; k++) row(z, k)[lane] = NAN;
    }
    return z;
}

INLINED void add_power(const double *z, uint32_t n_bins, double *power)
{
    for (uint32_t k = 0; k < n_bins; k++, z += 2 * PD_FFT_LANES, power += PD_FFT_LANES) {
        for (uint32_t lane = 0; lane < PD_FFT_LANES; lane += WIDTH) {
            lanes re = *(const lanes_at *)(z + lane);
            lanes im = *(const lanes_at *)(z + PD_FFT_LANES + lane);
            *(lanes_at *)(power + lane) += re * re + im * im;
        }
    }
}

INLINED double median(double *values, uint32_t n)
{
    for (uint32_t gap = n / 2; gap > 0; gap /= 2) {
        for (uint32_t i = gap; i < n; i++) {
            double value = values[i];
            uint32_t at = i;
            for (; at >= gap && values[at - gap] > value; at -= gap) values[at] = values[at - gap];
            values[at] = value;
        }
    }
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* Of the median of n periodograms over their mean: Allen et al. 2012, appendix B. */
INLINED double median_bias(uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 1; i <= (n - 1) / 2; i++) sum += 1.0 / (2 * i + 1) - 1.0 / (2 * i);
    return 1 + sum;
}

INLINED void take_medians(struct pd_welch *welch, uint32_t n_segments)
{
    for (uint32_t k = 0; k < welch->n_bins; k++) {
        for (uint32_t lane = 0; lane < PD_FFT_LANES; lane++) {
            for (uint32_t s = 0; s < n_segments; s++) {
                welch->column[s] = row(welch->powers, (size_t)s * welch->n_bins + k)[lane];
            }
            row(welch->powers, k)[lane] = median(welch->column, n_segments);
        }
    }
}

INLINED void put(const struct pd_welch *welch, double scale, const struct missing *missing,
                 uint32_t width, double *psd, size_t psd_stride)
{
    for (uint32_t k = 0; k < welch->n_bins; k++) {
        double once = k > 0 && 2 * k != welch->nfft ? 2 * scale : scale;
        double *power = row(welch->powers, k);
        for (uint32_t lane = 0; lane < width; lane++) {
            psd[k * psd_stride + lane] = missing->of[lane] < 0 ? NAN : power[lane] * once;
        }
    }
}

PD_MULTIVERSION
int pd_welch_psd(struct pd_welch *welch, const double *x, size_t x_stride, uint32_t n,
                 uint32_t n_channels, double *psd, size_t psd_stride)
{
    uint32_t n_segments = pd_welch_segments(welch, n);
    int of_median = welch->average == PD_AVERAGE_MEDIAN;
    if (of_median && n_segments > welch->max_segments) return -EINVAL;
    if (n_segments == 0) {
        for (uint32_t k = 0; k < welch->n_bins; k++) {
            for (uint32_t i = 0; i < n_channels; i++) psd[k * psd_stride + i] = NAN;
        }
        return 0;
    }
    size_t one = (size_t)welch->n_bins * PD_FFT_LANES;
    double scale = welch->scale / (of_median ? median_bias(n_segments) : n_segments);
    for (uint32_t channel = 0; channel < n_channels; channel += PD_FFT_LANES) {
        uint32_t left = n_channels - channel, width = left < PD_FFT_LANES ? left : PD_FFT_LANES;
        struct missing missing = {{0}};
        memset(welch->powers, 0, (of_median ? n_segments : 1) * one * sizeof(double));
        for (uint32_t s = 0; s < n_segments; s++) {
            double *z = segment(welch, x + (size_t)s * welch->hop * x_stride + channel, x_stride,
                                width, &missing);
            add_power(z, welch->n_bins, welch->powers + (of_median ? s * one : 0));
        }
        if (of_median) take_medians(welch, n_segments);
        put(welch, scale, &missing, width, psd + channel, psd_stride);
    }
    return 0;
}
