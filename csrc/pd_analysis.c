#include "pd_analysis.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static size_t align64(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static uint32_t n_bands(const struct pd_analysis_config *config)
{
    return config->n_power + config->n_cca;
}

static int is_possible(const struct pd_analysis_config *config)
{
    if (!(config->rate_hz > 0) || config->n_values > PD_MAX_VALUES ||
        config->n_channels > config->n_values || config->n_picks < 1 ||
        config->n_picks > config->n_channels || config->n_reference > config->n_channels ||
        config->n_cca > PD_ANALYSIS_MAX_CCA || config->step_ns <= 0 || config->wait_ns < 0 ||
        config->n_steps < 1 || config->n_steps > PD_ANALYSIS_MAX_STEPS)
        return 0;
    for (uint32_t i = 0; i < config->n_picks; i++)
        if (config->pick[i] >= config->n_channels) return 0;
    for (uint32_t i = 0; i < config->n_reference; i++)
        if (config->reference[i] >= config->n_channels) return 0;
    if (config->n_cca && (config->cca.n_channels != config->n_picks ||
                          config->cca.rate_hz != config->rate_hz || !pd_cca_bytes(&config->cca)))
        return 0;
    if (config->pll.n_channels && (config->pll.n_channels != config->n_picks ||
                                   config->pll.rate_hz != config->rate_hz ||
                                   !pd_pll_bytes(&config->pll)))
        return 0;
    if (config->artifact.n_channels && (config->artifact.n_channels != config->n_channels ||
                                        config->artifact.rate_hz != config->rate_hz ||
                                        !pd_artifact_bytes(&config->artifact)))
        return 0;
    return n_bands(config) == 0 || pd_sos_state_bytes(config->n_sections, config->n_picks) != 0;
}

uint32_t pd_analysis_values(const struct pd_analysis_config *config)
{
    uint32_t rho = config->n_cca ? config->n_cca * config->cca.n_windows * config->cca.n_targets : 0;
    return config->n_power * config->n_picks + rho +
           (config->pll.n_channels ? config->n_picks * PD_ANALYSIS_PHASES : 0) +
           (config->artifact.n_channels ? PD_ARTIFACT_KINDS * PD_ANALYSIS_SCORES : 0);
}

static size_t squares_bytes(const struct pd_analysis_config *config)
{
    return align64((size_t)config->n_steps * config->n_power * config->n_picks * sizeof(double));
}

static size_t filter_bytes(const struct pd_analysis_config *config)
{
    return n_bands(config) ? align64(pd_sos_state_bytes(config->n_sections, config->n_picks)) : 0;
}

size_t pd_analysis_arena_bytes(const struct pd_analysis_config *config)
{
    if (!is_possible(config)) return 0;
    return align64(sizeof(struct pd_analysis_state)) + squares_bytes(config) + filter_bytes(config) +
           (config->n_cca ? config->n_cca * align64(pd_cca_bytes(&config->cca)) : 0) +
           (config->pll.n_channels ? align64(pd_pll_bytes(&config->pll)) : 0) +
           (config->artifact.n_channels ? align64(pd_artifact_bytes(&config->artifact)) : 0);
}

static size_t row_bytes(uint32_t a_row)
{
    return align64((size_t)PD_ANALYSIS_BLOCK * a_row * sizeof(double));
}

size_t pd_analysis_scratch_bytes(const struct pd_analysis_config *config)
{
    if (!is_possible(config)) return 0;
    return row_bytes(n_bands(config) * config->n_picks) + row_bytes(config->n_picks) +
           row_bytes(config->n_channels) +
           align64(PD_WINDOW_WORDS(pd_analysis_values(config)) * sizeof(uint64_t));
}

