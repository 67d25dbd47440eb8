#include "pd_clock.h"

#include <math.h>
#include <string.h>

#include "pd_clock_line.h"

#define ENOUGH 0.25                 /* of a block's samples: after a gap it goes on until then */
#define LOCK_NS 2e8
#define LOCK_SPAN_NS 1e8            /* of arrivals: one stale backlog is no lock */
#define LOCK_SAMPLES 8.0
#define DEFAULT_PRIOR_PPM 20.0
#define PRIOR_WANDER 1e-6           /* what a learnt rate may have changed by since */

#define SLEW_NS 1.25e8              /* twice this time constant: 90 % after 0.5 s */
#define SLEW_LIMIT 0.05             /* a correction changes the rate by 5 % at most */

#define OUT_OF_LINE_SD 6.0
#define OUT_OF_LINE_NS 2e5
#define EARLY_BLOCKS 2              /* one can be a corrupt index; two are evidence */
#define SHIFT_BLOCKS 12             /* 3 s: late for longer than any stall of the host */
#define DRAIN_NS 2e10               /* a queue that needs longer is a delay */

#define USUAL_BLOCKS 128.0          /* memory of the usual deviation: 32 s */
#define USUAL_CLIP_SD 3.0           /* a trend must not become usual */
#define MORE_VAR 16.0               /* what a change may add at once: it may be a misfit */
#define CLUMPED 1.5

static double to_x(const struct pd_clock *clock, uint64_t index)
{
    return (double)(int64_t)(index - clock->origin_index);
}

/* -- the read-out ------------------------------------------------------------ */

static void refresh_readout(struct pd_clock *clock, double x)
{
    clock->read_x = x;
    clock->read_ns = x * clock->period_ns + pd_clock_line_at(clock, x) + clock->lag_ns;
    clock->read_period_ns = clock->period_ns * (1.0 + clock->slope + clock->lag_rate);
}

/* The lag decays as a critically damped spring, so that the rate has no steps
 * either. Time is counted in samples: the result must not depend on when
 * somebody looks. Backward Euler: stable over any gap, and without exp(), whose
 * last digit differs between machines. */
static void advance_readout(struct pd_clock *clock, double x)
{
    double dt = (x - clock->read_x) * clock->period_ns;
    double rate = (clock->lag_rate - dt * clock->lag_ns / pd_clock_square(SLEW_NS)) /
                  pd_clock_square(1.0 + dt / SLEW_NS);
    clock->lag_rate = fmax(-SLEW_LIMIT, fmin(SLEW_LIMIT, rate));
    clock->lag_ns += clock->lag_rate * dt;
    refresh_readout(clock, x);
}

/* The estimate has moved: the read-out stays where it is and lags behind, or
 * steps when that would take too long. Returns whether it stepped. */
static int follow_line(struct pd_clock *clock, double old_y_ns, double old_slope, double x)
{
    clock->lag_ns += old_y_ns - pd_clock_line_at(clock, x);
    clock->lag_rate += old_slope - clock->slope;
    int stepped = fabs(clock->lag_ns) > (double)PD_CLOCK_RELOCK_NS;
    if (stepped) {
        clock->lag_ns = clock->lag_rate = 0.0;
        clock->steps++;
    }
    refresh_readout(clock, x);
    return stepped;
}

/* -- changes ----------------------------------------------------------------- */

/* History begins anew with the last `count` quarter-second blocks. The rate so
 * far is the prior, but no firmer than at first: what made the change (clumps
 * that beat with the crystal, say) may have bent the rate for long. */
static void start_anew(struct pd_clock *clock, int count)
{
    clock->prior_slope = clock->slope;
    clock->prior_sd = fmax(clock->nominal_sd, clock->slope_sd);
    clock->level = 0;
    clock->newest_parts = 1;
    clock->block_count = count;
    memcpy(clock->block, clock->recent + clock->recent_count - count,
           (size_t)count * sizeof clock->block[0]);
    clock->usual_ns = 0.0;
    clock->usual_count = SPREAD_PRIOR;
    clock->follows++;
}

/* What a block may lie off its usual place by chance. */
static double out_of_line_ns(const struct pd_clock *clock)
{
    return fmax(OUT_OF_LINE_SD * sqrt(clock->usual_var), OUT_OF_LINE_NS) +
           3.0 * clock->offset_sd_ns;
}

/* Late blocks: a stall of the host (over soon), a rate that has fallen (they
 * lie on a line that leaves the old one where they begin), a delay that has
 * grown (they stay), or a queue that drains (they come back by themselves
 * within seconds, and are waited for). Returns how many blocks to start anew from, or 0. */
