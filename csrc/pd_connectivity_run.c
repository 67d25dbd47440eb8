/* The part of connectivity that runs each window, for all instruction sets; vectors as in
 * pd_fft_run.c. */
#include "pd_connectivity.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_simd.h"

#define WIDTH 4                     /* lanes of a vector: PD_FFT_LANES is a multiple */

typedef double lanes __attribute__((vector_size(WIDTH * sizeof(double))));
typedef double lanes_at __attribute__((vector_size(WIDTH * sizeof(double)),
                                       aligned(sizeof(double)), may_alias));
typedef int64_t bits __attribute__((vector_size(WIDTH * sizeof(int64_t))));

#define INLINED static inline __attribute__((always_inline))

#define ROW (4 * PD_FFT_LANES)      /* of a bin, segment and group: X, X / |X| */

INLINED double *row_of(const struct pd_connectivity *plan, uint32_t bin, uint32_t segment,
                       uint32_t group)
{
    size_t index = ((size_t)bin * plan->max_segments + segment) * plan->n_groups + group;
    return plan->spectra + index * ROW;
}

INLINED void find_largest(struct pd_connectivity *plan, const double *x, size_t x_stride,
                          uint32_t n)
{
    for (uint32_t i = 0; i < plan->n_groups * PD_FFT_LANES; i++) plan->largest[i] = 0;
    for (uint32_t sample = 0; sample < n; sample++) {
        for (uint32_t i = 0; i < plan->n_channels; i++) {
            double size = fabs(x[sample * x_stride + i]);
            plan->largest[i] = size > plan->largest[i] ? size : plan->largest[i];
        }
    }
}

/* Keeps the bins of all bands, their phasors beside them, and adds up their power. */
INLINED void keep(struct pd_connectivity *plan, const double *z, uint32_t segment, uint32_t group)
{
    for (uint32_t bin = 0; bin < plan->n_bins; bin++) {
        const double *from = z + (size_t)(plan->first_bin + bin) * 2 * PD_FFT_LANES;
        double *to = row_of(plan, bin, segment, group);
        double *power = plan->powers + ((size_t)bin * plan->n_groups + group) * PD_FFT_LANES;
        for (uint32_t lane = 0; lane < PD_FFT_LANES; lane++) {
            double re = from[lane], im = from[PD_FFT_LANES + lane], square = re * re + im * im;
            double size = sqrt(square);
            power[lane] += square;
            to[lane] = re;
            to[PD_FFT_LANES + lane] = im;
            to[2 * PD_FFT_LANES + lane] = re / size;
            to[3 * PD_FFT_LANES + lane] = im / size;
        }
    }
}

INLINED void rule_out_flat(struct pd_connectivity *plan, uint32_t n_segments)
{
    double noise = PD_FLAT * PD_FLAT * plan->welch.window_power * n_segments;
    uint32_t width = plan->n_groups * PD_FFT_LANES;
    for (uint32_t bin = 0; bin < plan->n_bins; bin++) {
        for (uint32_t i = 0; i < width; i++) {
            double *power = &plan->powers[(size_t)bin * width + i];
            double size = plan->largest[i];
            if (!(*power > noise * size * size)) *power = NAN;
        }
    }
}

struct sums {                       /* over segments, of channel i with a group's lanes */
    double re[PD_FFT_LANES], im[PD_FFT_LANES], phase_re[PD_FFT_LANES], phase_im[PD_FFT_LANES];
    double size[PD_FFT_LANES], square[PD_FFT_LANES];    /* of imaginary parts: |I|, I² */
    int64_t sign[PD_FFT_LANES];
};

INLINED void add_up(const struct pd_connectivity *plan, uint32_t bin, uint32_t i, uint32_t group,
                    uint32_t n_segments, struct sums *sums)
{
    size_t step = (size_t)plan->n_groups * ROW;
    for (uint32_t lane = 0; lane < PD_FFT_LANES; lane += WIDTH) {
        const double *a = row_of(plan, bin, 0, i / PD_FFT_LANES) + i % PD_FFT_LANES;
        const double *b = row_of(plan, bin, 0, group) + lane;
        lanes re = {0}, im = {0}, phase_re = {0}, phase_im = {0}, size = {0}, square = {0};
        bits sign = {0};
        for (uint32_t s = 0; s < n_segments; s++, a += step, b += step) {
            lanes b_re = *(const lanes_at *)b, b_im = *(const lanes_at *)(b + PD_FFT_LANES);
            lanes imaginary = a[PD_FFT_LANES] * b_re - a[0] * b_im;
            re += a[0] * b_re + a[PD_FFT_LANES] * b_im;
            im += imaginary;
            sign += (bits)(imaginary < 0) - (bits)(imaginary > 0);
            size += (lanes)((bits)imaginary & INT64_MAX);
            square += imaginary * imaginary;
            lanes u_re = *(const lanes_at *)(b + 2 * PD_FFT_LANES);
            lanes u_im = *(const lanes_at *)(b + 3 * PD_FFT_LANES);
            phase_re += a[2 * PD_FFT_LANES] * u_re + a[3 * PD_FFT_LANES] * u_im;
            phase_im += a[3 * PD_FFT_LANES] * u_re - a[2 * PD_FFT_LANES] * u_im;
        }
        memcpy(sums->re + lane, &re, sizeof re);
        memcpy(sums->im + lane, &im, sizeof im);
        memcpy(sums->phase_re + lane, &phase_re, sizeof re);
        memcpy(sums->phase_im + lane, &phase_im, sizeof re);
        memcpy(sums->size + lane, &size, sizeof re);
        memcpy(sums->square + lane, &square, sizeof re);
        memcpy(sums->sign + lane, &sign, sizeof sign);
    }
}

