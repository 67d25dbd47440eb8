/* What pd_pll works out once: which frequencies, where everything lies, tables. */
#include "pd_pll.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_noise.h"
#include "pd_pll_places.h"
#include "pd_pll_run.h"

#define PI 3.141592653589793
#define MOST_MAINS 2
#define MARGIN 0.25                 /* bins of 1/window, searched beyond the span */
#define LOWEST 0.5                  /* bins: nothing is told from a slope below */
#define GAP 0.75                    /* bins from the range to the first bin beside */
#define MOST_BESIDE 6               /* on either side */
#define MOST_HALF_BESIDE 3
#define LEAST_BESIDE 4              /* in all */
#define CLEAR_OF_MAINS 1.5          /* bins */
#define MAINS_MAY_SWAY 4.0          /* bins from mains, for their amplitude to change linearly */
#define CUBIC 4.0                   /* turns a window, for a square and a cube */
#define LEAST_HALF 1.5              /* turns of half the frequency */
#define GRID 8.0                    /* a bin */
#define INTERPOLATED 1e-5           /* of the amplitude, between nodes */

/* -- configuration ----------------------------------------------------------------- */

struct range {
    double low, high;               /* turns a window */
};

struct design {
    struct pd_pll_config config;    /* defaults put in */
    struct range range, half;
    uint32_t samples;
    double hertz_a_bin;
};

static int between(double x, double low, double high)
{
    return x >= low && x <= high;
}

static int read_config(const struct pd_pll_config *config, struct design *design)
{
    struct pd_pll_config c = *config;
    if (c.span_hz == 0) c.span_hz = 1;
    if (c.window_s == 0) c.window_s = 1;
    if (c.false_alarm == 0) c.false_alarm = 0.008;
    if (!between(c.rate_hz, 1e-3, 1e9) || !between(c.window_s, 1e-9, 1e9)) return 0;
    if (!between(c.window_s * c.rate_hz, 32, PD_PLL_MAX_SAMPLES)) return 0;
    if (!between(c.ref_hz, 1e-6, 0.4 * c.rate_hz) || !between(c.span_hz, 1e-6, 1e9)) return 0;
    if (!between(c.false_alarm, 1e-6, 0.1)) return 0;
    if (!between(c.mains_hz[0], 0, 1e9) || !between(c.mains_hz[1], 0, 1e9)) return 0;
    if (c.n_channels < 1 || c.n_channels > PD_PLL_MAX_CHANNELS) return 0;
    design->samples = (uint32_t)(c.window_s * c.rate_hz + 0.5);
    design->hertz_a_bin = c.rate_hz / design->samples;
    double ref = c.ref_hz / design->hertz_a_bin, span = c.span_hz / design->hertz_a_bin;
    if (ref < 0.75 || span > 4) return 0;
    design->range.low = fmax(ref - span - MARGIN, LOWEST);
    design->range.high = fmin(ref + span + MARGIN, design->samples / 2.0 - LOWEST);
    design->half.low = design->range.low / 2;
    design->half.high = design->range.high / 2;
    design->config = c;
    return design->range.high - design->range.low >= 0.25;
}

static double clear_of(const struct range *range, double bins)
{
    return fmax(range->low - bins, bins - range->high);
}

/* Nodes that interpolate all frequencies of the range: Chebyshev's coefficients of exp(i w t)
 * are Bessel functions, which fall faster than (x / 2)^n / n!. */
static uint32_t nodes_for(const struct range *range)
{
    double x = PI * (range->high - range->low) / 2, term = 1;
    for (uint32_t n = 1; n <= PD_PLL_MAX_NODES; n++) {
        term *= x / 2 / n;
        if (n >= 4 && n > x && term < INTERPOLATED) return n;
    }
    return 0;
}

/* Chebyshev's points, in turns a window. */
static double node(const struct range *range, uint32_t k, uint32_t n)
{
    double x = pd_noise_cos((2.0 * k + 1.0) / (4.0 * n));
    return 0.5 * (range->low + range->high) + 0.5 * (range->high - range->low) * x;
}

static uint32_t list_beside(const struct range *range, uint32_t most, double lowest,
                            double highest, double *bins)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < most && range->low - GAP - i >= lowest; i++) {
        bins[n++] = range->low - GAP - i;
    }
    for (uint32_t i = 0; i < most && range->high + GAP + i <= highest; i++) {
        bins[n++] = range->high + GAP + i;
    }
    return n;
}

