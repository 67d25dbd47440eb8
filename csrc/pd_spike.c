#include "pd_spike.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_spike_state.h"

#define LARGEST_GAIN 1e20           /* times PD_SPIKE_LARGEST, and a reference: far below 3e38 */

static uint32_t padded(uint32_t n_channels)
{
    return (n_channels + PD_SPIKE_LANES - 1) / PD_SPIKE_LANES * PD_SPIKE_LANES;
}

size_t pd_spike_bytes(uint32_t n_channels, uint32_t n_sections)
{
    struct pd_spike_view view;
    if (n_channels < 1 || n_channels > PD_SPIKE_MAX_CHANNELS) return 0;
    if (n_sections < 1 || n_sections > PD_SPIKE_MAX_SECTIONS) return 0;
    return pd_spike_lay_out(&view, NULL, padded(n_channels), n_sections);
}

static int sensible(const struct pd_spike_config *c)
{
    return c->rate_hz > 0 && c->rate_hz <= 1e9 && c->bin_samples >= 1
           && c->bin_samples <= 2147483648.0 && c->threshold > 0 && c->threshold <= 1e6
           && fabs(c->scale) <= 1e4 && c->scale != 0 && c->refractory >= 1
           && c->refractory <= INT32_MAX && c->reference <= PD_SPIKE_MEDIAN
           && c->reference_on <= PD_SPIKE_ON_RAW && c->polarity >= PD_SPIKE_NEGATIVE
           && c->polarity <= PD_SPIKE_BOTH;
}

/* A bound of what an input of 1 can make of any state or output: below it float32 can't overflow. */
static double largest_gain(const struct pd_sos_section *sections, uint32_t n_sections,
                           uint32_t n)
{
    double z[PD_SPIKE_MAX_SECTIONS][2] = {{0}}, sum = 0;
    for (uint32_t at = 0; at < n; at++) {
        double x = at == 0;
        for (uint32_t i = 0; i < n_sections; i++) {
            const struct pd_sos_section *s = &sections[i];
            const double y = s->b0 * x + z[i][0];
            z[i][0] = s->b1 * x - s->a1 * y + z[i][1];
            z[i][1] = s->b2 * x - s->a2 * y;
            sum += fabs(y) + fabs(z[i][0]) + fabs(z[i][1]);
            x = y;
        }
    }
    return sum;
}

static int64_t bin_end(const struct pd_spike *spike)
{
    return (int64_t)floor((double)(spike->bin + 1) * spike->bin_samples);
}

int pd_spike_init(void *memory, size_t bytes, const struct pd_spike_config *config,
                  const uint8_t *good)
{
    const size_t need = pd_spike_bytes(config->n_channels, config->n_sections);
    if (need == 0 || bytes < need || (uintptr_t)memory % 64 || !sensible(config)) return -EINVAL;
    struct pd_sos_section designed[PD_SPIKE_MAX_SECTIONS];
    uint32_t settle;
    memcpy(designed, config->sections, config->n_sections * sizeof *designed);
    int rc = pd_sos_design(designed, config->n_sections, PD_SPIKE_SETTLE, &settle);
    if (rc) return rc;

    if (!(largest_gain(designed, config->n_sections, 4 * settle) <= LARGEST_GAIN)) return -EINVAL;

    struct pd_spike *spike = memory;
    memset(spike, 0, sizeof *spike);
    spike->bytes = need;
    spike->bin_samples = config->bin_samples;
    spike->every = (uint32_t)(config->rate_hz / PD_SPIKE_NOISE_HZ + 0.5);
    if (spike->every < 1) spike->every = 1;
    spike->settle = settle;
    spike->refractory = config->refractory;
    spike->n_channels = config->n_channels;
    spike->n_padded = padded(config->n_channels);
    spike->n_sections = config->n_sections;
    spike->reference = config->reference;
    spike->reference_on = config->reference_on;
    spike->polarity = config->polarity;
    spike->threshold = (float)config->threshold;
    spike->scale = (float)config->scale;
    for (uint32_t i = 0; i < config->n_sections; i++) {
        const struct pd_sos_section *s = &designed[i];
        spike->sections[i] = (struct pd_spike_section){
            .b0 = (float)s->b0, .b1 = (float)s->b1, .b2 = (float)s->b2, .a1 = (float)s->a1,
            .a2 = (float)s->a2, .level0 = (float)s->level0, .level1 = (float)s->level1};
        /* What rounding to float32 makes of poles that were just inside. */
        if (!(fabsf(spike->sections[i].a2) < 1
              && fabsf(spike->sections[i].a1) < 1 + spike->sections[i].a2)) return -EDOM;
    }
    pd_spike_reset(spike);
    return pd_spike_good(spike, good);
}

void pd_spike_reset(struct pd_spike *spike)
{
    struct pd_spike_view v = pd_spike_view(spike);
    const uint32_t n = spike->n_padded;
    memset(v.z, 0, (size_t)((unsigned char *)v.good - (unsigned char *)v.z));
    memset(v.lost, 0, (size_t)((unsigned char *)spike + spike->bytes - (unsigned char *)v.lost));
    spike->index = spike->bin = spike->bin_start = 0;
    spike->bin_end = bin_end(spike);
    spike->noise_next = spike->window_start = spike->settle;
    spike->window_fill = 0;
    spike->slope = 0;
    for (uint32_t c = 0; c < n; c++) {
        v.noise[c] = NAN;
        v.quiet[c] = spike->settle;
        pd_spike_arm(&v, c);
    }
    for (uint32_t group = 0; group < n / PD_SPIKE_LANES; group++)
        v.starts[group] = (1u << PD_SPIKE_LANES) - 1;
}

int pd_spike_good(struct pd_spike *spike, const uint8_t *good)
{
    struct pd_spike_view v = pd_spike_view(spike);
    uint32_t n_good = 0;
    for (uint32_t c = 0; c < spike->n_channels; c++) n_good += good == NULL || good[c] != 0;
    if (n_good == 0 && spike->reference != PD_SPIKE_NO_REFERENCE) return -EINVAL;
    for (uint32_t c = 0; c < spike->n_padded; c++)
        v.good[c] = c < spike->n_channels && (good == NULL || good[c] != 0) ? -1 : 0;
    spike->n_good = n_good;
    return 0;
}

uint32_t pd_spike_bins(const struct pd_spike *spike, uint32_t n)
{
    const int64_t end = spike->index + n;
    struct pd_spike later = {.bin = spike->bin, .bin_samples = spike->bin_samples};
    uint32_t bins = 0;
    while (bin_end(&later) <= end) {
        later.bin++;
        bins++;
    }
    return bins;
}

int64_t pd_spike_index(const struct pd_spike *spike) { return spike->index; }
int64_t pd_spike_bin(const struct pd_spike *spike) { return spike->bin; }
int64_t pd_spike_bin_end(const struct pd_spike *spike) { return spike->bin_end; }
uint32_t pd_spike_settle(const struct pd_spike *spike) { return spike->settle; }
uint32_t pd_spike_every(const struct pd_spike *spike) { return spike->every; }

float pd_spike_noise(const struct pd_spike *spike, uint32_t channel)
{
    struct pd_spike_view v = pd_spike_view((struct pd_spike *)(uintptr_t)spike);
    return v.noise[channel];
}