static int judge_late_run(struct pd_clock *clock)
{
    if (clock->run < TREND_BLOCKS) return 0;
    /* The block in which the change happened may be partly on the old line. */
    int count = clock->run <= PD_CLOCK_RECENT ? clock->run - 1 : PD_CLOCK_RECENT;
    const struct pd_clock_point *point = clock->recent + clock->recent_count - count;
    double weight[PD_CLOCK_RECENT];
    for (int i = 0; i < count; i++) weight[i] = 1.0;
    struct pd_clock_sums sum = pd_clock_sum(point, weight, count, point[0].x,
                                            pd_clock_line_at(clock, point[0].x),
                                            clock->period_ns);
    double slope = sum.uy / sum.uu;
    double misfit = fmax(0.0, sum.yy - slope * sum.uy) / (count - 2);
    double change = slope - clock->slope;
    double change_limit = CONTRADICTION_SD * sqrt(fmax(misfit, clock->usual_var) / sum.uu +
                                                  pd_clock_square(clock->slope_sd));
    double start_ns = sum.y - slope * sum.u - clock->usual_ns;
    int drains = change < -change_limit && start_ns < -change * DRAIN_NS;
    if (drains) return 0;

    double grown_ns = change * 3.0 * BLOCK_NS;      /* since the change, at the most */
    int leaves_line = change > change_limit && start_ns < out_of_line_ns(clock) + grown_ns;
    if (!leaves_line && clock->run < SHIFT_BLOCKS) return 0;
    clock->usual_var = fmax(clock->usual_var, fmin(misfit, MORE_VAR * clock->usual_var));
    clock->run = 0;
    return count;
}

/* Early blocks: no delay can do that, so the line was too late, and is moved at
 * once. A rate that has risen goes on being early, and is told by the blocks
 * since then; the first, in which the change happened, is left out. Returns how
 * many blocks to start anew from, or 0. */
static int judge_early_run(const struct pd_clock *clock)
{
    int early = -clock->run;
    if (early < EARLY_BLOCKS) return 0;
    if (early < TREND_BLOCKS) return 1;
    return early <= PD_CLOCK_RECENT ? early - 1 : PD_CLOCK_RECENT;
}

static void learn_usual(struct pd_clock *clock, double deviation_ns)
{
    double keep = 1.0 / fmin(USUAL_BLOCKS, clock->usual_count + 1.0);
    double clip = USUAL_CLIP_SD * sqrt(clock->usual_var);
    double apart = fmax(-clip, fmin(clip, deviation_ns - clock->usual_ns));
    clock->usual_count += 1.0;
    clock->usual_ns += keep * apart;
    clock->usual_var += keep * ((1.0 - keep) * apart * apart - clock->usual_var);
    clock->usual_var = fmax(clock->usual_var, pd_clock_square(SPREAD_FLOOR_NS));
}

static void remember(struct pd_clock *clock, const struct pd_clock_point *point)
{
    if (clock->recent_count == PD_CLOCK_RECENT) {
        memmove(clock->recent, clock->recent + 1,
                (PD_CLOCK_RECENT - 1) * sizeof clock->recent[0]);
        clock->recent_count--;
    }
    clock->recent[clock->recent_count++] = *point;
}

/* A quarter second is complete: is it in line, and what follows from it? */
static int end_block(struct pd_clock *clock, double x)
{
    struct pd_clock_point point = clock->least;
    double old_y_ns = pd_clock_line_at(clock, x), old_slope = clock->slope;
    double deviation_ns = point.y_ns - pd_clock_line_at(clock, point.x);
    double apart_ns = deviation_ns - clock->usual_ns;
    int event = PD_CLOCK_NONE, from = 0;

    remember(clock, &point);
    if (fabs(apart_ns) <= out_of_line_ns(clock)) {
        clock->run = 0;
        pd_clock_admit(clock, &point);
        learn_usual(clock, deviation_ns);
    } else if (apart_ns > 0.0) {
        clock->run = clock->run > 0 ? clock->run + 1 : 1;
        from = judge_late_run(clock);
    } else {
        clock->run = clock->run < 0 ? clock->run - 1 : -1;
        from = judge_early_run(clock);
    }
    if (from > 0) {
        start_anew(clock, from);
        pd_clock_fit(clock, x);
        event = PD_CLOCK_FOLLOWED;
    } else if (clock->run == 0) {
        pd_clock_fit(clock, x);
        int cut = clock->newest_parts == 1 << clock->level && pd_clock_forget_bent(clock, 4);
        while (cut) {
            pd_clock_fit(clock, x);
            cut = pd_clock_forget_bent(clock, 2);
        }
    }
    if (follow_line(clock, old_y_ns, old_slope, x)) event = PD_CLOCK_RELOCKED;
    return event;
}

