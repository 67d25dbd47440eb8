#include "pd_sim_signal.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define SQRT2 1.4142135623730951

/* Background: flat under PINK_LOW_HZ, a pole every PINK_RATIO above it. */
#define PINK_LOW_HZ 0.05
#define PINK_RATIO 3.0
#define PINK_TOP 0.4                /* of the rate: the last pole */
#define WARM_S 16.0                 /* five time constants of the lowest pole */
/* Alpha waxes and wanes over ALPHA_SWELL_S (log-normal, sd SWELL) and wanders in
 * frequency by 0.35 Hz (sd) over seconds, as a posterior rhythm does. */
#define ALPHA_SWELL_S 0.8
#define ALPHA_SWELL 0.55
#define ALPHA_WANDER_S 2.0
#define ALPHA_WANDER_HZ 0.35
#define EYES_S 0.4
#define SSVEP_GATE_S 0.08
/* A large grid keeps its frequency within some tens of millihertz. */
#define LINE_WANDER_S 8.0
#define LINE_WANDER_HZ 0.015
#define LINE_SWELL_S 5.0
#define LINE_SWELL 0.08
#define LINE_THIRD 0.2
/* Blink: lid down, lid up, undershoot of the AC-coupled eye dipole. */
#define BLINK_DOWN_S 0.09
#define BLINK_UP_S 0.14
#define BLINK_UNDER_S 0.11
#define BLINK_UNDER 0.12
#define BLINK_REFRACTORY_S 0.8
#define BLINK_LEAST_UV 80.0
#define BLINK_MOST_UV 300.0
#define EMG_LOW_HZ 20.0
#define EMG_HIGH_HZ 120.0
#define EMG_EDGE_S 0.05
#define POP_TAU_S 0.5
#define POP_LEAST_UV 200.0
#define POP_MOST_UV 2000.0
#define POP_GONE_UV 0.1             /* under this a pop is over */
#define DRIFT_S 20.0

enum { KEY_PINK, KEY_ALPHA, KEY_LINE, KEY_DRIFT, KEY_NOISE, KEY_EMG, KEY_BLINKS, KEY_EMGS,
       KEY_POPS, KEY_OFFSET };

/* -- init ------------------------------------------------------------------------ */

static int valid(const struct pd_sim_signal_config *config)
{
    const double at_least_0[] = {
        config->background_uv, config->background_shared, config->alpha_uv,
        config->alpha_closed_gain, config->ssvep_uv, config->ssvep_period_s, config->line_hz,
        config->line_uv, config->blink_per_min, config->emg_per_min, config->pop_per_min,
        config->emg_uv, config->offset_uv, config->drift_uv, config->noise_uv, config->alpha_hz,
        config->background_exponent,
    };
    for (size_t i = 0; i < sizeof at_least_0 / sizeof *at_least_0; i++)
        if (!(at_least_0[i] >= 0 && at_least_0[i] < 1e9)) return 0;
    for (uint32_t t = 0; t < config->n_targets && t < PD_SIM_MAX_SSVEP; t++)
        if (!(config->target[t].hz > 0) || config->target[t].n_windows > PD_SIM_MAX_WINDOWS)
            return 0;
    return config->rate_hz >= 16 && config->rate_hz <= 16000 && config->n_channels >= 1 &&
           config->n_channels <= PD_SIM_MAX_CHANNELS && config->background_exponent <= 2 &&
           config->background_shared <= 1 && config->n_targets <= PD_SIM_MAX_SSVEP &&
           config->ssvep_harmonics >= 1 && config->ssvep_harmonics <= 4;
}

static void init_background(struct pd_sim_signal *signal)
{
    const struct pd_sim_signal_config *config = &signal->config;
    const double rate_hz = config->rate_hz;
    double apart = pd_noise_exp(0.5 * config->background_exponent * pd_noise_log(PINK_RATIO));
    for (double hz = PINK_LOW_HZ; hz < PINK_TOP * rate_hz; hz *= PINK_RATIO)
        pd_cascade_add(&signal->pink, pd_noise_corner(hz, rate_hz),
                       pd_noise_corner(hz * apart, rate_hz));
    pd_cascade_normalise(&signal->pink, 0.5, fmin(40.0, 0.45 * rate_hz), rate_hz);

    /* Two channels correlate by the shared fraction times (1 + cos of the angle
     * between them) / 2: one source for all, three along the axes of the head. */
    for (uint32_t c = 0; c < config->n_channels; c++) {
        const double *at = config->position[c];
        double power = 1.0 + at[0] * at[0] + at[1] * at[1] + at[2] * at[2];
        double scale = config->background_uv * sqrt(config->background_shared / power);
        signal->share[c][0] = scale;
        for (int axis = 0; axis < 3; axis++) signal->share[c][1 + axis] = scale * at[axis];
    }
    signal->own = config->background_uv * sqrt(1.0 - config->background_shared);
}

