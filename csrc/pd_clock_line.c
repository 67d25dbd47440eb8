#include "pd_clock_line.h"

#include <math.h>
#include <string.h>

#define MIN_SLOPE (-0.75)           /* four times the nominal rate, and a quarter: keeps */
#define MAX_SLOPE 3.0               /* the read-out rising whatever comes in */
#define BENT_LATE_SD 8.0            /* the minima's own tail is long on this side */
#define BENT_EARLY_SD 4.5
#define LATE_WEIGHT 0.03
#define LOWER_ROUNDS 12
#define LINE_BIAS 0.25

/* -- history ----------------------------------------------------------------- */

void pd_clock_merge(struct pd_clock_point *into, const struct pd_clock_point *point,
                       double slope_ns)
{
    double samples = into->samples + point->samples;
    if (point->y_ns - into->y_ns < slope_ns * (point->x - into->x)) *into = *point;
    into->samples = samples;
}

static void halve_history(struct pd_clock *clock)
{
    double slope_ns = clock->slope * clock->period_ns;
    for (int i = 0; i < PD_CLOCK_BLOCKS / 2; i++) {
        clock->block[i] = clock->block[2 * i];
        pd_clock_merge(&clock->block[i], &clock->block[2 * i + 1], slope_ns);
    }
    clock->block_count = PD_CLOCK_BLOCKS / 2;
    clock->level++;
    clock->newest_parts = 1 << clock->level;
}

static void keep_newest(struct pd_clock *clock, int count)
{
    memmove(clock->block, clock->block + clock->block_count - count,
            (size_t)count * sizeof clock->block[0]);
    clock->block_count = count;
}

void pd_clock_admit(struct pd_clock *clock, const struct pd_clock_point *point)
{
    if (clock->block_count > 0 && clock->newest_parts < 1 << clock->level) {
        pd_clock_merge(&clock->block[clock->block_count - 1], point,
                       clock->slope * clock->period_ns);
        clock->newest_parts++;
        return;
    }
    if (clock->block_count == PD_CLOCK_BLOCKS) {
        if (clock->level < PD_CLOCK_MAX_LEVEL) halve_history(clock);
        else keep_newest(clock, PD_CLOCK_BLOCKS - 1);
    }
    clock->block[clock->block_count++] = *point;
    clock->newest_parts = 1;
}

/* -- estimate ---------------------------------------------------------------- */

struct pd_clock_sums pd_clock_sum(const struct pd_clock_point *point, const double *weight,
                                  int count, double x_ref, double y_ref, double period_ns)
{
    struct pd_clock_sums sum = { 0 };
    for (int i = 0; i < count; i++) {
        sum.weight += weight[i];
        sum.u += weight[i] * (point[i].x - x_ref) * period_ns;
        sum.y += weight[i] * (point[i].y_ns - y_ref);
    }
    sum.u /= sum.weight;
    sum.y /= sum.weight;
    for (int i = 0; i < count; i++) {
        double u = (point[i].x - x_ref) * period_ns - sum.u;
        double y = point[i].y_ns - y_ref - sum.y;
        sum.uu += weight[i] * u * u;
        sum.uy += weight[i] * u * y;
        sum.yy += weight[i] * y * y;
    }
    return sum;
}

/* Half-empty blocks (after gaps, and the newest) count for their share. */
static void weigh_blocks(const struct pd_clock *clock, double *weight)
{
    double full = BLOCK_NS / clock->period_ns * (double)(1 << clock->level);
    for (int i = 0; i < clock->block_count; i++)
        weight[i] = fmin(1.0, clock->block[i].samples / full);
}

/* How far the line lies above the least possible delay. With exponential delays
 * the minima lie above it by just the mean distance of two of them (they are
 * exponential too), and the line by a quarter of that; for densities that rise
 * from 0 it is some more. */
static double bias_ns(const struct pd_clock *clock)
{
    double total = 0.0;
    for (int i = 1; i < clock->block_count; i++)
        total += fabs(clock->block[i].y_ns - pd_clock_line_at(clock, clock->block[i].x) -
                      clock->block[i - 1].y_ns + pd_clock_line_at(clock, clock->block[i - 1].x));
    return LINE_BIAS * total / (clock->block_count + 3);
}

static double late_ns(const struct pd_clock *clock, int i)
{
    return clock->block[i].y_ns - pd_clock_line_at(clock, clock->block[i].x);
}

static void set_line(struct pd_clock *clock, const struct pd_clock_sums *sum, double ridge,
                     double x_ref, double y_ref)
{
    double slope = clock->slope;
    if (sum->uu + ridge > 0.0) slope = (sum->uy + ridge * clock->prior_slope) / (sum->uu + ridge);
    clock->slope = fmax(MIN_SLOPE, fmin(MAX_SLOPE, slope));
    clock->line_x = x_ref;
    clock->line_y_ns = y_ref + sum->y - clock->slope * sum->u;
}

