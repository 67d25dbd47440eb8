/* The record that crosses from intake to tick: one native sample of a device.
 *
 * It is a frame of a pd_ring whose index is the device's own sample count, so
 * sample n is at index n whatever was lost on the way. Lost samples have a
 * frame too (PD_NATIVE_LOST, values NaN) as far back as the ring reaches; the
 * first sample after a loss says in `lost_before` how many there were.
 */
#ifndef PD_NATIVE_H
#define PD_NATIVE_H

#include <stdint.h>

#define PD_MAX_VALUES 256           /* channels and auxiliary values a sample */

enum {
    PD_NATIVE_LOST = 1,             /* never arrived; values are NaN */
    PD_NATIVE_RESET = 2,            /* the device (re)started: lock its clock anew */
};

struct pd_native {
    int64_t arrival_ns;             /* when its last byte was read from the kernel */
    int64_t device_ns;              /* the device's own stamp, or PD_NO_TIME */
    uint32_t flags;
    uint32_t behind;                /* newer samples that came in the same read */
    uint32_t lost_before;           /* samples lost just before this one; of a LOST one: the
                                       length of the whole loss that it lies in */
    uint32_t duplicates;            /* copies or strays refused just before it */
    uint32_t junk_bytes;            /* bytes outside any packet just before it */
    uint32_t marker;                /* that the device put at it, or 0 */
    double value[];                 /* n_values: EEG in µV, then auxiliary ones */
};

/* To what a float32 holds, so that a recording of it (BrainVision has none wider) is what was
 * analysed. For samples that are no counts; of these see pd_cyton.h. */
static inline void pd_native_round(double *values, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) values[i] = (double)(float)values[i];
}

#define PD_NATIVE_WORDS(n_values) (5u + (uint32_t)(n_values))

#endif
