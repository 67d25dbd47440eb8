/* Ramp: whether the newest arrivals leave a clock's line as only a step of the rate makes them.
 *
 * The clock judges quarter seconds, and needs five of them before it believes in another rate. Where
 * arrivals are steady a third of a second says as much: the least residuals of twentieths of a
 * second lie on a line of their own, which leaves the clock's where it begins. A stall or a longer
 * delay is a step, a queue that drains begins off the line, noise does not lie on a line at all.
 *
 * Part of pd_clock: plain state, no pointers; nothing allocates.
 */
#ifndef PD_CLOCK_RAMP_H
#define PD_CLOCK_RAMP_H

#include <stdint.h>

#define PD_RAMP_POINTS 10

struct pd_clock_point {             /* the least residual of some samples */
    double x;                       /* its index, from origin_index */
    double y_ns;                    /* arrival − transport − origin_ns − x·period */
    double samples;                 /* behind it */
};

struct pd_clock_ramp {
    struct pd_clock_point point[PD_RAMP_POINTS];    /* newest last */
    struct pd_clock_point least;    /* of the piece that is being filled; y INFINITY: none yet */
    double first_x;
    double usual_ns, usual_var, usual_count;        /* how pieces lie about the clock's line */
    int32_t count, following;       /* points; pieces for which a ramp is still followed */
};

struct pd_ramp_line {               /* the clock's: y(x) = y_ns + slope·(x − x0)·period_ns */
    double x0, y_ns, slope, slope_sd, period_ns;
};

void pd_ramp_reset(struct pd_clock_ramp *ramp);

/* The next sample's residual. Returns how many of the newest points lie on another line than the
 * clock's, or on the one that was found just before, or 0. */
int pd_ramp_take(struct pd_clock_ramp *ramp, const struct pd_ramp_line *line,
                 const struct pd_clock_point *point);

#endif
