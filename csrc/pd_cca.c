#include "pd_cca.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_cca_solve.h"
#include "pd_cca_sums.h"
#include "pd_noise.h"

#define REFERENCE_RANK 1e-7         /* of its norm a harmonic keeps after the lower ones */
#define MOST_PARTS 5

static double *at(const struct pd_cca *cca, size_t place)
{
    return (double *)(uintptr_t)cca + place;
}

/* A frequency as whole 2^-64 turns in half a sample: the middle of a window may lie between two. */
static uint64_t *half_steps(const struct pd_cca *cca)
{
    return (uint64_t *)at(cca, cca->steps);
}

static uint32_t *harmonics(const struct pd_cca *cca)
{
    return (uint32_t *)at(cca, cca->harmonics);
}

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

static struct pd_cca_shape shape(const struct pd_cca *cca)
{
    return (struct pd_cca_shape){cca->n_channels, cca->channel_lanes, cca->target_lanes,
                                 cca->n_harmonics, cca->width};
}

/* -- configuration ----------------------------------------------------------------- */

static int usable(const struct pd_cca_config *config)
{
    if (!(config->rate_hz > 0) || !isfinite(config->rate_hz)) return 0;
    if (config->n_channels < 1 || config->n_channels > PD_CCA_MAX_CHANNELS) return 0;
    if (config->n_targets < 1 || config->n_targets > PD_CCA_MAX_TARGETS) return 0;
    if (config->n_harmonics < 1 || config->n_harmonics > PD_CCA_MAX_HARMONICS) return 0;
    if (config->n_windows < 1 || config->n_windows > PD_CCA_MAX_WINDOWS || config->hop < 1) return 0;
    for (uint32_t t = 0; t < config->n_targets; t++) {
        if (!(config->targets_hz[t] > 0) || !(config->targets_hz[t] < config->rate_hz / 2)) return 0;
    }
    for (uint32_t w = 0; w < config->n_windows; w++) {
        uint32_t samples = config->windows[w];
        if (samples > PD_CCA_MAX_SAMPLES || samples < config->hop) return 0;
        if (samples <= config->n_channels + 2 * config->n_harmonics + 1) return 0;
    }
    return 1;
}

static size_t take(size_t *next, size_t doubles)
{
    size_t place = *next;
    *next += (doubles + 7) / 8 * 8;
    return place;
}

static void lay_out(struct pd_cca *cca, const struct pd_cca_config *config)
{
    memset(cca, 0, sizeof *cca);
    cca->n_channels = config->n_channels;
    cca->channel_lanes = (config->n_channels + 7) / 8 * 8;
    cca->n_targets = config->n_targets;
    cca->target_lanes = (config->n_targets + PD_CCA_LANES - 1) / PD_CCA_LANES * PD_CCA_LANES;
    cca->n_harmonics = config->n_harmonics;
    cca->n_windows = config->n_windows;
    cca->hop = config->hop;
    cca->width = 2 * cca->n_harmonics * cca->target_lanes;
    struct pd_cca_shape sizes = shape(cca);
    cca->node = pd_cca_node_doubles(&sizes);
    uint32_t blocks = 0;
    for (uint32_t w = 0; w < cca->n_windows; w++) {
        cca->window[w].samples = config->windows[w];
        cca->window[w].segment = (config->windows[w] / cca->hop + 1) / 2;
        if (2 * cca->window[w].segment > blocks) blocks = 2 * cca->window[w].segment;
    }
    cca->n_blocks = blocks;
    cca->n_rows = (blocks + 2) * cca->hop;
    size_t next = (sizeof *cca + 63) / 64 * 8;
    size_t squared = (size_t)cca->n_harmonics * cca->n_harmonics * cca->target_lanes;
    cca->steps = take(&next, cca->target_lanes);
    cca->harmonics = take(&next, cca->target_lanes);
    cca->rows = take(&next, (size_t)cca->hop * cca->width);
    cca->sums = take(&next, ((size_t)cca->hop + 1) * cca->width);
    for (uint32_t w = 0; w < cca->n_windows; w++) {
        cca->window[w].whitening = take(&next, 2 * squared);
    }
    cca->rotation = take(&next, cca->width);
    cca->centred = take(&next, (size_t)cca->hop * cca->channel_lanes);
    cca->work = take(&next, (size_t)cca->n_channels * 2 * cca->n_harmonics * PD_CCA_LANES
                                + cca->target_lanes);
    cca->samples = take(&next, (size_t)cca->n_rows * cca->channel_lanes);
    cca->open = take(&next, cca->node);
    cca->tail = take(&next, cca->node);
    cca->closed = take(&next, cca->node);
    cca->total = take(&next, cca->node);
    cca->blocks = take(&next, cca->n_blocks * cca->node);
    for (uint32_t w = 0; w < cca->n_windows; w++) {
        cca->window[w].chain = take(&next, 2 * cca->node);
        cca->window[w].suffix = take(&next, (size_t)2 * cca->window[w].segment * cca->node);
    }
    cca->bytes = next * sizeof(double);
}

size_t pd_cca_bytes(const struct pd_cca_config *config)
{
    struct pd_cca sizes;
    if (!usable(config)) return 0;
    lay_out(&sizes, config);
    return sizes.bytes;
}

