/* The simulator's signal: seeded EEG of known composition.
 *
 * Sample n is a pure function of (configuration, n, what was triggered before
 * n), the same to the bit on every machine (pd_noise.h). Each purpose has a
 * random stream of its own, so that what is switched off or triggered never
 * shifts another. All amplitudes are microvolts.
 *
 * A tone at or above half the rate is absent, as behind a device's own filter.
 *
 * Owner: the thread that asks for samples. Nothing allocates, blocks or fails
 * after init.
 */
#ifndef PD_SIM_SIGNAL_H
#define PD_SIM_SIGNAL_H

#include <stdint.h>

#include "pd_noise.h"

#define PD_SIM_MAX_CHANNELS 32
#define PD_SIM_MAX_SSVEP 8
#define PD_SIM_MAX_WINDOWS 8
#define PD_SIM_RAIL_UV 187500.0     /* Cyton at gain 24: 4.5 V / 24 */
#define PD_SIM_FULL_SCALE 8388607.0 /* 2^23 - 1 counts */
#define PD_SIM_SHARED 4             /* background sources that all channels share */
#define PD_SIM_SOURCES (PD_SIM_MAX_CHANNELS + PD_SIM_SHARED)
#define PD_SIM_BURSTS 4             /* blinks, or bursts of EMG, that can overlap */

struct pd_sim_target {              /* a flickering target */
    double hz;
    uint32_t n_windows, reserved;   /* 0: always on */
    double on_s[PD_SIM_MAX_WINDOWS], off_s[PD_SIM_MAX_WINDOWS];
};

struct pd_sim_signal_config {
    uint64_t seed;
    double rate_hz;                 /* 16..16000 */
    uint32_t n_channels;            /* 1..PD_SIM_MAX_CHANNELS */
    uint32_t quantise;              /* to 24 bits over ±PD_SIM_RAIL_UV; else to a float32 */
    double background_uv;           /* RMS in 0.5..40 Hz */
    double background_exponent;     /* a of 1/f^a, 0..2 */
    double background_shared;       /* fraction of its power that channels share, 0..1 */
    double alpha_hz, alpha_uv;      /* RMS with eyes open where the weight is 1 */
    double alpha_closed_gain;       /* times that with eyes closed */
    uint32_t eyes_closed, n_targets;
    struct pd_sim_target target[PD_SIM_MAX_SSVEP];
    double ssvep_uv;                /* peak of the first harmonic where the weight is 1 */
    uint32_t ssvep_harmonics, reserved;     /* 1..4, each half of the one below */
    double ssvep_period_s;          /* the windows repeat with it; 0: they don't */
    double line_hz, line_uv;        /* peak; the third harmonic has a fifth of it */
    double blink_per_min, emg_per_min, pop_per_min;
    double emg_uv;                  /* RMS of an average burst where the weight is 1 */
    double offset_uv;               /* largest constant offset; 0: none, and no drift */
    double drift_uv;                /* of the offset, sd over 20 s */
    double noise_uv;                /* RMS of the amplifier's white noise */
    double position[PD_SIM_MAX_CHANNELS][3];    /* on the unit sphere: right, front, up */
    double alpha_weight[PD_SIM_MAX_CHANNELS], ssvep_weight[PD_SIM_MAX_CHANNELS];
    double blink_weight[PD_SIM_MAX_CHANNELS], emg_weight[PD_SIM_MAX_CHANNELS];
};

enum pd_sim_part {                  /* what a sample is the sum of, in this order */
    PD_SIM_BACKGROUND, PD_SIM_ALPHA, PD_SIM_SSVEP, PD_SIM_LINE, PD_SIM_BLINK, PD_SIM_EMG,
    PD_SIM_POP, PD_SIM_OFFSET, PD_SIM_NOISE,
    PD_SIM_PARTS
};

struct pd_sim_truth {               /* of one sample */
    double part[PD_SIM_PARTS][PD_SIM_MAX_CHANNELS];
    double alpha_turns;             /* phase of the alpha source, 0..1 of a turn */
    double alpha_amplitude;         /* its peak where the weight is 1 */
};

struct pd_sim_effect {              /* what faults do to the channels, as bit masks */
    uint32_t flat, saturated;       /* holds its value; at the positive rail */
    uint32_t eyes;                  /* 0: as configured, 1: open, 2: closed */
};

struct pd_sim_burst {               /* a blink or a burst of EMG */
    uint64_t start, n;              /* n = 0: none */
    double uv;
};

struct pd_sim_occurrence {          /* something of the signal's own that began */
    uint32_t part, channels;        /* PD_SIM_BLINK, _EMG or _POP; bit mask */
    uint64_t start, n;
    double uv;
};

struct pd_sim_signal_state {        /* plain: saved and restored as it is */
    uint64_t n;                     /* the next sample */
    double pink[PD_CASCADE_SECTIONS][PD_SIM_SOURCES];
    double emg_filter[PD_CASCADE_SECTIONS][PD_SIM_MAX_CHANNELS];
    double alpha_swell[2], alpha_wander[2], line_swell[2], line_wander[2];
    double drift[2][PD_SIM_MAX_CHANNELS];
    double alpha_gain, gate[PD_SIM_MAX_SSVEP];
    uint64_t alpha_phase, line_phase;           /* 2^64 to a turn */
    struct pd_sim_burst blink[PD_SIM_BURSTS], emg[PD_SIM_BURSTS];
    double pop[PD_SIM_MAX_CHANNELS], held[PD_SIM_MAX_CHANNELS];
    uint64_t next_blink, next_emg, next_pop;
    uint64_t blinks, emgs, pops;                /* of its own so far */
};

struct pd_sim_signal {
    struct pd_sim_signal_state *state;
    struct pd_sim_signal_config config;
    /* derived from it */
    uint64_t key[16];
    struct pd_cascade pink, emg;
    struct pd_wander alpha_swell, alpha_wander, line_swell, line_wander, drift;
    double share[PD_SIM_MAX_CHANNELS][PD_SIM_SHARED], own;
    double offset[PD_SIM_MAX_CHANNELS], line_gain[PD_SIM_MAX_CHANNELS];
    double eyes_rate, gate_rate, pop_keep;
    uint64_t target_step[PD_SIM_MAX_SSVEP];
    uint32_t harmonics[PD_SIM_MAX_SSVEP];
    uint32_t has_alpha, has_line, has_line3, has_emg;
};

/* `state` is the caller's. 0, or -EINVAL for a configuration out of the ranges above. */
int pd_sim_signal_init(struct pd_sim_signal *signal, struct pd_sim_signal_state *state,
                       const struct pd_sim_signal_config *config);

/* The next sample, `values` one a channel; `truth` and `began` may be NULL.
 * `began` has room for 3; returns how many it was given. */
uint32_t pd_sim_signal_next(struct pd_sim_signal *signal, const struct pd_sim_effect *effect,
                            double *values, struct pd_sim_truth *truth,
                            struct pd_sim_occurrence *began);

/* What begins with the next sample: a blink of this peak, a burst of EMG of
 * this RMS over n samples, a step of this height on the channels of the mask. */
void pd_sim_signal_blink(struct pd_sim_signal *signal, double uv);
void pd_sim_signal_emg(struct pd_sim_signal *signal, double uv, uint64_t n);
void pd_sim_signal_pop(struct pd_sim_signal *signal, double uv, uint32_t channels);

#endif
