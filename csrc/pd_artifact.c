#include "pd_artifact.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_artifact_places.h"
#include "pd_noise.h"

#define EXCLUDED_BINS 2.01          /* from a mains frequency: what a Hann taper spreads it over */
#define LINE_BINS 1.01
#define LEAST_BINS 3                /* of a band */

/* -- configuration ----------------------------------------------------------------- */

static int usable_curve(const struct pd_artifact_curve *curve)
{
    return curve->threshold > 0 && curve->threshold <= PD_ARTIFACT_LARGEST && curve->floor >= 0
           && curve->floor <= PD_ARTIFACT_LARGEST && curve->weight >= 0
           && curve->weight <= PD_ARTIFACT_LARGEST && curve->power >= 1
           && curve->power <= PD_ARTIFACT_MAX_POWER && curve->least >= 1;
}

static int usable(const struct pd_artifact_config *config)
{
    if (!(config->rate_hz > 0 && config->rate_hz <= 1e9)) return 0;
    if (config->n_channels < 1 || config->n_channels > PD_ARTIFACT_MAX_CHANNELS) return 0;
    if (config->hop < 1 || config->hop > PD_ARTIFACT_MAX_HOP) return 0;
    if (config->n_blocks < PD_ARTIFACT_MIN_BLOCKS || config->n_blocks > PD_ARTIFACT_MAX_BLOCKS
        || config->n_blocks % 2) return 0;
    if (config->box < 1 || config->box > config->n_blocks / 3) return 0;
    if (config->flat < 1 || config->flat > config->n_blocks) return 0;
    if (config->lag < 1 || config->lag > config->hop) return 0;
    if (!(config->flat_uv >= 0 && config->flat_uv <= PD_ARTIFACT_LARGEST)) return 0;
    int ranged = !isnan(config->low_uv) || !isnan(config->high_uv);
    if (ranged && !(config->low_uv < config->high_uv)) return 0;
    for (uint32_t line = 0; line < 2; line++) {
        if (!(config->line_hz[line] >= 0 && config->line_hz[line] <= 1e9)) return 0;
    }
    if (!(config->eeg_hz[0] >= 0 && config->eeg_hz[1] >= config->eeg_hz[0])) return 0;
    if (!(config->emg_hz[0] >= 0 && config->emg_hz[1] >= config->emg_hz[0])) return 0;
    if (!(config->eeg_hz[1] < config->rate_hz / 2)) return 0;
    if (!(config->emg_hz[1] < config->rate_hz / 2)) return 0;
    for (uint32_t kind = 0; kind < PD_ARTIFACT_KINDS; kind++) {
        if (!usable_curve(&config->curve[kind])) return 0;
    }
    return 1;
}

/* What bin k is used for. */
static uint32_t use_of(const struct pd_artifact_config *config, uint32_t k)
{
    double width = config->rate_hz / (config->hop * config->n_blocks), hz = k * width;
    double tolerance = 1e-9 * config->rate_hz;
    uint32_t use = 0;
    int mains = 0;
    if (k < 1 || hz + width >= config->rate_hz / 2) return 0;
    for (uint32_t line = 0; line < 2; line++) {
        double mains_hz = config->line_hz[line];
        if (!(mains_hz > 0)) continue;
        for (uint32_t order = 1; order <= 2; order++) {
            mains |= fabs(hz - order * mains_hz) <= EXCLUDED_BINS * width;
        }
        int whole = mains_hz + 2 * width < config->rate_hz / 2;
        if (whole && fabs(hz - mains_hz) <= LINE_BINS * width) use |= PD_ARTIFACT_LINES << line;
    }
    if (mains) return use;
    if (hz >= config->eeg_hz[0] - tolerance && hz <= config->eeg_hz[1] + tolerance) {
        use |= PD_ARTIFACT_EEG;
    }
    if (config->emg_hz[1] > 0 && hz >= config->emg_hz[0] - tolerance
        && hz <= config->emg_hz[1] + tolerance) use |= PD_ARTIFACT_MUSCLE;
    return use;
}

/* Bins that are summed: those that are used, and their neighbours. bins may be NULL. */
static uint32_t list_bins(const struct pd_artifact_config *config, struct pd_artifact_bin *bins)
{
    uint32_t n = 0, last = config->hop * config->n_blocks / 2;
    uint32_t before = 0, use = use_of(config, 0);
    for (uint32_t k = 0; k <= last; k++) {
        uint32_t after = use_of(config, k + 1);
        if (before | use | after) {
            if (bins) bins[n] = (struct pd_artifact_bin){k, use};
            n++;
        }
        before = use;
        use = after;
    }
    return n;
}

