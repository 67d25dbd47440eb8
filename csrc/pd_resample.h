/* Resampler: native samples to the value at any fractional position.
 *
 * y(p) = sum over k of h(k - p) x[k], with a prototype h that is given as a
 * table: `phases` + 1 rows of `taps` weights; row j serves the fraction
 * j / phases, and between two rows the weights are interpolated linearly. Each
 * row sums to exactly 1 (to the last bits), so that a constant of any size
 * leaves no ripple, and so does every interpolated row. The table is designed
 * in phantomd/engine/prototype.py; h at any multiple of the native rate can be
 * asked for there.
 *
 * Stateless: the caller passes the samples. Tick thread and anybody. Nothing
 * allocates or fails.
 */
#ifndef PD_RESAMPLE_H
#define PD_RESAMPLE_H

#include <stdint.h>

#define PD_RESAMPLE_MAX_TAPS 1024

struct pd_resample {
    const double *table;            /* [phases + 1][taps], the caller's */
    uint32_t phases, taps;
    int32_t ahead;                  /* newest sample needed: floor(p) + ahead */
};

/* Row `first` of the samples that position p needs is
 *   floor(p) + ahead - taps + 1 .. floor(p) + ahead.
 * rows: taps × stride doubles, oldest first; fraction = p - floor(p), in [0, 1).
 * out: n_channels, apart from rows. A channel's result does not depend on the
 * other channels, nor on the instruction set. */
void pd_resample_at(const struct pd_resample *resample, const double *rows, uint32_t stride,
                    uint32_t n_channels, double fraction, double *out);

#endif
