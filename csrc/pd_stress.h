/* Stress: what a session does to spike counts and to the way of its packets.
 *
 * Everything random comes from the seed and the packet's number, so a packet
 * is the same whenever it is made, and switching one fault on leaves the
 * others as they were. A plan is immutable; sessions swap pointers to it.
 *
 * Counts, in this order:
 *   rotation  unit u reports what unit source[u] did (the caller finds the
 *             permutation that turns the preferred directions)
 *   shift     the array has moved by so many units: spikes of unit u are seen
 *             on u + shift; a fraction moves each spike with that probability
 *   dropout   this fraction of the units is silent; a larger one silences more
 *   gain      counts times exp(gain_std N), drawn once a unit; kept unbiased by
 *             rounding down c·g + U
 *   noise     c += N σ (c + 1)
 *   drift     c += d (c + 1)(1 + 0.3 N_unit),
 *             d = A sin(2πt/T) + 0.1 A sin(2πt/(T/10)), t = packets · bin
 *   and then max(0, c), rounded to the nearest.
 *
 * Any thread. Nothing allocates.
 */
#ifndef PD_STRESS_H
#define PD_STRESS_H

#include <stdint.h>

#include "pd_bins.h"

struct pd_stress_config {
    uint64_t seed;
    double noise_std, drift_amplitude, drift_period_s;
    double dropout;                 /* 0..1 */
    double gain_std;                /* of the natural logarithm */
    double shift;                   /* units, 0.. */
    double latency_ms, jitter_ms;   /* the packet's way takes latency + U·jitter */
    double loss, duplicate, reorder;    /* probability a packet */
    double disconnects_per_min;
};

struct pd_stress {
    struct pd_stress_config config;
    uint64_t noise_key, round_key, shift_key, line_key;
    uint32_t n_units;
    uint8_t on_counts, on_line, rotated, reserved;
    uint16_t source[PD_BINS_MAX_UNITS];
    uint8_t silent[PD_BINS_MAX_UNITS];
    double gain[PD_BINS_MAX_UNITS];
    double drift[PD_BINS_MAX_UNITS];    /* 1 + o of each unit */
};

/* `source`: n_units numbers below n_units, or NULL for none. 0 or -EINVAL. */
int pd_stress_init(struct pd_stress *stress, const struct pd_stress_config *config,
                   uint32_t n_units, const uint16_t *source);

/* Counts of packet `number`, in place. */
void pd_stress_counts(const struct pd_stress *stress, uint64_t number, double t_s,
                      uint16_t *counts);

struct pd_stress_fate {             /* of one packet on its way */
    uint8_t lost, copies, reordered, cut;   /* cut: connections end after it */
    int64_t delay_ns[2];            /* of each copy */
};

void pd_stress_way(const struct pd_stress *stress, uint64_t number, int64_t period_ns,
                   struct pd_stress_fate *fate);

#endif
