#include "pd_clock_ramp.h"

#include <math.h>
#include <string.h>

#define PIECE_NS 5e7
#define PIECE_SAMPLES 4.0           /* at the least */
#define SHORT_POINTS 5              /* 0.25 s; where noise hides that, up to all of them: 0.5 s */
/* Once it is seen the line is that of the newest points for some time: the first may have been half
 * on the old one, and each that comes tells more. */
#define FOLLOWED_PIECES 8
#define LEARNT_PIECES 20.0          /* before anything is judged */
#define NOISIEST_NS 6e5             /* beyond it nothing is: a ramp would take as long to see as by blocks */
#define USUAL_PIECES 128.0
#define USUAL_CLIP_SD 3.0
#define FLOOR_NS 500.0
#define LEAST_CHANGE 2e-3           /* less is a millisecond in half a second: the clock has time */
#define MOST_CHANGE 3e-2            /* more is a delay that changed, or a queue that drains */
#define CHANGE_SD 10.0              /* by chance, not once in days of jittered arrivals; … */
#define CHANGE_FEW_SD 16.0          /* … and of fewer points than */
#define FEW_POINTS 8
/* No point lies further off the ramp than noise may put it, and never by so much of its rise; what
 * is less than the other part is straight whatever the noise. */
#define STRAIGHT_SD 4.0
#define STRAIGHT_MOST 0.2
#define STRAIGHT_LEAST 0.05
#define START_SD 6.0
#define START_NS 2e5

void pd_ramp_reset(struct pd_clock_ramp *ramp)
{
    memset(ramp, 0, sizeof *ramp);
    ramp->least.y_ns = INFINITY;
}

static double off_line(const struct pd_ramp_line *line, const struct pd_clock_point *point)
{
    return point->y_ns - line->y_ns - line->slope * (point->x - line->x0) * line->period_ns;
}

static void learn_usual(struct pd_clock_ramp *ramp, double off_ns)
{
    double keep = 1.0 / fmin(USUAL_PIECES, ramp->usual_count + 1.0);
    double apart = off_ns - ramp->usual_ns;
    if (ramp->usual_count >= LEARNT_PIECES) {
        double clip = USUAL_CLIP_SD * sqrt(ramp->usual_var);
        apart = fmax(-clip, fmin(clip, apart));
    }
    ramp->usual_count += 1.0;
    ramp->usual_ns += keep * apart;
    ramp->usual_var += keep * ((1.0 - keep) * apart * apart - ramp->usual_var);
    ramp->usual_var = fmax(ramp->usual_var, FLOOR_NS * FLOOR_NS);
}

/* Whether the newest n points lie on a line that leaves the clock's where they begin. */
static int leaves(const struct pd_clock_ramp *ramp, const struct pd_ramp_line *line, int n)
{
    const struct pd_clock_point *point = ramp->point + ramp->count - n;
    double u[PD_RAMP_POINTS], y[PD_RAMP_POINTS], mean_u = 0, mean_y = 0, uu = 0, uy = 0;
    for (int i = 0; i < n; i++) {
        u[i] = (point[i].x - point[0].x) * line->period_ns;
        y[i] = off_line(line, &point[i]) - ramp->usual_ns;
        mean_u += u[i] / n;
        mean_y += y[i] / n;
    }
    for (int i = 0; i < n; i++) {
        uu += (u[i] - mean_u) * (u[i] - mean_u);
        uy += (u[i] - mean_u) * (y[i] - mean_y);
    }
    double change = uy / uu, rise_ns = fabs(change) * u[n - 1];
    double change_sd = sqrt(ramp->usual_var / uu + line->slope_sd * line->slope_sd);
    double least_sd = n < FEW_POINTS ? CHANGE_FEW_SD : CHANGE_SD;
    if (fabs(change) < fmax(LEAST_CHANGE, least_sd * change_sd)) return 0;
    if (fabs(change) > MOST_CHANGE) return 0;
    double noise_ns = fmax(STRAIGHT_SD * sqrt(ramp->usual_var), STRAIGHT_LEAST * rise_ns);
    double off_ns = fmin(noise_ns, STRAIGHT_MOST * rise_ns);
    for (int i = 0; i < n; i++)
        if (fabs(y[i] - mean_y - change * (u[i] - mean_u)) > off_ns) return 0;
    double start_ns = mean_y - change * mean_u;
    /* It may have left the line just before its first point, or just behind it. */
    double about_ns = fmax(START_SD * sqrt(ramp->usual_var), START_NS) + 1.2 * rise_ns / (n - 1);
    return fabs(start_ns) <= about_ns;
}

static void push(struct pd_clock_ramp *ramp)
{
    if (ramp->count == PD_RAMP_POINTS) {
        memmove(ramp->point, ramp->point + 1, (PD_RAMP_POINTS - 1) * sizeof ramp->point[0]);
        ramp->count--;
    }
    ramp->point[ramp->count++] = ramp->least;
    ramp->least.y_ns = INFINITY;
}

int pd_ramp_take(struct pd_clock_ramp *ramp, const struct pd_ramp_line *line,
                 const struct pd_clock_point *point)
{
    const double piece = fmax(PIECE_NS / line->period_ns, PIECE_SAMPLES);
    if (isinf(ramp->least.y_ns)) {
        ramp->first_x = point->x;
        ramp->least = *point;
    } else {
        double samples = ramp->least.samples + point->samples;
        if (off_line(line, point) < off_line(line, &ramp->least)) ramp->least = *point;
        ramp->least.samples = samples;
    }
    if (point->x - ramp->first_x + 1.0 < piece) return 0;
    /* After a gap all begins anew: a ramp is judged whole. */
    if (ramp->least.samples < 0.5 * piece || point->x - ramp->first_x > 2.0 * piece) {
        ramp->count = ramp->following = 0;
        ramp->least.y_ns = INFINITY;
        return 0;
    }
    push(ramp);
    if (ramp->following > 0) {
        int since = FOLLOWED_PIECES - --ramp->following;
        int n = SHORT_POINTS - 1 + since / 2;
        return n < ramp->count ? n : ramp->count;
    }
    if (ramp->usual_count >= LEARNT_PIECES && ramp->usual_var < NOISIEST_NS * NOISIEST_NS) {
        for (int n = SHORT_POINTS; n <= ramp->count; n++) {
            if (!leaves(ramp, line, n)) continue;
            ramp->following = FOLLOWED_PIECES;
            return n - 1;
        }
    }
    learn_usual(ramp, off_line(line, &ramp->point[ramp->count - 1]));
    return 0;
}