static void background_step(struct pd_sim_signal *signal, uint64_t n, double *sources)
{
    uint32_t width = signal->config.n_channels + PD_SIM_SHARED;
    pd_noise_normals(signal->key[KEY_PINK], n, sources, width);
    pd_cascade_run(&signal->pink, signal->state->pink[0], PD_SIM_SOURCES, sources, width);
}

static int target_on(const struct pd_sim_signal *signal, uint32_t t, uint64_t n)
{
    const struct pd_sim_target *target = &signal->config.target[t];
    if (target->n_windows == 0) return 1;
    double period = signal->config.ssvep_period_s, s = (double)n / signal->config.rate_hz;
    if (period > 0) s -= period * (double)(uint64_t)(s / period);
    for (uint32_t w = 0; w < target->n_windows; w++)
        if (s >= target->on_s[w] && s < target->off_s[w]) return 1;
    return 0;
}

/* Samples from one event to the next: refractory, then memoryless. */
static uint64_t until_next(const struct pd_sim_signal *signal, uint32_t key, uint64_t count,
                           double per_min, double refractory_s)
{
    if (!(per_min > 0)) return UINT64_MAX / 2;
    double mean_s = 60.0 / per_min;
    refractory_s = fmin(refractory_s, 0.5 * mean_s);
    double s = refractory_s + (mean_s - refractory_s) *
                                  pd_noise_exponential(signal->key[key], 8 * count);
    return 1 + (uint64_t)(s * signal->config.rate_hz);
}

int pd_sim_signal_init(struct pd_sim_signal *signal, struct pd_sim_signal_state *state,
                       const struct pd_sim_signal_config *config)
{
    if (!valid(config)) return -EINVAL;
    memset(signal, 0, sizeof *signal);
    memset(state, 0, sizeof *state);
    signal->config = *config;
    signal->state = state;
    const double rate_hz = config->rate_hz, top_hz = 0.5 * rate_hz;
    for (uint32_t k = 0; k < 16; k++) signal->key[k] = pd_noise_key(config->seed, k);
    init_background(signal);

    signal->alpha_swell = pd_wander_of(ALPHA_SWELL_S, rate_hz);
    signal->alpha_wander = pd_wander_of(ALPHA_WANDER_S, rate_hz);
    signal->line_swell = pd_wander_of(LINE_SWELL_S, rate_hz);
    signal->line_wander = pd_wander_of(LINE_WANDER_S, rate_hz);
    signal->drift = pd_wander_of(DRIFT_S, rate_hz);
    signal->eyes_rate = 1.0 - pd_noise_exp(-1.0 / (EYES_S * rate_hz));
    signal->gate_rate = 1.0 - pd_noise_exp(-1.0 / (SSVEP_GATE_S * rate_hz));
    signal->pop_keep = pd_noise_exp(-1.0 / (POP_TAU_S * rate_hz));
    signal->has_alpha = config->alpha_hz > 0 && config->alpha_hz < top_hz;
    signal->has_line = config->line_hz > 0 && config->line_hz < top_hz;
    signal->has_line3 = signal->has_line && 3.0 * config->line_hz < top_hz;
    for (uint32_t t = 0; t < config->n_targets; t++) {
        double hz = config->target[t].hz;
        if (hz < top_hz) signal->target_step[t] = pd_noise_phase(hz / rate_hz);
        while (signal->harmonics[t] < config->ssvep_harmonics &&
               hz * (signal->harmonics[t] + 1) < top_hz)
            signal->harmonics[t]++;
    }
    signal->has_emg = 2.5 * EMG_LOW_HZ < rate_hz;
    if (signal->has_emg) {
        double low = pd_noise_corner(EMG_LOW_HZ, rate_hz);
        double high = pd_noise_corner(EMG_HIGH_HZ, rate_hz);
        for (int order = 0; order < 2; order++) {
            pd_cascade_add(&signal->emg, low, 1.0);
            if (EMG_HIGH_HZ < 0.45 * rate_hz) pd_cascade_add(&signal->emg, high, -1.0);
        }
        pd_cascade_normalise(&signal->emg, 1.0, 0.5 * rate_hz, rate_hz);
    }
    for (uint32_t c = 0; c < config->n_channels; c++) {
        const uint64_t key = signal->key[KEY_OFFSET];
        signal->offset[c] = config->offset_uv * (2.0 * pd_noise_uniform(key, 2 * c) - 1.0);
        signal->line_gain[c] = config->line_uv * (0.6 + 0.8 * pd_noise_uniform(key, 2 * c + 1));
    }

    state->alpha_gain = config->eyes_closed ? config->alpha_closed_gain : 1.0;
    for (uint32_t t = 0; t < config->n_targets; t++) state->gate[t] = target_on(signal, t, 0);
    state->next_blink =
        until_next(signal, KEY_BLINKS, 0, config->blink_per_min, BLINK_REFRACTORY_S);
    state->next_emg = until_next(signal, KEY_EMGS, 0, config->emg_per_min, 0.0);
    state->next_pop = until_next(signal, KEY_POPS, 0, config->pop_per_min, 0.0);

    /* Stationary from the first sample on: the time before it has passed. */
    double sources[PD_SIM_SOURCES], pair[2];
    for (uint64_t n = 0 - (uint64_t)(WARM_S * rate_hz); n != 0; n++) {
        background_step(signal, n, sources);
        pd_noise_normals(signal->key[KEY_ALPHA], n, pair, 2);
        pd_wander_step(&signal->alpha_swell, &state->alpha_swell[0], &state->alpha_swell[1],
                       pair[0]);
        pd_wander_step(&signal->alpha_wander, &state->alpha_wander[0], &state->alpha_wander[1],
                    pair[1]);
    }
    return 0;
}