INLINED double share(double part, double whole)
{
    return whole == 0 ? 0 : part / whole;
}

/* Adds what the header defines, of one bin and pair; `defined` is 0, or NaN. */
INLINED void measure(const struct sums *sums, uint32_t lane, double n, double powers,
                     double defined, double *values)
{
    double re = sums->re[lane], im = sums->im[lane], size = sums->size[lane];
    double p = sums->phase_re[lane], q = sums->phase_im[lane], square = sums->square[lane];
    values[PD_PLV] += defined + sqrt(p * p + q * q) / n;
    values[PD_PLI] += defined + fabs((double)sums->sign[lane]) / n;
    values[PD_WPLI] += defined + share(fabs(im), size);
    values[PD_WPLI2] += defined + share(im * im - square, size * size - square);
    values[PD_IMCOH] += defined + im / powers;
    values[PD_COH] += defined + sqrt(re * re + im * im) / powers;
}

INLINED void put(const struct pd_connectivity *plan, uint32_t band, uint32_t i, uint32_t j,
                 const double *values, double n_bins, double *out)
{
    size_t n = plan->n_channels;
    for (uint32_t m = 0; m < PD_MEASURES; m++) {
        double *matrix = out + ((size_t)m * plan->n_bands + band) * n * n;
        double mean = n_bins > 0 ? values[m] / n_bins : NAN;
        matrix[i * n + j] = mean;
        matrix[j * n + i] = m == PD_IMCOH ? -mean : mean;
    }
}

INLINED void run_band(const struct pd_connectivity *plan, uint32_t band, uint32_t n_segments,
                      double *out)
{
    uint32_t first = plan->bands[band].first - plan->first_bin, bins = plan->bands[band].n_bins;
    uint32_t width = plan->n_groups * PD_FFT_LANES;
    for (uint32_t i = 1; i < plan->n_channels; i++) {
        for (uint32_t group = 0; group * PD_FFT_LANES < i; group++) {
            uint32_t from = group * PD_FFT_LANES, left = i - from;
            uint32_t count = left < PD_FFT_LANES ? left : PD_FFT_LANES;
            double values[PD_FFT_LANES][PD_MEASURES] = {{0}};
            for (uint32_t bin = first; bin < first + bins; bin++) {
                struct sums sums;
                const double *powers = plan->powers + (size_t)bin * width;
                add_up(plan, bin, i, group, n_segments, &sums);
                for (uint32_t lane = 0; lane < count; lane++) {
                    double both = sqrt(powers[i]) * sqrt(powers[from + lane]);
                    double defined = n_segments < 2 || isnan(both) ? NAN : 0;
                    measure(&sums, lane, n_segments, both, defined, values[lane]);
                }
            }
            for (uint32_t lane = 0; lane < count; lane++) {
                put(plan, band, i, from + lane, values[lane], bins, out);
            }
        }
    }
}

PD_MULTIVERSION
int pd_connectivity_run(struct pd_connectivity *plan, const double *x, size_t x_stride, uint32_t n,
                        double *out)
{
    uint32_t n_segments = pd_welch_segments(&plan->welch, n), channels = plan->n_channels;
    if (n_segments > plan->max_segments) return -EINVAL;
    uint32_t used = n_segments > 0 ? (n_segments - 1) * plan->welch.hop + plan->welch.nperseg : 0;
    find_largest(plan, x, x_stride, used);
    memset(plan->powers, 0, (size_t)plan->n_bins * plan->n_groups * PD_FFT_LANES * sizeof(double));
    for (uint32_t group = 0; group < plan->n_groups; group++) {
        uint32_t from = group * PD_FFT_LANES, left = channels - from;
        uint32_t width = left < PD_FFT_LANES ? left : PD_FFT_LANES;
        for (uint32_t s = 0; s < n_segments; s++) {
            const double *at = x + (size_t)s * plan->welch.hop * x_stride + from;
            keep(plan, pd_welch_segment(&plan->welch, at, x_stride, width), s, group);
        }
    }
    rule_out_flat(plan, n_segments);
    for (size_t i = 0; i < (size_t)PD_MEASURES * plan->n_bands * channels; i++) {
        out[i * channels + i % channels] = NAN;
    }
    for (uint32_t band = 0; band < plan->n_bands; band++) run_band(plan, band, n_segments, out);
    return 0;
}
