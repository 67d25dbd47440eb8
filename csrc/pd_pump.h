/* Pump: the intake thread of a device that is wholly ours.
 *
 * It reads bytes from a file descriptor, or calls the driver at the instants
 * that the driver asks for; stamps, and hands on. FIFO 60 where the system
 * allows it. The same driver is called directly on a virtual clock.
 */
#ifndef PD_PUMP_H
#define PD_PUMP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "pd_intake.h"

#define PD_PUMP_CHUNK 8192          /* bytes a read */

struct pd_driver {
    void *self;
    struct pd_intake *intake;
    /* fd mode: bytes that were read at arrival_ns. */
    void (*feed)(void *self, const uint8_t *bytes, size_t n, int64_t arrival_ns);
    /* timer mode: hand over all that has arrived by now_ns, and return the
     * instant of the next arrival. */
    int64_t (*advance)(void *self, int64_t now_ns);
    /* plain state of the driver, saved with the journal; may be empty */
    void *state;
    uint32_t state_bytes;
};

/* Intake journal records, put into `tap` as they happen (see pd_journal.h). */
struct pd_pump {
    struct pd_driver *driver;
    int fd;                         /* -1: timer mode */
    int stop_fd;                    /* eventfd, wakes the thread to stop */
    int notify_fd;                  /* eventfd, told when the thread ends by itself; -1: nobody */
    int priority, cpu;
    pthread_t thread;
    _Atomic int running;
    _Atomic int promote_error;      /* 0, or the errno that refused FIFO */
    _Atomic int end_error;          /* 0 while running or stopped; EIO etc. when the device went */
    _Atomic uint64_t bytes;
    _Atomic(struct pd_spsc *) tap;
    _Atomic uint64_t rounds;        /* grows at least every 100 ms while it runs */
};

/* 0 or -errno. */
int pd_pump_start(struct pd_pump *pump);
/* Returns when the thread has ended. */
void pd_pump_stop(struct pd_pump *pump);

#endif
