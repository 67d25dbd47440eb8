/* Symmetric positive definite matrices: covariance, affine-invariant distance, functions, mean, tangent vectors.
 *
 * Matrices are double [n][n], row by row, n from 1 to PD_SPD_MAX, in any unit (distance and tangent
 * vectors have none, covariances have its square). Definitions are pyRiemann's and scikit-learn's.
 *
 * Everything goes by one eigensolver: Cholesky, then one-sided Jacobi on the factor's columns
 * (Veselic and Hari 1989), which finds small eigenvalues as exactly as large ones. The distance is
 * from the singular values of inv(L_B) L_A, so that no product of condition numbers enters.
 *
 * What is no SPD matrix has no result: every function returns 0, or
 *   -EINVAL  NaN or an infinity in it, asymmetric by more than PD_SPD_ASYMMETRY of its largest value
 *            (less is averaged), or a size that can't be
 *   -EDOM    not positive definite: a Cholesky pivot is not above n 2^-52 times the
 *            largest value of the diagonal. That is the rank rule: a matrix that is singular but for
 *            rounding is refused; condition numbers up to some 1e13 pass
 *   -ERANGE  no convergence (Jacobi; the mean says so of itself), or a result that overflows
 * and fills its output with NaN, unless it is 0 or the mean's -ERANGE.
 *
 * The caller gives outputs and work, pd_spd_work(n) doubles, 32-byte aligned; outputs are apart from inputs.
 * Any thread, with work of its own; nothing allocates, locks or blocks.
 */
#ifndef PD_SPD_H
#define PD_SPD_H

#include <stddef.h>
#include <stdint.h>

#define PD_SPD_MAX 128u
#define PD_SPD_ASYMMETRY 1e-8
#define PD_SPD_SWEEPS 40u

enum { PD_SPD_SQRT, PD_SPD_INVSQRT, PD_SPD_LOG, PD_SPD_EXP };
enum { PD_SPD_SAMPLE, PD_SPD_LEDOIT_WOLF, PD_SPD_OAS, PD_SPD_FIXED };

/* Doubles; 0 for an n that can't be. */
size_t pd_spd_work(uint32_t n);

/* Eigenvalues in falling order, vectors [n][n] with vector k in row k (NULL: not wanted). */
int pd_spd_eigen(const double *a, uint32_t n, double *values, double *vectors, double *work);

/* f of a matrix. PD_SPD_EXP takes any symmetric matrix. */
int pd_spd_apply(int f, const double *a, uint32_t n, double *out, double *work);

/* sqrt(sum over k of log(l_k)^2), l the eigenvalues of inv(b) a. */
int pd_spd_distance(const double *a, const double *b, uint32_t n, double *distance, double *work);

/* The matrix with the smallest weighted sum of squared distances to x [m][n][n], by pyRiemann's
 * gradient descent, step and stopping rule. weights: NULL (equal), or m above 0. -ERANGE: not
 * within `most` iterations; `mean` is the last one. iterations and criterion (Frobenius norm of the gradient)
 * may be NULL. */
int pd_spd_mean(const double *x, uint32_t m, uint32_t n, const double *weights, double tolerance,
                uint32_t most, double *mean, uint32_t *iterations, double *criterion,
                double *work);

/* log(r^-1/2 x r^-1/2), upper triangle row by row, sqrt(2) times what is off the diagonal:
 * n (n + 1) / 2 values, whose norm is the distance. And back: r^1/2 exp(t) r^1/2. */
int pd_spd_tangent(const double *x, const double *r, uint32_t n, double *t, double *work);
int pd_spd_untangent(const double *t, const double *r, uint32_t n, double *x, double *work);

/* Covariance of x [rows][stride], of which n columns are used: sums over rows, the mean taken off, divided by
 * `rows` (at least 2; -EINVAL). Shrunk: (1 - s) S + s trace(S) / n I. s is Ledoit and Wolf's (2004),
 * OAS (Chen et al. 2010) as scikit-learn computes them, 0 for n = 1, or *shrinkage in [0, 1] for
 * PD_SPD_FIXED; the others give it back there. The result may be singular; that is no error here. */
int pd_spd_covariance(int kind, const double *x, size_t stride, uint32_t rows, uint32_t n,
                      double *shrinkage, double *out, double *work);

#endif
