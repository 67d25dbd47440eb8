/* What pd_cca works out once: where everything lies, tables of sines, factors of the references. */
#include "pd_cca.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_cca_places.h"
#include "pd_noise.h"

#define REFERENCE_RANK 1e-7         /* of its norm a harmonic keeps after the lower ones */

/* -- configuration ----------------------------------------------------------------- */

static int usable(const struct pd_cca_config *config)
{
    if (!(config->rate_hz > 0) || !isfinite(config->rate_hz)) return 0;
    if (config->n_channels < 1 || config->n_channels > PD_CCA_MAX_CHANNELS) return 0;
    if (config->n_targets < 1 || config->n_targets > PD_CCA_MAX_TARGETS) return 0;
    if (config->n_harmonics < 1 || config->n_harmonics > PD_CCA_MAX_HARMONICS) return 0;
    if (config->n_windows < 1 || config->n_windows > PD_CCA_MAX_WINDOWS) return 0;
    if (config->hop < 1) return 0;
    for (uint32_t t = 0; t < config->n_targets; t++) {
        double hz = config->targets_hz[t];
        if (!(hz > 0 && hz < config->rate_hz / 2)) return 0;
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
            size_t cosine = (size_t)h * stride + t, sine = cosine + cca->width / 2;
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
