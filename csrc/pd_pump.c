#define _GNU_SOURCE
#include "pd_pump.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ROUND_MS 100
#define REST_NS (250 * PD_NS_PER_US)

/* The first thing that a new journal learns of a device is its state. */
static struct pd_spsc *journal_of(struct pd_driver *driver, int64_t t_ns)
{
    struct pd_intake *intake = driver->intake;
    if (intake == NULL) return NULL;
    struct pd_spsc *tap = atomic_load_explicit(&intake->tap, memory_order_acquire);
    if (tap == intake->tap_begun) return tap;
    intake->tap_begun = tap;
    if (!tap) return NULL;
    intake->has_bytes = driver->feed != NULL;
    pd_journal_put(tap, PD_JOURNAL_INTAKE_STATE, intake->slot, t_ns, &intake->state,
                   sizeof intake->state);
    if (driver->state_bytes)
        pd_journal_put(tap, PD_JOURNAL_DRIVER_STATE, intake->slot, t_ns, driver->state,
                       driver->state_bytes);
    return tap;
}

void pd_driver_feed(struct pd_driver *driver, const uint8_t *bytes, size_t n, int64_t arrival_ns)
{
    struct pd_spsc *tap = journal_of(driver, arrival_ns);
    pd_journal_put(tap, PD_JOURNAL_BYTES, driver->intake->slot, arrival_ns, bytes, (uint32_t)n);
    driver->feed(driver->self, bytes, n, arrival_ns);
}

int64_t pd_driver_advance(struct pd_driver *driver, int64_t now_ns)
{
    journal_of(driver, now_ns);
    return driver->advance(driver->self, now_ns);
}

int pd_driver_woken(struct pd_driver *driver, int64_t now_ns)
{
    journal_of(driver, now_ns);
    return driver->woken(driver->self, now_ns);
}

void pd_driver_begin_journal(struct pd_driver *driver, int64_t t_ns)
{
    journal_of(driver, t_ns);
}

void pd_driver_reset(struct pd_driver *driver)
{
    if (driver->reset) driver->reset(driver->self);
    pd_intake_reset(driver->intake);
}

static void tell(int fd)
{
    const uint64_t one = 1;
    /* A full eventfd counter already tells what this would. */
    if (fd >= 0 && write(fd, &one, sizeof one) < 0 && errno != EAGAIN) return;
}

/* Waits for the stop eventfd until t_ns, at most ROUND_MS. */
static int stopped_before(struct pd_pump *pump, int64_t t_ns)
{
    int64_t wait_ns = t_ns - pd_time_now();
    if (wait_ns > ROUND_MS * PD_NS_PER_MS) wait_ns = ROUND_MS * PD_NS_PER_MS;
    if (wait_ns < 0) wait_ns = 0;
    struct timespec timeout = { .tv_nsec = wait_ns };
    struct pollfd stop = { .fd = pump->stop_fd, .events = POLLIN };
    return ppoll(&stop, 1, &timeout, NULL) > 0;
}

/* Until it is stopped (0), or the driver has no more (ENODATA). */
static int run_by_clock(struct pd_pump *pump)
{
    int64_t next_ns = pd_time_now();
    while (!stopped_before(pump, next_ns)) {
        atomic_fetch_add_explicit(&pump->rounds, 1, memory_order_relaxed);
        int64_t now_ns = pd_time_now();
        if (now_ns >= next_ns) next_ns = pd_driver_advance(pump->driver, now_ns);
        if (next_ns == PD_DRIVER_ENDED) return ENODATA;
    }
    return 0;
}

/* Reads all that is there. Bytes read, or -errno when the device is gone. */
static ssize_t read_all(struct pd_pump *pump)
{
    size_t n = 0;
    while (n < PD_PUMP_CHUNK) {
        ssize_t got = read(pump->fd, pump->chunk + n, PD_PUMP_CHUNK - n);
        if (got > 0) {
            n += (size_t)got;
            continue;
        }
        if (got < 0 && errno == EINTR) continue;
        if (n || (got < 0 && errno == EAGAIN)) break;   /* an error shows again next time */
        return got < 0 ? -errno : -ENODEV;              /* end of file: hung up */
    }
    return (ssize_t)n;
}

static int run_by_fd(struct pd_pump *pump)
{
    struct pollfd on[2] = {
        { .fd = pump->fd, .events = POLLIN },
        { .fd = pump->stop_fd, .events = POLLIN },
    };
    for (;;) {
        int ready = poll(on, 2, ROUND_MS);
        atomic_fetch_add_explicit(&pump->rounds, 1, memory_order_relaxed);
        if (ready < 0 && errno != EINTR) return errno;
        if (ready <= 0) continue;
        if (on[1].revents) return 0;
        ssize_t n = read_all(pump);
        if (n < 0) return (int)-n;
        if (n == 0) {
            if (on[0].revents & (POLLHUP | POLLERR | POLLNVAL)) return ENODEV;
            continue;
        }
        int64_t arrival_ns = pd_time_now();
        atomic_fetch_add_explicit(&pump->bytes, (uint64_t)n, memory_order_relaxed);
        pd_driver_feed(pump->driver, pump->chunk, (size_t)n, arrival_ns);
    }
}

static int run_by_wake(struct pd_pump *pump)
{
    struct pollfd on[2] = {
        { .fd = pump->fd, .events = POLLIN },
        { .fd = pump->stop_fd, .events = POLLIN },
    };
    for (;;) {
        int ready = poll(on, 2, ROUND_MS);
        atomic_fetch_add_explicit(&pump->rounds, 1, memory_order_relaxed);
        if (ready < 0 && errno != EINTR) return errno;
        if (ready > 0 && on[1].revents) return 0;
        int64_t now_ns = pd_time_now();
        int rc = pd_driver_woken(pump->driver, now_ns);
        if (rc < 0) return -rc;
        /* Who wakes us is not ours: whatever he does, this thread of real time rests. */
        if (stopped_before(pump, now_ns + REST_NS)) return 0;
    }
}

static void *run(void *argument)
{
    struct pd_pump *pump = argument;
    if (pump->priority > 0) {
        int rc = pd_thread_promote(pump->priority, pump->cpu);
        atomic_store_explicit(&pump->promote_error, -rc, memory_order_release);
    }
    pd_thread_touch_stack(64 * 1024);
    int error = pump->fd < 0 ? run_by_clock(pump) : pump->driver->woken ? run_by_wake(pump)
                                                                         : run_by_fd(pump);
    if (error) {
        atomic_store_explicit(&pump->end_error, error, memory_order_release);
        tell(pump->notify_fd);
    }
    return NULL;
}

int pd_pump_start(struct pd_pump *pump, struct pd_driver *driver, int fd, int notify_fd,
                  int priority, int cpu)
{
    memset(pump, 0, sizeof *pump);
    pump->driver = driver;
    pump->fd = fd;
    pump->notify_fd = notify_fd;
    pump->priority = priority;
    pump->cpu = cpu;
    pump->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pump->stop_fd < 0) return -errno;
    int rc = pthread_create(&pump->thread, NULL, run, pump);
    if (rc) close(pump->stop_fd);
    return -rc;
}

void pd_pump_stop(struct pd_pump *pump)
{
    tell(pump->stop_fd);
    pthread_join(pump->thread, NULL);
    close(pump->stop_fd);
}