/* -- the parts of a sample -------------------------------------------------------- */

static void add_background(struct pd_sim_signal *signal, double *out)
{
    double sources[PD_SIM_SOURCES];
    const uint32_t n_channels = signal->config.n_channels;
    background_step(signal, signal->state->n, sources);
    const double *shared = sources + n_channels;
    for (uint32_t c = 0; c < n_channels; c++) {
        const double *share = signal->share[c];
        out[c] = signal->own * sources[c] + share[0] * shared[0] + share[1] * shared[1] +
                 share[2] * shared[2] + share[3] * shared[3];
    }
}

static void add_alpha(struct pd_sim_signal *signal, int closed, struct pd_sim_truth *truth)
{
    const struct pd_sim_signal_config *config = &signal->config;
    struct pd_sim_signal_state *state = signal->state;
    double pair[2], sine, cosine;
    pd_noise_normals(signal->key[KEY_ALPHA], state->n, pair, 2);
    double swell = pd_wander_step(&signal->alpha_swell, &state->alpha_swell[0],
                               &state->alpha_swell[1], pair[0]);
    double wander = pd_wander_step(&signal->alpha_wander, &state->alpha_wander[0],
                                &state->alpha_wander[1], pair[1]);
    double gain = closed ? config->alpha_closed_gain : 1.0;
    state->alpha_gain += signal->eyes_rate * (gain - state->alpha_gain);
    /* A log-normal amplitude whose mean square is 1. */
    double amplitude = SQRT2 * config->alpha_uv * state->alpha_gain *
                       pd_noise_exp(ALPHA_SWELL * swell - ALPHA_SWELL * ALPHA_SWELL);
    pd_noise_sincos(state->alpha_phase, &sine, &cosine);
    truth->alpha_turns = (double)(state->alpha_phase >> 11) * 0x1p-53;
    truth->alpha_amplitude = amplitude;
    for (uint32_t c = 0; c < config->n_channels; c++)
        truth->part[PD_SIM_ALPHA][c] = config->alpha_weight[c] * (amplitude * cosine);
    state->alpha_phase +=
        pd_noise_phase((config->alpha_hz + ALPHA_WANDER_HZ * wander) / config->rate_hz);
}

static void add_ssvep(struct pd_sim_signal *signal, double *out)
{
    const struct pd_sim_signal_config *config = &signal->config;
    double sum = 0.0;
    for (uint32_t t = 0; t < config->n_targets; t++) {
        double *gate = &signal->state->gate[t], size = config->ssvep_uv;
        *gate += signal->gate_rate * ((double)target_on(signal, t, signal->state->n) - *gate);
        uint64_t phase = signal->target_step[t] * signal->state->n;
        for (uint32_t h = 1; h <= signal->harmonics[t]; h++, size *= 0.5) {
            double sine, cosine;
            pd_noise_sincos(phase * h, &sine, &cosine);
            sum += *gate * size * sine;
        }
    }
    for (uint32_t c = 0; c < config->n_channels; c++) out[c] = config->ssvep_weight[c] * sum;
}

