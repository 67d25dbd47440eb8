#include "pd_spd_eigen.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "pd_simd.h"

typedef double lanes __attribute__((vector_size(32)));

#define INLINED static inline __attribute__((always_inline))

INLINED double dot(const double *a, const double *b, size_t stride)
{
    lanes sum = {0}, other = {0}, third = {0}, last = {0};
    size_t i = 0;
    for (; i + 16 <= stride; i += 16) {     /* four sums: one would wait for itself */
        sum += *(const lanes *)(a + i) * *(const lanes *)(b + i);
        other += *(const lanes *)(a + i + 4) * *(const lanes *)(b + i + 4);
        third += *(const lanes *)(a + i + 8) * *(const lanes *)(b + i + 8);
        last += *(const lanes *)(a + i + 12) * *(const lanes *)(b + i + 12);
    }
    for (; i < stride; i += 4) sum += *(const lanes *)(a + i) * *(const lanes *)(b + i);
    sum = (sum + third) + (other + last);
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

/* y += f x */
INLINED void add(double *y, double f, const double *x, size_t stride)
{
    for (size_t i = 0; i < stride; i += 4) *(lanes *)(y + i) += f * *(const lanes *)(x + i);
}

static void swap_both(double *a, uint32_t n, size_t stride, uint32_t i, uint32_t j)
{
    for (uint32_t k = 0; k < n; k++) {
        double t = a[i * stride + k];
        a[i * stride + k] = a[j * stride + k];
        a[j * stride + k] = t;
    }
    for (uint32_t k = 0; k < n; k++) {
        double t = a[k * stride + i];
        a[k * stride + i] = a[k * stride + j];
        a[k * stride + j] = t;
    }
}

PD_MULTIVERSION
int pd_spd_cholesky(double *a, uint32_t n, double *columns, uint32_t *order)
{
    const size_t stride = pd_spd_stride(n);
    double largest = 0;
    for (uint32_t k = 0; k < n; k++) largest = fmax(largest, a[k * stride + k]);
    const double least = n * DBL_EPSILON * largest;
    for (uint32_t k = 0; order != NULL && k < n; k++) order[k] = k;
    memset(columns, 0, n * stride * sizeof *columns);
    for (uint32_t k = 0; k < n; k++) {
        if (order != NULL) {
            uint32_t best = k;
            for (uint32_t i = k + 1; i < n; i++)
                if (a[i * stride + i] > a[best * stride + best]) best = i;
            if (best != k) {
                const uint32_t kept = order[k];
                order[k] = order[best];
                order[best] = kept;
                swap_both(a, n, stride, k, best);
                for (uint32_t j = 0; j < k; j++) {
                    const double t = columns[j * stride + k];
                    columns[j * stride + k] = columns[j * stride + best];
                    columns[j * stride + best] = t;
                }
            }
        }
        const double pivot = a[k * stride + k];
        if (!(pivot > least)) return -EDOM;
        const double root = sqrt(pivot);
        double *column = columns + k * stride;
        column[k] = root;
        for (uint32_t i = k + 1; i < n; i++) column[i] = a[i * stride + k] / root;
        for (uint32_t i = k + 1; i < n; i++) add(a + i * stride, -column[i], column, stride);
    }
    return 0;
}

/* Column j of the result solves l y = m_j: y_i is known, then taken off with column i of l. */
PD_MULTIVERSION
void pd_spd_divide(const double *l, double *m, uint32_t n)
{
    const size_t stride = pd_spd_stride(n);
    for (uint32_t j = 0; j < n; j++) {
        double *y = m + j * stride;
        for (uint32_t i = j; i < n; i++) {
            const double value = y[i] / l[i * stride + i];
            add(y, -value, l + i * stride, stride);
            y[i] = value;
        }
    }
}

INLINED void rotate(double *p, double *q, double c, double s, size_t stride)
{
    for (size_t i = 0; i < stride; i += 4) {
        const lanes x = *(lanes *)(p + i), y = *(lanes *)(q + i);
        *(lanes *)(p + i) = c * x - s * y;
        *(lanes *)(q + i) = s * x + c * y;
    }
}

/* De Rijk's pivoting: fewer sweeps. */
INLINED void largest_first(double *rows, uint32_t i, uint32_t n, size_t stride, double *squares)
{
    uint32_t best = i;
    for (uint32_t j = i + 1; j < n; j++)
        if (squares[j] > squares[best]) best = j;
    if (best == i) return;
    const double kept = squares[i];
    squares[i] = squares[best];
    squares[best] = kept;
    for (size_t k = 0; k < stride; k++) {
        const double t = rows[i * stride + k];
        rows[i * stride + k] = rows[best * stride + k];
        rows[best * stride + k] = t;
    }
}

PD_MULTIVERSION
int pd_spd_jacobi(double *rows, uint32_t n, double *squares)
{
    const size_t stride = pd_spd_stride(n);
    const double tolerance = sqrt((double)n) * DBL_EPSILON;
    for (uint32_t sweep = 0; sweep < PD_SPD_SWEEPS; sweep++) {
        uint32_t rotated = 0;
        for (uint32_t k = 0; k < n; k++)
            squares[k] = dot(rows + k * stride, rows + k * stride, stride);
        for (uint32_t i = 0; i + 1 < n; i++) {
            largest_first(rows, i, n, stride, squares);
            for (uint32_t j = i + 1; j < n; j++) {
                double *p = rows + i * stride, *q = rows + j * stride;
                const double g = dot(p, q, stride);
                if (!(fabs(g) > tolerance * sqrt(squares[i]) * sqrt(squares[j]))) continue;
                const double z = (squares[j] - squares[i]) / (2 * g);
                const double t = (z < 0 ? -1 : 1) / (fabs(z) + sqrt(1 + z * z));
                const double c = 1 / sqrt(1 + t * t);
                rotate(p, q, c, c * t, stride);
                squares[i] -= t * g;
                squares[j] += t * g;
                rotated++;
            }
        }
        if (rotated == 0) return 0;
    }
    return -ERANGE;
}

PD_MULTIVERSION
void pd_spd_product(const double *a, const double *b, uint32_t n, double *c)
{
    const size_t stride = pd_spd_stride(n);
    memset(c, 0, n * stride * sizeof *c);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < n; k++) add(c + i * stride, a[i * stride + k], b + k * stride, stride);
}

PD_MULTIVERSION
void pd_spd_compose(const double *u, const double *f, uint32_t n, double *out)
{
    const size_t stride = pd_spd_stride(n);
    memset(out, 0, n * stride * sizeof *out);
    for (uint32_t k = 0; k < n; k++) {
        const double *row = u + k * stride;
        for (uint32_t i = 0; i < n; i++) add(out + i * stride, f[k] * row[i], row, stride);
    }
    for (uint32_t i = 0; i < n; i++)        /* f u_i u_j rounds as f u_j u_i does not */
        for (uint32_t j = 0; j < i; j++) out[i * stride + j] = out[j * stride + i];
}
