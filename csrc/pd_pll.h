/* The phase of a rhythm near a reference frequency, at the newest sample: the maximum-likelihood
 * estimate of one real sinusoid, A cos(phase), in the newest window of samples; amplitude, phase
 * and frequency (ref ± span) unknown.
 *
 * What is fitted. The sinusoid by least squares (with its image, so a low frequency is not
 * biased), together with what EEG adds: a constant and a slope; a square and a cube as
 * well from 4 turns a window on; two mains frequencies with amplitudes that change linearly. Then the
 * phase is carried to the newest sample at the estimated frequency. It keeps to the Cramér-Rao bound
 * of the phase at a window's end (docs/pll.md), which no loop filter does: hence no loop here, and the
 * name is only what the field calls the thing.
 *
 * Phases are those of a cosine: 0 at its crest, pi/2 as it falls through 0; -pi..pi. The reference
 * is an oscillator of ref_hz whose phase is whole 2^-64 turns of the sample's index: 0 at index 0 until
 * pd_pll_set_phase or pd_pll_tie says otherwise. Missing samples have to be pushed (NaN): the count
 * of samples is the clock.
 *
 * Missing samples: NaN, infinities, and magnitudes beyond PD_PLL_LARGEST. They weigh nothing in the
 * fit, which stays exact least squares of the others; with more than a quarter of the window missing
 * nothing is defined.
 *
 * When it is defined. The power at the best frequency against the local density of noise, from up to
 * six bins of 1/window on either side (each weighted by its frequency, as if noise went with 1/f
 * between them): more than pure noise gives anywhere within the span, but for `false_alarm` of windows.
 * And the best frequency is not an end of the range searched, span + 1/(4 window) on either side.
 *
 * What is kept: sums of blocks of `hop` samples against fixed sines and cosines. A window is the
 * blocks within it, added up anew at each read, and its two ends from the raw samples: nothing is
 * subtracted that had been added, so what has left the window, NaN or 200 mV, has left no bit. A
 * result depends on the samples within the window and on how they lie to the hop, not on how they
 * were pushed, nor on the instruction set. Only `locked` remembers more.
 *
 * Lock. At the end of each hop a channel is good when it is defined with plv >= PD_PLL_LOCKS; it locks
 * with the PD_PLL_STREAK-th good hop in a row. It opens with the first hop that is undefined or has
 * plv < PD_PLL_OPENS.
 *
 * One block of memory, the caller's, without pointers: copied, it goes on
 * elsewhere. One thread at a time owns it: the tick thread, or whoever pushes. Nothing allocates,
 * blocks or fails after init; a read takes 48 KiB of stack. Samples in µV.
 */
#ifndef PD_PLL_H
#define PD_PLL_H

#include <stddef.h>
#include <stdint.h>

#define PD_PLL_LANES 8              /* channels that are worked on together: one cache line */
#define PD_PLL_MAX_CHANNELS 4096u
#define PD_PLL_MAX_SAMPLES 16384u   /* of a window */
#define PD_PLL_MAX_NODES 32u
#define PD_PLL_MAX_GRID 128u
#define PD_PLL_MAX_ROWS 192u
#define PD_PLL_LARGEST 1e12
#define PD_PLL_LOCKS 0.9
#define PD_PLL_OPENS 0.75
#define PD_PLL_STREAK 3u

/* 0 in span_hz, window_s, false_alarm: 1 Hz, 1 s, 0.008. */
struct pd_pll_config {
    double rate_hz;
    double ref_hz;                  /* at least 0.75 turns a window; at most 0.4 of the rate */
    double span_hz;                 /* span × window: at most 4 */
    double window_s;                /* at least 32 samples */
    double false_alarm;             /* of windows of noise, 1e-6..0.1 */
    double mains_hz[2];             /* 0 = none; one that is within 1.5 bins of what is searched,
                                       or 1 of half the rate, is left alone */
    uint32_t n_channels;
};