static size_t take(size_t *next, size_t doubles)
{
    size_t place = *next;
    *next += (doubles + 7) / 8 * 8;
    return place;
}

static void lay_out(struct pd_artifact *a, const struct pd_artifact_config *config)
{
    memset(a, 0, sizeof *a);
    a->config = *config;
    a->config.roles = NULL;
    a->groups = (config->n_channels + PD_ARTIFACT_LANES - 1) / PD_ARTIFACT_LANES;
    a->n_bins = list_bins(config, NULL);
    a->n_transients = pd_artifact_transients(config);
    a->node = (size_t)a->n_bins * PD_ARTIFACT_BOTH * PD_ARTIFACT_LANES;
    size_t lanes = (size_t)a->groups * PD_ARTIFACT_LANES;
    size_t window = (size_t)config->hop * config->n_blocks;
    size_t stats = sizeof(struct pd_artifact_stats) / sizeof(double);
    size_t next = (sizeof *a + 63) / 64 * 8;
    a->tables = next;
    a->turns = take(&next, 2 * window);
    a->bins = take(&next, a->n_bins);
    a->roles = take(&next, (lanes + 7) / 8);
    a->own = next;
    a->rows = take(&next, 2 * config->hop * lanes);
    a->stats = take(&next, a->groups * (config->n_blocks + 1) * stats);
    a->prefix = take(&next, a->groups * a->node);
    a->total = take(&next, a->groups * a->node);
    a->spectra = take(&next, a->groups * config->n_blocks * a->node);
    a->values = take(&next, PD_ARTIFACT_KINDS * lanes);
    a->scores = take(&next, PD_ARTIFACT_KINDS * lanes);
    a->sum = take(&next, a->node);
    a->transients = take(&next, a->n_transients * lanes);
    a->scratch = take(&next, (size_t)config->n_blocks * PD_ARTIFACT_LANES);
    a->bytes = next * sizeof(double);
}

size_t pd_artifact_bytes(const struct pd_artifact_config *config)
{
    struct pd_artifact sizes;
    if (!usable(config)) return 0;
    lay_out(&sizes, config);
    return sizes.bytes;
}

/* What this configuration can ever tell. */
static uint32_t find_available(const struct pd_artifact *a, const struct pd_artifact_bin *bins)
{
    uint32_t eeg = 0, emg = 0, line = 0, any = 0;
    for (uint32_t bin = 0; bin < a->n_bins; bin++) {
        eeg += (bins[bin].use & PD_ARTIFACT_EEG) != 0;
        emg += (bins[bin].use & PD_ARTIFACT_MUSCLE) != 0;
        line += bins[bin].use >= PD_ARTIFACT_LINES;
    }
    for (uint32_t c = 0; c < a->config.n_channels; c++) {
        if (!(roles(a)[c] & PD_ARTIFACT_IGNORED)) any |= roles(a)[c];
    }
    uint32_t kinds = 1u << PD_ARTIFACT_DROPOUT | 1u << PD_ARTIFACT_POP;
    if (!isnan(a->config.low_uv)) kinds |= 1u << PD_ARTIFACT_CLIPPING;
    if ((any & PD_ARTIFACT_FRONTAL) && (any & PD_ARTIFACT_BEHIND)) kinds |= 1u << PD_ARTIFACT_BLINK;
    if (eeg < LEAST_BINS) return kinds;
    kinds |= 1u << PD_ARTIFACT_DRIFT;
    if (line >= LEAST_BINS) kinds |= 1u << PD_ARTIFACT_LINE;
    if (emg >= LEAST_BINS) kinds |= 1u << PD_ARTIFACT_EMG;
    return kinds;
}

int pd_artifact_init(struct pd_artifact *a, const struct pd_artifact_config *config)
{
    if (!usable(config)) return -EINVAL;
    lay_out(a, config);
    memset((char *)a + sizeof *a, 0, a->bytes - sizeof *a);
    uint32_t window = config->hop * config->n_blocks;
    double *turns = at(a, a->turns);
    for (uint32_t i = 0; i < window; i++) {
        pd_noise_sincos((uint64_t)ldexp((double)i / window, 63) * 2, &turns[window + i], &turns[i]);
    }
    list_bins(config, bins(a));
    memcpy(roles(a), config->roles, config->n_channels);
    a->available = find_available(a, bins(a));
    pd_artifact_reset(a);
    return 0;
}