static void add_line(struct pd_sim_signal *signal, double *out)
{
    struct pd_sim_signal_state *state = signal->state;
    double pair[2], sine, cosine, third = 0.0;
    pd_noise_normals(signal->key[KEY_LINE], state->n, pair, 2);
    double swell = pd_wander_step(&signal->line_swell, &state->line_swell[0], &state->line_swell[1],
                               pair[0]);
    double wander = pd_wander_step(&signal->line_wander, &state->line_wander[0],
                                &state->line_wander[1], pair[1]);
    if (signal->has_line3) pd_noise_sincos(3 * state->line_phase, &third, &cosine);
    pd_noise_sincos(state->line_phase, &sine, &cosine);
    double sum = (1.0 + LINE_SWELL * swell) * (sine + LINE_THIRD * third);
    for (uint32_t c = 0; c < signal->config.n_channels; c++) out[c] = signal->line_gain[c] * sum;
    state->line_phase +=
        pd_noise_phase((signal->config.line_hz + LINE_WANDER_HZ * wander) / signal->config.rate_hz);
}

/* The blink's course: 0 at both ends, 1 at its peak, smooth throughout. */
static double blink_at(double s)
{
    if (s < BLINK_DOWN_S) return 0.5 - 0.5 * pd_noise_cos(0.5 * s / BLINK_DOWN_S);
    s -= BLINK_DOWN_S;
    if (s < BLINK_UP_S)
        return 0.5 * (1.0 - BLINK_UNDER) +
               0.5 * (1.0 + BLINK_UNDER) * pd_noise_cos(0.5 * s / BLINK_UP_S);
    s -= BLINK_UP_S;
    if (s < BLINK_UNDER_S)
        return BLINK_UNDER * (-0.5 - 0.5 * pd_noise_cos(0.5 * s / BLINK_UNDER_S));
    return 0.0;
}

static void add_blinks(struct pd_sim_signal *signal, double *out)
{
    double sum = 0.0;
    for (int b = 0; b < PD_SIM_BURSTS; b++) {
        struct pd_sim_burst *blink = &signal->state->blink[b];
        if (blink->n == 0) continue;
        const double whole_s = BLINK_DOWN_S + BLINK_UP_S + BLINK_UNDER_S;
        uint64_t at = signal->state->n - blink->start;
        sum += blink->uv * blink_at(whole_s * (double)at / (double)blink->n);
        if (at >= blink->n) blink->n = 0;
    }
    for (uint32_t c = 0; c < signal->config.n_channels; c++)
        out[c] = signal->config.blink_weight[c] * sum;
}

static void add_emg(struct pd_sim_signal *signal, double *out)
{
    struct pd_sim_signal_state *state = signal->state;
    const uint32_t n_channels = signal->config.n_channels;
    double power = 0.0, noise[PD_SIM_MAX_CHANNELS];
    const double edge = EMG_EDGE_S * signal->config.rate_hz;
    int active = 0;
    for (int b = 0; b < PD_SIM_BURSTS; b++) {
        struct pd_sim_burst *burst = &state->emg[b];
        if (burst->n == 0) continue;
        active = 1;
        double at = (double)(state->n - burst->start), left = (double)burst->n - at;
        double ramp = fmin(1.0, fmin(at, left) / edge);
        double envelope = burst->uv * (0.5 - 0.5 * pd_noise_cos(0.5 * ramp));
        power += envelope * envelope;
        if (left <= 0) burst->n = 0;
    }
    if (!active) {
        for (uint32_t c = 0; c < n_channels; c++) out[c] = 0.0;
        return;
    }
    pd_noise_normals(signal->key[KEY_EMG], state->n, noise, n_channels);
    pd_cascade_run(&signal->emg, state->emg_filter[0], PD_SIM_MAX_CHANNELS, noise, n_channels);
    double envelope = sqrt(power);
    for (uint32_t c = 0; c < n_channels; c++)
        out[c] = signal->config.emg_weight[c] * envelope * noise[c];
}

