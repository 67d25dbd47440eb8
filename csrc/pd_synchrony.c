/* The plan; pd_synchrony_run.c has the rest. */
#include "pd_synchrony.h"

#include <errno.h>
#include <string.h>

#include "pd_noise.h"

#define SHIFTS 0x73686966           /* purpose of the random numbers: "shif" */

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t pairs_of(const struct pd_synchrony_config *c)
{
    return (size_t)c->n_channels * (c->n_channels - 1) / 2;
}

static size_t groups_of(const struct pd_synchrony_config *c)
{
    return (c->n_channels + PD_FFT_LANES - 1) / PD_FFT_LANES;
}

static size_t signal_bytes(const struct pd_synchrony_config *c)
{
    return groups_of(c) * c->n_samples * 2 * PD_FFT_LANES * sizeof(double);
}

/* The window of ones is in memory that init has not used yet. */
static struct pd_welch_config unwindowed(const struct pd_synchrony_config *c, const double *ones)
{
    return (struct pd_welch_config){
        .rate_hz = c->rate_hz, .window = ones, .nperseg = c->n_samples, .nfft = c->n_samples,
        .detrend = c->filtered ? PD_DETREND_NONE : PD_DETREND_LINEAR};
}

size_t pd_synchrony_bytes(const struct pd_synchrony_config *config)
{
    if (!(config->rate_hz > 0 && config->rate_hz <= 1e9)) return 0;
    if (!(config->low_hz >= 0 && config->high_hz > config->low_hz)) return 0;
    if (config->n_channels < 1 || config->n_channels > PD_SYNCHRONY_MAX_CHANNELS) return 0;
    if (config->n_samples < 1 || config->n_samples > PD_SYNCHRONY_MAX_SAMPLES) return 0;
    if (config->n_surrogates < 1 || config->n_surrogates > PD_SYNCHRONY_MAX_SURROGATES) return 0;
    struct pd_welch_config welch = unwindowed(config, NULL);
    size_t values = pairs_of(config) * config->n_surrogates * sizeof(double);
    return rounded(pd_welch_bytes(&welch)) + rounded(pd_fft_table_bytes(config->n_samples))
           + 2 * pd_fft_buffer_bytes(config->n_samples) + 2 * signal_bytes(config)
           + 2 * rounded(values) + rounded(config->n_surrogates * sizeof(double))
           + rounded((size_t)config->n_surrogates * config->n_channels * sizeof(uint32_t))
           + rounded(pairs_of(config) * 2 * sizeof(uint32_t)) + rounded(config->n_channels);
}

static void *portion(unsigned char **at, size_t bytes)
{
    void *begin = *at;
    *at += rounded(bytes);
    return begin;
}

int pd_synchrony_init(struct pd_synchrony *plan, const struct pd_synchrony_config *config,
                      void *memory, size_t bytes)
{
    size_t need = pd_synchrony_bytes(config);
    if (need == 0 || bytes < need || (uintptr_t)memory % sizeof(double)) return -EINVAL;
    uint32_t n = config->n_samples;
    *plan = (struct pd_synchrony){.n_samples = n, .n_channels = config->n_channels,
                                  .n_groups = (uint32_t)groups_of(config),
                                  .n_surrogates = config->n_surrogates,
                                  .filtered = config->filtered};
    unsigned char *at = memory;
    size_t values = pairs_of(config) * config->n_surrogates * sizeof(double);
    size_t table_bytes = pd_fft_table_bytes(n);
    plan->a = portion(&at, pd_fft_buffer_bytes(n));
    plan->b = portion(&at, pd_fft_buffer_bytes(n));
    plan->phases = portion(&at, signal_bytes(config));
    plan->transforms = portion(&at, signal_bytes(config));
    plan->values = portion(&at, values);
    plan->sorted = portion(&at, values);
    plan->sums = portion(&at, config->n_surrogates * sizeof(double));
    plan->shifts = portion(&at, (size_t)config->n_surrogates * config->n_channels
                                * sizeof(uint32_t));
    plan->pairs = portion(&at, pairs_of(config) * 2 * sizeof(uint32_t));
    plan->sound = portion(&at, config->n_channels);
    int rc = pd_fft_init(&plan->fft, n, portion(&at, table_bytes), table_bytes, plan->a, plan->b);
    if (rc != 0) return rc;
    for (uint32_t j = 0; j < n; j++) plan->phases[j] = 1;
    struct pd_welch_config welch = unwindowed(config, plan->phases);
    rc = pd_welch_init(&plan->welch, &welch, at, pd_welch_bytes(&welch));
    if (rc != 0) return rc;

    plan->n_bins = pd_welch_bins(&plan->welch, config->low_hz, config->high_hz, &plan->first_bin);
    plan->possible = config->rate_hz >= 2 * config->high_hz
                     && plan->n_bins >= PD_SYNCHRONY_MIN_BINS;
    uint64_t key = pd_noise_key(config->seed, SHIFTS);
    for (uint32_t i = 0; i < config->n_surrogates * config->n_channels; i++) {
        uint32_t shift = (uint32_t)(pd_noise_uniform(key, i) * n);
        plan->shifts[i] = shift < n ? shift : n - 1;
    }
    return 0;
}