int pd_analysis_init(struct pd_analysis *analysis, const struct pd_analysis_config *config,
                     void *arena, size_t arena_bytes, void *scratch, size_t scratch_bytes,
                     struct pd_ring *signal, struct pd_ring *windows, uint64_t next)
{
    size_t need = pd_analysis_arena_bytes(config);
    if (need == 0 || arena_bytes < need || scratch_bytes < pd_analysis_scratch_bytes(config) ||
        ((uintptr_t)arena | (uintptr_t)scratch) % 64 != 0 ||
        signal->words != PD_SIGNAL_WORDS(config->n_values) ||
        windows->words != PD_WINDOW_WORDS(pd_analysis_values(config)))
        return -EINVAL;
    memset(analysis, 0, sizeof *analysis);
    analysis->config = *config;
    analysis->signal = signal;
    analysis->windows = windows;
    analysis->n_window_values = pd_analysis_values(config);

    char *at = arena;
    analysis->state = (struct pd_analysis_state *)(void *)at;
    at += align64(sizeof(struct pd_analysis_state));
    analysis->squares = (double *)(void *)at;
    at += squares_bytes(config);
    if (n_bands(config)) {
        int rc = pd_sos_init(&analysis->sos, config->bands, n_bands(config), config->sections,
                             config->n_picks, config->rate_hz, at, filter_bytes(config));
        if (rc) return rc;
        at += filter_bytes(config);
    }
    for (uint32_t i = 0; i < config->n_cca; i++) {
        analysis->cca[i] = (struct pd_cca *)(void *)at;
        int rc = pd_cca_init(analysis->cca[i], &config->cca);
        if (rc) return rc;
        at += align64(pd_cca_bytes(&config->cca));
    }
    if (config->pll.n_channels) {
        analysis->pll = (struct pd_pll *)(void *)at;
        int rc = pd_pll_init(analysis->pll, &config->pll);
        if (rc) return rc;
        at += align64(pd_pll_bytes(&config->pll));
    }
    if (config->artifact.n_channels) {
        analysis->artifact = (struct pd_artifact *)(void *)at;
        int rc = pd_artifact_init(analysis->artifact, &config->artifact);
        if (rc) return rc;
    }
    at = scratch;
    analysis->work = (double *)(void *)at;
    at += row_bytes(n_bands(config) * config->n_picks);
    analysis->rows = (double *)(void *)at;
    at += row_bytes(config->n_picks);
    analysis->raw = (double *)(void *)at;
    at += row_bytes(config->n_channels);
    analysis->frame = (uint64_t *)(void *)at;

    struct pd_analysis_state *state = analysis->state;
    state->next = state->begun = next;
    state->window_next = -1;
    state->newest_ns = state->artifact_until_ns = PD_NO_TIME;
    state->block[0] = (struct pd_analysis_block){ .first = next, .until = next,
                                                  .arrival_ns = PD_NO_TIME,
                                                  .flags = PD_WINDOW_FILLING };
    return 0;
}

static struct pd_analysis_block *open_block(const struct pd_analysis *analysis)
{
    return &analysis->state->block[analysis->state->newest];
}

/* The rows gathered so far go through the kernels. */
static void run_kernels(struct pd_analysis *analysis)
{
    const struct pd_analysis_config *config = &analysis->config;
    const uint32_t n = analysis->n_rows, picks = config->n_picks, bands = n_bands(config);
    analysis->n_rows = 0;
    if (n == 0) return;
    if (analysis->pll) pd_pll_push(analysis->pll, analysis->rows, picks, n);
    if (analysis->artifact)
        pd_artifact_push(analysis->artifact, analysis->raw, config->n_channels, n, analysis->lost);
    if (bands == 0) return;
    pd_sos_run(&analysis->sos, analysis->rows, picks, n, analysis->work, (size_t)bands * picks,
               NULL);
    double *squares = analysis->squares +
                      (size_t)analysis->state->newest * config->n_power * picks;
    for (uint32_t row = 0; row < n; row++) {
        const double *y = analysis->work + (size_t)row * bands * picks;
        for (uint32_t i = 0; i < config->n_power * picks; i++)
            if (y[i] == y[i]) squares[i] += y[i] * y[i];
    }
    for (uint32_t i = 0; i < config->n_cca; i++)
        pd_cca_push(analysis->cca[i], analysis->work + (size_t)(config->n_power + i) * picks,
                    (size_t)bands * picks, n);
}