static void add_pops(struct pd_sim_signal *signal, double *out)
{
    double *pop = signal->state->pop;
    for (uint32_t c = 0; c < signal->config.n_channels; c++) {
        out[c] = pop[c];
        pop[c] *= signal->pop_keep;
        if (fabs(pop[c]) < POP_GONE_UV) pop[c] = 0.0;
    }
}

static void add_offset(struct pd_sim_signal *signal, double *out)
{
    double noise[PD_SIM_MAX_CHANNELS];
    double (*drift)[PD_SIM_MAX_CHANNELS] = signal->state->drift;
    const uint32_t n_channels = signal->config.n_channels;
    pd_noise_normals(signal->key[KEY_DRIFT], signal->state->n, noise, n_channels);
    double size = signal->config.offset_uv > 0 ? signal->config.drift_uv : 0.0;
    for (uint32_t c = 0; c < n_channels; c++)
        out[c] = signal->offset[c] +
                 size * pd_wander_step(&signal->drift, &drift[0][c], &drift[1][c], noise[c]);
}

/* -- what begins ------------------------------------------------------------------ */

/* A burst that would be the fifth at once takes the place of the oldest. */
static void begin(struct pd_sim_burst *bursts, uint64_t start, uint64_t n, double uv)
{
    struct pd_sim_burst *slot = bursts;
    for (int b = 1; b < PD_SIM_BURSTS && slot->n; b++)
        if (bursts[b].n == 0 || bursts[b].start < slot->start) slot = &bursts[b];
    *slot = (struct pd_sim_burst){ .start = start, .n = n, .uv = uv };
}

static uint64_t blink_samples(const struct pd_sim_signal *signal, double stretch)
{
    const double whole_s = BLINK_DOWN_S + BLINK_UP_S + BLINK_UNDER_S;
    return 1 + (uint64_t)(stretch * whole_s * signal->config.rate_hz);
}

void pd_sim_signal_blink(struct pd_sim_signal *signal, double uv)
{
    begin(signal->state->blink, signal->state->n, blink_samples(signal, 1.0), uv);
}

void pd_sim_signal_emg(struct pd_sim_signal *signal, double uv, uint64_t n)
{
    if (!signal->has_emg || n == 0) return;
    int active = 0;
    for (int b = 0; b < PD_SIM_BURSTS; b++) active |= signal->state->emg[b].n != 0;
    if (!active) memset(signal->state->emg_filter, 0, sizeof signal->state->emg_filter);
    begin(signal->state->emg, signal->state->n, n, uv);
}

void pd_sim_signal_pop(struct pd_sim_signal *signal, double uv, uint32_t channels)
{
    for (uint32_t c = 0; c < signal->config.n_channels; c++)
        if (channels >> c & 1) signal->state->pop[c] += uv;
}

static uint32_t all_channels(const struct pd_sim_signal *signal)
{
    return (uint32_t)((1ull << signal->config.n_channels) - 1);
}

static uint32_t begin_own_blink(struct pd_sim_signal *signal, int closed,
                                struct pd_sim_occurrence *began)
{
    struct pd_sim_signal_state *state = signal->state;
    if (state->n != state->next_blink) return 0;
    const uint64_t key = signal->key[KEY_BLINKS], count = 8 * state->blinks++;
    double size = pd_noise_uniform(key, count + 1);
    double uv = BLINK_LEAST_UV + (BLINK_MOST_UV - BLINK_LEAST_UV) * size * size;
    uint64_t n = blink_samples(signal, 0.85 + 0.3 * pd_noise_uniform(key, count + 2));
    state->next_blink += until_next(signal, KEY_BLINKS, state->blinks,
                                    signal->config.blink_per_min, BLINK_REFRACTORY_S);
    if (closed) return 0;
    begin(state->blink, state->n, n, uv);
    *began = (struct pd_sim_occurrence){ PD_SIM_BLINK, all_channels(signal), state->n, n, uv };
    return 1;
}

static uint32_t begin_own_emg(struct pd_sim_signal *signal, struct pd_sim_occurrence *began)
{
    struct pd_sim_signal_state *state = signal->state;
    if (state->n != state->next_emg) return 0;
    const uint64_t key = signal->key[KEY_EMGS], count = 8 * state->emgs++;
    double s = 0.2 + 1.3 * pd_noise_uniform(key, count + 1);
    double uv = signal->config.emg_uv * (0.5 + pd_noise_uniform(key, count + 2));
    uint64_t n = (uint64_t)(s * signal->config.rate_hz);
    state->next_emg += until_next(signal, KEY_EMGS, state->emgs, signal->config.emg_per_min, 0.0);
    if (!signal->has_emg) return 0;
    pd_sim_signal_emg(signal, uv, n);
    *began = (struct pd_sim_occurrence){ PD_SIM_EMG, all_channels(signal), state->n, n, uv };
    return 1;
}