/* -- references -------------------------------------------------------------------- */

/* Sines and cosines within a block, and their sums from its start. */
static void tabulate(struct pd_cca *cca)
{
    double *rows = at(cca, cca->rows), *sums = at(cca, cca->sums);
    uint32_t stride = cca->target_lanes;
    for (uint32_t t = 0; t < cca->n_targets; t++) {
        for (uint32_t h = 0; h < harmonics(cca)[t]; h++) {
            uint64_t step = 2 * (h + 1) * half_steps(cca)[t];
            size_t cosine = (size_t)h * stride + t, sine = cosine + (size_t)cca->n_harmonics * stride;
            for (uint32_t row = 0; row < cca->hop; row++) {
                double *values = rows + (size_t)row * cca->width;
                pd_noise_sincos(row * step, &values[sine], &values[cosine]);
            }
        }
    }
    for (uint32_t row = 0; row < cca->hop; row++) {
        for (uint32_t i = 0; i < cca->width; i++) {
            size_t place = (size_t)row * cca->width + i;
            sums[place + cca->width] = sums[place] + rows[place];
        }
    }
}

/* Givens rotations: the row goes into the triangle r, as QR of all rows has it. */
static void add_row(double r[][PD_CCA_MAX_HARMONICS], double *row, uint32_t n)
{
    for (uint32_t j = 0; j < n; j++) {
        if (row[j] == 0) continue;
        double size = sqrt(r[j][j] * r[j][j] + row[j] * row[j]);
        double c = r[j][j] / size, s = row[j] / size;
        for (uint32_t k = j; k < n; k++) {
            double held = r[j][k];
            r[j][k] = c * held + s * row[k];
            row[k] = c * row[k] - s * held;
        }
    }
}

/* Cosines (part 0) or sines of a target over a window, about its middle: the two are then
 * orthogonal, and the halves of the window alike. */
static void triangle(double r[][PD_CCA_MAX_HARMONICS], uint64_t half_step, uint32_t samples,
                     uint32_t part, uint32_t n, const int *left_out)
{
    double mean[PD_CCA_MAX_HARMONICS] = {0};
    for (int pass = part; pass < 2; pass++) {               /* sines have no mean */
        for (uint32_t away = 1 - samples % 2; away < samples; away += 2) {
            double row[PD_CCA_MAX_HARMONICS], twice = away ? 2.0 : 1.0;
            for (uint32_t h = 0; h < n; h++) {
                double sine, cosine;
                pd_noise_sincos((h + 1) * away * half_step, &sine, &cosine);
                row[h] = part ? sine : cosine;
                if (pass == 0) mean[h] += twice * row[h] / samples;
                row[h] = left_out[h] ? 0.0 : sqrt(twice) * (row[h] - mean[h]);
            }
            if (pass == 1) add_row(r, row, n);
        }
    }
}

/* R of the references' QR, without the harmonics that add nothing to the lower ones. */
static void factor_references(struct pd_cca *cca, const struct pd_cca_window *window, uint32_t t,
                              uint32_t part)
{
    uint32_t n = harmonics(cca)[t], all = cca->n_harmonics;
    int left_out[PD_CCA_MAX_HARMONICS] = {0};
    double r[PD_CCA_MAX_HARMONICS][PD_CCA_MAX_HARMONICS];
    for (int again = 1; again;) {
        memset(r, 0, sizeof r);
        triangle(r, half_steps(cca)[t], window->samples, part, n, left_out);
        again = 0;
        for (uint32_t j = 0; j < n && !again; j++) {
            double norm = 0;
            for (uint32_t i = 0; i <= j; i++) norm += r[i][j] * r[i][j];
            again = !left_out[j] && !(fabs(r[j][j]) > REFERENCE_RANK * sqrt(norm));
            if (again) left_out[j] = 1;
        }
    }
    double *out = at(cca, window->whitening) + (size_t)part * all * all * cca->target_lanes + t;
    for (uint32_t j = 0; j < n; j++) {
        for (uint32_t i = 0; i <= j; i++) {
            double value = i < j ? r[i][j] : left_out[j] ? 0.0 : 1.0 / r[j][j];
            out[((size_t)i * all + j) * cca->target_lanes] = value;
        }
    }
}

int pd_cca_init(struct pd_cca *cca, const struct pd_cca_config *config)
{
    if (!usable(config)) return -EINVAL;
    lay_out(cca, config);
    memset((char *)cca + sizeof *cca, 0, cca->bytes - sizeof *cca);
    for (uint32_t t = 0; t < cca->n_targets; t++) {
        double hz = config->targets_hz[t];
        half_steps(cca)[t] = (uint64_t)ldexp(hz / config->rate_hz, 63);
        while (harmonics(cca)[t] < cca->n_harmonics
               && (harmonics(cca)[t] + 1) * hz < config->rate_hz / 2) harmonics(cca)[t]++;
        for (uint32_t w = 0; w < cca->n_windows; w++) {
            factor_references(cca, &cca->window[w], t, 0);
            factor_references(cca, &cca->window[w], t, 1);
        }
    }
    tabulate(cca);
    return 0;
}

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
