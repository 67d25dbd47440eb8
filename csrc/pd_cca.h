/* Canonical correlation of the newest samples with sine and cosine references
 * (Lin, Zhang, Wu, Gao 2006), for many targets and several window lengths at
 * once, at any sample.
 *
 * The correlation of a target at f is the largest that any weighting of the
 * channels has with any weighting of sin and cos of f, 2 f, ... H f, all centred in
 * the window. Harmonics at or above half the rate are left out.
 *
 * What is kept. Samples come in blocks of `hop`, each with its own sums: means,
 * the Gram matrix of the channels about them, and their products with all references.
 * A window is a few of these added up: what is left of its oldest block (from the
 * raw samples), one sum of blocks up to a segment's end, one whole segment, one
 * from a segment's start, and the block that is open. So the cost does not depend on
 * the window's length, and nothing is ever subtracted that had been added: what
 * has left the window, NaN or 200 mV, has left no bit behind. Segments are summed
 * from their ends while the next one fills, three additions a window and hop.
 *
 * Numbers. A block counts from its own first sample, so that 62 mV of offset cost
 * no digit; blocks are joined as Chan, Golub, LeVeque (1983) do. Phases are whole 2^-64
 * turns, exact after any number of samples. A result depends on the samples within the window
 * and on how they lie to the hop, not on how they were pushed, nor on the instruction set.
 *
 * Rank rule. A channel is flat when its standard deviation is at most 1e-11 of the
 * largest one or 4 ulp of its own mean, or its squares underflow. Of the others the one that
 * keeps most of its variance is taken next, until none keeps more than 1e-10 of
 * it: what is left is a linear combination (average reference, a channel twice). A
 * harmonic that keeps at most 1e-7 of its norm after the lower ones is left out. Within
 * cond(Cxx) <= 1e6 nothing is left out, and the correlation is that of QR and SVD to 1e-9.
 *
 * One block of memory, the caller's, without pointers: copied, it goes on
 * elsewhere. One thread at a time owns it: the tick thread, or whoever pushes.
 * Nothing allocates, blocks or fails after init; correlate takes 70 KiB of stack. Samples in any
 * unit.
 */
#ifndef PD_CCA_H
#define PD_CCA_H

#include <stddef.h>
#include <stdint.h>

#define PD_CCA_LANES 8              /* targets that are solved together: one cache line */
#define PD_CCA_MAX_CHANNELS 64u
#define PD_CCA_MAX_TARGETS 512u
#define PD_CCA_MAX_HARMONICS 10u
#define PD_CCA_MAX_WINDOWS 16u
#define PD_CCA_MAX_SAMPLES 1048576u /* of a window */

struct pd_cca_config {
    double rate_hz;
    const double *targets_hz;       /* each under half the rate */
    const uint32_t *windows;        /* samples: more than n_channels + 2 n_harmonics + 1 each */
    uint32_t n_targets, n_windows, n_channels, n_harmonics;
    uint32_t hop;                   /* samples; at most the shortest window */
};

struct pd_cca_window {
    uint32_t samples, segment;      /* segment: blocks, half the window */
    size_t whitening, chain, suffix;
};

/* Places are counted in doubles from the struct's start. */
struct pd_cca {
    uint64_t count;                 /* samples pushed */
    uint32_t n_channels, channel_lanes, n_targets, target_lanes, n_harmonics, n_windows, hop;
    uint32_t width;                 /* references: 2 × n_harmonics × target_lanes */
    uint32_t n_blocks, n_rows;      /* what the rings of blocks and of samples hold */
    uint32_t rank;                  /* channels that the last correlation stood on */
    uint32_t reserved;
    size_t bytes, node;
    size_t steps, harmonics, rows, sums, rotation, centred, work, samples, open, tail, closed,
        total, blocks;
    struct pd_cca_window window[PD_CCA_MAX_WINDOWS];
};

/* What a correlation is: only the first kind is a number, all others are NaN. */
enum pd_cca_state {
    PD_CCA_DEFINED,
    PD_CCA_FILLING,                 /* fewer samples than the window have come */
    PD_CCA_MISSING,                 /* a NaN or an infinity within the window, or overflow */
    PD_CCA_FLAT,                    /* no channel varies */
};

/* Bytes of the block; 0 for a configuration that can't be. */
size_t pd_cca_bytes(const struct pd_cca_config *config);

/* `cca` has pd_cca_bytes, 8-byte aligned (64 is faster). Factors the references of every window,
 * some 30 µs a target and 250 samples. 0 or -EINVAL. */
int pd_cca_init(struct pd_cca *cca, const struct pd_cca_config *config);

/* As before the first sample. */
void pd_cca_reset(struct pd_cca *cca);

/* Goes on where a copy of another block of the same configuration was. 0; -EINVAL: it is of
 * another one, and nothing has changed. */
int pd_cca_restore(struct pd_cca *cca, const void *saved, size_t bytes);

/* n samples, x [n][stride], of which n_channels are used. */
void pd_cca_push(struct pd_cca *cca, const double *x, size_t stride, uint32_t n);

/* rho [n_targets], 0..1, of the newest windows[window] samples. Sets rank. */
enum pd_cca_state pd_cca_correlate(struct pd_cca *cca, uint32_t window, double *rho);

/* Harmonics of a target that lie under half the rate. */
uint32_t pd_cca_harmonics(const struct pd_cca *cca, uint32_t target);

/* References (sines and cosines) of a target that a window of this length can tell apart. */
uint32_t pd_cca_references(const struct pd_cca *cca, uint32_t window, uint32_t target);

/* Filter-bank CCA (Chen et al. 2015): score[t] = sum over bands n = 1.. of
 * (n^-1.25 + 0.25) rho[n][t]²; NaN if any is. rho: [n_bands][n_targets]; weights: n_bands, of
 * pd_cca_band_weight. */
double pd_cca_band_weight(uint32_t band);   /* from 0 */
void pd_cca_score(const double *rho, const double *weights, uint32_t n_bands, uint32_t n_targets,
                  double *score);

#endif