void pd_analysis_settle(struct pd_analysis *analysis)
{
    run_kernels(analysis);
}

/* The device began anew: what was before has nothing to do with what comes. */
static void begin_segment(struct pd_analysis *analysis, uint64_t index)
{
    struct pd_analysis_state *state = analysis->state;
    run_kernels(analysis);
    if (n_bands(&analysis->config)) pd_sos_reset(&analysis->sos);
    for (uint32_t i = 0; i < analysis->config.n_cca; i++) pd_cca_reset(analysis->cca[i]);
    if (analysis->pll) pd_pll_reset(analysis->pll);
    if (analysis->artifact) pd_artifact_reset(analysis->artifact);
    state->begun = index;
    state->n_blocks = 0;
    open_block(analysis)->flags |= PD_WINDOW_FILLING;
}

static void push_signal(struct pd_analysis *analysis, uint64_t index, int64_t t_ns, uint32_t flags,
                        const double *values)
{
    uint64_t words[PD_SIGNAL_WORDS(PD_MAX_VALUES)];
    struct pd_signal *out = (struct pd_signal *)words;
    if (analysis->muted || pd_ring_next(analysis->signal) > index) return;
    pd_ring_skip(analysis->signal, index);
    out->t_ns = t_ns;
    out->flags = flags;
    out->reserved = 0;
    memcpy(out->value, values, analysis->config.n_values * sizeof(double));
    pd_ring_push(analysis->signal, words);
}

void pd_analysis_take(struct pd_analysis *analysis, uint64_t index, int64_t t_ns, uint32_t flags,
                      int64_t arrival_ns, const double *values)
{
    const struct pd_analysis_config *config = &analysis->config;
    struct pd_analysis_state *state = analysis->state;
    if (index < state->next) return;
    if (flags & PD_SIGNAL_RESET || index > state->next) begin_segment(analysis, index);
    push_signal(analysis, index, t_ns, flags, values);

    struct pd_analysis_block *block = open_block(analysis);
    if (flags & PD_SIGNAL_LOST) {
        block->lost++;
        if (flags & PD_SIGNAL_BRIDGED) block->bridged++;
    } else {
        block->arrival_ns = arrival_ns;
    }
    double mean = 0;
    for (uint32_t i = 0; i < config->n_reference; i++) mean += values[config->reference[i]];
    if (config->n_reference) mean /= config->n_reference;
    double *row = analysis->rows + (size_t)analysis->n_rows * config->n_picks;
    int hole = 0;
    for (uint32_t i = 0; i < config->n_picks; i++) {
        row[i] = values[config->pick[i]] - mean;
        hole |= !(fabs(row[i]) <= PD_SOS_LARGEST);
    }
    memcpy(analysis->raw + (size_t)analysis->n_rows * config->n_channels, values,
           config->n_channels * sizeof(double));
    analysis->lost[analysis->n_rows] = flags & PD_SIGNAL_LOST ? 1 : 0;
    state->newest_ns = t_ns;
    block->holes += (uint32_t)hole;
    block->until = state->next = index + 1;
    if (++analysis->n_rows == PD_ANALYSIS_BLOCK) run_kernels(analysis);
}

void pd_analysis_begin(struct pd_analysis *analysis, int64_t t_ns, int64_t grid_t0_ns)
{
    int64_t steps = (t_ns - grid_t0_ns) / analysis->config.step_ns;
    if (analysis->state->window_next < 0) analysis->state->window_next = steps < 0 ? 1 : steps + 1;
}

int64_t pd_analysis_end_ns(const struct pd_analysis *analysis, int64_t grid_t0_ns)
{
    return grid_t0_ns + analysis->state->window_next * analysis->config.step_ns;
}

void pd_analysis_relocked(struct pd_analysis *analysis)
{
    open_block(analysis)->flags |= PD_WINDOW_RELOCKED;
}

void pd_analysis_follow(struct pd_analysis *analysis, const struct pd_analysis *before)
{
    struct pd_analysis_state *state = analysis->state;
    if (state->window_next > before->state->window_next)
        open_block(analysis)->flags |= PD_WINDOW_FILLING;
    state->window_next = before->state->window_next;
}