static uint32_t begin_own_pop(struct pd_sim_signal *signal, struct pd_sim_occurrence *began)
{
    struct pd_sim_signal_state *state = signal->state;
    if (state->n != state->next_pop) return 0;
    const uint64_t key = signal->key[KEY_POPS], count = 8 * state->pops++;
    double uv = POP_LEAST_UV + (POP_MOST_UV - POP_LEAST_UV) * pd_noise_uniform(key, count + 1);
    if (pd_noise_uniform(key, count + 2) < 0.5) uv = -uv;
    uint32_t channel = (uint32_t)(pd_noise_uniform(key, count + 3) * signal->config.n_channels);
    pd_sim_signal_pop(signal, uv, 1u << channel);
    double s = POP_TAU_S * pd_noise_log(fabs(uv) / POP_GONE_UV);
    uint64_t n = (uint64_t)(s * signal->config.rate_hz);
    state->next_pop += until_next(signal, KEY_POPS, state->pops, signal->config.pop_per_min, 0.0);
    *began = (struct pd_sim_occurrence){ PD_SIM_POP, 1u << channel, state->n, n, uv };
    return 1;
}

/* -- a sample ---------------------------------------------------------------------- */

static double converted(const struct pd_sim_signal *signal, double uv)
{
    uv = fmax(-PD_SIM_RAIL_UV, fmin(PD_SIM_RAIL_UV, uv));
    if (!signal->config.quantise) return (double)(float)uv;
    double count = uv * (PD_SIM_FULL_SCALE / PD_SIM_RAIL_UV);
    int64_t whole = (int64_t)(count < 0 ? count - 0.5 : count + 0.5);
    return (double)whole * (PD_SIM_RAIL_UV / PD_SIM_FULL_SCALE);
}

uint32_t pd_sim_signal_next(struct pd_sim_signal *signal, const struct pd_sim_effect *effect,
                            double *values, struct pd_sim_truth *truth,
                            struct pd_sim_occurrence *began)
{
    const struct pd_sim_signal_config *config = &signal->config;
    struct pd_sim_signal_state *state = signal->state;
    struct pd_sim_truth own_truth;
    struct pd_sim_occurrence own_began[3];
    if (!truth) truth = &own_truth;
    if (!began) began = own_began;
    const uint32_t n_channels = config->n_channels;
    int closed = effect->eyes ? effect->eyes == 2 : (int)config->eyes_closed;

    uint32_t n_began = begin_own_blink(signal, closed, began);
    n_began += begin_own_emg(signal, began + n_began);
    n_began += begin_own_pop(signal, began + n_began);

    memset(truth->part[PD_SIM_ALPHA], 0, sizeof truth->part[0]);
    memset(truth->part[PD_SIM_LINE], 0, sizeof truth->part[0]);
    truth->alpha_turns = truth->alpha_amplitude = 0.0;
    add_background(signal, truth->part[PD_SIM_BACKGROUND]);
    if (signal->has_alpha) add_alpha(signal, closed, truth);
    add_ssvep(signal, truth->part[PD_SIM_SSVEP]);
    if (signal->has_line) add_line(signal, truth->part[PD_SIM_LINE]);
    add_blinks(signal, truth->part[PD_SIM_BLINK]);
    add_emg(signal, truth->part[PD_SIM_EMG]);
    add_pops(signal, truth->part[PD_SIM_POP]);
    add_offset(signal, truth->part[PD_SIM_OFFSET]);
    pd_noise_normals(signal->key[KEY_NOISE], state->n, truth->part[PD_SIM_NOISE], n_channels);
    for (uint32_t c = 0; c < n_channels; c++) truth->part[PD_SIM_NOISE][c] *= config->noise_uv;

    for (uint32_t c = 0; c < n_channels; c++) {
        double sum = 0.0;
        for (int part = 0; part < PD_SIM_PARTS; part++) sum += truth->part[part][c];
        values[c] = converted(signal, sum);
        if (effect->flat >> c & 1)
            values[c] = state->held[c];
        else
            state->held[c] = values[c];
        if (effect->saturated >> c & 1) values[c] = converted(signal, PD_SIM_RAIL_UV);
    }
    state->n++;
    return n_began;
}
