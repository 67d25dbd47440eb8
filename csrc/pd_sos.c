#include "pd_sos.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* The state that a constant of 1 into the first section comes to rest in. For each section
 * that is (1 + a1) z0 - z1 = b1 - a1 b0 and a2 z0 + z1 = b2 - a2 b0, by elimination with
 * pivoting, fused and divided where LAPACK does so: the same bits as SciPy's sosfilt_zi, so that
 * 62 mV times a difference in the last bit does not tell the two apart. */
static void find_levels(struct pd_sos_section *sections, uint32_t n_sections)
{
    double level = 1;
    for (uint32_t i = 0; i < n_sections; i++) {
        struct pd_sos_section *s = &sections[i];
        double p[3] = {1 + s->a1, -1, s->b1 - s->a1 * s->b0};
        double q[3] = {s->a2, 1, s->b2 - s->a2 * s->b0};
        int swap = fabs(q[0]) > fabs(p[0]);
        const double *pivot = swap ? q : p, *other = swap ? p : q;
        double factor = other[0] * (1 / pivot[0]);
        double z1 = fma(-factor, pivot[2], other[2]) / fma(-factor, pivot[1], other[1]);
        double z0 = fma(-pivot[1], z1, pivot[2]) / pivot[0];
        s->level0 = level * z0;
        s->level1 = level * z1;
        level *= (s->b0 + s->b1 + s->b2) / (1 + s->a1 + s->a2);
    }
}

/* -- settle: sums over the impulse response, kept as one state ------------------------ */

struct response {
    const struct pd_sos_section *sections;
    uint32_t n_sections;
    double z[PD_SOS_MAX_BAND_SECTIONS][2];
    double input;                   /* 1 first, then 0 */
    double largest;                 /* sum of all |z|: no input of 1 makes a state larger */
};

static void begin(struct response *h, const struct pd_sos_section *sections, uint32_t n_sections)
{
    h->sections = sections;
    h->n_sections = n_sections;
    h->input = 1;
    h->largest = 0;
    memset(h->z, 0, n_sections * sizeof *h->z);
}

static double next_magnitude(struct response *h)
{
    double x = h->input;
    h->input = 0;
    for (uint32_t i = 0; i < h->n_sections; i++) {
        const struct pd_sos_section *s = &h->sections[i];
        double y = s->b0 * x + h->z[i][0];
        h->z[i][0] = s->b1 * x - s->a1 * y + h->z[i][1];
        h->z[i][1] = s->b2 * x - s->a2 * y;
        h->largest += fabs(h->z[i][0]) + fabs(h->z[i][1]);
        x = y;
    }
    return fabs(x);
}

/* Doubles the length until the later half adds next to nothing: what comes after it is less. */
static int find_settle(const struct pd_sos_section *sections, uint32_t n_sections,
                       double tolerance, uint32_t *settle)
{
    struct response h;
    double total = 0;
    begin(&h, sections, n_sections);
    for (uint32_t n = 0, until = 64;; until *= 2) {
        double half = 0;
        for (; n < until; n++) half += next_magnitude(&h);
        total += half;
        if (!(total + h.largest <= PD_SOS_LARGEST)) return -EINVAL;
        if (half <= 1e-3 * tolerance * total && n > 4 * n_sections) break;
        if (n >= 2 * PD_SOS_MAX_SETTLE) return -ERANGE;
    }

    double left = total;
    begin(&h, sections, n_sections);
    uint32_t n = 0;
    while (left > tolerance * total) {
        left -= next_magnitude(&h);
        n++;
    }
    if (n > PD_SOS_MAX_SETTLE) return -ERANGE;
    *settle = n > 0 ? n : 1;
    return 0;
}

int pd_sos_design(struct pd_sos_section *sections, uint32_t n_sections, double tolerance,
                  uint32_t *settle)
{
    if (n_sections < 1 || n_sections > PD_SOS_MAX_BAND_SECTIONS) return -EINVAL;
    if (!(tolerance > 0 && tolerance < 1)) return -EINVAL;
    for (uint32_t i = 0; i < n_sections; i++) {
        const struct pd_sos_section *s = &sections[i];
        const double sizes[] = {s->b0, s->b1, s->b2, s->a1, s->a2};
        for (uint32_t k = 0; k < 5; k++) {
            if (!(fabs(sizes[k]) <= PD_SOS_LARGEST_COEFFICIENT)) return -EINVAL;
        }
        if (!(fabs(s->a2) < 1 && fabs(s->a1) < 1 + s->a2)) return -EDOM;
    }
    find_levels(sections, n_sections);
    return find_settle(sections, n_sections, tolerance, settle);
}

