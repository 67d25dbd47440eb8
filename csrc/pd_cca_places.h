/* Where things lie in pd_cca's block: for pd_cca.c and pd_cca_init.c alone. */
#ifndef PD_CCA_PLACES_H
#define PD_CCA_PLACES_H

#include "pd_cca.h"
#include "pd_cca_sums.h"

static inline double *at(const struct pd_cca *cca, size_t place)
{
    return (double *)(uintptr_t)cca + place;
}

/* A frequency as whole 2^-64 turns in half a sample: the middle of a window may lie between two. */
static inline uint64_t *half_steps(const struct pd_cca *cca)
{
    return (uint64_t *)at(cca, cca->steps);
}

static inline uint32_t *harmonics(const struct pd_cca *cca)
{
    return (uint32_t *)at(cca, cca->harmonics);
}

static inline struct pd_cca_shape shape(const struct pd_cca *cca)
{
    return (struct pd_cca_shape){cca->n_channels, cca->channel_lanes, cca->target_lanes,
                                 cca->n_harmonics, cca->width};
}

#endif
