/* Phase synchrony of a window: the mean phase-locking value of all pairs of channels in a
 * band, and how far it stands out of what it would be without coupling.
 *
 * Phases. The newest n_samples; their straight line is taken out, their transform kept within
 * low <= f <= high and for positive f alone, and transformed back: the analytic signal of
 * scipy.signal.hilbert after that filter. With `filtered`, x is in the band already, and it is
 * scipy.signal.hilbert and nothing else. u = a / |a|; PLV of a pair = |mean of u_i conj(u_j)|; plv
 * is the mean over pairs, dispersion 1 - plv.
 *
 * The null. n_surrogates times each channel is shifted in time, round the window, by a
 * random number of samples (seeded: the same window gives the same bits), and one channel
 * of each pair is shifted in frequency, too, by PD_SYNCHRONY_BINS bins. Shifts in time alone
 * have no answer for steady oscillations, which stay locked however they are shifted: the
 * null's median becomes the value itself, and z is chance. Three bins are next to nothing for
 * signals as wide as the band, and whole turns for a sinusoid. Before that, what a channel's
 * frequency (the largest bin of its phasors' transform, and its neighbours) is off a whole bin is
 * taken out, half a bin at most: a shift round the window would leave a step in its phase. Then
 *
 *   z = (plv - median over surrogates of their mean PLV) / sd
 *   sd = the larger of 1.4826 MAD / sqrt(pairs), the deviations being those of each pair's
 *        surrogate PLVs from the pair's own median, all pairs pooled; and of sqrt((1 - pi / 4) /
 *        n / pairs), the sd of the PLV of n independent phases, n the bins in the band.
 *
 * Pooled, because 40 means have a MAD that is off by a fifth; pairs are uncorrelated under the
 * null. docs/connectivity.md shows z against coupling, and what it says of oscillations that are
 * narrower than a few bins: two of them that are not coupled may well be locked for a window.
 *
 * Absence is NaN, in all of the result: under 2 · high_hz of sampling, fewer samples than
 * n_samples, fewer than PD_SYNCHRONY_MIN_BINS bins in the band, fewer than two channels in use, or
 * among them one with a value that is none (pd_spectrum.h) or flat in the band (its RMS there at
 * most PD_FLAT times its largest value). The matrix has NaN for that channel's pairs alone.
 *
 * The caller gives all memory, once; the plan has pointers into it, and is neither copied nor
 * saved. One thread at a time. Nothing allocates, blocks or fails after init. The same bits on
 * every instruction set.
 */
#ifndef PD_SYNCHRONY_H
#define PD_SYNCHRONY_H

#include "pd_connectivity.h"

#define PD_SYNCHRONY_MAX_CHANNELS 256u
#define PD_SYNCHRONY_MAX_SAMPLES 65536u
#define PD_SYNCHRONY_MAX_SURROGATES 1000u
#define PD_SYNCHRONY_BINS 3u
#define PD_SYNCHRONY_MIN_BINS 8u

struct pd_synchrony_config {
    double rate_hz, low_hz, high_hz;
    uint32_t n_samples, n_channels, n_surrogates;
    uint32_t filtered;
    uint64_t seed;
};

struct pd_synchrony_result {
    double plv, dispersion, z;
    double null_median, null_sd;
};

struct pd_synchrony {
    uint32_t n_samples, n_channels, n_groups, n_surrogates, filtered;
    uint32_t first_bin, n_bins;     /* of the band */
    uint32_t possible;              /* whether rate and band allow any result */
    struct pd_welch welch;          /* of one segment, unwindowed: the way to its transform */
    struct pd_fft fft;
    double *a, *b;                  /* buffers of the transform */
    double *phases, *transforms;    /* [n_groups][n_samples][2][PD_FFT_LANES]: u, and its own, with
                                       whole bins */
    double *values;                 /* [pairs][n_surrogates]: PLV of each surrogate pair */
    double *sums, *sorted;          /* [n_surrogates]; [pairs · n_surrogates] */
    uint32_t *shifts;               /* [n_surrogates][n_channels]: samples */
    uint32_t (*pairs)[2];           /* of channels in use */
    uint8_t *sound;                 /* [n_channels]: has values, and is not flat */
};

/* Bytes; 0 for a configuration that can't be. A rate that is too low can be: it is undefined. */
size_t pd_synchrony_bytes(const struct pd_synchrony_config *config);

/* `memory`: 8-byte aligned (64 is faster). 0 or -EINVAL. */
int pd_synchrony_init(struct pd_synchrony *plan, const struct pd_synchrony_config *config,
                      void *memory, size_t bytes);

/* x: [n][x_stride], of which n_channels are used; `use`: [n_channels], or NULL for all; matrix:
 * NULL, or [n_channels][n_channels]: PLV, NaN on the diagonal and outside `use`. */
void pd_synchrony_run(struct pd_synchrony *plan, const double *x, size_t x_stride, uint32_t n,
                      const uint8_t *use, double *matrix, struct pd_synchrony_result *result);

#endif
