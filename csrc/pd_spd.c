#include "pd_spd.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "pd_spd_eigen.h"

/* Where the parts of `work` are: matrices of n rows, then vectors. */
struct parts {
    size_t one;                     /* doubles a matrix */
    double *m[7];
    double *values, *f;
    uint32_t *order;
};

enum { A, FACTOR, LOG, ROOT, INVERSE_ROOT, BETWEEN, SUM };    /* what m holds; A, FACTOR: eigen's own */

size_t pd_spd_work(uint32_t n)
{
    if (n < 1 || n > PD_SPD_MAX) return 0;
    return 7 * n * pd_spd_stride(n) + 3 * pd_spd_stride(n);
}

static struct parts part(double *work, uint32_t n)
{
    struct parts w = {.one = n * pd_spd_stride(n)};
    for (uint32_t i = 0; i < 7; i++) w.m[i] = work + i * w.one;
    w.values = work + 7 * w.one;
    w.f = w.values + pd_spd_stride(n);
    w.order = (void *)(w.f + pd_spd_stride(n));
    return w;
}

static int undefined(double *out, size_t count, int error)
{
    for (size_t i = 0; i < count; i++) out[i] = NAN;
    return error;
}

static int size_is_wrong(uint32_t n) { return n < 1 || n > PD_SPD_MAX; }

/* A caller's matrix into padded rows, its two halves averaged. 0 or -EINVAL. */
static int take(const double *a, uint32_t n, double *to)
{
    const size_t stride = pd_spd_stride(n);
    double largest = 0, apart = 0;
    memset(to, 0, n * stride * sizeof *to);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j <= i; j++) {
            const double x = a[(size_t)i * n + j], y = a[(size_t)j * n + i];
            if (!(fabs(x) <= DBL_MAX / 4 && fabs(y) <= DBL_MAX / 4)) return -EINVAL;
            largest = fmax(largest, fmax(fabs(x), fabs(y)));
            apart = fmax(apart, fabs(x - y));
            to[i * stride + j] = to[j * stride + i] = (x + y) / 2;
        }
    }
    return apart <= PD_SPD_ASYMMETRY * largest ? 0 : -EINVAL;
}

static void give(const double *from, uint32_t n, double *to)
{
    for (uint32_t i = 0; i < n; i++)
        memcpy(to + (size_t)i * n, from + i * pd_spd_stride(n), n * sizeof *to);
}

static void symmetrise(double *a, uint32_t n)
{
    const size_t stride = pd_spd_stride(n);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < i; j++) {
            const double mean = (a[i * stride + j] + a[j * stride + i]) / 2;
            a[i * stride + j] = a[j * stride + i] = mean;
        }
    }
}

/* Values and unit vectors (rows of m[FACTOR]) of m[A], which is overwritten. The scale is taken out
 * first, so that squares of norms neither overflow nor vanish. */
static int solve(struct parts *w, uint32_t n)
{
    const size_t stride = pd_spd_stride(n);
    double largest = 0;
    for (uint32_t i = 0; i < n; i++) largest = fmax(largest, w->m[A][i * stride + i]);
    if (!(largest > 0)) return -EDOM;
    int exponent;
    frexp(largest, &exponent);
    for (size_t i = 0; i < w->one; i++) w->m[A][i] = ldexp(w->m[A][i], -exponent);
    int rc = pd_spd_cholesky(w->m[A], n, w->m[FACTOR], w->order);
    if (rc == 0) rc = pd_spd_jacobi(w->m[FACTOR], n, w->values);
    if (rc) return rc;
    for (uint32_t k = 0; k < n; k++) {
        double *row = w->m[FACTOR] + k * stride, norm = sqrt(w->values[k]), moved[PD_SPD_MAX];
        for (uint32_t i = 0; i < n; i++) moved[w->order[i]] = row[i] / norm;
        memcpy(row, moved, n * sizeof *row);
        w->values[k] = ldexp(w->values[k], exponent);
    }
    return 0;
}

