/* What spoils a window of EEG: for each channel, and for the window, a score from 0 to 1
 * for clipping, dropout, line noise, blink, EMG, electrode pop, and drift.
 *
 * A score is value² / (value² + threshold²), or another power: the logistic function of the
 * logarithm of value / threshold. So 0.5 is where value = threshold, and it grows with
 * value. Thresholds and floors come with the configuration (phantomd/signal/artifacts.py). Values:
 *
 *   clipping  share of the samples at or beyond low_uv or high_uv
 *   dropout   share of the samples that are lost, or of those in segments of `flat` blocks or
 *             more that vary by no more than flat_uv: the larger
 *   line      RMS of a mains frequency (the stronger of two), over the EEG's
 *   blink     frontal transient: mean of the middle of three boxes less that of its neighbours
 *             (no offset, no trend, little alpha), its largest over the window, mean of the
 *             frontal channels less that of those behind, over the RMS of that behind. A
 *             channel's: the same of it alone; NaN for a channel that is not frontal
 *   emg       density in emg_hz, with two tapers, over that of the EEG
 *   pop       largest change over `lag` samples, over its RMS in the rest of the window
 *   drift     trend over the window, over the RMS of the EEG
 *
 * "Over" a: divided by sqrt(floor² + (weight · a)²), so that a quiet channel is held to
 * the floor and a loud one to its own size. The EEG is the band eeg_hz. Bands are sums of a
 * periodogram with a Hann taper of the window, without its mean (EMG: with the taper
 * sin(2 pi n / window) too, whose weight lies nearer to the ends); those of the EEG and of EMG
 * leave out two bins on either side of a mains frequency and of its second harmonic.
 *
 * Window. The newest n_blocks · hop samples that are whole blocks: it ends up to hop - 1 samples
 * before the newest. Blocks have their own sums, which are added up, and nothing is ever
 * subtracted: what has left the window, NaN or 200 mV, has left no bit behind. There is no filter,
 * so nothing settles: with the window full of values all is defined, after a gap too. The
 * cost does not depend on n_blocks but for a few additions a block. A result depends
 * on the samples within the window and on how they lie to the hop, not on how they
 * were pushed, nor on the instruction set.
 *
 * Absence. NaN, an infinity, or beyond ±PD_ARTIFACT_LARGEST is no value. In a channel that
 * lacks a value, only clipping (of the values that there are) and dropout are defined; the
 * blink goes by the others. What is lost and bridged counts as lost, and as a value. NaN: undefined,
 * as all is before the window is full, clipping without a range, blink without frontal
 * channels or any behind, line and EMG without a band.
 *
 * One block of memory, the caller's, without pointers: copied, it goes on elsewhere.
 * One thread at a time owns it: the tick thread, or whoever pushes. Nothing allocates, blocks or
 * fails after init. Microvolts.
 */
#ifndef PD_ARTIFACT_H
#define PD_ARTIFACT_H

#include <stddef.h>
#include <stdint.h>

#define PD_ARTIFACT_LANES 8
#define PD_ARTIFACT_MAX_CHANNELS 1024u
#define PD_ARTIFACT_MAX_BLOCKS 256u
#define PD_ARTIFACT_MIN_BLOCKS 8u
#define PD_ARTIFACT_MAX_HOP 4096u
#define PD_ARTIFACT_MAX_POWER 8u
#define PD_ARTIFACT_LARGEST 1e30

enum pd_artifact_kind {
    PD_ARTIFACT_CLIPPING,
    PD_ARTIFACT_DROPOUT,
    PD_ARTIFACT_LINE,
    PD_ARTIFACT_BLINK,
    PD_ARTIFACT_EMG,
    PD_ARTIFACT_POP,
    PD_ARTIFACT_DRIFT,
    PD_ARTIFACT_KINDS
};

