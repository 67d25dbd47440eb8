/* Analysis: the kernels behind a source, and the windows that they are read at.
 *
 * The source gives it each sample once, in order, when it is final: there, bridged, or lost. It puts
 * the sample on the signal ring, re-references the channels that are analysed, and feeds the
 * kernels. At the end of each window it reads them all into one record of the windows ring.
 *
 * Bands: mean square of each band and channel over the window, kept as sums a step, which are
 * added up anew for each window. NaN where a filter had not settled at the window's first sample or
 * a sample of it was lost and not bridged. CCA: correlations of every target, for each of its
 * own windows and bands, at the window's end. Phase: of each channel, near one frequency.
 * Artifacts: of all channels, as the electrodes give them; a window is rejected where one of the
 * kinds that reject has a score of 0.5 or more, or can't be told for a channel.
 *
 * Owner: the tick thread, or whoever steps the virtual clock. Nothing blocks or allocates. The
 * arena is the caller's: plain state without pointers, which the journal saves after the source's.
 */
#ifndef PD_ANALYSIS_H
#define PD_ANALYSIS_H

#include <stddef.h>
#include <stdint.h>

#include "pd_artifact.h"
#include "pd_cca.h"
#include "pd_clock.h"
#include "pd_native.h"
#include "pd_pll.h"
#include "pd_ring.h"
#include "pd_sos.h"
#include "pd_window.h"

#define PD_ANALYSIS_MAX_STEPS 64    /* of a window */
#define PD_ANALYSIS_MAX_CCA 8       /* bands that CCA looks at */
#define PD_ANALYSIS_BLOCK 32        /* samples that go through the kernels together */
#define PD_ANALYSIS_PHASES 12       /* doubles of a channel's phase */
#define PD_ANALYSIS_SCORES 4        /* doubles of a kind of artifact */

struct pd_analysis_config {
    double rate_hz;
    uint32_t n_values, n_channels;  /* of a sample; the first n_channels are the signal's */
    uint32_t n_picks;               /* channels that are analysed */
    uint32_t pick[PD_MAX_VALUES];
    uint32_t n_reference;           /* their mean is taken from each; 0: as it comes */
    uint32_t reference[PD_MAX_VALUES];
    int64_t step_ns, wait_ns;       /* a window is closed at the latest `wait` after its end */
    uint32_t n_steps;               /* a window is so many steps long */
    /* Filters of the bank; the first n_power bands give powers, the next n_cca feed a CCA
     * each. The caller's, read only. */
    const struct pd_sos_band *bands;
    const struct pd_sos_section *sections;
    uint32_t n_power, n_cca, n_sections;
    struct pd_cca_config cca;       /* one for all; n_cca = 0: none */
    struct pd_pll_config pll;       /* of the picks; n_channels = 0: none */
    struct pd_artifact_config artifact;     /* of all n_channels; n_channels = 0: none */
    uint32_t rejects;               /* bits of the kinds of artifact that reject a window */
};

struct pd_analysis_block {          /* the samples of one step */
    uint64_t first, until;
    int64_t arrival_ns;
    uint32_t lost, bridged, holes;  /* holes: samples with a NaN for the kernels */
    uint32_t flags;                 /* PD_WINDOW_… */
};

struct pd_analysis_state {
    uint64_t next;                  /* native index of the next sample to take */
    int64_t window_next;            /* k of the window that is closed next; -1 before the first */
    uint64_t begun;                 /* first index of this segment */
    int64_t newest_ns;              /* time of the newest sample, or PD_NO_TIME */
    int64_t artifact_until_ns;      /* grid frames before it lie in a window with an artifact */
    uint32_t n_blocks;              /* closed since the segment began, saturating */
    uint32_t newest;                /* place of the block that is being filled */
    struct pd_analysis_block block[PD_ANALYSIS_MAX_STEPS];
};

