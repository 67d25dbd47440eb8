/* The line through the least residuals of a clock's blocks, and the history that it is of: what
 * the files of pd_clock share, and nobody else needs. Owner and rules as in pd_clock.h. */
#ifndef PD_CLOCK_LINE_H
#define PD_CLOCK_LINE_H

#include "pd_clock.h"

/* Times are doubles in ns from origin_ns; residuals are small whatever the age. */
#define BLOCK_NS 2.5e8
#define TREND_BLOCKS 5              /* out of line before their slope is believed */
#define CONTRADICTION_SD 4.0
#define BENT_NS 6e4                 /* less is the host's doing: its floor moves with its load */
#define SPREAD_PRIOR 4.0            /* degrees of freedom that the usual spread counts for */
#define SPREAD_FLOOR_NS 500.0

struct pd_clock_sums {
    double weight, u, y, uu, uy, yy;    /* u: ns from x_ref; y: ns from y_ref; uu.. centred */
};

static inline double pd_clock_square(double value)
{
    return value * value;
}

/* Where the estimate lies at x. */
static inline double pd_clock_line_at(const struct pd_clock *clock, double x)
{
    return clock->line_y_ns + clock->slope * (x - clock->line_x) * clock->period_ns;
}

struct pd_clock_sums pd_clock_sum(const struct pd_clock_point *point, const double *weight,
                                  int count, double x_ref, double y_ref, double period_ns);

/* The lesser residual of two, by a line of that slope; the samples behind both. */
void pd_clock_merge(struct pd_clock_point *into, const struct pd_clock_point *point,
                    double slope_ns);

/* A quarter-second block becomes the newest of the history, or part of it. */
void pd_clock_admit(struct pd_clock *clock, const struct pd_clock_point *point);

/* The line of the history; its reference becomes x_ref. */
void pd_clock_fit(struct pd_clock *clock, double x_ref);

/* Whether it cut a history that a line does not fit, by what lies off in its newest blocks, at
 * least so many. */
int pd_clock_forget_bent(struct pd_clock *clock, int least_taken);

#endif
