#include "pd_stress.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_noise.h"

#define BLOCKS (PD_BINS_MAX_UNITS / PD_NOISE_WIDTH)
#define MAX_COUNT 65535.0

enum { KEY_NOISE = 0x5713, KEY_ROUND, KEY_SHIFT, KEY_LINE, KEY_SILENT, KEY_GAIN, KEY_DRIFT };

static int is_probability(double p)
{
    return p >= 0.0 && p <= 1.0;
}

static int is_within(double x, double most)
{
    return x >= 0.0 && x <= most;
}

static int is_sane(const struct pd_stress_config *c)
{
    return is_within(c->noise_std, 100.0) && is_within(c->drift_amplitude, 100.0)
           && is_within(c->drift_period_s, 1e6) && c->drift_period_s >= 1e-3
           && is_probability(c->dropout) && is_within(c->gain_std, 5.0)
           && is_within(c->shift, PD_BINS_MAX_UNITS) && is_within(c->latency_ms, 1000.0)
           && is_within(c->jitter_ms, 1000.0) && is_probability(c->loss)
           && is_probability(c->duplicate) && is_probability(c->reorder)
           && is_within(c->disconnects_per_min, 600.0);
}

/* One number a unit, drawn once. */
static void draw_units(uint64_t seed, uint64_t purpose, uint32_t n_units, double *out)
{
    double normal[PD_NOISE_WIDTH];
    uint64_t key = pd_noise_key(seed, purpose);
    for (uint32_t u = 0; u < n_units; u++) {
        if (u % PD_NOISE_WIDTH == 0)
            pd_noise_normals(key, u / PD_NOISE_WIDTH, normal, PD_NOISE_WIDTH);
        out[u] = normal[u % PD_NOISE_WIDTH];
    }
}

int pd_stress_init(struct pd_stress *stress, const struct pd_stress_config *config,
                   uint32_t n_units, const uint16_t *source)
{
    if (n_units == 0 || n_units > PD_BINS_MAX_UNITS || !is_sane(config)) return -EINVAL;
    memset(stress, 0, sizeof *stress);
    stress->config = *config;
    stress->n_units = n_units;
    stress->noise_key = pd_noise_key(config->seed, KEY_NOISE);
    stress->round_key = pd_noise_key(config->seed, KEY_ROUND);
    stress->shift_key = pd_noise_key(config->seed, KEY_SHIFT);
    stress->line_key = pd_noise_key(config->seed, KEY_LINE);
    draw_units(config->seed, KEY_GAIN, n_units, stress->gain);
    draw_units(config->seed, KEY_DRIFT, n_units, stress->drift);
    uint64_t key = pd_noise_key(config->seed, KEY_SILENT);
    double n_silent = config->dropout * n_units;
    for (uint32_t u = 0; u < n_units; u++) {
        stress->gain[u] = pd_noise_exp(config->gain_std * stress->gain[u]);
        stress->drift[u] = 1.0 + 0.3 * stress->drift[u];
        if (source && source[u] >= n_units) return -EINVAL;
        stress->source[u] = source ? source[u] : (uint16_t)u;
        stress->rotated |= stress->source[u] != u;
        double mine = pd_noise_uniform(key, u);
        uint32_t rank = 0;
        for (uint32_t v = 0; v < n_units; v++) {
            double other = pd_noise_uniform(key, v);
            rank += other < mine || (other == mine && v < u);
        }
        stress->silent[u] = rank + 0.5 < n_silent;
    }
    stress->on_counts = stress->rotated || config->shift > 0.0 || config->dropout > 0.0
                        || config->gain_std > 0.0 || config->noise_std > 0.0
                        || config->drift_amplitude > 0.0;
    stress->on_line = config->latency_ms > 0.0 || config->jitter_ms > 0.0 || config->loss > 0.0
                      || config->duplicate > 0.0 || config->reorder > 0.0
                      || config->disconnects_per_min > 0.0;
    return 0;
}

static double sine_of(double turns)
{
    double sine, cosine;
    pd_noise_sincos(pd_noise_phase(turns - floor(turns)), &sine, &cosine);
    return sine;
}

static uint64_t counter_of(uint64_t number, uint32_t unit)
{
    return number * PD_BINS_MAX_UNITS + unit;
}

