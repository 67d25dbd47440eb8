/* Intake journal: what the daemon took in, so that the same comes out again.
 *
 * Each thread that sees input has a queue of its own (`tap`); one writer thread
 * takes them round robin and writes a file. Records of one thread are in order;
 * records of different threads are put together again by the tick records,
 * which say how far into each native ring that tick had seen.
 *
 * File: pd_journal_file, then records: pd_journal_record and `bytes` of body.
 * Little-endian. All integers as they stand in memory on x86-64 and AArch64.
 *
 * Producer calls are safe on a deadline. The writer thread runs at normal
 * priority; when it can't keep up, records are dropped, counted, and the file
 * says so (PD_JOURNAL_DROPPED): such a journal is refused at replay.
 */
#ifndef PD_JOURNAL_H
#define PD_JOURNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "pd_spsc.h"

#define PD_JOURNAL_MAGIC 0x314c4e524a445044ull      /* "DPDJRNL1" */
#define PD_JOURNAL_VERSION 1u
#define PD_JOURNAL_TAPS 16
#define PD_JOURNAL_MAX_BODY (1u << 20)

enum pd_journal_kind {
    PD_JOURNAL_META = 1,            /* MessagePack: versions, grid, configuration */
    PD_JOURNAL_BYTES = 2,           /* device: bytes read; `t_ns` their arrival */
    PD_JOURNAL_SAMPLE = 3,          /* device: pd_journal_sample and values */
    PD_JOURNAL_RESET = 4,           /* device: it came back */
    PD_JOURNAL_TICK = 5,            /* tick: plan serial u64, then next index seen u64 a source */
    PD_JOURNAL_PLAN = 6,            /* MessagePack: what the plan of this serial holds */
    PD_JOURNAL_CONTROL = 7,         /* MessagePack: a control call that changed something */
    PD_JOURNAL_INTAKE_STATE = 8,    /* device: plain state at the journal's start */
    PD_JOURNAL_DROPPED = 9,         /* u64: records lost since the last such record */
    PD_JOURNAL_END = 10,            /* closed in good order */
    PD_JOURNAL_DRIVER_STATE = 11,   /* device */
    PD_JOURNAL_SOURCE_STATE = 12,   /* tick: the source's arena */
    PD_JOURNAL_ENGINE_STATE = 13,   /* tick */
    PD_JOURNAL_PACKET = 14,         /* device: as SAMPLE, `index` is the packet's counter */
    PD_JOURNAL_HISTORY = 15,        /* MessagePack: a piece of a slot's signal ring at the start */
};

struct pd_journal_file {
    uint64_t magic;
    uint32_t version, reserved;
};

struct pd_journal_record {
    uint32_t bytes;                 /* of the body */
    uint16_t kind, source;          /* source: device slot */
    int64_t t_ns;
};

struct pd_journal_sample {
    uint64_t index;
    int64_t device_ns;
    uint32_t behind, n_values;
};

struct pd_journal {
    int fd;
    pthread_t thread;
    _Atomic int stop, error;        /* error: errno of a failed write, then nothing more is written */
    _Atomic int n_taps;
    struct pd_spsc *tap[PD_JOURNAL_TAPS];
    uint64_t dropped_said[PD_JOURNAL_TAPS];
    _Atomic uint64_t bytes_written;
    uint8_t *block;                 /* the writer's buffer, 2 × PD_JOURNAL_MAX_BODY, the caller's */
};

/* Producer: one record. `tap` may be NULL (no journal is written): then nothing
 * happens. 0 or -ENOSPC (dropped and counted). */
int pd_journal_put(struct pd_spsc *tap, unsigned kind, unsigned source, int64_t t_ns,
                   const void *body, uint32_t bytes);

/* Caller: writes the file's head to fd and starts the writer. 0 or -errno. */
int pd_journal_start(struct pd_journal *journal, int fd, uint8_t *block);

/* Caller: adds a queue (each may be added once). 0 or -ENOSPC. */
int pd_journal_add(struct pd_journal *journal, struct pd_spsc *tap);

/* Caller: takes what is queued, writes END, ends the thread. The producers must
 * have let go of their taps. 0 or the -errno of the first failed write. */
int pd_journal_stop(struct pd_journal *journal);

#endif
