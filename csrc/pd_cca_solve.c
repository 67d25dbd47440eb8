/* Vectors are the compiler's own (vector_size), as in pd_sos_run.c, half as wide as PD_CCA_LANES
 * for the same reason: four targets go through the same operations, and no lane's result depends
 * on another's. */
#include "pd_cca_solve.h"

#include <float.h>
#include <math.h>

#include "pd_simd.h"

#define INLINED static inline __attribute__((always_inline))
#define MOST (2 * PD_CCA_MAX_HARMONICS)     /* rows of the eigenvalue problem */
#define WIDTH 4                     /* lanes of a vector: PD_CCA_LANES is a multiple */
#define ROUNDS 100                  /* not reached: half of twenty eigenvalues equal take 77 */

typedef double lanes __attribute__((vector_size(WIDTH * sizeof(double)),
                                    aligned(sizeof(double)), may_alias));
typedef int64_t truth __attribute__((vector_size(WIDTH * sizeof(int64_t)),
                                     aligned(sizeof(double))));

/* -- the channels ------------------------------------------------------------------ */

/* Flat channels out, the others scaled to a variance of 1. Returns how many. */
static uint32_t equilibrate(struct pd_cca_factor *factor, double *gram, size_t stride, uint32_t n,
                            const double *mean, double n_samples)
{
    double largest = 0;
    for (uint32_t c = 0; c < n; c++) largest = fmax(largest, sqrt(gram[c * stride + c]));
    uint32_t kept = 0;
    for (uint32_t c = 0; c < n; c++) {
        double size = sqrt(gram[c * stride + c]);
        double rounding = 4 * DBL_EPSILON * fabs(mean[c]) * sqrt(n_samples);
        if (!(size > PD_CCA_FLAT_SD * largest) || !(size > rounding)
            || gram[c * stride + c] < DBL_MIN) continue;
        factor->channel[kept] = c;
        factor->scale[kept++] = 1.0 / size;
    }
    for (uint32_t i = 0; i < kept; i++) {
        for (uint32_t j = 0; j <= i; j++) {
            uint32_t row = factor->channel[i], column = factor->channel[j];
            factor->lower[i][j] = i == j ? 1.0 : gram[row * stride + column] * factor->scale[i]
                                                 * factor->scale[j];
        }
    }
    return kept;
}

static void swap(double *a, double *b)
{
    double held = *a;
    *a = *b;
    *b = held;
}

/* Rows and columns k and p of the lower triangle, k <= p; columns before k are L's. */
static void exchange(struct pd_cca_factor *factor, uint32_t k, uint32_t p, uint32_t n)
{
    if (k == p) return;
    uint32_t channel = factor->channel[k];
    factor->channel[k] = factor->channel[p];
    factor->channel[p] = channel;
    swap(&factor->scale[k], &factor->scale[p]);
    swap(&factor->lower[k][k], &factor->lower[p][p]);
    for (uint32_t j = 0; j < k; j++) swap(&factor->lower[k][j], &factor->lower[p][j]);
    for (uint32_t i = k + 1; i < p; i++) swap(&factor->lower[i][k], &factor->lower[p][i]);
    for (uint32_t i = p + 1; i < n; i++) swap(&factor->lower[i][k], &factor->lower[i][p]);
}

/* Cholesky with pivots, right-looking: the diagonal is what each channel keeps. */
void pd_cca_factorise(struct pd_cca_factor *factor, double *gram, size_t stride, uint32_t n,
                      const double *mean, double n_samples)
{
    n = equilibrate(factor, gram, stride, n, mean, n_samples);
    uint32_t k = 0;
    for (; k < n; k++) {
        uint32_t best = k;
        for (uint32_t i = k + 1; i < n; i++) {
            if (factor->lower[i][i] > factor->lower[best][best]) best = i;
        }
        if (!(factor->lower[best][best] > PD_CCA_RANK)) break;
        exchange(factor, k, best, n);
        double pivot = sqrt(factor->lower[k][k]);
        factor->lower[k][k] = pivot;
        factor->inverse[k] = 1.0 / pivot;
        for (uint32_t i = k + 1; i < n; i++) factor->lower[i][k] /= pivot;
        for (uint32_t i = k + 1; i < n; i++) {
            for (uint32_t j = k + 1; j <= i; j++) {
                factor->lower[i][j] -= factor->lower[i][k] * factor->lower[j][k];
            }
        }
    }
    factor->rank = k;
}

