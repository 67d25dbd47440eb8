/* Connectivity: what phases and amplitudes of all pairs of channels have in common, from
 * cross-spectra of segments.
 *
 * The definitions are MNE-Connectivity's (spectral_connectivity_epochs, mode 'fourier',
 * faverage): segments are its epochs, windowed and with their mean taken out. With c_s = X_i
 * conj(X_j) of segment s in a bin, P_i the sum of |X_i|² and I_s the imaginary part of c_s:
 *
 *   plv   |sum of c / |c|| / S           imcoh  Im(sum of c) / sqrt(P_i P_j)
 *   pli   |sum of sign(I)| / S           coh    |sum of c| / sqrt(P_i P_j)
 *   wpli  |sum of I| / sum of |I|        wpli2  ((sum of I)² - sum of I²) / ((sum of |I|)² -
 *                                               sum of I²), debiased; both 0 where 0 / 0
 *
 * and a band is the mean of that over its bins, low <= f <= high. A matrix is symmetric but
 * for imcoh, which changes its sign; its diagonal is NaN: a channel is no pair with itself.
 *
 * Absence is NaN. A pair is undefined with a value that is none (pd_spectrum.h) in any
 * segment of either; with a channel that is flat in a bin, which is to say that its power there
 * is at most that of white noise of PD_FLAT times its largest value (rounding, not signal);
 * with fewer than two segments, of which plv and coh would be 1 whatever the signals; and in
 * a band without bins. MNE has 0 for some of these, or warns.
 *
 * The caller gives all memory, once; the plan has pointers into it, and is neither copied nor
 * saved. One thread at a time. Nothing allocates, blocks or fails after init. The same bits on
 * every instruction set.
 */
#ifndef PD_CONNECTIVITY_H
#define PD_CONNECTIVITY_H

#include "pd_spectrum.h"

#define PD_CONNECTIVITY_MAX_CHANNELS 1024u
#define PD_CONNECTIVITY_MAX_BANDS 64u
#define PD_FLAT 1e-12

enum pd_measure { PD_PLV, PD_PLI, PD_WPLI, PD_WPLI2, PD_IMCOH, PD_COH, PD_MEASURES };

struct pd_band {
    double low_hz, high_hz;
};

struct pd_connectivity_config {
    struct pd_welch_config welch;   /* its max_segments counts, its scaling and average don't */
    const struct pd_band *bands;    /* [n_bands] */
    uint32_t n_channels, n_bands;
};

struct pd_connectivity {
    struct pd_welch welch;
    uint32_t n_channels, n_bands, n_groups, max_segments;
    uint32_t first_bin, n_bins;     /* of all bands together */
    struct { uint32_t first, n_bins; } bands[PD_CONNECTIVITY_MAX_BANDS];
    double *spectra;                /* [n_bins][max_segments][n_groups][2][2][PD_FFT_LANES]: X,
                                       and X / |X| */
    double *powers;                 /* [n_bins][n_groups][PD_FFT_LANES]; NaN where flat */
    double *largest;                /* [n_groups][PD_FFT_LANES]: of |x| */
};

/* Bytes; 0 for a configuration that can't be. */
size_t pd_connectivity_bytes(const struct pd_connectivity_config *config);

/* `memory`: 8-byte aligned (64 is faster). 0 or -EINVAL. */
int pd_connectivity_init(struct pd_connectivity *plan, const struct pd_connectivity_config *config,
                         void *memory, size_t bytes);

/* x: [n][x_stride], of which n_channels are used; out: [PD_MEASURES][n_bands][n_channels]
 * [n_channels]. 0; -EINVAL: more than max_segments. */
int pd_connectivity_run(struct pd_connectivity *plan, const double *x, size_t x_stride, uint32_t n,
                        double *out);

/* Means over the pairs of channels that `use` has (NULL: all), of imcoh of its magnitude:
 * [PD_MEASURES][n_bands]. NaN where one of the pairs is undefined, or there is none. */
void pd_connectivity_means(const struct pd_connectivity *plan, const double *matrices,
                           const uint8_t *use, double *means);

#endif
