/* pd_pll's arithmetic, built for several instruction sets. Stateless; any thread; nothing
 * allocates or fails. Arrays are 8-byte aligned, [row][PD_PLL_LANES]. */
#ifndef PD_PLL_RUN_H
#define PD_PLL_RUN_H

#include "pd_pll.h"
#include "pd_pll_places.h"

/* Eight channels' fits. */
struct pd_pll_lanes {
    double hertz[PD_PLL_LANES];
    double power[PD_PLL_LANES];         /* that the sinusoid takes out of the sum of squares */
    double cosine[PD_PLL_LANES], sine[PD_PLL_LANES];    /* about the window's middle */
    double noise[PD_PLL_LANES];         /* variance a sample, from the bins beside */
    double beside[PD_PLL_LANES];        /* the same, weighted by frequency / hertz */
    double half_power[PD_PLL_LANES], half_beside[PD_PLL_LANES];
    double error_cosine[PD_PLL_LANES], error_sine[PD_PLL_LANES];    /* mean of exp(i error) */
    double steady[PD_PLL_LANES];        /* |mean of exp(i (error - the fit's))| */
    double scale[PD_PLL_LANES];         /* of the nuisance */
    uint32_t edge[PD_PLL_LANES];
};

/* Samples [n][8] into lanes of 0 and the bits of what is missing; 1 when any is. */
int pd_pll_take(const double *x, size_t stride, uint32_t width, uint32_t n, double *samples,
                uint8_t *missing);

/* sums [n_sums] += rows [n][n_sums]ᵀ samples [n], oldest first. */
void pd_pll_gather(double *sums, const double *rows, const double *samples, uint32_t n_sums,
                   uint32_t n);

/* Sums in a block's own phases into those of all time; start: start_of the block. */
void pd_pll_turn(const struct pd_pll *pll, double *out, const double *sums, const double *start);

/* The window's sums about its middle, `middle` cos, sin of it; part: where their middles are, in
 * half windows. */
void pd_pll_collect(const struct pd_pll *pll, double *total, const double *const *parts,
                    const double *offsets, uint32_t n_parts, const double *middle);

/* total is worked in. */
void pd_pll_solve(const struct pd_pll *pll, const struct pd_pll_fit *fit, double *total,
                  struct pd_pll_lanes *out);

/* Tables of a Gram matrix, which is in fit->gram. */
void pd_pll_factorise(const struct pd_pll *pll, const struct pd_pll_fit *fit);

/* gram += sign × φ φᵀ of sample `index` of a window, upper triangle. */
void pd_pll_count_sample(const struct pd_pll *pll, double *gram, uint32_t index, double sign);

#endif
