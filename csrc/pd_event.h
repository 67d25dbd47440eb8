/* What the tick thread has to tell: frames of a pd_ring that the event loop
 * turns into lines on `events`. Only the tick writes them, so the order of the
 * lines is a function of what the ticks saw, and a replay repeats it. */
#ifndef PD_EVENT_H
#define PD_EVENT_H

#include <stdint.h>

enum pd_event_kind {
    PD_EVENT_GAP = 1,               /* a first lost index, b how many */
    PD_EVENT_SILENT = 2,            /* a newest index; no sample for x seconds */
    PD_EVENT_RESUMED = 3,           /* a first index after the silence, x its seconds */
    PD_EVENT_RESET = 4,             /* a first index of the new segment */
    PD_EVENT_CLOCK_LOCKED = 5,      /* a index, x rate in Hz */
    PD_EVENT_CLOCK_RELOCKED = 6,    /* a index, x rate in Hz */
    PD_EVENT_CLOCK_FOLLOWED = 7,    /* a index, x rate in Hz */
    PD_EVENT_REFUSED = 8,           /* a index after them, b packets refused, c junk bytes */
    PD_EVENT_OVERRUN = 9,           /* a first index, b how many: the tick came too late to see them */
    PD_EVENT_LATE_TICK = 10,        /* a ticks late since the last such event, b the latest in ns,
                                       c heartbeats skipped */
    PD_EVENT_MARKER = 11,           /* a index, b what the device marked it with, c its t_ns, or
                                       its arrival while the clock is not locked */
};

struct pd_event {
    int64_t t_ns;                   /* of the tick */
    uint32_t kind, source;          /* source: device slot */
    int64_t a, b, c;
    double x;
};

#define PD_EVENT_WORDS (sizeof(struct pd_event) / sizeof(uint64_t))

#endif