/* All frequencies in the order of the sums, in turns a window; 0 when there are too few or too many. */
static int choose(struct pd_pll *pll, const struct design *design, double *bins)
{
    const struct range *range = &design->range, *half = &design->half;
    double nyquist = design->samples / 2.0, mains[MOST_MAINS] = {0};
    pll->n_poly = range->low >= CUBIC ? 4 : 2;
    uint32_t n = 0;
    int half_is_clear = half->low >= LEAST_HALF;
    for (int i = 0; i < MOST_MAINS; i++) {
        double at_bins = design->config.mains_hz[i] / design->hertz_a_bin;
        if (at_bins == 0 || (i && n && fabs(at_bins - mains[0]) < 1)) continue;
        if (at_bins < 1 || at_bins > nyquist - 1) continue;
        if (clear_of(range, at_bins) < CLEAR_OF_MAINS) continue;
        if (clear_of(range, at_bins) >= MAINS_MAY_SWAY) pll->slope[pll->n_slopes++] = n;
        half_is_clear &= clear_of(half, at_bins) >= CLEAR_OF_MAINS;
        mains[n] = at_bins;
        bins[n++] = at_bins;
    }
    pll->n_mains = n;
    pll->n_nuisance = pll->n_poly + 2 * pll->n_mains + 2 * pll->n_slopes;
    pll->n_nodes = nodes_for(range);
    for (uint32_t k = 0; k < pll->n_nodes; k++) bins[n++] = node(range, k, pll->n_nodes);
    double lowest = pll->n_poly > 2 ? 2 : 1.5;
    pll->n_beside = list_beside(range, MOST_BESIDE, lowest, nyquist - 1, bins + n);
    n += pll->n_beside;
    if (half_is_clear) {
        pll->n_half = nodes_for(half);
        for (uint32_t k = 0; k < pll->n_half; k++) bins[n++] = node(half, k, pll->n_half);
        pll->n_half_beside = list_beside(half, MOST_HALF_BESIDE, 0.75, nyquist - 1, bins + n);
        n += pll->n_half_beside;
    }
    pll->n_frequencies = n;
    pll->n_sums = pll->n_nuisance + 2 * (n - pll->n_mains);
    return pll->n_nodes > 0 && pll->n_beside >= LEAST_BESIDE && pll->n_sums <= PD_PLL_MAX_ROWS;
}

/* -- thresholds ---------------------------------------------------------------------- */

/* Chance that power over noise exceeds 2 x, noise known from n bins: F of 2 and 2 n degrees. */
static double beyond(double x, uint32_t n)
{
    return pd_noise_exp(-(double)n * pd_noise_log(1 + x / n));
}

/* That it does so somewhere within `bins` bins: once at the start, and by the rate (Rice 1944) at
 * which the envelope of a window's noise crosses upwards, 2 pi / sqrt 12 · sqrt(x / pi) a bin. */
static double threshold(double false_alarm, double bins, uint32_t n)
{
    double low = 0.25, high = 1e6;
    for (int i = 0; i < 60; i++) {
        double x = 0.5 * (low + high);
        double chance = (1 + 1.8138 * bins * sqrt(x / PI)) * beyond(x, n);
        if (chance > false_alarm) low = x;
        else high = x;
    }
    return high;
}

/* -- places -------------------------------------------------------------------------- */

static size_t take(size_t *next, size_t doubles)
{
    size_t place = *next;
    *next += (doubles + 7) / 8 * 8;
    return place;
}