static double function_of(int f, double value)
{
    switch (f) {
    case PD_SPD_SQRT: return sqrt(value);
    case PD_SPD_INVSQRT: return 1 / sqrt(value);
    default: return log(value);
    }
}

/* f of m[A] into m[to]. */
static int apply(struct parts *w, int f, uint32_t n, uint32_t to)
{
    int rc = solve(w, n);
    if (rc) return rc;
    for (uint32_t k = 0; k < n; k++) w->f[k] = function_of(f, w->values[k]);
    pd_spd_compose(w->m[FACTOR], w->f, n, w->m[to]);
    return 0;
}

/* exp of m[A], symmetric, into m[to]. Moved by a bound of its spectrum it is positive definite. */
static int exponential(struct parts *w, uint32_t n, uint32_t to)
{
    const size_t stride = pd_spd_stride(n);
    double bound = 0;
    for (uint32_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < n; j++) sum += fabs(w->m[A][i * stride + j]);
        bound = fmax(bound, sum);
    }
    bound = bound > 0 ? 1.25 * bound : 1;
    if (!(bound <= 1e6)) return -ERANGE;
    for (uint32_t i = 0; i < n; i++) w->m[A][i * stride + i] += bound;
    int rc = solve(w, n);
    if (rc) return rc;
    for (uint32_t k = 0; k < n; k++) {
        w->f[k] = exp(w->values[k] - bound);
        if (!(w->f[k] <= DBL_MAX / 4)) return -ERANGE;
    }
    pd_spd_compose(w->m[FACTOR], w->f, n, w->m[to]);
    return 0;
}

/* m[A] := s m[A] s, symmetric; s is not A, BETWEEN or FACTOR. */
static void sandwich(struct parts *w, uint32_t s, uint32_t n)
{
    pd_spd_product(w->m[s], w->m[A], n, w->m[BETWEEN]);
    pd_spd_product(w->m[BETWEEN], w->m[s], n, w->m[A]);
    symmetrise(w->m[A], n);
}

int pd_spd_eigen(const double *a, uint32_t n, double *values, double *vectors, double *work)
{
    if (size_is_wrong(n)) return -EINVAL;
    struct parts w = part(work, n);
    int rc = take(a, n, w.m[A]);
    if (rc == 0) rc = solve(&w, n);
    if (rc) {
        if (vectors != NULL) undefined(vectors, (size_t)n * n, rc);
        return undefined(values, n, rc);
    }
    for (uint32_t k = 0; k < n; k++) {
        uint32_t rank = 0;
        for (uint32_t i = 0; i < n; i++)
            rank += w.values[i] > w.values[k] || (w.values[i] == w.values[k] && i < k);
        values[rank] = w.values[k];
        if (vectors != NULL)
            memcpy(vectors + (size_t)rank * n, w.m[FACTOR] + k * pd_spd_stride(n), n * sizeof *vectors);
    }
    return 0;
}

int pd_spd_apply(int f, const double *a, uint32_t n, double *out, double *work)
{
    if (size_is_wrong(n) || f < PD_SPD_SQRT || f > PD_SPD_EXP) return -EINVAL;
    struct parts w = part(work, n);
    int rc = take(a, n, w.m[A]);
    if (rc == 0) rc = f == PD_SPD_EXP ? exponential(&w, n, LOG) : apply(&w, f, n, LOG);
    if (rc) return undefined(out, (size_t)n * n, rc);
    give(w.m[LOG], n, out);
    return 0;
}

