/* Power spectra: Welch's average of windowed segments, many channels in one call, and the
 * rows of a spectrogram.
 *
 * As scipy.signal.welch has it: segments of nperseg samples, each beginning nperseg - noverlap
 * after the last; from each its mean or its straight line is taken; times the window;
 * zeros up to nfft; |X|², one-sided (all bins but 0 and n / 2 twice); times 1 / (rate ·
 * sum of w²) for a density, 1 / (sum of w)² for a spectrum; the mean over segments, or their
 * median over its bias. Samples behind the last whole segment are not looked at. Within 1e-12
 * of the largest bin (docs/spectrum.md), and the same bits on every instruction set, whatever the
 * other channels.
 *
 * Absence. A value that is NaN, an infinity, or beyond ±PD_SPECTRUM_LARGEST in any segment: the
 * channel is NaN in all bins. Fewer samples than one segment: all channels are. A
 * constant channel has the power 0, since the power IS 0; what is then divided by it is the
 * caller's. A band that holds fewer than two bins has no area: NaN, never 0.
 *
 * The caller gives all memory, once: the plan lies in it with its tables and work space, and has
 * pointers into itself, so it is neither copied nor saved. A spectrogram's state (pd_rows) is
 * plain. One thread at a time. Nothing allocates, blocks or fails after init. Values in the
 * caller's unit U: densities are in U²/Hz, spectra and band powers in U². Call within
 * pd_fp_enter where denormals may come.
 */
#ifndef PD_SPECTRUM_H
#define PD_SPECTRUM_H

#include "pd_fft.h"

#define PD_SPECTRUM_LARGEST 1e140
#define PD_SPECTRUM_MAX_CHANNELS 65536u
#define PD_SPECTRUM_MAX_SEGMENTS 65536u

enum pd_detrend { PD_DETREND_NONE, PD_DETREND_CONSTANT, PD_DETREND_LINEAR };
enum pd_scaling { PD_SCALING_DENSITY, PD_SCALING_SPECTRUM };
enum pd_average { PD_AVERAGE_MEAN, PD_AVERAGE_MEDIAN };

struct pd_welch_config {
    double rate_hz;
    const double *window;           /* [nperseg], copied */
    uint32_t nperseg, noverlap, nfft;   /* noverlap < nperseg <= nfft */
    uint32_t max_segments;          /* that a median may be of; a mean may be of any number */
    uint32_t detrend, scaling, average;
};

struct pd_welch {
    uint32_t nperseg, hop, nfft, n_bins, max_segments;
    uint32_t detrend, average;
    double bin_hz;                  /* between bins */
    double scale;                   /* of |X|² */
    double window_power;            /* sum of w² */
    double time_power;              /* sum of (j - (nperseg - 1) / 2)² */
    struct pd_rfft fft;
    double *window;
    double *a, *b;                  /* buffers of the transform */
    double *powers;                 /* [1 or max_segments][n_bins][PD_FFT_LANES] */
    double *column;                 /* [max_segments], for a median */
};

/* Bytes of tables and work space; 0 for a configuration that can't be. */
size_t pd_welch_bytes(const struct pd_welch_config *config);

/* `memory`: 8-byte aligned (64 is faster), the plan's for good. 0; -EINVAL: a configuration
 * that can't be, or a window whose sum (of squares) is not a number above 0. */
int pd_welch_init(struct pd_welch *welch, const struct pd_welch_config *config, void *memory,
                  size_t bytes);

/* Whole segments in n samples. */
uint32_t pd_welch_segments(const struct pd_welch *welch, uint32_t n);

/* x: [n][x_stride], of which n_channels are used; psd: [n_bins][psd_stride] likewise. 0;
 * -EINVAL: a median of more than max_segments. */
int pd_welch_psd(struct pd_welch *welch, const double *x, size_t x_stride, uint32_t n,
                 uint32_t n_channels, double *psd, size_t psd_stride);

/* The transform [n_bins][2][PD_FFT_LANES] of one segment, of `width` <= PD_FFT_LANES channels;
 * it stays until the next call. Not scaled. */
const double *pd_welch_segment(struct pd_welch *welch, const double *x, size_t x_stride,
                               uint32_t width);

/* The bins with low_hz <= f <= high_hz: how many, and the first. */
uint32_t pd_welch_bins(const struct pd_welch *welch, double low_hz, double high_hz,
                       uint32_t *first);

/* Area under those bins of a psd, by trapezoids: [n_channels]. NaN under fewer than two. */
void pd_welch_band(const struct pd_welch *welch, const double *psd, size_t psd_stride,
                   uint32_t n_channels, double low_hz, double high_hz, double *power);

/* -- spectrogram: a row in dB each hop, from samples as they come ------------------------ */

struct pd_rows {
    uint32_t n_channels, fed;       /* fed: samples in `recent` */
    double floor_db;                /* what a power of 0, and any below, is shown as */
};

/* `recent`: [nperseg][n_channels], the caller's; with pd_rows it is the whole state. */
void pd_rows_init(struct pd_rows *rows, uint32_t n_channels, double floor_db);

/* Rows that the next n samples will complete. */
uint32_t pd_rows_due(const struct pd_rows *rows, const struct pd_welch *welch, uint32_t n);

/* Takes n samples and writes the rows, [due][n_bins][n_channels]: 10 log10 of the power that
 * pd_welch_psd gives the segment. The first after nperseg samples, then each hop. */
void pd_rows_push(struct pd_rows *rows, struct pd_welch *welch, double *recent, const double *x,
                  size_t x_stride, uint32_t n, double *out);

#endif