/* The rate has stepped: history begins anew with the newest `count` points of the ramp. What the
 * block that is being filled has seen of the old rate is forgotten. */
static int follow_ramp(struct pd_clock *clock, int count, int is_new, double x)
{
    const struct pd_clock_ramp *ramp = &clock->ramp;
    double old_y_ns = pd_clock_line_at(clock, x), old_slope = clock->slope;
    if (is_new) clock->prior_slope = clock->slope;
    clock->prior_sd = INFINITY;
    clock->level = 0;
    clock->newest_parts = 1;
    clock->block_count = count;
    memcpy(clock->block, ramp->point + ramp->count - count, (size_t)count * sizeof clock->block[0]);
    clock->usual_ns = 0.0;
    clock->usual_count = SPREAD_PRIOR;
    clock->run = clock->recent_count = 0;
    clock->follows += (uint64_t)is_new;
    pd_clock_fit(clock, x);
    clock->least.y_ns = INFINITY;
    if (follow_line(clock, old_y_ns, old_slope, x)) return PD_CLOCK_RELOCKED;
    return is_new ? PD_CLOCK_FOLLOWED : PD_CLOCK_NONE;
}

/* Clumps beat with the crystal: their minima may rise as a ramp does. */
static int look_for_ramp(struct pd_clock *clock, const struct pd_clock_point *point)
{
    const struct pd_ramp_line line = { clock->line_x, clock->line_y_ns, clock->slope,
                                       clock->slope_sd, clock->period_ns };
    if (clock->clump > CLUMPED) {
        clock->ramp.count = clock->ramp.following = 0;
        return 0;
    }
    return pd_ramp_take(&clock->ramp, &line, point);
}

/* -- observations ------------------------------------------------------------ */

/* Samples that came out of one read have stamps equal or microseconds apart.
 * The typical number is the median over deliveries, tracked by small steps: a
 * backlog after a stall is one delivery like any other. Returns whether this
 * sample begins a new one. */
static int count_delivery(struct pd_clock *clock, double arrival_ns)
{
    double since_ns = arrival_ns - clock->last_arrival_ns;
    clock->last_arrival_ns = arrival_ns;
    clock->in_delivery += 1.0;
    if (since_ns >= 0.0 && since_ns < clock->period_ns / 8.0) return 0;
    double size = clock->in_delivery - 1.0;
    clock->in_delivery = 1.0;
    if (size < 1.0) return 1;
    clock->delivery_count += 1.0;
    if (clock->delivery_count == 1.0) clock->clump = size;
    double step = fmax(0.05, 1.0 / clock->delivery_count) * clock->clump;
    clock->clump += fmax(-step, fmin(step, size - clock->clump));
    return 1;
}

/* The mean counts each delivery once, by its least residual: how long the others
 * waited for it says nothing about the transport. */
static void add_to_block(struct pd_clock *clock, const struct pd_clock_point *point,
                         double arrival_ns)
{
    pd_clock_merge(&clock->least, point, clock->slope * clock->period_ns);
    if (count_delivery(clock, arrival_ns) || clock->deliveries == 0.0) {
        clock->deliveries += 1.0;
        clock->sum_ns += clock->delivery_ns = point->y_ns;
    } else if (point->y_ns < clock->delivery_ns) {
        clock->sum_ns += point->y_ns - clock->delivery_ns;
        clock->delivery_ns = point->y_ns;
    }
}

static void begin_block(struct pd_clock *clock, double x, double arrival_ns)
{
    clock->least = (struct pd_clock_point){ x, INFINITY, 0.0 };
    clock->first_x = x;
    clock->first_arrival_ns = arrival_ns;
    clock->sum_ns = clock->deliveries = 0.0;
}

static void begin_reading(struct pd_clock *clock, double x)
{
    /* A guess from one block. With exponential delays a minimum over n has the
     * sd (mean − least)/n, with a density that starts at 0 it is of the order
     * of that over √n: half of the latter is on the safe side of both. */
    double excess_ns = fmax(0.0, clock->sum_ns / clock->deliveries - clock->least.y_ns);
    clock->usual_var = fmax(pd_clock_square(SPREAD_FLOOR_NS),
                            pd_clock_square(0.5 * excess_ns) / clock->deliveries);
    clock->usual_ns = 0.0;
    clock->usual_count = SPREAD_PRIOR;
    clock->slope = clock->prior_slope;
    clock->slope_sd = clock->prior_sd;
    clock->line_x = clock->least.x;
    clock->line_y_ns = clock->least.y_ns;
    remember(clock, &clock->least);
    pd_clock_admit(clock, &clock->least);
    pd_clock_fit(clock, x);
    clock->lag_ns = clock->lag_rate = 0.0;
    clock->locked = 1;
    refresh_readout(clock, x);
}

