#include "pd_cca.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_cca_places.h"
#include "pd_cca_solve.h"
#include "pd_cca_sums.h"
#include "pd_noise.h"

#define MOST_PARTS 5

static double *block(const struct pd_cca *cca, uint64_t index)
{
    return at(cca, cca->blocks + index % cca->n_blocks * cca->node);
}

/* Two segments' worth of each: one is being read while the other is being made. */
static double *chain(const struct pd_cca *cca, const struct pd_cca_window *window, uint64_t segment)
{
    return at(cca, window->chain + (segment & 1) * cca->node);
}

static double *suffix(const struct pd_cca *cca, const struct pd_cca_window *window,
                      uint64_t segment, uint32_t offset)
{
    return at(cca, window->suffix + ((segment & 1) * window->segment + offset) * cca->node);
}

/* -- state ------------------------------------------------------------------------- */

void pd_cca_reset(struct pd_cca *cca)
{
    cca->count = 0;
    cca->rank = 0;
}

int pd_cca_restore(struct pd_cca *cca, const void *saved, size_t bytes)
{
    struct pd_cca header;
    if (bytes != cca->bytes) return -EINVAL;
    memcpy(&header, saved, sizeof header);
    uint64_t count = header.count;
    header.count = cca->count;
    header.rank = cca->rank;
    const char *from = saved;
    size_t tables = cca->steps * sizeof(double), own = cca->rotation * sizeof(double);
    if (memcmp(&header, cca, sizeof header)) return -EINVAL;
    if (memcmp(from + tables, (const char *)cca + tables, own - tables)) return -EINVAL;
    memcpy((char *)cca + own, from + own, bytes - own);
    cca->count = count;
    return 0;
}

uint32_t pd_cca_harmonics(const struct pd_cca *cca, uint32_t target)
{
    return harmonics(cca)[target];
}

uint32_t pd_cca_references(const struct pd_cca *cca, uint32_t window, uint32_t target)
{
    uint32_t n = cca->n_harmonics, kept = 0;
    const double *inverse = at(cca, cca->window[window].whitening) + target;
    for (uint32_t part = 0; part < 2; part++) {
        for (uint32_t h = 0; h < harmonics(cca)[target]; h++) {
            kept += inverse[((size_t)part * n * n + h * (n + 1)) * cca->target_lanes] != 0.0;
        }
    }
    return kept;
}

/* -- samples ----------------------------------------------------------------------- */

/* cos and sin of `half_samples` of every target's harmonics, [2][harmonics][targets]. */
static const double *turned(const struct pd_cca *cca, uint64_t half_samples)
{
    struct pd_cca_shape sizes = shape(cca);
    double *rotation = at(cca, cca->rotation);
    for (uint32_t t = 0; t < cca->target_lanes; t++) {
        pd_noise_sincos(half_samples * half_steps(cca)[t],
                        &rotation[(size_t)cca->n_harmonics * cca->target_lanes + t], &rotation[t]);
    }
    pd_cca_overtones(&sizes, rotation);
    return rotation;
}

/* Samples `from` on of a block, `n` of them, into a node that counts from its own first sample. */
static void add(const struct pd_cca *cca, double *node, uint64_t from, uint32_t n, int first)
{
    struct pd_cca_shape sizes = shape(cca);
    const double *samples = at(cca, cca->samples + from % cca->n_rows * cca->channel_lanes);
    const double *rows = at(cca, cca->rows + from % cca->hop * cca->width);
    pd_cca_gather(&sizes, node, samples, rows, n, first, at(cca, cca->centred));
}

/* What `add` made of n samples from `from` on, centred and with the phases of all time. */
static void finish(const struct pd_cca *cca, double *into, const double *node, uint64_t from,
                   uint32_t n)
{
    struct pd_cca_shape sizes = shape(cca);
    uint64_t start = from / cca->hop * cca->hop, offset = from - start;
    const double *sums = at(cca, cca->sums);
    pd_cca_finish(&sizes, into, node, n, sums + offset * cca->width,
                  sums + (offset + n) * cca->width, turned(cca, 2 * start));
}

static void join(const struct pd_cca *cca, double *into, const double *first, const double *second)
{
    struct pd_cca_shape sizes = shape(cca);
    const double *parts[] = {first, second};
    pd_cca_combine(&sizes, into, parts, second ? 2 : 1);
}

/* A block is complete, and `blocks` are by now. */
static void extend(const struct pd_cca *cca, const struct pd_cca_window *window, uint64_t blocks)
{
    uint64_t index = blocks - 1, segment = index / window->segment;
    double *prefix = chain(cca, window, segment);
    if (index % window->segment == 0) join(cca, prefix, block(cca, index), NULL);
    else join(cca, prefix, prefix, block(cca, index));

    /* Two steps of the last whole segment's sums to its end, from the last on: they are there
     * before the window's start reaches them. */
    if (blocks < window->segment) return;
    segment = blocks / window->segment - 1;
    uint64_t done = 2 * (blocks % window->segment);
    for (uint64_t i = done; i < done + 2 && i < window->segment; i++) {
        uint32_t offset = window->segment - 1 - (uint32_t)i;
        join(cca, suffix(cca, window, segment, offset),
             block(cca, segment * window->segment + offset),
             i ? suffix(cca, window, segment, offset + 1) : NULL);
    }
}