static void shift_units(const struct pd_stress *stress, uint64_t number, uint16_t *counts)
{
    uint16_t before[PD_BINS_MAX_UNITS];
    const uint32_t n = stress->n_units;
    const uint32_t whole = (uint32_t)stress->config.shift;
    const double part = stress->config.shift - whole;
    memcpy(before, counts, n * sizeof *counts);
    memset(counts, 0, n * sizeof *counts);
    for (uint32_t u = 0; u + whole < n; u++) {
        uint32_t moved = 0;
        if (part > 0.0) {
            /* As many as uniform numbers below `part`: all of one draw's digits suffice. */
            double draw = pd_noise_uniform(stress->shift_key, counter_of(number, u));
            for (uint32_t k = 0; k < before[u]; k++) {
                if (draw < part) {
                    moved++;
                    draw /= part;
                } else {
                    draw = (draw - part) / (1.0 - part);
                }
            }
        }
        uint32_t stays = counts[u + whole] + (before[u] - moved);
        counts[u + whole] = (uint16_t)(stays > 65535 ? 65535 : stays);
        if (u + whole + 1 < n) counts[u + whole + 1] = (uint16_t)moved;
    }
}

void pd_stress_counts(const struct pd_stress *stress, uint64_t number, double t_s,
                      uint16_t *counts)
{
    const struct pd_stress_config *c = &stress->config;
    const uint32_t n = stress->n_units;
    if (!stress->on_counts) return;
    if (stress->rotated) {
        uint16_t before[PD_BINS_MAX_UNITS];
        memcpy(before, counts, n * sizeof *counts);
        for (uint32_t u = 0; u < n; u++) counts[u] = before[stress->source[u]];
    }
    if (c->shift > 0.0) shift_units(stress, number, counts);
    if (c->dropout > 0.0)
        for (uint32_t u = 0; u < n; u++)
            if (stress->silent[u]) counts[u] = 0;
    if (c->gain_std > 0.0)
        for (uint32_t u = 0; u < n; u++)
            if (counts[u]) {
                double level = pd_noise_uniform(stress->round_key, counter_of(number, u));
                counts[u] = (uint16_t)fmin(floor(counts[u] * stress->gain[u] + level), MAX_COUNT);
            }
    if (c->noise_std == 0.0 && c->drift_amplitude == 0.0) return;
    double d = 0.0, normal[PD_NOISE_WIDTH];
    if (c->drift_amplitude > 0.0) {
        double turns = t_s / c->drift_period_s;
        d = c->drift_amplitude * sine_of(turns) + 0.1 * c->drift_amplitude * sine_of(10.0 * turns);
    }
    for (uint32_t first = 0; first < n; first += PD_NOISE_WIDTH) {
        uint32_t width = n - first < PD_NOISE_WIDTH ? n - first : PD_NOISE_WIDTH;
        if (c->noise_std > 0.0)
            pd_noise_normals(stress->noise_key, number * BLOCKS + first / PD_NOISE_WIDTH, normal,
                             width);
        for (uint32_t i = 0; i < width; i++) {
            double count = counts[first + i];
            if (c->noise_std > 0.0) count += normal[i] * c->noise_std * (count + 1.0);
            count += d * (count + 1.0) * stress->drift[first + i];
            counts[first + i] = (uint16_t)rint(fmin(fmax(count, 0.0), MAX_COUNT));
        }
    }
}

void pd_stress_way(const struct pd_stress *stress, uint64_t number, int64_t period_ns,
                   struct pd_stress_fate *fate)
{
    const struct pd_stress_config *c = &stress->config;
    uint64_t counter = number * 8;
    memset(fate, 0, sizeof *fate);
    fate->copies = 1;
    if (!stress->on_line) return;
    fate->lost = pd_noise_uniform(stress->line_key, counter) < c->loss;
    if (pd_noise_uniform(stress->line_key, counter + 1) < c->duplicate) fate->copies = 2;
    fate->reordered = pd_noise_uniform(stress->line_key, counter + 2) < c->reorder;
    double cut = c->disconnects_per_min / 60.0 * (double)period_ns * 1e-9;
    fate->cut = pd_noise_uniform(stress->line_key, counter + 3) < cut;
    for (int i = 0; i < 2; i++) {
        double u = pd_noise_uniform(stress->line_key, counter + 4 + (uint64_t)i);
        fate->delay_ns[i] = (int64_t)((c->latency_ms + u * c->jitter_ms) * 1e6);
        /* Late enough that the next packet overtakes it. */
        if (fate->reordered) fate->delay_ns[i] += period_ns + period_ns / 2;
    }
}

