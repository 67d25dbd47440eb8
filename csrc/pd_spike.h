/* Spikes of a broadband array: band-pass, common reference, robust noise, threshold
 * crossings, bins of counts. Samples come sample by sample, all channels together, in blocks
 * of any size; what comes out does not depend on the sizes, to the bit.
 *
 * For each sample, float32 throughout, on each instruction set the same bits:
 *   1. v = x, or scale · x for int16.
 *   2. band-pass: sections in the order of operations of scipy.signal.sosfilt in float32,
 *      begun as sosfilt_zi · the first value.
 *   3. reference, over the good channels that have a sample: average (32 partial sums,
 *      channel c in sum c mod 32, added in halves: 16 to 16, 8 to 8 …; divided by their number), or median
 *      (of an even number the mean of the two in the middle). d = y - reference.
 *      With PD_SPIKE_ON_RAW step 3 comes before step 2. For the average that is the same but for
 *      rounding. For the median it is not: with electrode offsets larger than the signal, the channel in
 *      the middle is always the same one, and its spikes would be taken off all others.
 *   4. noise: |d| at each `every`-th sample (about PD_SPIKE_NOISE_HZ); PD_SPIKE_WINDOW of them
 *      make a window, whose exact median / 0.6745 is the window's estimate w. The channel's noise
 *      is the mean of its windows: noise += (w - noise) / min(windows, PD_SPIKE_TRACK).
 *      It counts from the next sample on. A flat window (median not above 2^-20 of the filter's
 *      input at its end: what rounding leaves of an offset; or under PD_SPIKE_LEAST) disarms the channel, the next window begins anew.
 *   5. a spike is a sample outside the threshold (d < -threshold · noise, or above it, or
 *      both) after one inside, when `refractory` samples have passed since the last spike: a spike at i,
 *      the next at i + refractory at the earliest. An edge in the refractory time is not made up for.
 *   6. spikes are counted in bins; bin b is the samples floor(b w) … floor((b + 1) w) - 1,
 *      w = bin_samples, which need not be whole.
 *
 * Missing samples: NaN, an infinity, beyond ±PD_SPIKE_LARGEST (never an int16). The channel's
 * filter coasts, fed with its last value; after more than `settle` of them it begins anew at its
 * first value. It is left out of the reference while it is missing. Until `settle` samples
 * after the last missing one, and after the start, it has no spikes and no noise window (a window
 * with such a sample in it does not count). Bins say so (flags). A sample at which no good channel is
 * there is missing in all channels, where there is a reference.
 *
 * One block of memory from the caller holds everything, without pointers: copied, it goes on
 * elsewhere. One thread at a time owns it. Nothing allocates, blocks or fails after init.
 * Denormals are right but slow: call within pd_fp_enter. Values in the caller's unit, µV here.
 */
#ifndef PD_SPIKE_H
#define PD_SPIKE_H

#include <stddef.h>
#include <stdint.h>

#include "pd_sos.h"

#define PD_SPIKE_MAX_CHANNELS 16384u
#define PD_SPIKE_MAX_SECTIONS 8u
#define PD_SPIKE_LARGEST 1e9f
#define PD_SPIKE_NOISE_HZ 3000.0
#define PD_SPIKE_WINDOW 101u        /* odd: the median is one of them */
#define PD_SPIKE_TRACK 32u          /* windows: 1.1 s */
#define PD_SPIKE_LEAST 1e-30f       /* below it a median is what is left of a decay */
#define PD_SPIKE_SETTLE 1e-3        /* pd_sos_design's tolerance */

enum { PD_SPIKE_NO_REFERENCE, PD_SPIKE_AVERAGE, PD_SPIKE_MEDIAN };
enum { PD_SPIKE_ON_BAND, PD_SPIKE_ON_RAW };
enum { PD_SPIKE_NEGATIVE = 1, PD_SPIKE_POSITIVE = 2, PD_SPIKE_BOTH = 3 };

#define PD_SPIKE_FLAG_MISSING 1u    /* a sample of the bin is missing in this channel */
#define PD_SPIKE_FLAG_SETTLING 2u   /* or lies too near to a missing one, or to the start */
#define PD_SPIKE_FLAG_UNARMED 4u    /* for a part of the bin, no noise was known: no threshold */

struct pd_spike_config {
    double rate_hz;
    double bin_samples;             /* at least 1, at most 2^31 */
    double threshold;               /* of the noise; above 0 */
    double scale;                   /* unit per count of an int16 */
    uint32_t refractory;            /* samples, at least 1 */
    uint32_t n_channels, n_sections;
    uint32_t reference, reference_on, polarity;
    const struct pd_sos_section *sections;      /* b0 … a2; read at init */
};

struct pd_spike_event {
    int64_t index;                  /* of the sample, from 0 at init */
    uint32_t channel;
    float value;                    /* d there */
};

struct pd_spike_out {
    /* Bins that end within the block: [max_bins][n_channels] each; flags may be NULL. Counts
     * stop at 65535. */
    uint16_t *counts;
    uint8_t *flags;
    uint32_t max_bins, n_bins;
    /* Spikes by sample, then by channel: the first max_events of the block are kept. */
    struct pd_spike_event *events;
    uint32_t max_events, n_events;
    uint64_t overflow;              /* spikes that are counted in bins but had no room here */
    float *y;                       /* NULL, or [n][y_stride]: d, NaN where it is missing */
    size_t y_stride;
};

struct pd_spike;

/* 0 for a kernel that can't be. */
size_t pd_spike_bytes(uint32_t n_channels, uint32_t n_sections);

/* good: NULL (all), or [n_channels], 0 = left out of the reference. memory: 64-byte aligned.
 * 0; -EINVAL: a number that can't be, or a reference without a good channel; -EDOM: an unstable
 * filter; -ERANGE: one that takes more than PD_SOS_MAX_SETTLE samples to settle. */
int pd_spike_init(void *memory, size_t bytes, const struct pd_spike_config *config,
                  const uint8_t *good);

/* As after init, but for the good channels. */
void pd_spike_reset(struct pd_spike *spike);

/* Between two blocks. 0 or -EINVAL: none is left for the reference. */
int pd_spike_good(struct pd_spike *spike, const uint8_t *good);

/* How many bins will end within the next n samples. */
uint32_t pd_spike_bins(const struct pd_spike *spike, uint32_t n);

/* n samples, x [n][x_stride]. 0, or -ENOSPC, and nothing is done, when more than max_bins
 * bins end within them. Sets n_bins, n_events, overflow of `out`. */
int pd_spike_run_f32(struct pd_spike *spike, const float *x, size_t x_stride, uint32_t n,
                     struct pd_spike_out *out);
int pd_spike_run_i16(struct pd_spike *spike, const int16_t *x, size_t x_stride, uint32_t n,
                     struct pd_spike_out *out);

int64_t pd_spike_index(const struct pd_spike *spike);       /* of the next sample */
int64_t pd_spike_bin(const struct pd_spike *spike);         /* of the next bin to end */
int64_t pd_spike_bin_end(const struct pd_spike *spike);     /* one past its last sample */
uint32_t pd_spike_settle(const struct pd_spike *spike);     /* samples */
uint32_t pd_spike_every(const struct pd_spike *spike);      /* samples between two of a window */
/* NaN while there is none. */
float pd_spike_noise(const struct pd_spike *spike, uint32_t channel);

#endif