void pd_analysis_learn(struct pd_analysis *analysis, uint64_t first, uint64_t until,
                       int64_t grid_t0_ns)
{
    uint64_t words[PD_SIGNAL_WORDS(PD_MAX_VALUES)];
    const struct pd_signal *sample = (const struct pd_signal *)words;
    const int muted = analysis->muted;
    uint64_t oldest = pd_ring_oldest(analysis->signal), next = pd_ring_next(analysis->signal);
    analysis->muted = 1;
    for (uint64_t i = first > oldest ? first : oldest; i < until && i < next; i++) {
        if (pd_ring_read(analysis->signal, i, words)) continue;     /* gone meanwhile */
        if (sample->t_ns != PD_NO_TIME) {
            pd_analysis_begin(analysis, sample->t_ns, grid_t0_ns);
            while (pd_analysis_end_ns(analysis, grid_t0_ns) <= sample->t_ns)
                pd_analysis_close(analysis, sample->t_ns, grid_t0_ns, 0);
        }
        pd_analysis_take(analysis, i, sample->t_ns, sample->flags, sample->t_ns, sample->value);
    }
    analysis->muted = muted;
}

void pd_analysis_succeed(struct pd_analysis *analysis, const struct pd_analysis *before,
                         int64_t grid_t0_ns)
{
    struct pd_analysis_state *state = analysis->state;
    const struct pd_analysis_state *was = before->state;
    pd_analysis_learn(analysis, state->next, was->next, grid_t0_ns);
    if (analysis->config.step_ns == before->config.step_ns) {
        analysis->muted = 1;                /* closed before its samples' successor was there */
        while (state->window_next >= 0 && state->window_next < was->window_next)
            pd_analysis_close(analysis, was->newest_ns, grid_t0_ns, 0);
        analysis->muted = 0;
        pd_analysis_follow(analysis, before);
    }
    state->artifact_until_ns = was->artifact_until_ns;
}

/* Sum of a band's squares over the window, or NaN. */
static void read_powers(const struct pd_analysis *analysis, const struct pd_window *window,
                        uint32_t holes, double *out)
{
    const struct pd_analysis_config *config = &analysis->config;
    const uint32_t picks = config->n_picks;
    const uint64_t n = window->until - window->first;
    int whole = n > 0 && holes == 0 && !(window->flags & PD_WINDOW_FILLING);
    for (uint32_t band = 0; band < config->n_power; band++) {
        for (uint32_t ch = 0; ch < picks; ch++) {
            double sum = 0;
            for (uint32_t step = 0; step < config->n_steps; step++)
                sum += analysis->squares[((size_t)step * config->n_power + band) * picks + ch];
            int defined = whole && n < UINT32_MAX &&
                          pd_sos_defined(&analysis->sos, band, ch, (uint32_t)n);
            out[band * picks + ch] = defined ? sum / (double)n : NAN;
        }
    }
}

static void read_correlations(struct pd_analysis *analysis, double *out)
{
    const struct pd_cca_config *cca = &analysis->config.cca;
    for (uint32_t band = 0; band < analysis->config.n_cca; band++) {
        for (uint32_t window = 0; window < cca->n_windows; window++) {
            if (pd_cca_correlate(analysis->cca[band], window, out) != PD_CCA_DEFINED)
                for (uint32_t target = 0; target < cca->n_targets; target++) out[target] = NAN;
            out += cca->n_targets;
        }
    }
}

static void read_phases(struct pd_analysis *analysis, double *out)
{
    const struct pd_analysis_state *state = analysis->state;
    struct pd_pll *pll = analysis->pll;
    if (pll->count && state->newest_ns != PD_NO_TIME)
        pd_pll_tie(pll, pll->count - 1, state->newest_ns);
    for (uint32_t i = 0; i < analysis->config.n_picks; i++, out += PD_ANALYSIS_PHASES) {
        struct pd_pll_report r;
        pd_pll_read(pll, i, &r);
        const double values[PD_ANALYSIS_PHASES] = {
            r.phase_rad, r.ref_phase_rad, r.phase_error_rad, r.phase_error_mean, r.phase_error_var,
            r.plv, r.sd_rad, r.frequency_hz, r.amplitude_uv, r.snr_db, r.subharmonic,
            r.defined ? r.locked : NAN,
        };
        memcpy(out, values, sizeof values);
    }
}