/* -- the targets ------------------------------------------------------------------- */

#define ROW(pointer, row) (*(const lanes *)((pointer) + (size_t)(row) * stride))
#define EITHER(mask, a, b) ((lanes)(((mask) & (truth)(a)) | (~(mask) & (truth)(b))))

INLINED void root(lanes *values)
{
    for (uint32_t lane = 0; lane < WIDTH; lane++) (*values)[lane] = sqrt((*values)[lane]);
}

/* rows[k] = row k of L⁻¹ Cxy R⁻¹, whose singular values are the correlations. */
INLINED void whiten(const struct pd_cca_factor *factor, const struct pd_cca_cross *problem,
                    uint32_t first, lanes *rows)
{
    uint32_t n = problem->n_harmonics, columns = 2 * n;
    size_t stride = problem->target_lanes;
    const double *turn = problem->rotation + first;
    for (uint32_t k = 0; k < factor->rank; k++) {
        const double *cross = problem->cross + factor->channel[k] * columns * stride + first;
        lanes *row = rows + k * columns;
        for (uint32_t h = 0; h < n; h++) {
            lanes cosine = ROW(cross, h), sine = ROW(cross, n + h);
            lanes c = ROW(turn, h) * factor->scale[k], s = ROW(turn, n + h) * factor->scale[k];
            row[h] = cosine * c + sine * s;
            row[n + h] = sine * c - cosine * s;
        }
        for (uint32_t part = 0; part < 2; part++) {
            const double *r = problem->whitening + (size_t)part * n * n * stride + first;
            lanes *half = row + part * n;
            for (uint32_t j = 0; j < n; j++) {
                lanes sum = half[j];
                for (uint32_t i = 0; i < j; i++) sum -= ROW(r, i * n + j) * half[i];
                half[j] = sum * ROW(r, j * n + j);
            }
        }
        for (uint32_t j = 0; j < k; j++) {
            double weight = factor->lower[k][j];
            for (uint32_t i = 0; i < columns; i++) row[i] -= weight * rows[j * columns + i];
        }
        for (uint32_t i = 0; i < columns; i++) row[i] *= factor->inverse[k];
    }
}

/* a = the smaller one of rows rowsᵀ and rowsᵀ rows, lower triangle. Returns its order. */
INLINED uint32_t square(const lanes *rows, uint32_t rank, uint32_t columns,
                        lanes (*a)[MOST])
{
    uint32_t across = rank <= columns, n = across ? rank : columns;
    uint32_t terms = across ? columns : rank;
    uint32_t step = across ? columns : 1, next = across ? 1 : columns;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j <= i; j++) {
            const lanes *x = rows + i * step, *y = rows + j * step;
            lanes sum = x[0] * y[0];
            for (uint32_t k = 1; k < terms; k++) sum += x[k * next] * y[k * next];
            a[i][j] = sum;
        }
    }
    return n;
}