int pd_spd_distance(const double *a, const double *b, uint32_t n, double *distance, double *work)
{
    if (size_is_wrong(n)) return undefined(distance, 1, -EINVAL);
    struct parts w = part(work, n);
    int rc = take(a, n, w.m[A]);
    if (rc == 0) rc = take(b, n, w.m[LOG]);
    if (rc == 0) rc = pd_spd_cholesky(w.m[A], n, w.m[FACTOR], NULL);
    if (rc == 0) rc = pd_spd_cholesky(w.m[LOG], n, w.m[ROOT], NULL);
    if (rc) return undefined(distance, 1, rc);
    pd_spd_divide(w.m[ROOT], w.m[FACTOR], n);
    rc = pd_spd_jacobi(w.m[FACTOR], n, w.values);
    if (rc) return undefined(distance, 1, rc);
    double sum = 0;
    for (uint32_t k = 0; k < n; k++) {
        const double l = log(w.values[k]);
        sum += l * l;
    }
    if (!(sum <= DBL_MAX)) return undefined(distance, 1, -ERANGE);
    *distance = sqrt(sum);
    return 0;
}

/* log(r^-1/2 m[A] r^-1/2) into m[LOG], r^-1/2 in m[INVERSE_ROOT]: from the singular values and vectors of
 * r^-1/2 times the Cholesky factor. The product of all three, taken first, would lose twice the digits. */
static int whitened_log(struct parts *w, uint32_t n)
{
    const size_t stride = pd_spd_stride(n);
    int rc = pd_spd_cholesky(w->m[A], n, w->m[BETWEEN], NULL);
    if (rc) return rc;
    pd_spd_product(w->m[BETWEEN], w->m[INVERSE_ROOT], n, w->m[FACTOR]);
    rc = pd_spd_jacobi(w->m[FACTOR], n, w->values);
    if (rc) return rc;
    for (uint32_t k = 0; k < n; k++) {
        if (!(w->values[k] > 0 && w->values[k] <= DBL_MAX)) return -ERANGE;
        const double norm = sqrt(w->values[k]);
        for (uint32_t i = 0; i < n; i++) w->m[FACTOR][k * stride + i] /= norm;
        w->f[k] = log(w->values[k]);
    }
    pd_spd_compose(w->m[FACTOR], w->f, n, w->m[LOG]);
    return 0;
}

/* m[ROOT] and m[INVERSE_ROOT] of m[A]. */
static int roots(struct parts *w, uint32_t n)
{
    int rc = apply(w, PD_SPD_SQRT, n, ROOT);
    if (rc) return rc;
    for (uint32_t k = 0; k < n; k++) w->f[k] = 1 / sqrt(w->values[k]);
    pd_spd_compose(w->m[FACTOR], w->f, n, w->m[INVERSE_ROOT]);
    return 0;
}

/* One step: the weighted mean of logs at `mean` into m[SUM]; its Frobenius norm. */
static int gradient(struct parts *w, const double *x, uint32_t m, uint32_t n,
                    const double *weights, double total, double *norm)
{
    double *sum = w->m[SUM];
    memset(sum, 0, w->one * sizeof *sum);
    for (uint32_t i = 0; i < m; i++) {
        int rc = take(x + (size_t)i * n * n, n, w->m[A]);
        if (rc) return rc;
        rc = whitened_log(w, n);
        if (rc) return rc;
        const double weight = (weights ? weights[i] : 1) / total;
        for (size_t k = 0; k < w->one; k++) sum[k] += weight * w->m[LOG][k];
    }
    double squares = 0;
    for (size_t k = 0; k < w->one; k++) squares += sum[k] * sum[k];
    *norm = sqrt(squares);
    return 0;
}

static int start_mean(struct parts *w, const double *x, uint32_t m, uint32_t n,
                      const double *weights, double total)
{
    double *sum = w->m[SUM];
    memset(sum, 0, w->one * sizeof *sum);
    for (uint32_t i = 0; i < m; i++) {
        int rc = take(x + (size_t)i * n * n, n, w->m[A]);
        if (rc) return rc;
        const double weight = (weights ? weights[i] : 1) / total;
        for (size_t k = 0; k < w->one; k++) sum[k] += weight * w->m[A][k];
    }
    return 0;
}