/* Returns the window's flags. */
static uint32_t read_artifacts(struct pd_analysis *analysis, double *out)
{
    const struct pd_analysis_config *config = &analysis->config;
    struct pd_artifact_report r;
    pd_artifact_read(analysis->artifact, &r);
    uint32_t flags = r.samples ? 0 : PD_WINDOW_REJECTED;
    for (uint32_t kind = 0; kind < PD_ARTIFACT_KINDS; kind++, out += PD_ANALYSIS_SCORES) {
        int counts = config->rejects >> kind & r.available >> kind & 1;
        if (counts && r.score[kind] >= 0.5) flags |= PD_WINDOW_REJECTED | PD_WINDOW_ARTIFACT;
        if (counts && r.undefined[kind]) flags |= PD_WINDOW_REJECTED;
        out[0] = r.score[kind];
        out[1] = r.value[kind];
        out[2] = r.channel[kind] < config->n_channels ? r.channel[kind] : NAN;
        out[3] = r.available >> kind & 1 ? r.undefined[kind] : NAN;
    }
    return flags;
}

void pd_analysis_close(struct pd_analysis *analysis, int64_t now_ns, int64_t grid_t0_ns,
                       uint32_t flags)
{
    const struct pd_analysis_config *config = &analysis->config;
    struct pd_analysis_state *state = analysis->state;
    struct pd_window *window = (struct pd_window *)analysis->frame;
    run_kernels(analysis);

    const struct pd_analysis_block *newest = open_block(analysis);
    window->index = state->window_next;
    window->end_ns = pd_analysis_end_ns(analysis, grid_t0_ns);
    window->start_ns = window->end_ns - config->step_ns * config->n_steps;
    window->closed_ns = now_ns;
    window->arrival_ns = PD_NO_TIME;
    window->flags = flags;
    window->until = newest->until;
    window->first = newest->first;
    window->lost = window->bridged = 0;
    window->n_values = analysis->n_window_values;
    uint32_t holes = 0;
    if (state->n_blocks + 1 < config->n_steps) window->flags |= PD_WINDOW_FILLING;
    for (uint32_t back = 0; back < config->n_steps; back++) {
        uint32_t place = (state->newest + config->n_steps - back) % config->n_steps;
        const struct pd_analysis_block *block = &state->block[place];
        if (back > state->n_blocks) break;
        window->first = block->first;
        window->flags |= block->flags;
        window->lost += block->lost;
        window->bridged += block->bridged;
        holes += block->holes;
        if (window->arrival_ns == PD_NO_TIME) window->arrival_ns = block->arrival_ns;
    }
    read_powers(analysis, window, holes, window->value);
    double *at = window->value + config->n_power * config->n_picks;
    read_correlations(analysis, at);
    at += config->n_cca ? config->n_cca * config->cca.n_windows * config->cca.n_targets : 0;
    if (analysis->pll) read_phases(analysis, at);
    at += analysis->pll ? config->n_picks * PD_ANALYSIS_PHASES : 0;
    if (analysis->artifact) window->flags |= read_artifacts(analysis, at);
    if (window->flags & PD_WINDOW_ARTIFACT)
        state->artifact_until_ns = window->end_ns + config->step_ns;
    if (!analysis->muted) pd_ring_push(analysis->windows, analysis->frame);

    if (state->n_blocks < config->n_steps) state->n_blocks++;
    state->newest = (state->newest + 1) % config->n_steps;
    state->window_next++;
    *open_block(analysis) = (struct pd_analysis_block){ .first = state->next, .until = state->next,
                                                        .arrival_ns = PD_NO_TIME };
    memset(analysis->squares + (size_t)state->newest * config->n_power * config->n_picks, 0,
           (size_t)config->n_power * config->n_picks * sizeof(double));
}