int pd_clock_observe(struct pd_clock *clock, uint64_t index, int64_t arrival_ns, uint32_t behind)
{
    if (!clock->started) {
        clock->origin_index = clock->newest_index = index;
        clock->origin_ns = arrival_ns - clock->transport_ns;
        clock->started = 1;
        clock->last_arrival_ns = -INFINITY;
        begin_block(clock, 0.0, 0.0);
    } else if (index <= clock->newest_index) {
        return PD_CLOCK_NONE;
    }
    clock->newest_index = index;
    double x = to_x(clock, index);
    double arrival = (double)(arrival_ns - clock->transport_ns - clock->origin_ns);
    if (isinf(clock->least.y_ns)) begin_block(clock, x, arrival);
    double waited_ns = behind * clock->period_ns * (1.0 + clock->slope);
    struct pd_clock_point point = { x, arrival - waited_ns - x * clock->period_ns, 1.0 };
    add_to_block(clock, &point, arrival);

    double span_ns = (x - clock->first_x + 1.0) * clock->period_ns;
    double samples_ns = clock->least.samples * clock->period_ns;
    int event;
    if (clock->locked) {
        advance_readout(clock, x);
        int followed = clock->ramp.following;
        int ramp = look_for_ramp(clock, &point);
        if (ramp) return follow_ramp(clock, ramp, !followed, x);
        if (span_ns < BLOCK_NS - 1.0 || samples_ns < ENOUGH * BLOCK_NS) return PD_CLOCK_NONE;
        event = end_block(clock, x);
    } else {
        if (span_ns < LOCK_NS - 1.0 || clock->least.samples < LOCK_SAMPLES) return PD_CLOCK_NONE;
        if (arrival - clock->first_arrival_ns < LOCK_SPAN_NS) return PD_CLOCK_NONE;
        begin_reading(clock, x);
        event = PD_CLOCK_LOCKED;
    }
    clock->least.y_ns = INFINITY;
    return event;
}

void pd_clock_init(struct pd_clock *clock, double rate_hz, double prior_ppm, int64_t transport_ns)
{
    memset(clock, 0, sizeof *clock);
    clock->period_ns = 1e9 / rate_hz;
    clock->transport_ns = transport_ns;
    clock->prior_sd = 1e-6 * (prior_ppm > 0.0 ? prior_ppm : DEFAULT_PRIOR_PPM);
    clock->nominal_sd = clock->slope_sd = clock->prior_sd;
    clock->clump = 1.0;
    pd_ramp_reset(&clock->ramp);
}

void pd_clock_restart(struct pd_clock *clock)
{
    if (clock->locked) {
        clock->prior_slope = clock->slope;
        clock->prior_sd = sqrt(pd_clock_square(clock->slope_sd) + pd_clock_square(PRIOR_WANDER));
    }
    clock->locked = 0;
    clock->run = clock->recent_count = clock->block_count = 0;
    clock->level = clock->newest_parts = 0;
    clock->last_arrival_ns = -INFINITY;
    clock->in_delivery = clock->delivery_count = 0.0;
    clock->least.y_ns = INFINITY;
    pd_ramp_reset(&clock->ramp);
}

/* -- reading ----------------------------------------------------------------- */

int pd_clock_is_locked(const struct pd_clock *clock)
{
    return clock->locked;
}

double pd_clock_time_ns(const struct pd_clock *clock, double index, int64_t base_ns)
{
    double x = index - (double)clock->origin_index;
    return (double)(clock->origin_ns - base_ns) + clock->read_ns +
           (x - clock->read_x) * clock->read_period_ns;
}

double pd_clock_index(const struct pd_clock *clock, int64_t t_ns, uint64_t base_index)
{
    double since_ns = (double)(t_ns - clock->origin_ns) - clock->read_ns;
    return clock->read_x - to_x(clock, base_index) + since_ns / clock->read_period_ns;
}

void pd_clock_get_report(const struct pd_clock *clock, struct pd_clock_report *report)
{
    double clump_ns = clock->clump > CLUMPED ? clock->period_ns : 0.0;
    *report = (struct pd_clock_report){
        .rate_hz = 1e9 / (clock->period_ns * (1.0 + clock->slope)),
        .rate_sd_ppm = clock->slope_sd * 1e6,
        .offset_sd_ns = clock->offset_sd_ns,
        .uncertainty_ns = 3.0 * clock->offset_sd_ns + 3.0 * clock->spread_ns + BENT_NS + clump_ns,
        .jitter_ns = clock->spread_ns,
        .clump = clock->clump,
        .blocks = (uint64_t)clock->block_count,
        .steps = clock->steps,
        .follows = clock->follows,
        .locked = clock->locked,
    };
}
