/* Plain loops over lanes, and the compilers' vector type where sums over samples have to stay in
 * registers, as in pd_cca_sums.c. Each sum adds its terms oldest first, whatever the lanes. */
#include "pd_artifact_sums.h"

#include <math.h>
#include <string.h>

#include "pd_simd.h"

#define INLINED static inline __attribute__((always_inline))
#define LANES PD_ARTIFACT_LANES
#define EACH_LANE for (uint32_t lane = 0; lane < LANES; lane++)

/* Half of the lanes: GCC keeps two of these in registers, and one of all lanes, for AVX2, not. */
typedef double half __attribute__((vector_size(LANES / 2 * sizeof(double)),
                                   aligned(sizeof(double)), may_alias));

/* -- a block ----------------------------------------------------------------------- */

INLINED void gather_values(const struct pd_artifact_config *config,
                           struct pd_artifact_stats *stats, const pd_artifact_lanes *rows)
{
    double low_uv = config->low_uv, high_uv = config->high_uv;
    EACH_LANE {
        stats->sum[lane] = stats->clipped[lane] = 0;
        stats->low[lane] = HUGE_VAL;
        stats->high[lane] = -HUGE_VAL;
    }
    for (uint32_t row = 0; row < config->hop; row++) {
        EACH_LANE {                     /* NaN is neither larger nor smaller than anything */
            double x = rows[row][lane];
            stats->sum[lane] += x;
            stats->low[lane] = x < stats->low[lane] ? x : stats->low[lane];
            stats->high[lane] = x > stats->high[lane] ? x : stats->high[lane];
            stats->clipped[lane] += (x <= low_uv ? 1.0 : 0.0) + (x >= high_uv ? 1.0 : 0.0);
        }
    }
}

INLINED void add_step(double *largest, double *squares, const double *now, const double *then)
{
    EACH_LANE {
        double change = now[lane] - then[lane], size = fabs(change);
        largest[lane] = size > largest[lane] ? size : largest[lane];
        squares[lane] += change * change;
    }
}

INLINED void gather_steps(const struct pd_artifact_config *config,
                          struct pd_artifact_stats *stats, const pd_artifact_lanes *rows,
                          const pd_artifact_lanes *before)
{
    uint32_t lag = config->lag, hop = config->hop;
    EACH_LANE {
        stats->step[lane] = stats->step2[lane] = 0;
        stats->entry[lane] = stats->entry2[lane] = 0;
    }
    for (uint32_t row = 0; row < lag; row++) {
        add_step(stats->entry, stats->entry2, rows[row], before[hop - lag + row]);
    }
    for (uint32_t row = lag; row < hop; row++) {
        add_step(stats->step, stats->step2, rows[row], rows[row - lag]);
    }
}

INLINED void gather_bins(const struct pd_artifact_config *config, double *node,
                         const pd_artifact_lanes *rows, const double *turns,
                         const struct pd_artifact_bin *bins, uint32_t n_bins, uint32_t phase)
{
    uint32_t window = config->hop * config->n_blocks, start = 0;
    for (uint32_t bin = 0; bin < n_bins; bin++) {
        uint32_t k = bins[bin].k;
        if (bin > 0 && k == bins[bin - 1].k + 1) {          /* a division costs more than a bin */
            start += phase;
            start -= start >= window ? window : 0;
        } else {
            start = (uint32_t)((uint64_t)k * phase % window);
        }
        uint32_t at = start;
        double *re = node + (size_t)bin * PD_ARTIFACT_BOTH * LANES, *im = re + LANES;
        half re0 = {0}, re1 = {0}, im0 = {0}, im1 = {0};
        for (uint32_t row = 0; row < config->hop; row++) {
            half x0 = *(const half *)rows[row], x1 = *(const half *)(rows[row] + LANES / 2);
            double c = turns[at], s = turns[window + at];
            re0 += c * x0;
            re1 += c * x1;
            im0 += s * x0;
            im1 += s * x1;
            at += k;
            at -= at >= window ? window : 0;
        }
        *(half *)re = re0;
        *(half *)(re + LANES / 2) = re1;
        *(half *)im = im0;
        *(half *)(im + LANES / 2) = im1;
    }
}

PD_MULTIVERSION
void pd_artifact_gather(const struct pd_artifact_config *config,
                        struct pd_artifact_stats *stats, double *node,
                        const pd_artifact_lanes *rows, const pd_artifact_lanes *before,
                        const double *turns, const struct pd_artifact_bin *bins, uint32_t n_bins,
                        uint32_t phase)
{
    gather_values(config, stats, rows);
    gather_steps(config, stats, rows, before);
    gather_bins(config, node, rows, turns, bins, n_bins, phase);
}

