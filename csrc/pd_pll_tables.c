/* What a window's pattern of missing samples makes of the tables: at init for none missing, and at
 * a read when some are. */
#include "pd_pll_run.h"

#include <string.h>

#include "pd_simd.h"

PD_MULTIVERSION
void pd_pll_count_sample(const struct pd_pll *pll, double *gram, uint32_t index, double sign)
{
    uint32_t hop = pll->hop, n = pll->n_sums;
    const double *row = at(pll, pll->rows) + (size_t)(index % hop) * n;
    const double *angles = at(pll, pll->middles) + (size_t)(index / hop) * 2 * pll->n_frequencies;
    double phi[PD_PLL_MAX_ROWS], tau = (2.0 * index - (pll->samples - 1.0)) / pll->samples;
    phi[0] = 1;
    for (uint32_t r = 1; r < pll->n_poly; r++) phi[r] = tau * phi[r - 1];
    for (uint32_t f = 0; f < pll->n_frequencies; f++) {
        uint32_t r = row_of(pll, f);
        double c = angles[2 * f], s = angles[2 * f + 1];
        phi[r] = c * row[r] - s * row[r + 1];
        phi[r + 1] = s * row[r] + c * row[r + 1];
    }
    for (uint32_t i = 0; i < pll->n_slopes; i++) {
        uint32_t of = pll->n_poly + 2 * pll->slope[i], r = pll->n_poly + 2 * pll->n_mains + 2 * i;
        phi[r] = tau * phi[of];
        phi[r + 1] = tau * phi[of + 1];
    }
    for (uint32_t i = 0; i < n; i++) {
        double weight = sign * phi[i], *restrict to = gram + (size_t)i * n;
        for (uint32_t k = i; k < n; k++) to[k] += weight * phi[k];
    }
}

/* Products of n nodes whose first cosine is row `first`, as forms3 reads them. */
static void pack_forms(const double *gram, uint32_t n_sums, uint32_t first, uint32_t n,
                       double *forms)
{
    for (uint32_t i = 0; i < n; i++) {
        const double *c = gram + (size_t)(first + 2 * i) * n_sums + first, *s = c + n_sums;
        for (uint32_t k = i; k < n; k++, forms += 3) {
            uint32_t at_c = 2 * k, at_s = 2 * k + 1;
            forms[0] = k > i ? 2 * c[at_c] : c[at_c];
            forms[1] = k > i ? c[at_s] + s[at_c] : c[at_s];
            forms[2] = k > i ? 2 * s[at_s] : s[at_s];
        }
    }
}

/* Least squares of the envelope's polynomials, as a matrix from what the nodes measure. */
static void fit_envelope(const struct pd_pll *pll, const struct pd_pll_fit *fit)
{
    enum { MOST = 2 * PD_PLL_MOST_DEGREE, WIDE = 2 * PD_PLL_MAX_NODES };
    uint32_t n = 2 * pll->n_degree, wide = 2 * pll->n_nodes, first = pll->n_nuisance;
    double h[MOST][WIDE] = {{0}}, a[MOST][MOST], moved[WIDE];
    const double *table = at(pll, pll->envelope);
    for (uint32_t l = 0; l < pll->n_degree; l++) {
        for (uint32_t k = 0; k < pll->n_nodes; k++) {
            double value = table[(size_t)l * pll->n_nodes + k];
            h[2 * l][2 * k + l % 2] = value;
            h[2 * l + 1][2 * k + 1 - l % 2] = l % 2 ? -value : value;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < wide; k++) {
            moved[k] = 0;
            for (uint32_t m = 0; m < wide; m++) {
                uint32_t low = k < m ? k : m, high = k < m ? m : k;
                moved[k] += h[i][m] * fit->gram[(size_t)(first + low) * pll->n_sums + first + high];
            }
        }
        for (uint32_t j = 0; j < n; j++) {
            a[i][j] = 0;
            for (uint32_t k = 0; k < wide; k++) a[i][j] += moved[k] * h[j][k];
        }
    }
    for (uint32_t j = 0; j < n; j++) {                      /* Gauss and Jordan */
        double inverse = a[j][j] > 1e-9 * pll->samples ? 1.0 / a[j][j] : 0.0;
        for (uint32_t k = 0; k < n; k++) a[j][k] *= inverse;
        for (uint32_t k = 0; k < wide; k++) h[j][k] *= inverse;
        for (uint32_t i = 0; i < n; i++) {
            double factor = a[i][j];
            if (i == j || factor == 0) continue;
            for (uint32_t k = 0; k < n; k++) a[i][k] -= factor * a[j][k];
            for (uint32_t k = 0; k < wide; k++) h[i][k] -= factor * h[j][k];
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        memcpy(fit->envelope + (size_t)i * wide, h[i], wide * sizeof(double));
    }
}

PD_MULTIVERSION
void pd_pll_factorise(const struct pd_pll *pll, const struct pd_pll_fit *fit)
{
    uint32_t n = pll->n_sums;
    double size[PD_PLL_MAX_ROWS];
    for (uint32_t i = 0; i < n; i++) size[i] = fit->gram[(size_t)i * (n + 1)];
    for (uint32_t j = 0; j < pll->n_nuisance; j++) {
        const double *from = fit->gram + (size_t)j * n;
        fit->inverse[j] = from[j] > 1e-9 * size[j] ? 1.0 / from[j] : 0.0;
        for (uint32_t i = j + 1; i < n; i++) {
            double factor = from[i] * fit->inverse[j], *restrict to = fit->gram + (size_t)i * n;
            for (uint32_t k = i; k < n; k++) to[k] -= factor * from[k];
        }
    }
    uint32_t beside = pll->n_nuisance + 2 * pll->n_nodes, half = beside + 2 * pll->n_beside,
             half_beside = half + 2 * pll->n_half;
    pack_forms(fit->gram, n, pll->n_nuisance, pll->n_nodes, fit->forms);
    pack_forms(fit->gram, n, half, pll->n_half, fit->half_forms);
    for (uint32_t g = 0; g < pll->n_grid; g++) {
        const double *l = at(pll, pll->grid) + (size_t)g * pll->n_nodes, *form = fit->forms;
        double cc = 0, cs = 0, ss = 0;
        for (uint32_t i = 0; i < pll->n_nodes; i++) {
            for (uint32_t k = i; k < pll->n_nodes; k++, form += 3) {
                double product = l[i] * l[k];
                cc += product * form[0];
                cs += product * form[1];
                ss += product * form[2];
            }
        }
        double inverse = 1.0 / (cc * ss - cs * cs), *white = fit->white + 3 * (size_t)g;
        white[0] = ss * inverse;
        white[1] = -cs * inverse;
        white[2] = cc * inverse;
    }
    fit->norm[0] = fit->norm[1] = 0;
    for (uint32_t i = beside; i < half; i++) fit->norm[0] += fit->gram[(size_t)i * (n + 1)];
    for (uint32_t i = half_beside; i < n; i++) fit->norm[1] += fit->gram[(size_t)i * (n + 1)];
    fit_envelope(pll, fit);
}
