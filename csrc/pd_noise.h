/* Noise that is the same to the bit on every machine.
 *
 * Sine, exponential and logarithm are made of IEEE 754 operations (sqrt
 * included, which is exact) in a fixed order, so no libm has a say; build with
 * -ffp-contract=off. Random numbers are counter-based: the finaliser of
 * SplitMix64 (Steele, Lea, Flood 2014) over key + counter. There is no state to
 * advance, so any number can be had at any time, and streams don't disturb
 * each other.
 *
 * Any thread. Nothing allocates or fails.
 */
#ifndef PD_NOISE_H
#define PD_NOISE_H

#include <stdint.h>

#define PD_NOISE_WIDTH 64           /* normals that one counter value can give */
#define PD_CASCADE_SECTIONS 12

/* -- arithmetic; a phase is a whole number of 2^-64 turns ------------------------ */

void pd_noise_sincos(uint64_t phase, double *sine, double *cosine);
uint64_t pd_noise_phase(double turns);      /* -1 < turns < 1, negative ones wrapping */
double pd_noise_cos(double turns);
double pd_noise_log(double x);              /* of a normal x > 0 */
double pd_noise_exp(double x);              /* |x| < 700 */
double pd_noise_atan2(double y, double x);  /* radians; 0 of 0, 0; NaN unless finite */

/* -- random numbers ---------------------------------------------------------------- */

uint64_t pd_noise_key(uint64_t seed, uint64_t purpose);
double pd_noise_uniform(uint64_t key, uint64_t counter);        /* in (0, 1) */
double pd_noise_exponential(uint64_t key, uint64_t counter);    /* mean 1 */
void pd_noise_normals(uint64_t key, uint64_t n, double *out, uint32_t count);

/* -- filters for it ---------------------------------------------------------------- */

/* First-order sections in series, y = gain · Π (1 - zero/z) / (1 - pole/z) · x. */
struct pd_cascade {
    uint32_t n;
    double pole[PD_CASCADE_SECTIONS], zero[PD_CASCADE_SECTIONS], gain;
};

/* The pole, or zero, of a corner frequency by the bilinear transform. */
double pd_noise_corner(double hz, double rate_hz);
void pd_cascade_add(struct pd_cascade *cascade, double pole, double zero);

/* Sets the gain: unit white noise comes out with an RMS of 1 within low..high Hz. */
void pd_cascade_normalise(struct pd_cascade *cascade, double low_hz, double high_hz,
                          double rate_hz);

/* One sample of `width` channels, in place; `state` is [n][stride], zero at first. */
void pd_cascade_run(const struct pd_cascade *cascade, double *state, uint32_t stride, double *x,
                    uint32_t width);

/* White noise through two equal low-passes: smooth, slow, of unit variance. */
struct pd_wander {
    double keep, scale;
};

struct pd_wander pd_wander_of(double tau_s, double rate_hz);
double pd_wander_step(const struct pd_wander *wander, double *first, double *second,
                      double normal);

#endif
