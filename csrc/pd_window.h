/* What leaves a source besides the grid: its signal, and the windows cut from it.
 *
 * Signal: every sample of the device, in order, as the analysis sees it: calibrated, short
 * losses bridged, with the clock's time. Frames of a pd_ring whose index is the native one.
 *
 * Window: window k of a source ends at grid_t0 + k · step and is `length` long, on the host's time,
 * the same for every device. It is closed when all samples before its end are there or known to
 * be lost, or when it has waited long enough; never twice, and no index is left out.
 */
#ifndef PD_WINDOW_H
#define PD_WINDOW_H

#include <stdint.h>

enum {                              /* flags of a signal frame */
    PD_SIGNAL_LOST = 1,             /* never arrived: bridged where BRIDGED, else NaN */
    PD_SIGNAL_BRIDGED = 2,
    PD_SIGNAL_RESET = 4,            /* first of a segment: the device (re)started */
};

struct pd_signal {
    int64_t t_ns;                   /* PD_NO_TIME before the clock is locked */
    uint32_t flags;
    uint32_t reserved;
    double value[];                 /* n_values; auxiliary ones are never bridged */
};
#define PD_SIGNAL_WORDS(n_values) (2u + (uint32_t)(n_values))

enum {                              /* flags of a window */
    PD_WINDOW_FILLING = 1,          /* began before the segment did, or with this source */
    PD_WINDOW_TIMED_OUT = 2,        /* closed with samples still to come, or none */
    PD_WINDOW_REJECTED = 4,         /* an artifact's score reached its limit, or can't be told */
    PD_WINDOW_RELOCKED = 8,         /* the clock's time was stepped inside it */
    PD_WINDOW_ARTIFACT = 16,        /* REJECTED for a score */
};

struct pd_window {
    int64_t index;                  /* k */
    int64_t start_ns, end_ns;
    int64_t closed_ns;              /* the tick that closed it */
    int64_t arrival_ns;             /* of its last sample that was there, or PD_NO_TIME */
    uint64_t first, until;          /* native indices of its samples */
    uint32_t flags;
    uint32_t lost, bridged;         /* samples that never arrived; of these, bridged */
    uint32_t n_values;
    double value[];                 /* what the kernels say at its end, as the plan lays it out */
};
#define PD_WINDOW_WORDS(n_values) (9u + (uint32_t)(n_values))

#endif
