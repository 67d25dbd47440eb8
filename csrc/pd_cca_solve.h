/* The largest canonical correlation from sums: rank rule, whitening, and the
 * largest singular value, eight targets at a time. The part of pd_cca that knows nothing of
 * time. Stateless; any thread; nothing allocates or fails. */
#ifndef PD_CCA_SOLVE_H
#define PD_CCA_SOLVE_H

#include <stddef.h>
#include <stdint.h>

#include "pd_cca.h"

#define PD_CCA_RANK 1e-10           /* of its variance a channel keeps after the others */
#define PD_CCA_FLAT_SD 1e-11        /* of the largest standard deviation */

/* Channels that span what all of them span: their Gram matrix is L Lᵀ, each scaled to 1. */
struct pd_cca_factor {
    uint32_t rank;
    uint32_t channel[PD_CCA_MAX_CHANNELS];
    double scale[PD_CCA_MAX_CHANNELS];
    double inverse[PD_CCA_MAX_CHANNELS];        /* 1 / L[k][k] */
    double lower[PD_CCA_MAX_CHANNELS][PD_CCA_MAX_CHANNELS];
};

/* gram: [n][stride], finite; mean: n, of n_samples. Destroys gram. */
void pd_cca_factorise(struct pd_cca_factor *factor, double *gram, size_t stride, uint32_t n,
                      const double *mean, double n_samples);

struct pd_cca_cross {
    const double *cross;            /* [channels][2][n_harmonics][target_lanes]: cosines, sines */
    const double *rotation;         /* [2][n_harmonics][target_lanes]: to the window's centre */
    const double *whitening;        /* [2][n_harmonics][n_harmonics][target_lanes]: R of the QR of
                                       the references, inverse on the diagonal, 0 = left out */
    uint32_t n_harmonics, target_lanes;
};

/* rho: target_lanes. work: rank × 2 n_harmonics × PD_CCA_LANES doubles. rank > 0. */
void pd_cca_largest(const struct pd_cca_factor *factor, const struct pd_cca_cross *problem,
                    double *work, double *rho);

#endif