struct pd_analysis {
    struct pd_analysis_config config;
    struct pd_ring *signal, *windows;
    int muted;                      /* warming: nothing goes onto the rings */
    struct pd_analysis_state *state;
    double *squares;                /* [n_steps][n_power][n_picks], in the arena */
    struct pd_sos sos;              /* its state in the arena */
    struct pd_cca *cca[PD_ANALYSIS_MAX_CCA];    /* in the arena */
    struct pd_pll *pll;             /* in the arena, or NULL */
    struct pd_artifact *artifact;   /* in the arena, or NULL */
    double *work;                   /* scratch, not saved: [BLOCK][n_bands][n_picks] */
    double *rows;                   /* scratch: [BLOCK][n_picks] */
    double *raw;                    /* scratch: [BLOCK][n_channels] */
    uint8_t lost[PD_ANALYSIS_BLOCK];
    uint64_t *frame;                /* scratch: a window's words */
    uint32_t n_rows, n_window_values;
};

/* Doubles of a window's record: powers [n_power][n_picks]; correlations
 * [n_cca][windows][targets]; phases [n_picks][PD_ANALYSIS_PHASES], as struct pd_pll_report has them,
 * then whether it is locked, all NaN where undefined; artifacts [kinds][PD_ANALYSIS_SCORES]: score,
 * value, worst channel, channels that lack it, NaN where there is none. */
uint32_t pd_analysis_values(const struct pd_analysis_config *config);

/* Bytes of the arena (saved), and of the scratch memory; 0 for a configuration that can't be. */
size_t pd_analysis_arena_bytes(const struct pd_analysis_config *config);
size_t pd_analysis_scratch_bytes(const struct pd_analysis_config *config);

/* `arena` zeroed, 64-byte aligned, as scratch is. The rings have PD_SIGNAL_WORDS(n_values) and
 * PD_WINDOW_WORDS(values) words. `next`: the first native index. 0 or -EINVAL. */
int pd_analysis_init(struct pd_analysis *analysis, const struct pd_analysis_config *config,
                     void *arena, size_t arena_bytes, void *scratch, size_t scratch_bytes,
                     struct pd_ring *signal, struct pd_ring *windows, uint64_t next);

/* The next sample, final; `index` may jump ahead where samples are gone for good. t_ns: PD_NO_TIME
 * before the clock is locked. */
void pd_analysis_take(struct pd_analysis *analysis, uint64_t index, int64_t t_ns, uint32_t flags,
                      int64_t arrival_ns, const double *values);

/* The first window is the one that t_ns lies in the last step of; it has begun if it had. */
void pd_analysis_begin(struct pd_analysis *analysis, int64_t t_ns, int64_t grid_t0_ns);

/* Instant of the end of the window that comes next. */
int64_t pd_analysis_end_ns(const struct pd_analysis *analysis, int64_t grid_t0_ns);

/* Closes that window now. */
void pd_analysis_close(struct pd_analysis *analysis, int64_t now_ns, int64_t grid_t0_ns,
                       uint32_t flags);

/* All that was taken goes through the kernels now: the arena alone is the state. */
void pd_analysis_settle(struct pd_analysis *analysis);

/* The clock's time was stepped. */
void pd_analysis_relocked(struct pd_analysis *analysis);

/* The next window is the one that another analysis of the same source would have closed next. */
void pd_analysis_follow(struct pd_analysis *analysis, const struct pd_analysis *before);

/* Before it is in a plan: takes the samples [first, until) of the signal ring, or those of them that
 * are still there, and closes the windows that they end, in silence. */
void pd_analysis_learn(struct pd_analysis *analysis, uint64_t first, uint64_t until,
                       int64_t grid_t0_ns);

/* Tick: it takes the place of another one of the same source and signal ring. What that has taken
 * since this one learnt, this one takes first; the next window is this one's. */
void pd_analysis_succeed(struct pd_analysis *analysis, const struct pd_analysis *before,
                         int64_t grid_t0_ns);

#endif
