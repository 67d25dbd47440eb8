#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "pd_simd.h"
#include "pd_spd_eigen.h"


/* Products of the rows, the mean taken off, into sum [n][stride], all of it. */
PD_MULTIVERSION
static double add_rows(const double *restrict x, size_t x_stride, uint32_t rows, uint32_t n,
                       const double *restrict mean, double *restrict row, double *restrict sum)
{
    const size_t stride = pd_spd_stride(n);
    double fourth = 0;
    for (uint32_t r = 0; r < rows; r++, x += x_stride) {
        double squares = 0;
        for (uint32_t i = 0; i < n; i++) {
            row[i] = x[i] - mean[i];
            squares += row[i] * row[i];
        }
        fourth += squares * squares;
        for (uint32_t i = 0; i < n; i++) {
            const double value = row[i];
            double *restrict to = sum + i * stride;
            for (size_t j = 0; j < stride; j++) to[j] += value * row[j];
        }
    }
    return fourth;
}

/* scikit-learn's ledoit_wolf_shrinkage, in its order. */
static double ledoit_wolf(const double *s, uint32_t n, double rows, double fourth, double mu)
{
    const size_t stride = pd_spd_stride(n);
    double delta = 0, trace = 0;
    for (uint32_t i = 0; i < n; i++) {
        trace += s[i * stride + i];
        for (uint32_t j = 0; j < n; j++) delta += s[i * stride + j] * s[i * stride + j];
    }
    double beta = 1 / (n * rows) * (fourth / rows - delta);
    delta = (delta - 2 * mu * trace + n * mu * mu) / n;
    if (beta > delta) beta = delta;
    return beta == 0 ? 0 : beta / delta;
}

static double oas(const double *s, uint32_t n, double rows, double mu)
{
    const size_t stride = pd_spd_stride(n);
    double alpha = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) alpha += s[i * stride + j] * s[i * stride + j];
    alpha /= (double)n * n;
    const double below = (rows + 1) * (alpha - mu * mu / n);
    return below == 0 ? 1 : fmin((alpha + mu * mu) / below, 1);
}

static int undefined(double *out, uint32_t n, int error)
{
    for (size_t i = 0; i < (size_t)n * n; i++) out[i] = NAN;
    return error;
}

int pd_spd_covariance(int kind, const double *x, size_t x_stride, uint32_t rows, uint32_t n,
                      double *shrinkage, double *out, double *work)
{
    if (n < 1 || n > PD_SPD_MAX || kind < PD_SPD_SAMPLE || kind > PD_SPD_FIXED) return -EINVAL;
    if (rows < 2) return undefined(out, n, -EINVAL);
    if (kind == PD_SPD_FIXED && !(*shrinkage >= 0 && *shrinkage <= 1)) return undefined(out, n, -EINVAL);
    const size_t stride = pd_spd_stride(n);
    double *s = work, *mean = s + n * stride, *row = mean + stride;
    memset(s, 0, (n + 2) * stride * sizeof *s);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t i = 0; i < n; i++) mean[i] += x[r * x_stride + i];
    for (uint32_t i = 0; i < n; i++) mean[i] /= rows;
    const double fourth = add_rows(x, x_stride, rows, n, mean, row, s);
    double mu = 0;
    for (size_t i = 0; i < n * stride; i++) s[i] /= rows;
    for (uint32_t i = 0; i < n; i++) mu += s[i * stride + i];
    mu /= n;
    if (!(fourth <= DBL_MAX)) return undefined(out, n, -EINVAL);     /* NaN, too */

    double share = kind == PD_SPD_FIXED ? *shrinkage : 0;
    if (n > 1 && kind == PD_SPD_LEDOIT_WOLF) share = ledoit_wolf(s, n, rows, fourth, mu);
    if (n > 1 && kind == PD_SPD_OAS) share = oas(s, n, rows, mu);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < n; j++)
            out[(size_t)i * n + j] = (1 - share) * s[i * stride + j] + (i == j ? share * mu : 0);
    }
    *shrinkage = share;
    return 0;
}