/* -- state ------------------------------------------------------------------------- */

void pd_artifact_reset(struct pd_artifact *a)
{
    memset(at(a, a->own), 0, a->bytes - a->own * sizeof(double));
    a->count = 0;
    a->read = UINT64_MAX;
    memset(&a->report, 0, sizeof a->report);
}

int pd_artifact_restore(struct pd_artifact *a, const void *saved, size_t bytes)
{
    struct pd_artifact header;
    if (bytes != a->bytes) return -EINVAL;
    memcpy(&header, saved, sizeof header);
    uint64_t count = header.count;
    header.count = a->count;
    header.read = a->read;
    header.report = a->report;
    const char *from = saved;
    size_t tables = a->tables * sizeof(double), own = a->own * sizeof(double);
    if (memcmp(&header, a, sizeof header)) return -EINVAL;
    if (memcmp(from + tables, (const char *)a + tables, own - tables)) return -EINVAL;
    memcpy((char *)a + own, from + own, bytes - own);
    a->count = count;
    a->read = UINT64_MAX;
    return 0;
}

/* -- samples ----------------------------------------------------------------------- */

/* One sample of a group into its row; what is lost is counted in the open block. */
static void take_row(double *row, struct pd_artifact_stats *open, const double *x, uint32_t width,
                     double lost)
{
    for (uint32_t lane = 0; lane < width; lane++) {
        int there = fabs(x[lane]) <= PD_ARTIFACT_LARGEST;
        row[lane] = there ? x[lane] : NAN;
        open->lost[lane] += there ? lost : 1.0;
        open->gone[lane] += there ? 0.0 : 1.0;
    }
}

/* A window is what is left of the segment (half a window) before the last, the last one, and what
 * there is of the open one. A segment's blocks become sums to its end, in place, from the last on,
 * one a block, while the next one fills. */
static void close_block(struct pd_artifact *a, uint32_t group)
{
    const struct pd_artifact_config *config = &a->config;
    uint64_t index = a->count / config->hop - 1;
    uint32_t half = config->n_blocks / 2, slot = (uint32_t)(index % config->n_blocks);
    uint32_t offset = slot % half;
    double *node = spectrum(a, group, slot), *prefix = at(a, a->prefix + group * a->node);
    const pd_artifact_lanes *rows = block_rows(a, group, index);
    const pd_artifact_lanes *before = block_rows(a, group, index + 1);
    struct pd_artifact_stats *open = stats(a, group) + config->n_blocks;
    pd_artifact_gather(config, open, node, rows, before, at(a, a->turns),
                       bins(a), a->n_bins, slot * config->hop);
    stats(a, group)[slot] = *open;
    memset(open, 0, sizeof *open);
    if (offset == 0) memcpy(prefix, node, a->node * sizeof *node);
    else pd_artifact_add(prefix, prefix, node, a->node);
    if (index >= half && offset > 0) {
        uint32_t other = (slot - offset + half) % config->n_blocks, back = half - 1 - offset;
        double *sums = spectrum(a, group, other + back);
        pd_artifact_add(sums, sums, spectrum(a, group, other + back + 1), a->node);
    }
    if (offset == half - 1) {
        memcpy(at(a, a->total + group * a->node), prefix, a->node * sizeof *node);
    }
}

void pd_artifact_push(struct pd_artifact *a, const double *x, size_t stride, uint32_t n,
                      const uint8_t *lost)
{
    const uint32_t hop = a->config.hop;
    for (uint32_t i = 0; i < n; i++, x += stride) {
        uint64_t index = a->count / hop;
        uint32_t row = (uint32_t)(a->count % hop);
        uint32_t left = a->config.n_channels;
        a->count++;
        for (uint32_t group = 0; group < a->groups; group++, left -= PD_ARTIFACT_LANES) {
            uint32_t width = left < PD_ARTIFACT_LANES ? left : PD_ARTIFACT_LANES;
            struct pd_artifact_stats *open = stats(a, group) + a->config.n_blocks;
            take_row(block_rows(a, group, index)[row], open, x + group * PD_ARTIFACT_LANES, width,
                     lost && lost[i] ? 1.0 : 0.0);
            if (row == hop - 1) close_block(a, group);
        }
    }
}