void pd_cca_push(struct pd_cca *cca, const double *x, size_t stride, uint32_t n)
{
    while (n) {
        uint32_t held = (uint32_t)(cca->count % cca->hop), room = cca->hop - held;
        uint32_t taken = n < room ? n : room;
        double *samples = at(cca, cca->samples + cca->count % cca->n_rows * cca->channel_lanes);
        for (uint32_t row = 0; row < taken; row++, x += stride) {
            memcpy(samples + (size_t)row * cca->channel_lanes, x, cca->n_channels * sizeof *x);
        }
        add(cca, at(cca, cca->open), cca->count, taken, held == 0);
        cca->count += taken;
        n -= taken;
        if (taken < room) return;
        uint64_t blocks = cca->count / cca->hop;
        finish(cca, block(cca, blocks - 1), at(cca, cca->open), cca->count - cca->hop, cca->hop);
        for (uint32_t w = 0; w < cca->n_windows; w++) extend(cca, &cca->window[w], blocks);
    }
}

/* -- correlation ------------------------------------------------------------------- */

/* All samples of the window, in `total`. */
static void gather_window(const struct pd_cca *cca, const struct pd_cca_window *window)
{
    const double *parts[MOST_PARTS];
    uint32_t n_parts = 0, open = (uint32_t)(cca->count % cca->hop);
    uint64_t end = cca->count / cca->hop, segment = window->segment;
    uint64_t begin = end - (window->samples - open) / cca->hop;
    uint32_t tail = (window->samples - open) % cca->hop;
    if (tail) {
        uint64_t from = begin * cca->hop - tail;
        double *node = at(cca, cca->tail);
        add(cca, node, from, tail, 1);
        finish(cca, node, node, from, tail);
        parts[n_parts++] = node;
    }
    if (begin < end) {
        uint64_t first = begin / segment, last = end / segment;
        parts[n_parts++] = suffix(cca, window, first, (uint32_t)(begin % segment));
        if (first + 1 < last) parts[n_parts++] = chain(cca, window, first + 1);
        if (end % segment) parts[n_parts++] = chain(cca, window, last);
    }
    if (open) {
        finish(cca, at(cca, cca->closed), at(cca, cca->open), cca->count - open, open);
        parts[n_parts++] = at(cca, cca->closed);
    }
    struct pd_cca_shape sizes = shape(cca);
    pd_cca_combine(&sizes, at(cca, cca->total), parts, n_parts);
}

enum pd_cca_state pd_cca_correlate(struct pd_cca *cca, uint32_t w, double *rho)
{
    const struct pd_cca_window *window = &cca->window[w];
    for (uint32_t t = 0; t < cca->n_targets; t++) rho[t] = NAN;
    cca->rank = 0;
    if (cca->count < window->samples) return PD_CCA_FILLING;

    gather_window(cca, window);
    struct pd_cca_shape sizes = shape(cca);
    struct pd_cca_node node = pd_cca_node(&sizes, at(cca, cca->total));
    double mean[PD_CCA_MAX_CHANNELS];
    for (uint32_t c = 0; c < cca->n_channels; c++) {
        if (!isfinite(node.gram[(size_t)c * (cca->channel_lanes + 1)])) return PD_CCA_MISSING;
        mean[c] = node.base[c] + node.mean[c];
    }
    struct pd_cca_factor factor;
    pd_cca_factorise(&factor, node.gram, cca->channel_lanes, cca->n_channels, mean,
                     window->samples);
    if (factor.rank == 0) return PD_CCA_FLAT;

    cca->rank = factor.rank;
    struct pd_cca_cross cross = {
        .cross = node.cross, .whitening = at(cca, window->whitening),
        .rotation = turned(cca, 2 * cca->count - window->samples - 1),
        .n_harmonics = cca->n_harmonics, .target_lanes = cca->target_lanes,
    };
    size_t work = (size_t)cca->n_channels * 2 * cca->n_harmonics * PD_CCA_LANES;
    double *all = at(cca, cca->work) + work;
    pd_cca_largest(&factor, &cross, at(cca, cca->work), all);
    memcpy(rho, all, cca->n_targets * sizeof *rho);
    return PD_CCA_DEFINED;
}

/* -- filter bank ------------------------------------------------------------------- */

double pd_cca_band_weight(uint32_t band)
{
    return pd_noise_exp(-1.25 * pd_noise_log(band + 1.0)) + 0.25;
}

void pd_cca_score(const double *rho, const double *weights, uint32_t n_bands, uint32_t n_targets,
                  double *score)
{
    for (uint32_t t = 0; t < n_targets; t++) {
        double sum = 0;
        for (uint32_t band = 0; band < n_bands; band++) {
            double r = rho[(size_t)band * n_targets + t];
            sum += weights[band] * (r * r);
        }
        score[t] = sum;
    }
}
