/* Shared: samples from a driver in a process of its own, through shared memory.
 *
 * The child writes samples into a pd_ring in memory that the daemon made, sized
 * and sealed, then one byte into a pipe. The daemon's intake thread wakes, takes
 * what is new, and hands it to the device's intake, so that journal, unwrapping
 * and everything after it are those of any other device. Nothing that the child
 * writes is believed without a look: bounds are the daemon's own copies, stamps
 * and indices must be possible, or the sample is refused.
 *
 * The child's end of the pipe is its life: when it closes, for whatever reason,
 * the thread takes what is left and ends. A child that lives but gets nowhere
 * stops beating, and the thread ends as well: the supervisor does the rest.
 *
 * Reader: the device's intake thread, deadline-safe. Writer: one thread of the
 * child. Nothing allocates.
 */
#ifndef PD_SHARED_H
#define PD_SHARED_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "pd_intake.h"
#include "pd_ring.h"

#define PD_SHARED_HEAD_BYTES 64u    /* the ring lies behind it */

struct pd_shared_head {
    _Atomic uint64_t beats;         /* child: grows as long as it gets on */
};

enum { PD_SHARED_RESTART = 1 };     /* the device began anew before this sample */

struct pd_shared_sample {           /* a frame of the ring; its index there means nothing else */
    int64_t arrival_ns;             /* CLOCK_MONOTONIC: when the child had it, or when it was
                                       stamped on its way there */
    int64_t device_ns;              /* the device's own stamp, or PD_NO_TIME */
    uint64_t index;                 /* its packet counter, where the intake has one; else its number */
    uint32_t behind;                /* newer ones that came with it */
    uint32_t flags;
    double value[];                 /* n_values */
};
#define PD_SHARED_WORDS(n_values) (4u + (uint32_t)(n_values))

struct pd_shared_counts {           /* any thread may read */
    _Atomic uint64_t overrun;       /* overwritten before the intake thread came */
    _Atomic uint64_t refused;       /* from an impossible place */
    _Atomic uint64_t restamped;     /* from an impossible time: arrived when they were taken */
};

struct pd_shared {                  /* the daemon's side */
    struct pd_ring ring;
    const struct pd_shared_head *head;
    struct pd_intake *intake;
    struct pd_shared_counts *counts;
    int wake_fd;                    /* the pipe's read end, non-blocking */
    int64_t hang_ns;
    uint64_t next, beats;
    int64_t beat_ns;                /* when they were last seen to grow, or PD_NO_TIME */
    uint64_t origin_index;          /* of the segment, as the child numbers it */
    int64_t origin_ns;
    uint32_t begun, refused_run;
    uint64_t frame[PD_SHARED_WORDS(PD_MAX_VALUES)];
};

/* Bytes of the shared memory; 0 when it can't be. */
size_t pd_shared_bytes(uint32_t n_values, uint32_t n_slots);

/* Daemon. Makes head and ring in `memory` (zeroed, 64-byte aligned). 0 or -EINVAL. */
int pd_shared_init(struct pd_shared *shared, void *memory, size_t bytes, uint32_t n_slots,
                   struct pd_intake *intake, struct pd_shared_counts *counts, int wake_fd,
                   int64_t hang_ns);

/* Intake thread, on a byte in the pipe and ten times a second: a pd_driver's
 * `woken`. 0; -ENODEV: the child has gone; -ETIMEDOUT: it hangs; -EPROTO: what
 * it sends makes no sense. */
int pd_shared_woken(void *self, int64_t now_ns);

struct pd_shared_writer {           /* the child's side */
    struct pd_ring ring;
    struct pd_shared_head *head;
    uint32_t n_values;
    uint64_t frame[PD_SHARED_WORDS(PD_MAX_VALUES)];
};

/* Child. 0 or -EINVAL when the daemon made nothing for that many values there. */
int pd_shared_attach(struct pd_shared_writer *writer, void *memory, size_t bytes,
                     uint32_t n_values);
void pd_shared_put(struct pd_shared_writer *writer, uint64_t index, uint32_t behind,
                   int64_t arrival_ns, int64_t device_ns, uint32_t flags, const double *values);
void pd_shared_beat(struct pd_shared_writer *writer);

/* Child. A thread that ends this process group as soon as the other end of fd
 * is closed, even if the process hangs with every lock of its language taken;
 * and the kernel does it when the thread that made this process ends.
 * 0 or -errno. */
int pd_shared_guard(int fd);

#endif
