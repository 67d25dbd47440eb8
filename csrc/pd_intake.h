/* Intake: from "a packet with this counter was read at this time" to a native
 * ring in which every sample of the device has its own absolute index.
 *
 * Owner: the device's intake thread (or, on a virtual clock, the caller).
 * Nothing blocks or allocates. Bad packets are counted, never an error.
 *
 * Unwrapping. A counter of a few bits says how many samples were lost only
 * modulo its range. Time says the rest: sample n can't arrive before it was
 * taken, so of all n with this counter the newest that had been taken by the
 * packet's arrival is the right one. A packet that would have to come from the
 * future is a copy, or has a damaged counter: it is refused. When eight of them
 * in a row continue each other, the device has begun to count anew.
 */
#ifndef PD_INTAKE_H
#define PD_INTAKE_H

#include <stdatomic.h>
#include <stdint.h>

#include "pd_journal.h"
#include "pd_native.h"
#include "pd_ring.h"
#include "pd_spsc.h"
#include "pd_time.h"

struct pd_intake_counts {           /* since init; any thread may read */
    _Atomic uint64_t accepted, lost, duplicates, strays, resets, junk_bytes;
    _Atomic int64_t last_arrival_ns;    /* PD_NO_TIME before the first */
};

struct pd_intake {
    struct pd_ring *ring;
    struct pd_intake_counts *counts;
    double period_ns;
    uint32_t modulus;               /* of the packet counter; 0: no counter */
    uint32_t n_values;
    uint32_t slot;                  /* the device's number in the journal */
    _Atomic(struct pd_spsc *) tap;  /* intake journal, or NULL */
    struct pd_spsc *tap_begun;      /* the journal that knows our state */
    int has_bytes;                  /* its journal keeps the bytes that packets came in */
    /* from here on plain state: saved and restored as it is */
    struct pd_intake_state {
        uint64_t next;              /* index after the newest accepted sample */
        uint64_t origin;            /* first index since the last reset */
        uint64_t base;              /* what a driver's own index is counted from */
        int64_t newest_ns;          /* arrival of the newest accepted sample */
        double earliest_ns;         /* lower edge of arrival − (index − origin)·period */
        uint32_t started, expect_reset;
        uint32_t last_counter;      /* of the newest accepted packet */
        uint32_t held_run, held_counter;    /* packets in a row that can't be placed */
        uint32_t duplicates, junk_bytes;    /* since the newest accepted sample */
        uint32_t marker;            /* for the next accepted sample */
    } state;
    uint64_t frame[PD_NATIVE_WORDS(PD_MAX_VALUES)];
};

/* `ring` has PD_NATIVE_WORDS(n_values) words. 0 or -EINVAL. */
int pd_intake_init(struct pd_intake *intake, struct pd_ring *ring,
                   struct pd_intake_counts *counts, double rate_hz, uint32_t modulus,
                   uint32_t n_values);

/* A packet with a wrapping counter. `behind`: how many newer packets came in
 * the same read. Returns 1 when the sample was accepted, 0 when it was not. */
int pd_intake_counted(struct pd_intake *intake, uint32_t counter, uint32_t behind,
                      int64_t arrival_ns, int64_t device_ns, const double *values);

/* A sample whose place is known: `index` counts from the last reset. */
int pd_intake_indexed(struct pd_intake *intake, uint64_t index, uint32_t behind,
                      int64_t arrival_ns, int64_t device_ns, const double *values);

/* Bytes that belonged to no packet. */
void pd_intake_junk(struct pd_intake *intake, uint32_t bytes);

/* The device put this marker (not 0) at the sample that comes next; when that one is refused,
 * the one after it has it. */
void pd_intake_mark(struct pd_intake *intake, uint32_t marker);

/* The device went away and is back: what comes next starts a new segment, as
 * far on in the index as the time that has passed. Intake thread, or while none runs. */
void pd_intake_reset(struct pd_intake *intake);

#endif