PD_MULTIVERSION
void pd_artifact_add(double *into, const double *first, const double *second, size_t n)
{
    for (size_t i = 0; i < n; i += LANES / 2) {
        *(half *)(into + i) = *(const half *)(first + i) + *(const half *)(second + i);
    }
}

/* -- a window's spectrum ----------------------------------------------------------- */

/* Tapers that are convolutions of three bins: Hann's, and sin(2 pi n / window), which has its weight
 * where the other has little. EMG goes by the squares of both, so that a burst near the
 * window's ends counts too; neither spreads a jump between the ends as no taper would. Bin 0
 * counts as 0: the mean is taken away. A bin that is used has its neighbours beside it. Sums
 * are of x · (cos, sin): re - i im. */
PD_MULTIVERSION
void pd_artifact_periodogram(const struct pd_artifact_config *config, const double *node,
                             const double *turns, const struct pd_artifact_bin *bins,
                             uint32_t n_bins, uint32_t phase, struct pd_artifact_power *power)
{
    uint32_t window = config->hop * config->n_blocks;
    double c = turns[phase], s = turns[window + phase];
    double unit = 2.0 / (config->rate_hz * window);
    double by_hann = unit / 0.375, by_both = unit / 0.875;
    memset(power, 0, sizeof *power);
    for (uint32_t bin = 1; bin + 1 < n_bins; bin++) {
        uint32_t use = bins[bin].use;
        const double *here = node + (size_t)bin * PD_ARTIFACT_BOTH * LANES;
        const double *below = here - PD_ARTIFACT_BOTH * LANES;
        const double *above = here + PD_ARTIFACT_BOTH * LANES;
        double lower = bins[bin].k == 1 ? 0.0 : 0.25;
        pd_artifact_lanes hann, sine;
        if (!use) continue;
        EACH_LANE {
            double low_re = lower * (c * below[lane] - s * below[LANES + lane]);
            double low_im = lower * (c * below[LANES + lane] + s * below[lane]);
            double high_re = 0.25 * (c * above[lane] + s * above[LANES + lane]);
            double high_im = 0.25 * (c * above[LANES + lane] - s * above[lane]);
            double re = 0.5 * here[lane] - (low_re + high_re);
            double im = 0.5 * here[LANES + lane] - (low_im + high_im);
            double difference_re = low_re - high_re, difference_im = low_im - high_im;
            hann[lane] = re * re + im * im;
            sine[lane] = 4.0 * (difference_re * difference_re + difference_im * difference_im);
        }
        if (use & PD_ARTIFACT_EEG) EACH_LANE power->eeg[lane] += by_hann * hann[lane];
        if (use & PD_ARTIFACT_LINES) EACH_LANE power->line[0][lane] += by_hann * hann[lane];
        if (use & PD_ARTIFACT_LINES << 1) EACH_LANE power->line[1][lane] += by_hann * hann[lane];
        if (use & PD_ARTIFACT_MUSCLE) {
            EACH_LANE power->emg[lane] += by_both * (hann[lane] + sine[lane]);
        }
    }
}

/* -- a window's blocks ------------------------------------------------------------- */

#undef BLOCK
#define BLOCK(i) in_order(config, stats, first + (i))

INLINED const struct pd_artifact_stats *in_order(const struct pd_artifact_config *config,
                                                 const struct pd_artifact_stats *stats,
                                                 uint32_t place)
{
    return &stats[place < config->n_blocks ? place : place - config->n_blocks];
}

INLINED void survey_counts(const struct pd_artifact_config *config,
                           const struct pd_artifact_stats *stats, uint32_t first,
                           struct pd_artifact_window *window)
{
    uint32_t n = config->n_blocks;
    double squares = n * ((double)n * n - 1) / 12;          /* of the blocks' distances */
    for (uint32_t i = 0; i < n; i++) {
        const struct pd_artifact_stats *block = BLOCK(i);
        double weight = (i - 0.5 * (n - 1)) * n / (squares * config->hop);
        EACH_LANE {
            window->lost[lane] += block->lost[lane];
            window->gone[lane] += block->gone[lane];
            window->clipped[lane] += block->clipped[lane];
            window->trend[lane] += weight * block->sum[lane];
        }
    }
}

/* Whether in some lane `flat` blocks in a row vary by no more than flat_uv each: seldom, and without
 * it there is no flat segment. */
