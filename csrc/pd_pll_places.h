/* Where things lie in pd_pll's block: for the files of pd_pll alone.
 *
 * Rows of sums come in this order, and so do rows of the Gram matrix: powers of time (n_poly), mains
 * (cosine, sine each), mains times time (n_slopes), which are the nuisance; then, cosine and
 * sine each, nodes (Chebyshev's, from which all frequencies within the range are interpolated), bins
 * beside them, nodes about half the frequency, bins beside those. */
#ifndef PD_PLL_PLACES_H
#define PD_PLL_PLACES_H

#include "pd_pll.h"

#define PD_PLL_POINTS 16            /* of the envelope within a window */
#define PD_PLL_MOST_DEGREE 6

/* Eight channels' state; then samples [n_rows][8], open sums [n_sums][8], blocks
 * [n_blocks][n_sums][8], a byte a row in 8: which lanes are missing. */
struct pd_pll_group {
    uint64_t fresh;                 /* the count that `report` is of */
    uint64_t missed;                /* 1 + index of the last row with a missing sample */
    uint8_t streak[PD_PLL_LANES], locked[PD_PLL_LANES];
    struct pd_pll_report report[PD_PLL_LANES];
};

/* What a pattern of missing samples makes of the tables; places in doubles from `own` or `part`. */
struct pd_pll_fit {
    double *gram;                   /* [n_sums][n_sums]: nuisance eliminated from the upper triangle */
    double *inverse;                /* [n_nuisance] of the pivots */
    double *white;                  /* [n_grid][3]: inverse of the 2 × 2 Gram matrix */
    double *forms, *half_forms;     /* [n (n + 1) / 2][3]: nodes' products, packed */
    double *envelope;               /* [2 n_degree][2 n_nodes] */
    double *norm;                   /* [0]: of the bins beside, [1]: of those beside the half */
};

static inline double *at(const struct pd_pll *pll, size_t place)
{
    return (double *)(uintptr_t)pll + place;
}

static inline uint64_t *half_steps(const struct pd_pll *pll)
{
    return (uint64_t *)at(pll, pll->half_steps);
}

/* Of two cosines' and sines' products, for n nodes. */
static inline size_t forms_of(uint32_t n)
{
    return (size_t)n * (n + 1) / 2 * 3;
}

static inline size_t pd_pll_fit_doubles(const struct pd_pll *pll)
{
    return (size_t)pll->n_sums * pll->n_sums + pll->n_nuisance + 3 * (size_t)pll->n_grid
           + forms_of(pll->n_nodes) + forms_of(pll->n_half)
           + 4 * (size_t)pll->n_degree * pll->n_nodes + 2;
}

static inline struct pd_pll_fit fit_at(const struct pd_pll *pll, size_t place)
{
    struct pd_pll_fit fit = {.gram = at(pll, place)};
    fit.inverse = fit.gram + (size_t)pll->n_sums * pll->n_sums;
    fit.white = fit.inverse + pll->n_nuisance;
    fit.forms = fit.white + 3 * (size_t)pll->n_grid;
    fit.half_forms = fit.forms + forms_of(pll->n_nodes);
    fit.envelope = fit.half_forms + forms_of(pll->n_half);
    fit.norm = fit.envelope + 4 * (size_t)pll->n_degree * pll->n_nodes;
    return fit;
}

static inline struct pd_pll_group *group_at(const struct pd_pll *pll, uint32_t group)
{
    return (struct pd_pll_group *)at(pll, pll->groups + group * pll->group);
}

#define PD_PLL_HEAD ((sizeof(struct pd_pll_group) + 63) / 64 * 8)

static inline double *samples_of(const struct pd_pll_group *group)
{
    return (double *)(uintptr_t)group + PD_PLL_HEAD;
}

static inline double *open_of(const struct pd_pll *pll, const struct pd_pll_group *group)
{
    return samples_of(group) + (size_t)pll->n_rows * PD_PLL_LANES;
}

static inline double *block_of(const struct pd_pll *pll, const struct pd_pll_group *group,
                               uint64_t block)
{
    return open_of(pll, group)
           + (1 + block % pll->n_blocks) * pll->n_sums * (size_t)PD_PLL_LANES;
}

static inline uint8_t *missing_of(const struct pd_pll *pll, const struct pd_pll_group *group)
{
    return (uint8_t *)(open_of(pll, group)
                       + (1 + (size_t)pll->n_blocks) * pll->n_sums * PD_PLL_LANES);
}

/* cos, sin of each frequency at the first sample of a block, in phases of all time. */
static inline double *start_of(const struct pd_pll *pll, uint64_t block)
{
    return at(pll, pll->starts + block % (pll->n_blocks + 2) * 2 * pll->n_frequencies);
}

/* Row of a frequency's cosine among the sums. */
static inline uint32_t row_of(const struct pd_pll *pll, uint32_t frequency)
{
    if (frequency < pll->n_mains) return pll->n_poly + 2 * frequency;
    return pll->n_nuisance + 2 * (frequency - pll->n_mains);
}

#endif
