/* The numerics behind pd_spd.h, for pd_spd*.c alone. Matrices here have rows of pd_spd_stride(n)
 * doubles, the padding 0, and are 32-byte aligned. Sums go in four lanes in a fixed order, so results are
 * the same bits on each instruction set. */
#ifndef PD_SPD_EIGEN_H
#define PD_SPD_EIGEN_H

#include "pd_spd.h"

static inline size_t pd_spd_stride(uint32_t n)
{
    return (n + 3u) / 4u * 4u;
}

/* The lower factor of a, by columns: row k of `columns` is column k, in the order of `order` (NULL: no
 * pivoting). a is overwritten. 0 or -EDOM. */
int pd_spd_cholesky(double *a, uint32_t n, double *columns, uint32_t *order);

/* columns := columns of inv(l) m, both lower triangular and by columns. */
void pd_spd_divide(const double *l, double *m, uint32_t n);

/* Makes the rows orthogonal by rotations from the left; squares: their squared norms. 0 or -ERANGE. */
int pd_spd_jacobi(double *rows, uint32_t n, double *squares);

/* c := a b, all n × n. c is apart. */
void pd_spd_product(const double *a, const double *b, uint32_t n, double *c);

/* out := sum over k of f[k] u_k u_k', u_k in row k of u. */
void pd_spd_compose(const double *u, const double *f, uint32_t n, double *out);

#endif
