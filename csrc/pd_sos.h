/* Filter bank: every channel through every band, a band being second-order
 * sections in series; samples come in blocks of any size.
 *
 * A section is the transposed direct form II, in the order of operations of
 * scipy.signal.sosfilt, so the output has the same bits, however the samples are cut into
 * blocks, alone or among other channels, on each instruction set:
 *
 *   y = b0 x + z0      z0 = b1 x - a1 y + z1      z1 = b2 x - a2 y
 *
 * Missing samples. NaN, an infinity, or a value beyond ±PD_SOS_LARGEST is a missing
 * sample: its output is NaN in every band. Meanwhile the filters coast: time goes on in
 * them, fed with the channel's level, its exponential mean over PD_SOS_LEVEL_S. So an
 * offset stays and does not ring, and oscillations die away as the poles have it. A gap of
 * more than PD_SOS_COAST_S leaves nothing worth keeping, and the electrode may have
 * drifted: the first value after it starts the channel anew, as the first of all does, in
 * the state sosfilt_zi · value, as if it had been there forever: 62 mV of electrode offset
 * do not ring. Holding the state instead loses the phase: twice the error after 12 to 50 ms
 * of clean EEG. Holding the last value holds a peak of the mains: twice the error where
 * there is hum. docs/sos.md has the measurements. What the source has bridged (up to
 * 20 ms) is not missing.
 *
 * Settling. After n values without a gap a band's output is defined once it no longer
 * depends on what was before them: whatever bounded signal that was, it moves the output by
 * at most `tolerance` of the largest output that a signal of that bound can give. That is
 * the first n with sum over k >= n of |h[k]| <= tolerance · sum of |h|, h being the impulse
 * response of the whole band. It has in it what a formula of the largest pole radius
 * misses: repeated poles, and poles whose ringing the other sections take away. Before that
 * the values are there, as sosfilt has them, and it is the caller who leaves them out:
 * pd_sos_fed counts, pd_sos_defined compares.
 *
 * The caller gives all memory. Designs (bands, sections) are read only and may be
 * shared. The state is plain, without pointers: copied, it goes on elsewhere.
 * One thread at a time owns a bank: the tick thread, or whoever steps it. Nothing allocates,
 * blocks or fails after init. Values in whatever unit the caller has, µV here.
 * Denormals are right but slow: call within pd_fp_enter, as the tick does.
 */
#ifndef PD_SOS_H
#define PD_SOS_H

#include <stddef.h>
#include <stdint.h>

#define PD_SOS_LANES 8              /* channels that go together: one cache line */
#define PD_SOS_MAX_CHANNELS 65536u
#define PD_SOS_MAX_SECTIONS 65536u  /* of all bands */
#define PD_SOS_MAX_BAND_SECTIONS 64u
#define PD_SOS_LARGEST_COEFFICIENT 1e6
#define PD_SOS_MAX_SETTLE (1u << 22)    /* 4.6 h at 250 Hz, 140 s at 30 kHz */
#define PD_SOS_LARGEST 1e150        /* beyond it, a missing sample; and of a state's gain */
#define PD_SOS_LEVEL_S 0.5
#define PD_SOS_COAST_S 1.0

struct pd_sos_section {
    double b0, b1, b2, a1, a2;      /* a0 = 1 */
    double level0, level1;          /* z0, z1 for a constant 1 into the band: pd_sos_design's */
    double reserved;
};

struct pd_sos_band {
    uint32_t first, n_sections;     /* within the bank's sections */
    uint32_t settle;                /* samples without a gap until it is defined; at least 1 */
    uint32_t reserved;
};

struct pd_sos {
    const struct pd_sos_band *bands;
    const struct pd_sos_section *sections;
    uint32_t n_bands, n_sections, n_channels;
    uint32_t coast;                 /* samples; a longer gap starts the channel anew */
    double level_gain;              /* a sample's share in the level */
    unsigned char *state;           /* PD_SOS_LANES channels together: a pd_sos_lanes each */
};

struct pd_sos_lanes {
    double level[PD_SOS_LANES];     /* mean of the last values, fed while they are missing */
    uint32_t fed[PD_SOS_LANES];     /* values since the last gap, saturating */
    uint32_t lost[PD_SOS_LANES];    /* length of the gap now, saturating */
    uint32_t starts;                /* bit: the lane's next value starts it anew */
    uint32_t reserved[15];
    double z[][2][PD_SOS_LANES];    /* [n_sections] */
};

/* One band: from b0..a2 of its sections, their levels and the band's settle.
 * tolerance in (0, 1). 0; -EINVAL: no section, a number that is none, or a gain so large that a
 * state could overflow; -EDOM: a pole on or outside the unit circle; -ERANGE: it takes
 * more than PD_SOS_MAX_SETTLE samples.
 * Runs the impulse response: milliseconds for long ones. */
int pd_sos_design(struct pd_sos_section *sections, uint32_t n_sections, double tolerance,
                  uint32_t *settle);

/* Bytes of the state; 0 for a bank that can't be. */
size_t pd_sos_state_bytes(uint32_t n_sections, uint32_t n_channels);

/* `bands` follow each other in `sections`, and were designed. rate_hz: for level and
 * coasting. `state`: 8-byte aligned (64 is faster); reset. 0 or -EINVAL. */
int pd_sos_init(struct pd_sos *sos, const struct pd_sos_band *bands, uint32_t n_bands,
                const struct pd_sos_section *sections, uint32_t n_channels, double rate_hz,
                void *state, size_t state_bytes);

/* As before the first sample. */
void pd_sos_reset(struct pd_sos *sos);

/* As if each channel had been at first[channel] forever, whatever comes next. Zeros: a start
 * at rest, sosfilt without zi. NaN: that channel is reset. */
void pd_sos_seed(struct pd_sos *sos, const double *first);

/* n samples: x [n][x_stride], y [n][y_stride], of which n_channels and
 * n_bands × n_channels (band by band) are used; apart from each other.
 * fed: NULL, or [n][n_channels], values since the last gap at each sample. */
void pd_sos_run(struct pd_sos *sos, const double *x, size_t x_stride, uint32_t n, double *y,
                size_t y_stride, uint32_t *fed);

/* Values since the channel's last gap, the newest included: 0 = the newest is missing. */
uint32_t pd_sos_fed(const struct pd_sos *sos, uint32_t channel);

/* Whether the newest `window` outputs of a band are all there and settled. */
int pd_sos_defined(const struct pd_sos *sos, uint32_t band, uint32_t channel, uint32_t window);

/* z0, z1 of each section of the bank, [n_sections][2]: sosfilt's zf. */
void pd_sos_final(const struct pd_sos *sos, uint32_t channel, double *z);

static inline struct pd_sos_lanes *pd_sos_lanes(const struct pd_sos *sos, uint32_t group)
{
    size_t bytes = sizeof(struct pd_sos_lanes)
                   + (size_t)sos->n_sections * 2 * PD_SOS_LANES * sizeof(double);
    return (struct pd_sos_lanes *)(void *)(sos->state + group * bytes);
}

/* The state in which `value` has been there forever. */
static inline void pd_sos_start_lane(const struct pd_sos *sos, struct pd_sos_lanes *state,
                                     uint32_t lane, double value)
{
    for (uint32_t i = 0; i < sos->n_sections; i++) {
        state->z[i][0][lane] = sos->sections[i].level0 * value;
        state->z[i][1][lane] = sos->sections[i].level1 * value;
    }
    state->level[lane] = value;
    state->starts &= ~(1u << lane);
}

#endif