enum pd_artifact_role {             /* bits */
    PD_ARTIFACT_FRONTAL = 1,        /* sees blinks */
    PD_ARTIFACT_BEHIND = 2,         /* what a blink is compared with */
    PD_ARTIFACT_IGNORED = 4,        /* has scores, and no part in the window's */
};

struct pd_artifact_curve {
    double threshold;               /* the value whose score is 0.5; more than 0 */
    double floor, weight;           /* of "over", see above; floor more than 0 where it counts */
    uint32_t power;                 /* 1..PD_ARTIFACT_MAX_POWER */
    uint32_t least;                 /* channels that have it before the window does; at least 1 */
};

struct pd_artifact_config {
    double rate_hz;
    const uint8_t *roles;           /* [n_channels], enum pd_artifact_role */
    uint32_t n_channels;
    uint32_t hop, n_blocks;         /* samples of a block; blocks of the window: even */
    uint32_t box;                   /* blocks: three of these within the window */
    uint32_t flat;                  /* blocks that a flat segment has at least */
    uint32_t lag;                   /* samples, at most hop */
    double low_uv, high_uv;         /* the device's range; NaN: unknown */
    double flat_uv;
    double line_hz[2];              /* 0: none */
    double eeg_hz[2];
    double emg_hz[2];               /* 0: none */
    struct pd_artifact_curve curve[PD_ARTIFACT_KINDS];
};

struct pd_artifact_report {
    uint64_t end;                   /* samples pushed by the end of the window */
    uint32_t samples;               /* of the window; 0: not full yet */
    uint32_t available, defined;    /* bit: kind. That the configuration has; that score has */
    uint32_t reserved;
    double score[PD_ARTIFACT_KINDS];        /* the least-th worst channel's; blink: the window's */
    double value[PD_ARTIFACT_KINDS];        /* what that score is of */
    uint32_t channel[PD_ARTIFACT_KINDS];    /* the worst one of all; n_channels: none */
    uint32_t undefined[PD_ARTIFACT_KINDS];  /* channels, not ignored, that lack this kind now */
};

/* Places are counted in doubles from the struct's start. */
struct pd_artifact {
    uint64_t count;                 /* samples pushed */
    uint64_t read;                  /* blocks that `report` is of */
    struct pd_artifact_config config;       /* roles: NULL here */
    uint32_t groups, n_bins;        /* of PD_ARTIFACT_LANES channels; that are summed */
    uint32_t n_transients, available;
    size_t bytes, node;             /* node: doubles of a block's spectrum */
    size_t tables, turns, bins, roles;
    size_t own, rows, stats, prefix, total, spectra, values, scores, sum, transients, scratch;
    struct pd_artifact_report report;
};

/* Bytes of the block; 0 for a configuration that can't be. */
size_t pd_artifact_bytes(const struct pd_artifact_config *config);

/* `a` has pd_artifact_bytes, 8-byte aligned (64 is faster). 0 or -EINVAL. */
int pd_artifact_init(struct pd_artifact *a, const struct pd_artifact_config *config);

/* As before the first sample. */
void pd_artifact_reset(struct pd_artifact *a);

/* Goes on where a copy of another block of the same configuration was. 0; -EINVAL: it is of
 * another one, and nothing has changed. */
int pd_artifact_restore(struct pd_artifact *a, const void *saved, size_t bytes);

/* n samples, x [n][stride], of which n_channels are used. lost: NULL, or [n], not 0 for a
 * sample that never arrived. */
void pd_artifact_push(struct pd_artifact *a, const double *x, size_t stride, uint32_t n,
                      const uint8_t *lost);

/* Of the newest window. Worked out once a block, however often it is read. */
void pd_artifact_read(struct pd_artifact *a, struct pd_artifact_report *report);

/* Of each channel, as last read: [n_channels]. */
const double *pd_artifact_scores(const struct pd_artifact *a, enum pd_artifact_kind kind);
const double *pd_artifact_values(const struct pd_artifact *a, enum pd_artifact_kind kind);

#endif