int pd_spd_mean(const double *x, uint32_t m, uint32_t n, const double *weights, double tolerance,
                uint32_t most, double *mean, uint32_t *iterations, double *criterion, double *work)
{
    if (size_is_wrong(n)) return -EINVAL;
    const size_t count = (size_t)n * n;
    double total = 0;
    for (uint32_t i = 0; i < m; i++) {
        const double weight = weights ? weights[i] : 1;
        if (!(weight > 0 && weight <= DBL_MAX)) return undefined(mean, count, -EINVAL);
        total += weight;
    }
    if (!(total > 0 && total <= DBL_MAX && tolerance >= 0)) return undefined(mean, count, -EINVAL);
    struct parts w = part(work, n);
    int rc = start_mean(&w, x, m, n, weights, total);
    if (rc) return undefined(mean, count, rc);
    give(w.m[SUM], n, mean);
    double step = 1, before = DBL_MAX, norm = NAN;
    uint32_t done = 0;
    for (rc = -ERANGE; done < most && rc == -ERANGE; done++) {
        int error = take(mean, n, w.m[A]);
        if (error == 0) error = roots(&w, n);
        if (error == 0) error = gradient(&w, x, m, n, weights, total, &norm);
        for (size_t k = 0; error == 0 && k < w.one; k++) w.m[A][k] = step * w.m[SUM][k];
        if (error == 0) error = exponential(&w, n, LOG);
        if (error) return undefined(mean, count, error);
        memcpy(w.m[A], w.m[LOG], w.one * sizeof *w.m[A]);
        sandwich(&w, ROOT, n);
        give(w.m[A], n, mean);
        const double length = step * norm;
        if (length < before) {
            step *= 0.95;
            before = length;
        } else {
            step *= 0.5;
        }
        if (norm <= tolerance || step <= tolerance) rc = 0;
    }
    if (iterations != NULL) *iterations = done;
    if (criterion != NULL) *criterion = norm;
    return rc;
}

int pd_spd_tangent(const double *x, const double *r, uint32_t n, double *t, double *work)
{
    if (size_is_wrong(n)) return -EINVAL;
    struct parts w = part(work, n);
    int rc = take(r, n, w.m[A]);
    if (rc == 0) rc = roots(&w, n);
    if (rc == 0) rc = take(x, n, w.m[A]);
    if (rc == 0) rc = whitened_log(&w, n);
    if (rc) return undefined(t, (size_t)n * (n + 1) / 2, rc);
    for (uint32_t i = 0; i < n; i++) {
        const double *row = w.m[LOG] + i * pd_spd_stride(n);
        *t++ = row[i];
        for (uint32_t j = i + 1; j < n; j++) *t++ = sqrt(2) * row[j];
    }
    return 0;
}

int pd_spd_untangent(const double *t, const double *r, uint32_t n, double *x, double *work)
{
    if (size_is_wrong(n)) return -EINVAL;
    const size_t stride = pd_spd_stride(n), count = (size_t)n * n;
    struct parts w = part(work, n);
    int rc = take(r, n, w.m[A]);
    if (rc == 0) rc = roots(&w, n);
    if (rc) return undefined(x, count, rc);
    memset(w.m[A], 0, w.one * sizeof *w.m[A]);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = i; j < n; j++, t++) {
            if (!(fabs(*t) <= DBL_MAX)) return undefined(x, count, -EINVAL);
            w.m[A][i * stride + j] = w.m[A][j * stride + i] = i == j ? *t : *t / sqrt(2);
        }
    }
    rc = exponential(&w, n, LOG);
    if (rc) return undefined(x, count, rc);
    memcpy(w.m[A], w.m[LOG], w.one * sizeof *w.m[A]);
    sandwich(&w, ROOT, n);
    give(w.m[A], n, x);
    return 0;
}
