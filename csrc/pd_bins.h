/* A dataset as the sessions read it: spike counts, movement and trials in bins.
 *
 * It lies in memory that somebody else owns (a mapped file, NumPy arrays), is
 * read only, and any number of sessions and threads read it at once.
 */
#ifndef PD_BINS_H
#define PD_BINS_H

#include <stdint.h>

#define PD_BINS_MAX_UNITS 1024
#define PD_BINS_NONE UINT32_MAX     /* "no trial" */

struct pd_bins_trial {
    int64_t id;
    uint32_t start, stop;           /* bins, stop not included */
    int32_t target_id;              /* negative: the trial has no target */
    float target_x, target_y;       /* the dataset's unit of length */
    uint32_t reserved;
};

struct pd_bins {
    uint32_t n_bins, n_units, n_trials;
    uint32_t wide;                  /* counts are uint16, else uint8 */
    int64_t bin_ns;
    const void *counts;             /* [bin][unit] */
    const float *kinematics;        /* [bin][x y vx vy]; NaN: not known */
    const uint32_t *trial_of;       /* [bin], or PD_BINS_NONE */
    const struct pd_bins_trial *trials;
};

/* What a session plays, in this order: bins start .. stop-1 of each. */
struct pd_bins_span {
    uint32_t start, stop;
};

#endif