static int lay_out(struct pd_pll *pll, const struct design *design, double *bins)
{
    memset(pll, 0, sizeof *pll);
    pll->rate_hz = design->config.rate_hz;
    pll->ref_hz = design->config.ref_hz;
    pll->step = (uint64_t)ldexp(pll->ref_hz / pll->rate_hz, 64);
    pll->n_channels = design->config.n_channels;
    pll->n_groups = (pll->n_channels + PD_PLL_LANES - 1) / PD_PLL_LANES;
    pll->samples = design->samples;
    pll->low_hz = design->range.low * design->hertz_a_bin;
    pll->high_hz = design->range.high * design->hertz_a_bin;
    if (!choose(pll, design, bins)) return 0;
    double width = design->range.high - design->range.low;
    pll->threshold = threshold(design->config.false_alarm, width, pll->n_beside);
    if (pll->n_half) pll->half_threshold = threshold(design->config.false_alarm, 0,
                                                     pll->n_half_beside);
    pll->n_grid = (uint32_t)ceil(width * GRID) + 1;
    double degrees = 2 + ceil(width / 2), turns = design->range.low;
    double most = turns < 2 ? 2 : turns < CUBIC ? 3 : PD_PLL_MOST_DEGREE;
    pll->n_degree = (uint32_t)fmin(degrees, most);
    pll->hop = (uint32_t)fmin(fmax(sqrt(pll->samples), 4), 64);
    pll->n_blocks = pll->samples / pll->hop + 1;
    pll->n_rows = (pll->n_blocks + 2) * pll->hop;

    size_t next = (sizeof *pll + 63) / 64 * 8, angles = 2 * (size_t)pll->n_frequencies;
    pll->half_steps = take(&next, pll->n_frequencies);
    pll->hertz = take(&next, pll->n_frequencies);
    pll->weights = take(&next, pll->n_nodes + pll->n_half);
    pll->rows = take(&next, (size_t)pll->hop * pll->n_sums);
    pll->middles = take(&next, (pll->samples / pll->hop + 1) * angles);
    pll->ends = take(&next, pll->hop * angles);
    pll->grid = take(&next, (size_t)pll->n_grid * pll->n_nodes);
    pll->envelope = take(&next, (size_t)pll->n_degree * pll->n_nodes);
    pll->gram = take(&next, (size_t)pll->n_sums * pll->n_sums);
    pll->whole = take(&next, pd_pll_fit_doubles(pll));
    pll->own = next;                /* what comes before never changes */
    pll->part = take(&next, pd_pll_fit_doubles(pll));
    pll->work = take(&next, 3 * (size_t)pll->n_sums * PD_PLL_LANES + angles);
    pll->starts = take(&next, (pll->n_blocks + 2) * angles);
    pll->groups = next;
    pll->group = PD_PLL_HEAD + (size_t)pll->n_rows * PD_PLL_LANES
                 + (1 + (size_t)pll->n_blocks) * pll->n_sums * PD_PLL_LANES
                 + (pll->n_rows + 63) / 64 * 8;
    next += pll->n_groups * pll->group;
    pll->bytes = next * sizeof(double);
    return 1;
}

size_t pd_pll_bytes(const struct pd_pll_config *config)
{
    struct design design;
    struct pd_pll sizes;
    double bins[PD_PLL_MAX_ROWS];
    if (!read_config(config, &design) || !lay_out(&sizes, &design, bins)) return 0;
    return sizes.bytes;
}

/* -- tables -------------------------------------------------------------------------- */

static void tabulate_angles(const struct pd_pll *pll, double *angles, uint64_t half_samples)
{
    for (uint32_t f = 0; f < pll->n_frequencies; f++) {
        pd_noise_sincos(half_samples * half_steps(pll)[f], &angles[2 * f + 1], &angles[2 * f]);
    }
}

static void tabulate_rows(const struct pd_pll *pll)
{
    double angles[2 * PD_PLL_MAX_ROWS];
    for (uint32_t m = 0; m < pll->hop; m++) {
        double *row = at(pll, pll->rows) + (size_t)m * pll->n_sums;
        double v = (2.0 * m - (pll->hop - 1.0)) / pll->samples;
        tabulate_angles(pll, angles, 2ull * m);
        row[0] = 1;
        for (uint32_t r = 1; r < pll->n_poly; r++) row[r] = v * row[r - 1];
        for (uint32_t f = 0; f < pll->n_frequencies; f++) {
            memcpy(row + row_of(pll, f), angles + 2 * f, 2 * sizeof *row);
        }
        for (uint32_t i = 0; i < pll->n_slopes; i++) {
            const double *of = angles + 2 * pll->slope[i];
            double *to = row + pll->n_poly + 2 * pll->n_mains + 2 * i;
            to[0] = v * of[0];
            to[1] = v * of[1];
        }
    }
}

/* Interpolation from the nodes, and its first derivatives by x, at x of -1..1:
 * sums of Chebyshev's polynomials. out [orders][n]. */
static void interpolate_at(double x, uint32_t n, uint32_t orders, double *out)
{
    double t[PD_PLL_MAX_NODES][PD_PLL_MOST_DEGREE];
    for (uint32_t j = 0; j < n; j++) {
        for (uint32_t d = 0; d < orders; d++) {             /* T' by the recurrence's derivative */
            if (j < 2) t[j][d] = d == 0 ? (j ? x : 1) : d == 1 && j ? 1 : 0;
            else t[j][d] = 2 * x * t[j - 1][d] + (d ? 2 * d * t[j - 1][d - 1] : 0) - t[j - 2][d];
        }
    }
    for (uint32_t k = 0; k < n; k++) {
        for (uint32_t d = 0; d < orders; d++) {
            double sum = 0;
            for (uint32_t j = 0; j < n; j++) {
                uint32_t eighths = (2 * k + 1) * j % (4 * n);
                sum += (j ? 2 : 1) * t[j][d] * pd_noise_cos(eighths / (4.0 * n));
            }
            out[(size_t)d * n + k] = sum / n;
        }
    }
}

