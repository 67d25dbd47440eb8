/* A broadband device: a recording in memory (a mapped file, or made up) that is played at its own
 * rate through pd_spike.h, one record for each bin.
 *
 * It is a driver by the clock without an intake (pd_pump.h): live, a pump thread of its own calls
 * pd_broadband_advance, on a virtual clock the caller does. One call takes one bin, so a thread that
 * was held up catches up bin by bin and can be stopped between two. Nothing is left out: a bin that comes
 * after its deadline is LATE and counted. Nothing allocates, locks or calls the system; a page of
 * a mapped file that is not in memory makes its bin late.
 *
 * Sample i is there at start_ns + i / rate; the first call is the start. At its end the recording
 * begins again (loop), without a new start of the filters, or no bin comes any more.
 *
 * Record, in 64-bit words, little-endian inside a word: bin index · t_ns (int64, when its last
 * sample was there) · flags (PD_BROADBAND_*) · counts uint16 [n_channels], padded to a word ·
 * pd_spike.h's flags uint8 [n_channels], padded to a word.
 */
#ifndef PD_BROADBAND_H
#define PD_BROADBAND_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "pd_ring.h"
#include "pd_spike.h"

#define PD_BROADBAND_LATE 1u        /* taken more than late_ns after its t_ns */
#define PD_BROADBAND_WRAPPED 2u     /* the recording began again within it */
#define PD_BROADBAND_HEAD_WORDS 3u
#define PD_BROADBAND_NEVER INT64_MAX

struct pd_broadband_source {        /* [n_samples][n_channels] */
    const float *f32;               /* one of the two */
    const int16_t *i16;
    uint64_t n_samples;
    uint32_t n_channels;
    int loop;
    double rate_hz;
    int64_t late_ns;
};

struct pd_broadband {
    struct pd_broadband_source source;
    struct pd_spike *spike;
    struct pd_ring *ring;
    uint64_t *record;               /* [pd_broadband_words] of the caller's */
    int64_t start_ns;               /* PD_NO_TIME before the first call */
    uint64_t position;              /* of the next sample in the recording */
    _Atomic uint64_t bins, late, spikes;        /* told to any thread */
    _Atomic int ended;
};

uint32_t pd_broadband_words(uint32_t n_channels);

/* `spike` is at its start, has the source's channels, and belongs to the device from now on; the ring's
 * frames have pd_broadband_words. 0 or -EINVAL. */
int pd_broadband_init(struct pd_broadband *device, const struct pd_broadband_source *source,
                      struct pd_spike *spike, struct pd_ring *ring, uint64_t *record);

/* The pump's thread, or the caller on a virtual clock: takes the next bin when it is there by
 * now_ns. Returns when the next one will be (perhaps already past), or
 * PD_BROADBAND_NEVER. The signature is pd_driver's. */
int64_t pd_broadband_advance(void *device, int64_t now_ns);

#endif
