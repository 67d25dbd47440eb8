/* The plan and the means; pd_connectivity_run.c has the rest. */
#include "pd_connectivity.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static uint32_t groups_of(uint32_t n_channels)
{
    return (n_channels + PD_FFT_LANES - 1) / PD_FFT_LANES;
}

static struct pd_welch_config plain(const struct pd_connectivity_config *config)
{
    struct pd_welch_config welch = config->welch;
    welch.scaling = PD_SCALING_DENSITY;
    welch.average = PD_AVERAGE_MEAN;
    return welch;
}

static size_t spectra_bytes(const struct pd_connectivity_config *c)
{
    size_t bins = c->welch.nfft / 2 + 1;
    return bins * c->welch.max_segments * groups_of(c->n_channels) * 4 * PD_FFT_LANES
           * sizeof(double);
}

size_t pd_connectivity_bytes(const struct pd_connectivity_config *config)
{
    struct pd_welch_config welch = plain(config);
    size_t need = pd_welch_bytes(&welch);
    if (need == 0 || welch.max_segments < 1 || welch.max_segments > PD_SPECTRUM_MAX_SEGMENTS) {
        return 0;
    }
    if (config->n_channels < 1 || config->n_channels > PD_CONNECTIVITY_MAX_CHANNELS) return 0;
    if (config->n_bands < 1 || config->n_bands > PD_CONNECTIVITY_MAX_BANDS) return 0;
    size_t lanes = groups_of(config->n_channels) * PD_FFT_LANES * sizeof(double);
    return rounded(need) + spectra_bytes(config) + (welch.nfft / 2 + 2) * lanes;
}

int pd_connectivity_init(struct pd_connectivity *plan, const struct pd_connectivity_config *config,
                         void *memory, size_t bytes)
{
    size_t need = pd_connectivity_bytes(config);
    if (need == 0 || bytes < need) return -EINVAL;
    struct pd_welch_config welch = plain(config);
    *plan = (struct pd_connectivity){.n_channels = config->n_channels, .n_bands = config->n_bands,
                                     .n_groups = groups_of(config->n_channels),
                                     .max_segments = welch.max_segments};
    int rc = pd_welch_init(&plan->welch, &welch, memory, pd_welch_bytes(&welch));
    if (rc != 0) return rc;
    unsigned char *at = (unsigned char *)memory + rounded(pd_welch_bytes(&welch));
    plan->spectra = (double *)(void *)at;
    plan->powers = (double *)(void *)(at + spectra_bytes(config));
    plan->largest = plan->powers + (size_t)plan->welch.n_bins * plan->n_groups * PD_FFT_LANES;

    uint32_t from = plan->welch.n_bins, until = 0;
    for (uint32_t band = 0; band < config->n_bands; band++) {
        uint32_t first, count = pd_welch_bins(&plan->welch, config->bands[band].low_hz,
                                              config->bands[band].high_hz, &first);
        plan->bands[band].first = first;
        plan->bands[band].n_bins = count;
        if (count > 0 && first < from) from = first;
        if (count > 0 && first + count > until) until = first + count;
    }
    plan->first_bin = until > from ? from : 0;
    plan->n_bins = until > from ? until - from : 0;
    return 0;
}

void pd_connectivity_means(const struct pd_connectivity *plan, const double *matrices,
                           const uint8_t *use, double *means)
{
    uint32_t n = plan->n_channels;
    for (uint32_t which = 0; which < PD_MEASURES * plan->n_bands; which++) {
        const double *matrix = matrices + (size_t)which * n * n;
        double sum = 0;
        uint32_t pairs = 0;
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t j = 0; j < i && (use == NULL || use[i]); j++) {
                if (use != NULL && !use[j]) continue;
                double value = matrix[i * n + j];
                sum += which / plan->n_bands == PD_IMCOH ? fabs(value) : value;
                pairs++;
            }
        }
        means[which] = pairs > 0 ? sum / pairs : NAN;
    }
}