/* From the line through the middle of the minima to the one along their lower
 * edge: late minima count LATE_WEIGHT, again and again until the same ones are
 * late (an expectile; Newey and Powell 1987). A host that is busy for seconds
 * makes all of a block late, and says nothing about the crystal. */
static void lower_line(struct pd_clock *clock, const double *weight, double ridge, double x_ref,
                       double y_ref)
{
    int count = clock->block_count, same = 0;
    double lower[PD_CLOCK_BLOCKS] = { 0 };
    struct pd_clock_sums sum = { 0 };
    for (int round = 0; round < LOWER_ROUNDS && !same; round++) {
        same = round > 0;
        for (int i = 0; i < count; i++) {
            double w = weight[i] * (late_ns(clock, i) > 0.0 ? LATE_WEIGHT : 1.0);
            same = same && w == lower[i];
            lower[i] = w;
        }
        if (same) break;
        sum = pd_clock_sum(clock->block, lower, count, x_ref, y_ref, clock->period_ns);
        set_line(clock, &sum, ridge * sum.weight / count, x_ref, y_ref);
    }
}

/* Weighted least squares over the blocks, with the prior of the slope as a
 * ridge, tells their spread; then the line is lowered. Its reference becomes x_ref. */
void pd_clock_fit(struct pd_clock *clock, double x_ref)
{
    double weight[PD_CLOCK_BLOCKS];
    int count = clock->block_count;
    weigh_blocks(clock, weight);
    double y_ref = clock->block[count - 1].y_ns;
    struct pd_clock_sums sum = pd_clock_sum(clock->block, weight, count, x_ref, y_ref,
                                            clock->period_ns);

    double misfit = sum.uu > 0.0 ? fmax(0.0, sum.yy - pd_clock_square(sum.uy) / sum.uu) : 0.0;
    /* Minima over twice the samples have half the variance, or a quarter. */
    double usual_var = clock->usual_var / (double)(1 << clock->level);
    double variance = (SPREAD_PRIOR * usual_var + misfit) /
                      (SPREAD_PRIOR + fmax(0.0, sum.weight - 2.0));
    if (count >= TREND_BLOCKS - 1 && isfinite(clock->prior_sd)) {
        double apart = fabs(sum.uy / sum.uu - clock->prior_slope);
        if (apart > CONTRADICTION_SD * sqrt(variance / sum.uu + pd_clock_square(clock->prior_sd)))
            clock->prior_sd = INFINITY;
    }
    double ridge = variance / pd_clock_square(clock->prior_sd);
    set_line(clock, &sum, ridge, x_ref, y_ref);
    if (sum.uu + ridge > 0.0) clock->slope_sd = sqrt(variance / (sum.uu + ridge));
    clock->spread_ns = sqrt(variance);
    clock->offset_sd_ns = sqrt(variance / sum.weight + pd_clock_square(clock->slope_sd * sum.u));
    if (count >= 2) lower_line(clock, weight, ridge, x_ref, y_ref);
    clock->line_y_ns -= bias_ns(clock);     /* which is of the residuals about that line */
}

/* A crystal that wanders bends the history away from any line. Where the newest
 * 4, 8, 16 … blocks lie off the line by more than chance, what is older than
 * twice those is forgotten. The noise is taken from the differences of
 * neighbours, which a trend does not enlarge. Returns whether it cut. */
int pd_clock_forget_bent(struct pd_clock *clock, int least_taken)
{
    int count = clock->block_count;
    if (count < 4 * least_taken) return 0;
    double residual[PD_CLOCK_BLOCKS], rough = 0.0, mean = 0.0, newest = 0.0;
    double clip = 36.0 * pd_clock_square(clock->spread_ns);
    for (int i = 0; i < count; i++) {
        residual[i] = late_ns(clock, i);
        mean += residual[i] / count;
        if (i > 0) rough += fmin(pd_clock_square(residual[i] - residual[i - 1]), clip);
    }
    double sd = fmax(sqrt(rough / (2.0 * (count - 1))), SPREAD_FLOOR_NS);
    for (int taken = 1; 2 * taken < count; taken++) {
        newest += residual[count - taken] - mean;
        if (taken < least_taken || (taken & (taken - 1)) != 0) continue;
        double excess_sd = newest / (sd * sqrt((double)taken));
        if (excess_sd > -BENT_EARLY_SD && excess_sd < BENT_LATE_SD) continue;
        if (fabs(newest) < BENT_NS * taken) continue;
        keep_newest(clock, 2 * taken);
        clock->prior_sd = INFINITY;
        return 1;
    }
    return 0;
}
