/* Clock: sample index of a device to host time, from arrival times alone.
 *
 * Sample n is taken at t(n) = offset + n / rate; it arrives later, never
 * earlier, by a delay that is different each time. The earliest arrivals carry
 * the information: the least residual of each block of samples is kept, and a
 * robust line through those minima is the estimate. Blocks grow as history
 * does (0.25 s at first, 4 s at last, some minutes in all). The nominal rate is
 * a prior that counts as long as little is known.
 *
 * What is read out is a second line that follows the first without steps, so
 * that a resampler's position moves smoothly: a correction is spread over some
 * tenths of a second. Only a correction of more than PD_CLOCK_RELOCK_NS is made
 * at once, and says so.
 *
 * A constant part of the delay can't be seen: it is the bias, and what is known
 * about it (clumped arrivals: up to one native period) is in the uncertainty.
 *
 * Owner: the tick thread (or whoever drives the virtual clock). The structure
 * holds no pointers: it may be copied as it is. Nothing allocates; the result
 * depends on the observations alone.
 */
#ifndef PD_CLOCK_H
#define PD_CLOCK_H

#include <stdint.h>

#include "pd_time.h"

#define PD_CLOCK_BLOCKS 128
#define PD_CLOCK_RECENT 16
#define PD_CLOCK_RELOCK_NS (50 * PD_NS_PER_MS)

enum {                              /* what an observation did */
    PD_CLOCK_NONE = 0,
    PD_CLOCK_LOCKED = 1,            /* from now on the clock tells the time */
    PD_CLOCK_RELOCKED = 2,          /* the time was stepped: DISCONTINUITY */
    PD_CLOCK_FOLLOWED = 3,          /* a change of rate or delay was found and is being followed */
};

struct pd_clock;                    /* defined below; fields are private */

/* rate_hz: the nominal rate. prior_ppm: how far the true rate may well be from
 * it (0: the default, 100 ppm). transport_ns: known constant delay, subtracted. */
void pd_clock_init(struct pd_clock *clock, double rate_hz, double prior_ppm, int64_t transport_ns);

/* Forgets the offset, keeps what was learnt about the rate: the device came
 * back. Indices go on growing. */
void pd_clock_restart(struct pd_clock *clock);

/* Sample `index` (growing, with holes where samples were lost) was read at
 * arrival_ns together with `behind` newer ones. */
int pd_clock_observe(struct pd_clock *clock, uint64_t index, int64_t arrival_ns, uint32_t behind);

/* Before the lock these must not be asked. Index and time may be fractional,
 * before or after what was observed. */
int pd_clock_is_locked(const struct pd_clock *clock);
double pd_clock_time_ns(const struct pd_clock *clock, double index, int64_t base_ns);
    /* t(index) − base_ns, so that no digits are lost in a double */
double pd_clock_index(const struct pd_clock *clock, int64_t t_ns, uint64_t base_index);
    /* index at t_ns, minus base_index */

struct pd_clock_report {
    double rate_hz;                 /* of the line that is read out */
    double rate_sd_ppm;
    double offset_sd_ns;            /* random error of the time at the newest sample */
    double uncertainty_ns;          /* that, and what clumps leave open */
    double jitter_ns;               /* typical spread of the block minima about the line */
    double clump;                   /* typical number of samples a delivery, 1: none */
    uint64_t blocks, steps, follows;    /* blocks in use; times it relocked; changes followed */
    int32_t locked;
};
void pd_clock_get_report(const struct pd_clock *clock, struct pd_clock_report *report);

/* -- private from here ------------------------------------------------------ */
struct pd_clock_block {
    double index;                   /* of its earliest arrival, from origin_index */
    double y_ns;                    /* arrival − transport − origin_ns − index·period */
    double weight;                  /* samples behind it */
};

struct pd_clock {
    double period_ns, prior_ppm;
    int64_t transport_ns;
    /* pd_clock.c lays out the rest of its state here */
    double reserved[16];
};

#endif
