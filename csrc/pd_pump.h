/* Driver and pump: how a device that is wholly ours gets its bytes or instants.
 *
 * A driver turns what arrives into samples of an intake. Live, a pump thread
 * (FIFO 60 where the system allows it) reads the file descriptor, or sleeps
 * until the driver's own next arrival, or is woken by a descriptor that the driver
 * reads itself (samples in shared memory, pd_shared.h); on a virtual clock the
 * first two are called directly. All keep the intake journal.
 */
#ifndef PD_PUMP_H
#define PD_PUMP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "pd_intake.h"

#define PD_PUMP_CHUNK 65536         /* bytes: one wake-up reads all that is there, so that
                                       each packet's `behind` is true after a stall, too */

#define PD_DRIVER_ENDED INT64_MAX   /* a recording is over: the pump ends, with ENODATA */

struct pd_driver {
    void *self;
    struct pd_intake *intake;       /* NULL: no samples of the grid (pd_broadband.h), no journal;
                                       by the clock alone */
    /* Bytes that were read at arrival_ns; NULL for a driver by the clock. */
    void (*feed)(void *self, const uint8_t *bytes, size_t n, int64_t arrival_ns);
    /* Hand over all that has arrived by now_ns, and return the instant of the
     * next arrival, or PD_DRIVER_ENDED when there will be none; NULL for a driver
     * of bytes. */
    int64_t (*advance)(void *self, int64_t now_ns);
    /* Its descriptor has something, or 100 ms have passed: take what is there. 0, or
     * -errno that ends the thread. NULL for the other two kinds. */
    int (*woken)(void *self, int64_t now_ns);
    /* The device was started anew: forget what was pending. May be NULL. */
    void (*reset)(void *self);
    void *state;                    /* plain state, saved with the journal; may be empty */
    uint32_t state_bytes;
};

/* Intake thread, or the caller on a virtual clock. */
void pd_driver_feed(struct pd_driver *driver, const uint8_t *bytes, size_t n, int64_t arrival_ns);
int64_t pd_driver_advance(struct pd_driver *driver, int64_t now_ns);
int pd_driver_woken(struct pd_driver *driver, int64_t now_ns);
/* Gives a journal the device's state now, not with its next bytes; while no pump runs. */
void pd_driver_begin_journal(struct pd_driver *driver, int64_t t_ns);
/* The device went away and is back (pd_intake_reset); while no pump runs. */
void pd_driver_reset(struct pd_driver *driver);

struct pd_pump {
    struct pd_driver *driver;
    int fd;                         /* -1: by the driver's own clock */
    int stop_fd;                    /* eventfd, wakes the thread to stop */
    int notify_fd;                  /* eventfd, told when the thread ends by itself; -1: nobody */
    int priority, cpu;              /* 0: not promoted; -1: any core */
    pthread_t thread;
    _Atomic int promote_error;      /* the errno that refused FIFO, or 0 */
    _Atomic int end_error;          /* why the thread ended by itself, or 0 */
    _Atomic uint64_t bytes;
    _Atomic uint64_t rounds;        /* grows at least every 100 ms while it runs */
    uint8_t chunk[PD_PUMP_CHUNK];
};

/* fd is non-blocking. 0 or -errno. */
int pd_pump_start(struct pd_pump *pump, struct pd_driver *driver, int fd, int notify_fd,
                  int priority, int cpu);
/* Ends the thread, if it hasn't ended by itself, and returns when it has. */
void pd_pump_stop(struct pd_pump *pump);

#endif