/* -- the bank -------------------------------------------------------------------------- */

size_t pd_sos_state_bytes(uint32_t n_sections, uint32_t n_channels)
{
    if (n_sections < 1 || n_sections > PD_SOS_MAX_SECTIONS) return 0;
    if (n_channels < 1 || n_channels > PD_SOS_MAX_CHANNELS) return 0;
    size_t groups = (n_channels + PD_SOS_LANES - 1) / PD_SOS_LANES;
    return groups * (sizeof(struct pd_sos_lanes)
                     + (size_t)n_sections * 2 * PD_SOS_LANES * sizeof(double));
}

int pd_sos_init(struct pd_sos *sos, const struct pd_sos_band *bands, uint32_t n_bands,
                const struct pd_sos_section *sections, uint32_t n_channels, double rate_hz,
                void *state, size_t state_bytes)
{
    uint32_t n_sections = 0;
    if (!(rate_hz > 0 && rate_hz <= 1e9)) return -EINVAL;
    for (uint32_t band = 0; band < n_bands; band++) {
        if (bands[band].first != n_sections || bands[band].settle < 1) return -EINVAL;
        if (bands[band].n_sections < 1) return -EINVAL;
        if (bands[band].n_sections > PD_SOS_MAX_SECTIONS - n_sections) return -EINVAL;
        n_sections += bands[band].n_sections;
    }
    size_t need = pd_sos_state_bytes(n_sections, n_channels);
    if (need == 0 || state_bytes < need || (uintptr_t)state % sizeof(double)) return -EINVAL;
    *sos = (struct pd_sos){.bands = bands, .sections = sections, .n_bands = n_bands,
                           .n_sections = n_sections, .n_channels = n_channels, .state = state,
                           .coast = (uint32_t)(PD_SOS_COAST_S * rate_hz)};
    double level_samples = PD_SOS_LEVEL_S * rate_hz;
    sos->level_gain = level_samples > 1 ? 1 / level_samples : 1;
    pd_sos_reset(sos);
    return 0;
}

static uint32_t used_lanes(const struct pd_sos *sos, uint32_t group)
{
    uint32_t left = sos->n_channels - group * PD_SOS_LANES;
    return left < PD_SOS_LANES ? left : PD_SOS_LANES;
}

void pd_sos_reset(struct pd_sos *sos)
{
    memset(sos->state, 0, pd_sos_state_bytes(sos->n_sections, sos->n_channels));
    for (uint32_t group = 0; group * PD_SOS_LANES < sos->n_channels; group++) {
        pd_sos_lanes(sos, group)->starts = (1u << used_lanes(sos, group)) - 1;
    }
}

void pd_sos_seed(struct pd_sos *sos, const double *first)
{
    pd_sos_reset(sos);
    for (uint32_t channel = 0; channel < sos->n_channels; channel++) {
        if (!(fabs(first[channel]) <= PD_SOS_LARGEST)) continue;
        struct pd_sos_lanes *state = pd_sos_lanes(sos, channel / PD_SOS_LANES);
        pd_sos_start_lane(sos, state, channel % PD_SOS_LANES, first[channel]);
    }
}

uint32_t pd_sos_fed(const struct pd_sos *sos, uint32_t channel)
{
    return pd_sos_lanes(sos, channel / PD_SOS_LANES)->fed[channel % PD_SOS_LANES];
}

int pd_sos_defined(const struct pd_sos *sos, uint32_t band, uint32_t channel, uint32_t window)
{
    uint64_t before = window > 0 ? window - 1 : 0;
    return pd_sos_fed(sos, channel) >= before + sos->bands[band].settle;
}

void pd_sos_final(const struct pd_sos *sos, uint32_t channel, double *z)
{
    const struct pd_sos_lanes *state = pd_sos_lanes(sos, channel / PD_SOS_LANES);
    for (uint32_t i = 0; i < 2 * sos->n_sections; i++) {
        z[i] = state->z[i / 2][i % 2][channel % PD_SOS_LANES];
    }
}