/* Sums of the samples times Legendre's polynomials of time, cosine and sine of the reference, are
 * derivatives by frequency: those times -t sin and t cos. */
static void tabulate_envelope(const struct pd_pll *pll, const struct range *range)
{
    static const double sign[PD_PLL_MOST_DEGREE] = {1, 1, -1, -1, 1, 1};
    double derivative[PD_PLL_MOST_DEGREE * PD_PLL_MAX_NODES], legendre[2][PD_PLL_MOST_DEGREE + 1];
    double half = 0.5 * (range->high - range->low), a_bin = pll->rate_hz / pll->samples;
    double x = (pll->ref_hz / a_bin - 0.5 * (range->low + range->high)) / half, scale = 1;
    uint32_t n = pll->n_nodes;
    interpolate_at(x, n, pll->n_degree, derivative);
    for (uint32_t d = 0; d < pll->n_degree; d++, scale /= PI * half) {
        for (uint32_t k = 0; k < n; k++) derivative[(size_t)d * n + k] *= sign[d] * scale;
    }
    memset(legendre, 0, sizeof legendre);
    legendre[0][0] = 1;
    double *out = at(pll, pll->envelope);
    for (uint32_t l = 0; l < pll->n_degree; l++) {
        double *here = legendre[l & 1], *next = legendre[~l & 1];
        for (uint32_t k = 0; k < n; k++) {
            out[(size_t)l * n + k] = 0;
            for (uint32_t d = 0; d <= l; d++) {
                out[(size_t)l * n + k] += here[d] * derivative[(size_t)d * n + k];
            }
        }
        for (uint32_t d = 0; d <= l + 1 && d < PD_PLL_MOST_DEGREE; d++) {
            double raised = d ? here[d - 1] : 0;
            next[d] = ((2.0 * l + 1.0) * raised - l * next[d]) / (l + 1.0);
        }
    }
}

static void tabulate_weights(double *weights, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        double sine, cosine;
        pd_noise_sincos(pd_noise_phase((2.0 * k + 1.0) / (4.0 * n)), &sine, &cosine);
        weights[k] = k % 2 ? -sine : sine;
    }
}

int pd_pll_init(struct pd_pll *pll, const struct pd_pll_config *config)
{
    struct design design;
    struct pd_pll header;
    double bins[PD_PLL_MAX_ROWS];
    if (!read_config(config, &design) || !lay_out(&header, &design, bins)) return -EINVAL;
    memset(pll, 0, header.bytes);
    *pll = header;
    for (uint32_t f = 0; f < pll->n_frequencies; f++) {
        half_steps(pll)[f] = (uint64_t)ldexp(bins[f] / pll->samples, 63);
        at(pll, pll->hertz)[f] = bins[f] * design.hertz_a_bin;
    }
    tabulate_weights(at(pll, pll->weights), pll->n_nodes);
    tabulate_weights(at(pll, pll->weights) + pll->n_nodes, pll->n_half);
    tabulate_rows(pll);
    size_t angles = 2 * (size_t)pll->n_frequencies;
    uint64_t hop = pll->hop, samples = pll->samples;
    for (uint64_t q = 0; q <= samples / hop; q++) {
        tabulate_angles(pll, at(pll, pll->middles) + q * angles, 2 * hop * q - samples + 1);
    }
    for (uint64_t fill = 0; fill < hop; fill++) {
        tabulate_angles(pll, at(pll, pll->ends) + fill * angles, 2 * fill - samples - 1);
    }
    for (uint32_t g = 0; g < pll->n_grid; g++) {
        interpolate_at(2.0 * g / (pll->n_grid - 1) - 1, pll->n_nodes, 1,
                       at(pll, pll->grid) + (size_t)g * pll->n_nodes);
    }
    tabulate_envelope(pll, &design.range);
    double *gram = at(pll, pll->gram);
    for (uint32_t i = 0; i < pll->samples; i++) pd_pll_count_sample(pll, gram, i, 1);
    struct pd_pll_fit whole = fit_at(pll, pll->whole);
    memcpy(whole.gram, gram, (size_t)pll->n_sums * pll->n_sums * sizeof *gram);
    pd_pll_factorise(pll, &whole);
    pd_pll_reset(pll);
    return 0;
}