enum pd_pll_state {
    PD_PLL_DEFINED,
    PD_PLL_FILLING,                 /* fewer samples than the window have come */
    PD_PLL_MISSING,                 /* more than a quarter of the window is */
    PD_PLL_FLAT,                    /* nothing there, to 1e-10 of what the rest of the fit takes out */
    PD_PLL_OUTSIDE,                 /* the best frequency is an end of the range */
    PD_PLL_NOISE,                   /* no more than noise gives */
};

/* All doubles are NaN, and locked is 0, unless defined. */
struct pd_pll_report {
    double phase_rad;               /* of the signal at the newest sample */
    double ref_phase_rad;           /* of the reference there */
    double phase_error_rad;         /* phase - reference */
    double phase_error_mean;        /* circular mean over the window, of the envelope's phase */
    double phase_error_var;         /* circular variance, 1 - plv */
    double plv;                     /* |mean of exp(i error)| over the window, 0..1 */
    double sd_rad;                  /* circular sd of the envelope's phase about the fit's */
    double frequency_hz;
    double amplitude_uv;
    double snr_db;                  /* A² / 2 sigma², sigma² a sample of noise that were everywhere
                                       as it is in the bins beside */
    double subharmonic;             /* 0..1 at half the frequency: 1 - threshold / power, both over
                                       the noise beside; 0 below the threshold. NaN also where the
                                       window can't tell: 1.5 turns of it, mains. */
    int32_t defined, locked, state, reserved;
};

/* Places are counted in doubles from the struct's start. */
struct pd_pll {
    uint64_t count;                 /* samples pushed */
    uint64_t phase, step;           /* the reference, 2^-64 turns: at index 0, and a sample */
    double rate_hz, ref_hz, low_hz, high_hz, threshold, half_threshold;
    uint32_t n_channels, n_groups, samples, hop;
    uint32_t n_blocks, n_rows;      /* what the rings of blocks and of samples hold */
    uint32_t n_poly, n_mains, n_slopes, n_nuisance;
    uint32_t n_nodes, n_beside, n_half, n_half_beside;
    uint32_t n_frequencies, n_sums; /* n_sums: all of the above, cosines and sines */
    uint32_t n_grid, n_degree;      /* n_degree: of the envelope, plus 1 */
    uint32_t slope[2];              /* of which mains */
    size_t bytes;
    size_t half_steps, hertz, weights, rows, middles, ends, grid, envelope, whole, gram, own, part,
        work, starts, groups, group;
};

/* Bytes of the block; 0 for a configuration that can't be. */
size_t pd_pll_bytes(const struct pd_pll_config *config);

/* `pll` has pd_pll_bytes, 8-byte aligned (64 is faster). Milliseconds for 1000 samples of
 * window. 0 or -EINVAL. */
int pd_pll_init(struct pd_pll *pll, const struct pd_pll_config *config);

/* As before the first sample; the reference is as after init. */
void pd_pll_reset(struct pd_pll *pll);

/* Goes on where a copy of another block of the same configuration was. 0; -EINVAL: it is of
 * another one, and nothing has changed. */
int pd_pll_restore(struct pd_pll *pll, const void *saved, size_t bytes);

/* The reference's phase at index 0, in turns, -1 < turns < 1. Of reports from now on. */
void pd_pll_set_phase(struct pd_pll *pll, double turns);

/* The reference is 0 at host time 0, and sample `index` is at t_ns: of reports from now on. As
 * often as the clock says anew; between two calls the reference runs at rate_hz. */
void pd_pll_tie(struct pd_pll *pll, uint64_t index, int64_t t_ns);

/* Radians, -pi..pi, at any index. */
double pd_pll_reference(const struct pd_pll *pll, uint64_t index);

/* n samples, x [n][stride], of which n_channels are used. */
void pd_pll_push(struct pd_pll *pll, const double *x, size_t stride, uint32_t n);

/* At the newest sample. The first read after a push works out eight channels. */
void pd_pll_read(struct pd_pll *pll, uint32_t channel, struct pd_pll_report *report);

#endif
