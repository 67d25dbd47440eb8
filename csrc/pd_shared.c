#define _GNU_SOURCE
#include "pd_shared.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* What a sample's number and stamp may be at most: twice as fast as told with two seconds of
 * samples to begin with (a library's backlog), and stamped at most this long ago. */
#define FASTEST 2.0
#define AHEAD_NS (2.0 * PD_NS_PER_S)
#define OLDEST_NS (30 * PD_NS_PER_S)
#define REFUSED_RUN 256             /* in a row: the driver is out of its mind */

size_t pd_shared_bytes(uint32_t n_values, uint32_t n_slots)
{
    if (n_values == 0 || n_values > PD_MAX_VALUES) return 0;
    size_t ring = pd_ring_bytes(PD_SHARED_WORDS(n_values), n_slots);
    return ring ? PD_SHARED_HEAD_BYTES + ring : 0;
}

int pd_shared_init(struct pd_shared *shared, void *memory, size_t bytes, uint32_t n_slots,
                   struct pd_intake *intake, struct pd_shared_counts *counts, int wake_fd,
                   int64_t hang_ns)
{
    size_t need = pd_shared_bytes(intake->n_values, n_slots);
    if (need == 0 || bytes < need || ((uintptr_t)memory & 63) || hang_ns <= 0) return -EINVAL;
    memset(shared, 0, sizeof *shared);
    int rc = pd_ring_create(&shared->ring, (char *)memory + PD_SHARED_HEAD_BYTES,
                            bytes - PD_SHARED_HEAD_BYTES, PD_SHARED_WORDS(intake->n_values),
                            n_slots, 0);
    if (rc) return rc;
    shared->head = memory;
    shared->intake = intake;
    shared->counts = counts;
    shared->wake_fd = wake_fd;
    shared->hang_ns = hang_ns;
    shared->beat_ns = PD_NO_TIME;
    atomic_init(&counts->overrun, 0);
    atomic_init(&counts->refused, 0);
    atomic_init(&counts->restamped, 0);
    return 0;
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Whether a sample of this number can have been taken by then. */
static int possible(const struct pd_shared *shared, uint64_t index, int64_t arrival_ns)
{
    if (shared->intake->modulus || !shared->begun) return 1;
    int64_t passed = (int64_t)(index - shared->origin_index);
    if (passed < 0) return 1;                               /* the intake refuses copies */
    double ns = FASTEST * (double)(arrival_ns - shared->origin_ns) + AHEAD_NS;
    return (double)passed * shared->intake->period_ns <= ns;
}

static void take_one(struct pd_shared *shared, int64_t now_ns)
{
    struct pd_shared_sample *sample = (struct pd_shared_sample *)shared->frame;
    if (sample->arrival_ns > now_ns || sample->arrival_ns < now_ns - OLDEST_NS) {
        sample->arrival_ns = now_ns;
        count(&shared->counts->restamped, 1);
    }
    if (sample->flags & PD_SHARED_RESTART) {
        pd_intake_reset(shared->intake);
        shared->begun = 0;
    }
    if (!possible(shared, sample->index, sample->arrival_ns)) {
        count(&shared->counts->refused, 1);
        shared->refused_run++;
        return;
    }
    if (!shared->begun) {
        shared->begun = 1;
        shared->origin_index = sample->index;
        shared->origin_ns = sample->arrival_ns;
    }
    shared->refused_run = 0;
    pd_native_round(sample->value, shared->intake->n_values);
    uint32_t behind = sample->behind < shared->ring.n_slots ? sample->behind : 0;
    if (shared->intake->modulus)
        pd_intake_counted(shared->intake, (uint32_t)sample->index, behind, sample->arrival_ns,
                          sample->device_ns, sample->value);
    else
        pd_intake_indexed(shared->intake, sample->index, behind, sample->arrival_ns,
                          sample->device_ns, sample->value);
}

/* Never more than a ring-full at once, whatever the child says is there. */
static void take(struct pd_shared *shared, int64_t now_ns)
{
    for (uint32_t n = 0; n < shared->ring.n_slots; n++) {
        int rc = pd_ring_read(&shared->ring, shared->next, shared->frame);
        if (rc == -EAGAIN) return;
        if (rc == -EOVERFLOW) {
            uint64_t oldest = pd_ring_oldest(&shared->ring);
            if (oldest <= shared->next) oldest = shared->next + 1;
            count(&shared->counts->overrun, oldest - shared->next);
            shared->next = oldest;
            continue;
        }
        shared->next++;
        take_one(shared, now_ns);
    }
}

int pd_shared_woken(void *self, int64_t now_ns)
{
    struct pd_shared *shared = self;
    int gone = 0;
    uint8_t bytes[256];
    for (int round = 0; round < 16; round++) {
        ssize_t n = read(shared->wake_fd, bytes, sizeof bytes);
        if (n == (ssize_t)sizeof bytes || (n < 0 && errno == EINTR)) continue;
        gone = n == 0 || (n < 0 && errno != EAGAIN);
        break;
    }
    take(shared, now_ns);
    if (gone) return -ENODEV;
    if (shared->refused_run >= REFUSED_RUN) return -EPROTO;
    uint64_t beats = atomic_load_explicit(&shared->head->beats, memory_order_relaxed);
    if (beats != shared->beats || shared->beat_ns == PD_NO_TIME) {
        shared->beats = beats;
        shared->beat_ns = now_ns;
    }
    return now_ns - shared->beat_ns > shared->hang_ns ? -ETIMEDOUT : 0;
}

int pd_shared_attach(struct pd_shared_writer *writer, void *memory, size_t bytes,
                     uint32_t n_values)
{
    if (bytes < PD_SHARED_HEAD_BYTES || n_values == 0 || n_values > PD_MAX_VALUES) return -EINVAL;
    int rc = pd_ring_attach(&writer->ring, (char *)memory + PD_SHARED_HEAD_BYTES,
                            bytes - PD_SHARED_HEAD_BYTES);
    if (rc == 0 && writer->ring.words != PD_SHARED_WORDS(n_values)) rc = -EINVAL;
    writer->head = memory;
    writer->n_values = n_values;
    return rc;
}

void pd_shared_put(struct pd_shared_writer *writer, uint64_t index, uint32_t behind,
                   int64_t arrival_ns, int64_t device_ns, uint32_t flags, const double *values)
{
    struct pd_shared_sample *sample = (struct pd_shared_sample *)writer->frame;
    sample->arrival_ns = arrival_ns;
    sample->device_ns = device_ns;
    sample->index = index;
    sample->behind = behind;
    sample->flags = flags;
    memcpy(sample->value, values, writer->n_values * sizeof(double));
    pd_ring_push(&writer->ring, writer->frame);
}

void pd_shared_beat(struct pd_shared_writer *writer)
{
    count(&writer->head->beats, 1);
}

static void *guard(void *argument)
{
    struct pollfd on = { .fd = (int)(intptr_t)argument };   /* events 0: only its end wakes us */
    while (poll(&on, 1, -1) < 0 && errno == EINTR) {}
    kill(0, SIGKILL);
    return NULL;
}

int pd_shared_guard(int fd)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL)) return -errno;
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, guard, (void *)(intptr_t)fd);
    if (rc == 0) pthread_detach(thread);
    return -rc;
}
