#include "pd_journal.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IDLE_NS (5 * 1000 * 1000)

int pd_journal_put(struct pd_spsc *tap, unsigned kind, unsigned source, int64_t t_ns,
                   const void *body, uint32_t bytes)
{
    if (!tap) return 0;
    struct pd_journal_record record = {
        .bytes = bytes, .kind = (uint16_t)kind, .source = (uint16_t)source, .t_ns = t_ns,
    };
    return pd_spsc_put(tap, &record, sizeof record, body, bytes);
}

static void write_all(struct pd_journal *journal, const void *data, size_t n)
{
    const uint8_t *from = data;
    while (n && !atomic_load_explicit(&journal->error, memory_order_relaxed)) {
        ssize_t wrote = write(journal->fd, from, n);
        if (wrote < 0) {
            if (errno == EINTR) continue;
            atomic_store_explicit(&journal->error, errno, memory_order_relaxed);
            return;
        }
        from += wrote;
        n -= (size_t)wrote;
        atomic_fetch_add_explicit(&journal->bytes_written, (uint64_t)wrote, memory_order_relaxed);
    }
}

static void write_record(struct pd_journal *journal, unsigned kind, unsigned source,
                         const void *body, uint32_t bytes)
{
    struct pd_journal_record record = {
        .bytes = bytes, .kind = (uint16_t)kind, .source = (uint16_t)source,
    };
    write_all(journal, &record, sizeof record);
    if (bytes) write_all(journal, body, bytes);
}

/* All that is queued, in blocks. Returns whether there was anything. */
static int drain(struct pd_journal *journal)
{
    const uint32_t room = 2 * PD_JOURNAL_MAX_BODY;
    int any = 0;
    int n_taps = atomic_load_explicit(&journal->n_taps, memory_order_acquire);
    for (int i = 0; i < n_taps; i++) {
        uint64_t dropped = atomic_load_explicit(&journal->tap[i]->dropped, memory_order_relaxed);
        if (dropped != journal->dropped_said[i]) {
            uint64_t news = dropped - journal->dropped_said[i];
            journal->dropped_said[i] = dropped;
            write_record(journal, PD_JOURNAL_DROPPED, (unsigned)i, &news, sizeof news);
        }
        uint32_t used = 0;
        for (;;) {
            int64_t took = pd_spsc_take(journal->tap[i], journal->block + used, room - used);
            if (took > 0) {
                used += (uint32_t)took;
                any = 1;
                continue;
            }
            if (used) write_all(journal, journal->block, used);
            if (took == 0 || used == 0) break;
            used = 0;                   /* the block was full: go on with an empty one */
        }
    }
    return any;
}

static void *writer(void *argument)
{
    struct pd_journal *journal = argument;
    const struct timespec idle = { .tv_nsec = IDLE_NS };
    while (!atomic_load_explicit(&journal->stop, memory_order_acquire))
        if (!drain(journal)) nanosleep(&idle, NULL);
    while (drain(journal)) { }
    write_record(journal, PD_JOURNAL_END, 0, NULL, 0);
    return NULL;
}

int pd_journal_start(struct pd_journal *journal, int fd, uint8_t *block)
{
    memset(journal, 0, sizeof *journal);
    journal->fd = fd;
    journal->block = block;
    struct pd_journal_file head = { .magic = PD_JOURNAL_MAGIC, .version = PD_JOURNAL_VERSION };
    write_all(journal, &head, sizeof head);
    if (journal->error) return -journal->error;
    return -pthread_create(&journal->thread, NULL, writer, journal);
}

int pd_journal_add(struct pd_journal *journal, struct pd_spsc *tap)
{
    int n = atomic_load_explicit(&journal->n_taps, memory_order_relaxed);
    if (n == PD_JOURNAL_TAPS) return -ENOSPC;
    journal->tap[n] = tap;
    journal->dropped_said[n] = atomic_load_explicit(&tap->dropped, memory_order_relaxed);
    atomic_store_explicit(&journal->n_taps, n + 1, memory_order_release);
    return 0;
}

int pd_journal_stop(struct pd_journal *journal)
{
    atomic_store_explicit(&journal->stop, 1, memory_order_release);
    int rc = pthread_join(journal->thread, NULL);
    if (rc) return -rc;
    return -atomic_load_explicit(&journal->error, memory_order_relaxed);
}
