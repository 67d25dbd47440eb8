/* Where things lie in pd_artifact's block: for pd_artifact.c and pd_artifact_read.c alone. */
#ifndef PD_ARTIFACT_PLACES_H
#define PD_ARTIFACT_PLACES_H

#include "pd_artifact.h"
#include "pd_artifact_sums.h"

static inline double *at(const struct pd_artifact *a, size_t place)
{
    return (double *)(uintptr_t)a + place;
}

static inline struct pd_artifact_bin *bins(const struct pd_artifact *a)
{
    return (struct pd_artifact_bin *)(void *)at(a, a->bins);
}

static inline uint8_t *roles(const struct pd_artifact *a)
{
    return (uint8_t *)at(a, a->roles);
}

/* [n_blocks] of a group of lanes, block index % n_blocks, and after them the open block's. */
static inline struct pd_artifact_stats *stats(const struct pd_artifact *a, uint32_t group)
{
    struct pd_artifact_stats *all = (struct pd_artifact_stats *)(void *)at(a, a->stats);
    return all + (size_t)group * (a->config.n_blocks + 1);
}

static inline double *spectrum(const struct pd_artifact *a, uint32_t group, uint32_t slot)
{
    return at(a, a->spectra + ((size_t)group * a->config.n_blocks + slot) * a->node);
}

/* The samples of a block: of two, the one that is open and the one before it. */
static inline pd_artifact_lanes *block_rows(const struct pd_artifact *a, uint32_t group,
                                            uint64_t index)
{
    size_t first = ((size_t)group * 2 + (index & 1)) * a->config.hop;
    return (pd_artifact_lanes *)(void *)at(a, a->rows) + first;
}

#endif