INLINED int may_be_flat(const struct pd_artifact_config *config,
                        const struct pd_artifact_stats *stats, uint32_t first)
{
    pd_artifact_lanes run = {0}, longest = {0};
    int any = 0;
    for (uint32_t i = 0; i < config->n_blocks; i++) {
        const struct pd_artifact_stats *block = BLOCK(i);
        EACH_LANE {
            double range = block->high[lane] - block->low[lane];
            run[lane] = range <= config->flat_uv ? run[lane] + 1 : 0;
            longest[lane] = run[lane] > longest[lane] ? run[lane] : longest[lane];
        }
    }
    EACH_LANE any |= longest[lane] >= config->flat;
    return any;
}

/* Samples in segments of at least `flat` blocks that vary by no more than flat_uv. */
INLINED void survey_flat(const struct pd_artifact_config *config,
                         const struct pd_artifact_stats *stats, uint32_t first,
                         struct pd_artifact_window *window)
{
    pd_artifact_lanes until = {0};      /* blocks that are counted already */
    if (!may_be_flat(config, stats, first)) return;
    for (uint32_t i = 0; i + config->flat <= config->n_blocks; i++) {
        pd_artifact_lanes low, high;
        EACH_LANE low[lane] = HUGE_VAL;
        EACH_LANE high[lane] = -HUGE_VAL;
        for (uint32_t j = i; j < i + config->flat; j++) {
            const struct pd_artifact_stats *block = BLOCK(j);
            EACH_LANE {
                low[lane] = block->low[lane] < low[lane] ? block->low[lane] : low[lane];
                high[lane] = block->high[lane] > high[lane] ? block->high[lane] : high[lane];
            }
        }
        EACH_LANE {                     /* without any value: -HUGE_VAL */
            double range = high[lane] - low[lane], end = i + config->flat;
            double from = until[lane] > i ? until[lane] : i;
            int flat = range >= 0 && range <= config->flat_uv;
            window->flat[lane] += flat ? (end - from) * config->hop : 0.0;
            until[lane] = flat ? end : until[lane];
        }
    }
}

/* The block of the largest change and its two neighbours are not the rest: a change over `lag` may
 * lie in two blocks. Those that begin before the window are left out. */
INLINED void survey_steps(const struct pd_artifact_config *config,
                          const struct pd_artifact_stats *stats, uint32_t first,
                          struct pd_artifact_window *window)
{
    pd_artifact_lanes where = {0}, squares = {0}, count = {0};
    for (uint32_t i = 0; i < config->n_blocks; i++) {
        const struct pd_artifact_stats *block = BLOCK(i);
        EACH_LANE {
            double entry = i ? block->entry[lane] : 0, step = block->step[lane];
            double largest = entry > step ? entry : step;
            int more = largest > window->step[lane];
            where[lane] = more ? i : where[lane];
            window->step[lane] = more ? largest : window->step[lane];
        }
    }
    for (uint32_t i = 0; i < config->n_blocks; i++) {
        const struct pd_artifact_stats *block = BLOCK(i);
        EACH_LANE {
            double entry2 = i ? block->entry2[lane] : 0;
            double n = i ? config->hop : config->hop - config->lag;
            int rest = fabs(where[lane] - i) > 1;
            squares[lane] += rest ? block->step2[lane] + entry2 : 0.0;
            count[lane] += rest ? n : 0.0;
        }
    }
    EACH_LANE window->rest[lane] = sqrt(squares[lane] / count[lane]);
}

INLINED void survey_boxes(const struct pd_artifact_config *config,
                          const struct pd_artifact_stats *stats, uint32_t first,
                          pd_artifact_lanes *boxes, pd_artifact_lanes *transients)
{
    uint32_t box = config->box, n = pd_artifact_transients(config);
    double size = (double)box * config->hop;
    for (uint32_t i = 0; i + box <= config->n_blocks; i++) {
        EACH_LANE boxes[i][lane] = 0;
        for (uint32_t j = i; j < i + box; j++) {
            EACH_LANE boxes[i][lane] += BLOCK(j)->sum[lane];
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        EACH_LANE {
            double sides = 0.5 * (boxes[i][lane] + boxes[i + 2 * box][lane]);
            transients[i][lane] = (boxes[i + box][lane] - sides) / size;
        }
    }
}

PD_MULTIVERSION
void pd_artifact_survey(const struct pd_artifact_config *config,
                        const struct pd_artifact_stats *stats, uint32_t first,
                        pd_artifact_lanes *scratch, struct pd_artifact_window *window,
                        pd_artifact_lanes *transients)
{
    memset(window, 0, sizeof *window);
    survey_counts(config, stats, first, window);
    survey_flat(config, stats, first, window);
    survey_steps(config, stats, first, window);
    survey_boxes(config, stats, first, scratch, transients);
}
