#include "pd_resample.h"

#include <stddef.h>

#include "pd_simd.h"

#define LANES 8                     /* one cache line: a 512-bit vector, two of 256, four of 128 */

/* Each channel adds its taps oldest first, alone or among others, so its result
 * depends neither on n_channels nor on the width of the vectors. */
PD_MULTIVERSION
void pd_resample_at(const struct pd_resample *restrict resample, const double *restrict rows,
                    uint32_t stride, uint32_t n_channels, double fraction, double *restrict out)
{
    uint32_t taps = resample->taps;
    double place = fraction * resample->phases;
    uint32_t row = (uint32_t)place;
    if (row >= resample->phases) row = resample->phases - 1;    /* the product may round up */
    double between = place - row;
    const double *restrict left = resample->table + (size_t)row * taps;
    const double *restrict right = left + taps;

    uint32_t channel = 0;
    for (; channel + LANES <= n_channels; channel += LANES) {
        double sum[LANES] = {0};
        for (uint32_t tap = 0; tap < taps; tap++) {
            const double *sample = rows + (size_t)tap * stride + channel;
            double weight = left[tap] + between * (right[tap] - left[tap]);
            for (uint32_t lane = 0; lane < LANES; lane++) sum[lane] += weight * sample[lane];
        }
        for (uint32_t lane = 0; lane < LANES; lane++) out[channel + lane] = sum[lane];
    }
    for (; channel < n_channels; channel++) {
        double sum = 0;
        for (uint32_t tap = 0; tap < taps; tap++) {
            double weight = left[tap] + between * (right[tap] - left[tap]);
            sum += weight * rows[(size_t)tap * stride + channel];
        }
        out[channel] = sum;
    }
}