/* Householder's reduction: diagonal and squared off-diagonal of the same eigenvalues. */
INLINED void tridiagonalise(lanes (*a)[MOST], uint32_t n, lanes *diagonal, lanes *off)
{
    lanes v[MOST], p[MOST];
    const lanes zero = {0};
    for (uint32_t k = 0; k + 2 < n; k++) {
        diagonal[k] = a[k][k];
        lanes rest = zero;
        for (uint32_t i = k + 2; i < n; i++) rest += a[i][k] * a[i][k];
        lanes head = a[k + 1][k], norm = head * head + rest;
        off[k] = norm;
        root(&norm);
        v[k + 1] = head + EITHER(head < 0, -norm, norm);
        lanes size = v[k + 1] * v[k + 1] + rest;
        truth void_ = size < DBL_MIN;           /* nothing to reflect */
        lanes beta = EITHER(void_, zero, 2.0 / EITHER(void_, zero + 1.0, size));
        for (uint32_t i = k + 2; i < n; i++) v[i] = a[i][k];
        lanes along = zero;
        for (uint32_t i = k + 1; i < n; i++) {
            lanes sum = zero;
            for (uint32_t j = k + 1; j <= i; j++) sum += a[i][j] * v[j];
            for (uint32_t j = i + 1; j < n; j++) sum += a[j][i] * v[j];
            p[i] = beta * sum;
            along += p[i] * v[i];
        }
        along *= 0.5 * beta;
        for (uint32_t i = k + 1; i < n; i++) p[i] -= along * v[i];
        for (uint32_t i = k + 1; i < n; i++) {
            for (uint32_t j = k + 1; j <= i; j++) a[i][j] -= v[i] * p[j] + p[i] * v[j];
        }
    }
    if (n > 1) {
        diagonal[n - 2] = a[n - 2][n - 2];
        off[n - 2] = a[n - 1][n - 2] * a[n - 1][n - 2];
    }
    diagonal[n - 1] = a[n - 1][n - 1];
}

/* Laguerre's method from above: monotone, cubic, and slower but sure on multiple
 * eigenvalues. det(x - T) is the product of pivots d, all positive while x is above
 * the largest eigenvalue, so neither overflow nor a division by zero can be. A lane that is
 * done keeps its x. */
INLINED void largest_eigenvalue(const lanes *diagonal, const lanes *off, uint32_t n,
                                lanes *largest)
{
    const lanes zero = {0};
    lanes trace = zero, frobenius = zero;
    for (uint32_t i = 0; i < n; i++) {
        trace += diagonal[i];
        frobenius += diagonal[i] * diagonal[i];
        if (i + 1 < n) frobenius += 2.0 * off[i];
    }
    double size = n;
    lanes spread = frobenius - trace * trace / size;
    /* Rounding must not put x below the eigenvalue. */
    spread = EITHER(spread < 0, zero, spread) + 1e-14 * frobenius;
    spread *= (size - 1.0) / size;
    root(&spread);
    lanes x = trace / size + spread;
    truth going = n > 1 ? x > 0 : (truth){0};
    for (uint32_t round = 0; round < ROUNDS; round++) {
        lanes d = x - diagonal[0], inverse = 1.0 / d;
        lanes slope = inverse, bend = zero;             /* d' / d, d'' / d */
        lanes g = slope, h = slope * slope;
        truth above = d > 0;
        for (uint32_t i = 1; i < n; i++) {
            lanes q = off[i - 1] * inverse;
            d = x - diagonal[i] - q;
            inverse = 1.0 / d;
            lanes curve = q * (bend - 2.0 * slope * slope) * inverse;
            slope = (1.0 + q * slope) * inverse;
            bend = curve;
            above &= d > 0;
            g += slope;
            h += slope * slope - bend;
        }
        lanes under = (size - 1.0) * (size * h - g * g);
        under = EITHER(under > 0, under, zero);
        root(&under);
        lanes step = size / (g + under);
        going &= above & (step > 0);
        x = EITHER(going, x - step, x);
        going &= step > 2 * DBL_EPSILON * x;
        int64_t any = 0;
        for (uint32_t lane = 0; lane < WIDTH; lane++) any |= going[lane];
        if (!any) break;
    }
    *largest = x;
}

PD_MULTIVERSION
void pd_cca_largest(const struct pd_cca_factor *factor, const struct pd_cca_cross *problem,
                    double *work, double *rho)
{
    lanes a[MOST][MOST], diagonal[MOST], off[MOST];
    lanes *rows = (lanes *)work;
    const lanes zero = {0};
    for (uint32_t first = 0; first < problem->target_lanes; first += WIDTH) {
        whiten(factor, problem, first, rows);
        uint32_t n = square(rows, factor->rank, 2 * problem->n_harmonics, a);
        tridiagonalise(a, n, diagonal, off);
        lanes x;
        largest_eigenvalue(diagonal, off, n, &x);
        x = EITHER(x > 1.0, zero + 1.0, x);
        root(&x);
        *(lanes *)(rho + first) = x;
    }
}
