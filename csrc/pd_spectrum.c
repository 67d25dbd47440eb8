/* Plans, bands and the spectrogram's state; pd_spectrum_run.c has the rest. */
#include "pd_spectrum.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_noise.h"

#define DB_OF_LN 4.3429448190325175  /* 10 / ln 10 */

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static int can_be(const struct pd_welch_config *c)
{
    if (!(c->rate_hz > 0 && c->rate_hz <= 1e9)) return 0;
    if (c->nperseg < 1 || c->nfft < c->nperseg || c->nfft > PD_FFT_MAX) return 0;
    if (c->noverlap >= c->nperseg) return 0;
    if (c->detrend > PD_DETREND_LINEAR || c->scaling > PD_SCALING_SPECTRUM) return 0;
    if (c->average > PD_AVERAGE_MEDIAN) return 0;
    return c->average == PD_AVERAGE_MEAN
           || (c->max_segments >= 1 && c->max_segments <= PD_SPECTRUM_MAX_SEGMENTS);
}

static size_t kept(const struct pd_welch_config *c)
{
    return c->average == PD_AVERAGE_MEDIAN ? c->max_segments : 1;
}

static size_t powers_bytes(const struct pd_welch_config *c)
{
    return kept(c) * (c->nfft / 2 + 1) * PD_FFT_LANES * sizeof(double);
}

size_t pd_welch_bytes(const struct pd_welch_config *config)
{
    if (!can_be(config)) return 0;
    return powers_bytes(config) + 2 * pd_rfft_buffer_bytes(config->nfft)
           + rounded(config->nperseg * sizeof(double)) + rounded(kept(config) * sizeof(double))
           + pd_rfft_table_bytes(config->nfft);
}

int pd_welch_init(struct pd_welch *welch, const struct pd_welch_config *config, void *memory,
                  size_t bytes)
{
    size_t need = pd_welch_bytes(config);
    if (need == 0 || bytes < need || (uintptr_t)memory % sizeof(double)) return -EINVAL;
    uint32_t n = config->nperseg;
    double sum = 0, squares = 0;
    for (uint32_t j = 0; j < n; j++) {
        sum += config->window[j];
        squares += config->window[j] * config->window[j];
    }
    double scale = config->scaling == PD_SCALING_DENSITY ? 1 / (config->rate_hz * squares)
                                                         : 1 / (sum * sum);
    if (!(scale > 0 && scale < INFINITY) || !(squares > 0 && squares < INFINITY)) return -EINVAL;

    unsigned char *at = memory;
    size_t buffer = pd_rfft_buffer_bytes(config->nfft);
    /* The order of rfftfreq's operations: a bin on the edge of a band is where SciPy has it. */
    double bin_hz = 1 / (config->nfft * (1 / config->rate_hz));
    *welch = (struct pd_welch){.nperseg = n, .hop = n - config->noverlap, .nfft = config->nfft,
                               .n_bins = config->nfft / 2 + 1, .max_segments = (uint32_t)kept(config),
                               .detrend = config->detrend, .average = config->average,
                               .bin_hz = bin_hz, .scale = scale, .window_power = squares,
                               .time_power = (double)n * ((double)n * n - 1) / 12};
    welch->powers = (double *)(void *)at;
    welch->a = (double *)(void *)(at += powers_bytes(config));
    welch->b = (double *)(void *)(at += buffer);
    welch->window = (double *)(void *)(at += buffer);
    welch->column = (double *)(void *)(at += rounded(n * sizeof(double)));
    at += rounded(kept(config) * sizeof(double));
    memcpy(welch->window, config->window, n * sizeof(double));
    return pd_rfft_init(&welch->fft, config->nfft, at, pd_rfft_table_bytes(config->nfft), welch->a,
                        welch->b);
}

uint32_t pd_welch_segments(const struct pd_welch *welch, uint32_t n)
{
    return n < welch->nperseg ? 0 : (n - welch->nperseg) / welch->hop + 1;
}

uint32_t pd_welch_bins(const struct pd_welch *welch, double low_hz, double high_hz,
                       uint32_t *first)
{
    uint32_t from = 0, until;
    while (from < welch->n_bins && !(from * welch->bin_hz >= low_hz)) from++;
    for (until = from; until < welch->n_bins && until * welch->bin_hz <= high_hz;) until++;
    *first = from;
    return until - from;
}

void pd_welch_band(const struct pd_welch *welch, const double *psd, size_t psd_stride,
                   uint32_t n_channels, double low_hz, double high_hz, double *power)
{
    uint32_t first, count = pd_welch_bins(welch, low_hz, high_hz, &first);
    for (uint32_t channel = 0; channel < n_channels; channel++) {
        double area = count < 2 ? NAN : 0;
        for (uint32_t k = first + 1; k < first + count; k++) {
            double width = k * welch->bin_hz - (k - 1) * welch->bin_hz;
            area += width * (psd[k * psd_stride + channel] + psd[(k - 1) * psd_stride + channel]) / 2;
        }
        power[channel] = area;
    }
}

/* -- spectrogram ------------------------------------------------------------------------ */

void pd_rows_init(struct pd_rows *rows, uint32_t n_channels, double floor_db)
{
    *rows = (struct pd_rows){.n_channels = n_channels, .floor_db = floor_db};
}

uint32_t pd_rows_due(const struct pd_rows *rows, const struct pd_welch *welch, uint32_t n)
{
    uint64_t fed = (uint64_t)rows->fed + n;
    return fed < welch->nperseg ? 0 : (uint32_t)((fed - welch->nperseg) / welch->hop) + 1;
}

static double decibels(double power, double floor_db)
{
    if (isnan(power)) return power;
    double db = power >= 0x1p-1022 ? DB_OF_LN * pd_noise_log(power) : floor_db;
    return db > floor_db ? db : floor_db;
}

void pd_rows_push(struct pd_rows *rows, struct pd_welch *welch, double *recent, const double *x,
                  size_t x_stride, uint32_t n, double *out)
{
    uint32_t channels = rows->n_channels, row_size = welch->n_bins * channels;
    for (uint32_t sample = 0; sample < n; sample++) {
        memcpy(recent + (size_t)rows->fed * channels, x + sample * x_stride,
               channels * sizeof *recent);
        if (++rows->fed < welch->nperseg) continue;
        pd_welch_psd(welch, recent, channels, welch->nperseg, channels, out, channels);
        for (uint32_t i = 0; i < row_size; i++) out[i] = decibels(out[i], rows->floor_db);
        out += row_size;
        rows->fed -= welch->hop;
        memmove(recent, recent + (size_t)welch->hop * channels,
                (size_t)rows->fed * channels * sizeof *recent);
    }
}
