/* Sums of pd_artifact, over the samples of a block and over the blocks of a window, for
 * PD_ARTIFACT_LANES channels at once. Stateless; for pd_artifact.c and pd_artifact_read.c alone. */
#ifndef PD_ARTIFACT_SUMS_H
#define PD_ARTIFACT_SUMS_H

#include <stdint.h>

#include "pd_artifact.h"

#define PD_ARTIFACT_BOTH 2          /* cosine and sine */

typedef double pd_artifact_lanes[PD_ARTIFACT_LANES];

struct pd_artifact_stats {          /* of a block */
    pd_artifact_lanes sum, low, high;
    pd_artifact_lanes lost, gone, clipped;      /* samples: that never arrived; without a value */
    pd_artifact_lanes step, step2;              /* changes over `lag` within the block: largest,
                                                   squares */
    pd_artifact_lanes entry, entry2;            /* and those that begin in the block before */
};

enum { PD_ARTIFACT_EEG = 1, PD_ARTIFACT_MUSCLE = 2, PD_ARTIFACT_LINES = 4 };   /* LINES << line */

struct pd_artifact_bin {
    uint32_t k, use;                /* k / window cycles a sample */
};

struct pd_artifact_power {          /* sums of the periodogram's bins, µV² a Hz */
    pd_artifact_lanes eeg, emg, line[2];
};

/* A block: rows [hop] after the rows [hop] of the one before. turns: cosines, then sines, of one
 * turn in `window` steps; phase: the block's first sample in it. `lost` and `gone` stand already. */
void pd_artifact_gather(const struct pd_artifact_config *config,
                        struct pd_artifact_stats *stats, double *node,
                        const pd_artifact_lanes *rows, const pd_artifact_lanes *before,
                        const double *turns, const struct pd_artifact_bin *bins, uint32_t n_bins,
                        uint32_t phase);

/* into = first + second, n a multiple of PD_ARTIFACT_LANES; into may be either. */
void pd_artifact_add(double *into, const double *first, const double *second, size_t n);

/* Of a window's spectrum; its first sample is `phase` steps into the turn. */
void pd_artifact_periodogram(const struct pd_artifact_config *config, const double *node,
                             const double *turns, const struct pd_artifact_bin *bins,
                             uint32_t n_bins, uint32_t phase, struct pd_artifact_power *power);

/* Over a window's blocks, oldest first: block i is stats[(first + i) % n_blocks]. */
struct pd_artifact_window {
    pd_artifact_lanes lost, gone, clipped, flat;    /* samples */
    pd_artifact_lanes trend;                        /* µV over the window, signed */
    pd_artifact_lanes step, rest;                   /* largest change; RMS of those elsewhere */
};

/* scratch: [n_blocks] lanes. transients: [n_transients] lanes, those of the boxes. */
void pd_artifact_survey(const struct pd_artifact_config *config,
                        const struct pd_artifact_stats *stats, uint32_t first,
                        pd_artifact_lanes *scratch, struct pd_artifact_window *window,
                        pd_artifact_lanes *transients);

static inline uint32_t pd_artifact_transients(const struct pd_artifact_config *config)
{
    return config->n_blocks - 3 * config->box + 1;
}

#endif
