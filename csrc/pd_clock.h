/* Clock: sample index of a device to host time, from arrival times alone.
 *
 * Sample n is taken at t(n) = offset + n / rate; it arrives later, never
 * earlier, by a delay that is different each time. The earliest arrivals carry
 * the information: the least residual of each block of samples is kept, and a
 * robust line through those minima is the estimate. Blocks grow as history
 * does (0.25 s at first, 8 s at last, 17 minutes in all). The nominal rate is a
 * prior that counts as long as little is known, and not against the data.
 *
 * What is read out is a second line that follows the first without steps, so
 * that a resampler's position moves smoothly: a correction is spread over some
 * tenths of a second. Only a correction of more than PD_CLOCK_RELOCK_NS is made
 * at once, and says so.
 *
 * A constant part of the delay can't be seen: it is the bias, and what is known
 * about it (the spread of the minima; clumped arrivals: up to one native period)
 * is in the uncertainty. docs/clock.md says how all this works, with numbers.
 *
 * Owner: the tick thread (or whoever drives the virtual clock). The structure
 * holds no pointers: it may be copied as it is. Nothing allocates; the result
 * depends on the observations alone.
 */
#ifndef PD_CLOCK_H
#define PD_CLOCK_H

#include <stdint.h>

#include "pd_clock_ramp.h"
#include "pd_time.h"

#define PD_CLOCK_BLOCKS 128
#define PD_CLOCK_RECENT 16
#define PD_CLOCK_MAX_LEVEL 5        /* the longest block is 2^5 of 0.25 s */
#define PD_CLOCK_RELOCK_NS (50 * PD_NS_PER_MS)

enum {                              /* what an observation did */
    PD_CLOCK_NONE = 0,
    PD_CLOCK_LOCKED = 1,            /* from now on the clock tells the time */
    PD_CLOCK_RELOCKED = 2,          /* the time was stepped: DISCONTINUITY */
    PD_CLOCK_FOLLOWED = 3,          /* a change of rate or delay was found and is being followed */
};

struct pd_clock;                    /* defined below; fields are private */

/* rate_hz: the nominal rate. prior_ppm: how far the true rate may well be from
 * it (0: the default, 20 ppm; data that say otherwise win). transport_ns: known constant delay, subtracted. */
void pd_clock_init(struct pd_clock *clock, double rate_hz, double prior_ppm, int64_t transport_ns);

/* Forgets the offset, keeps what was learnt about the rate: the device came
 * back. Indices go on growing. Locks anew, and says PD_CLOCK_LOCKED again. */
void pd_clock_restart(struct pd_clock *clock);

/* Sample `index` (growing, with holes where samples were lost) was read at
 * arrival_ns together with `behind` newer ones. An index that does not grow is
 * ignored. Returns what it did (above); costs some 100 ns, block ends included. */
int pd_clock_observe(struct pd_clock *clock, uint64_t index, int64_t arrival_ns, uint32_t behind);

/* Before the lock these must not be asked. Index and time may be fractional,
 * before or after what was observed. */
int pd_clock_is_locked(const struct pd_clock *clock);
double pd_clock_time_ns(const struct pd_clock *clock, double index, int64_t base_ns);
    /* t(index) − base_ns, so that no digits are lost in a double */
double pd_clock_index(const struct pd_clock *clock, int64_t t_ns, uint64_t base_index);
    /* index at t_ns, minus base_index */

struct pd_clock_report {
    double rate_hz;                 /* of the estimate, without what is being slewed */
    double rate_sd_ppm;
    double offset_sd_ns;            /* random error of the time at the newest sample */
    double uncertainty_ns;          /* that (3 sd), the bias that the jitter allows, and
                                       what clumps leave open */
    double jitter_ns;               /* typical spread of the block minima about the line */
    double clump;                   /* typical number of samples a delivery, 1: none */
    uint64_t blocks, steps, follows;    /* blocks in use; times it relocked; changes followed */
    int32_t locked;
};
void pd_clock_get_report(const struct pd_clock *clock, struct pd_clock_report *report);

/* -- private from here ------------------------------------------------------ */
struct pd_clock {
    double period_ns;
    int64_t transport_ns, origin_ns;
    uint64_t origin_index, newest_index;
    uint64_t steps, follows;
    int32_t started, locked;

    /* The estimate: y(x) = line_y + slope·(x − line_x)·period. */
    double line_x, line_y_ns, slope;
    double slope_sd, offset_sd_ns, spread_ns;
    double prior_slope, prior_sd;   /* INFINITY: the data have overruled it */
    double nominal_sd;              /* of the prior at first */

    /* The read-out: the estimate and a lag that decays (ns, and ns a ns). */
    double read_x, read_ns, read_period_ns, lag_ns, lag_rate;

    /* The block that is being filled. */
    struct pd_clock_point least;
    double first_x, first_arrival_ns;
    double deliveries, delivery_ns, sum_ns;

    /* Deliveries: typical number of samples. */
    double clump, last_arrival_ns, in_delivery, delivery_count;

    /* The newest quarter-second blocks, oldest first, and how they usually lie
     * about the estimate. run: how many of the newest are later (> 0) or
     * earlier (< 0) than that. */
    struct pd_clock_point recent[PD_CLOCK_RECENT];
    double usual_ns, usual_var, usual_count;
    int32_t recent_count, run;

    struct pd_clock_ramp ramp;      /* a step of the rate, seen sooner than by those */

    /* History: blocks of 2^level quarter seconds, oldest first. */
    struct pd_clock_point block[PD_CLOCK_BLOCKS];
    int32_t block_count, level, newest_parts;
};

#endif
