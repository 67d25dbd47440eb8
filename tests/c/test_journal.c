/* pd_journal: the file as the header says, losses told, a disk that fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "pd_journal.h"

static uint8_t block[2 * PD_JOURNAL_MAX_BODY];

static int memory_file(void)
{
    return memfd_create("journal", MFD_CLOEXEC);
}

struct file {
    uint8_t *bytes;
    size_t n, at;
};

static struct file load(int fd)
{
    struct stat st;
    fstat(fd, &st);
    struct file file = { .bytes = malloc((size_t)st.st_size + 1), .n = (size_t)st.st_size };
    CHECK(pread(fd, file.bytes, file.n, 0) == (ssize_t)file.n);
    close(fd);
    struct pd_journal_file head = { 0 };
    if (file.n >= sizeof head) memcpy(&head, file.bytes, sizeof head);
    CHECK(head.magic == PD_JOURNAL_MAGIC && head.version == PD_JOURNAL_VERSION);
    CHECK(memcmp(file.bytes, "DPDJRNL1", 8) == 0);
    file.at = sizeof head;
    return file;
}

/* The next record, or 0 at the end of the file. */
static int next(struct file *file, struct pd_journal_record *record, const uint8_t **body)
{
    if (file->at == file->n) return 0;
    CHECK(file->at + sizeof *record <= file->n);
    memcpy(record, file->bytes + file->at, sizeof *record);
    *body = file->bytes + file->at + sizeof *record;
    file->at += sizeof *record + record->bytes;
    CHECK(file->at <= file->n, "a record is cut short");
    return file->at <= file->n;
}

static void test_no_tap_no_record(void)
{
    CHECK(pd_journal_put(NULL, PD_JOURNAL_BYTES, 0, 0, "x", 1) == 0);
}

static void test_the_file_holds_what_was_put(void)
{
    static uint8_t buffer[4096];
    struct pd_spsc tap;
    struct pd_journal journal;
    pd_spsc_init(&tap, buffer, sizeof buffer);
    int fd = memory_file();
    CHECK(pd_journal_start(&journal, fd, block) == 0);
    CHECK(pd_journal_add(&journal, &tap) == 0);
    CHECK(pd_journal_put(&tap, PD_JOURNAL_BYTES, 3, 123456789, "abc", 3) == 0);
    CHECK(pd_journal_put(&tap, PD_JOURNAL_RESET, 3, -1, NULL, 0) == 0);
    CHECK(pd_journal_stop(&journal) == 0);

    struct file file = load(fd);
    struct pd_journal_record record;
    const uint8_t *body;
    CHECK(next(&file, &record, &body) && record.kind == PD_JOURNAL_BYTES && record.source == 3 &&
          record.t_ns == 123456789 && record.bytes == 3 && memcmp(body, "abc", 3) == 0);
    CHECK(next(&file, &record, &body) && record.kind == PD_JOURNAL_RESET && record.bytes == 0 &&
          record.t_ns == -1);
    CHECK(next(&file, &record, &body) && record.kind == PD_JOURNAL_END && record.bytes == 0);
    CHECK(!next(&file, &record, &body), "END is the last");
    CHECK(journal.bytes_written == file.n);
    free(file.bytes);
}

static void test_what_a_tap_dropped_is_in_the_file(void)
{
    static uint8_t buffer[64], before[64];
    struct pd_spsc tap, old;
    struct pd_journal journal;
    uint8_t body[64] = { 0 };
    int fd = memory_file();
    pd_spsc_init(&tap, buffer, sizeof buffer);
    pd_spsc_init(&old, before, sizeof before);
    CHECK(pd_journal_put(&old, PD_JOURNAL_BYTES, 0, 0, body, 64) == -ENOSPC);
    pd_journal_start(&journal, fd, block);
    CHECK(pd_journal_add(&journal, &tap) == 0);
    CHECK(pd_journal_add(&journal, &old) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(pd_journal_put(&tap, PD_JOURNAL_BYTES, 0, i, body, 60) == -ENOSPC);
    CHECK(pd_journal_put(&tap, PD_JOURNAL_BYTES, 0, 3, body, 1) == 0);
    CHECK(pd_journal_stop(&journal) == 0);

    struct file file = load(fd);
    struct pd_journal_record record;
    const uint8_t *at;
    uint64_t dropped = 0;
    int kept = 0;
    while (next(&file, &record, &at)) {
        kept += record.kind == PD_JOURNAL_BYTES;
        if (record.kind != PD_JOURNAL_DROPPED) continue;
        uint64_t news;
        CHECK(record.bytes == sizeof news && record.source == 0);
        memcpy(&news, at, sizeof news);
        dropped += news;
    }
    CHECK(dropped == 3, "%llu; what was lost before the journal is not its loss",
          (unsigned long long)dropped);
    CHECK(kept == 1 && record.kind == PD_JOURNAL_END);
    free(file.bytes);
}

static void test_a_full_disk_at_the_start(void)
{
    struct pd_journal journal;
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    CHECK(pd_journal_start(&journal, fd, block) == -ENOSPC);
    close(fd);
}

/* A pipe that nobody reads any more fails like a disk. */
static void test_a_write_that_fails_later_is_said_and_holds_up_nobody(void)
{
    static uint8_t buffer[1 << 12];
    struct pd_spsc tap;
    struct pd_journal journal;
    int ends[2];
    signal(SIGPIPE, SIG_IGN);
    CHECK(pipe(ends) == 0);
    pd_spsc_init(&tap, buffer, sizeof buffer);
    CHECK(pd_journal_start(&journal, ends[1], block) == 0);
    CHECK(pd_journal_add(&journal, &tap) == 0);
    close(ends[0]);
    pd_journal_put(&tap, PD_JOURNAL_BYTES, 0, 0, "abc", 3);
    while (!atomic_load(&journal.error)) sched_yield();
    const uint64_t written = journal.bytes_written;
    for (int i = 0; i < 10000; i++) {
        while (pd_journal_put(&tap, PD_JOURNAL_BYTES, 0, i, "abc", 3)) sched_yield();
    }
    CHECK(pd_journal_stop(&journal) == -EPIPE);
    CHECK(journal.bytes_written == written);
    close(ends[1]);
}

static void test_there_are_only_so_many_taps(void)
{
    static uint8_t buffer[64];
    struct pd_spsc tap;
    struct pd_journal journal;
    int fd = memory_file();
    pd_spsc_init(&tap, buffer, sizeof buffer);
    pd_journal_start(&journal, fd, block);
    for (int i = 0; i < PD_JOURNAL_TAPS; i++) CHECK(pd_journal_add(&journal, &tap) == 0);
    CHECK(pd_journal_add(&journal, &tap) == -ENOSPC);
    CHECK(pd_journal_stop(&journal) == 0);
    close(fd);
}

/* -- several producers ------------------------------------------------------------ */

enum { PRODUCERS = 4, RECORDS = 20000 };

struct producer {
    struct pd_spsc tap;
    uint8_t buffer[1 << 14];
    unsigned source;
    uint64_t refused;
};

static uint32_t length_of(uint64_t number)
{
    return 8 + (uint32_t)(number * 7919 % 120);
}

static void *produce(void *argument)
{
    struct producer *producer = argument;
    uint8_t body[128];
    for (uint64_t i = 0; i < RECORDS; i++) {
        uint32_t n = length_of(i);
        memset(body, (int)(i + producer->source), sizeof body);
        memcpy(body, &i, sizeof i);
        producer->refused += pd_journal_put(&producer->tap, PD_JOURNAL_BYTES, producer->source,
                                            (int64_t)i, body, n) != 0;
        if (i % 32 == 0) sched_yield();
    }
    return NULL;
}

static void test_each_taps_records_are_whole_and_in_order(void)
{
    static struct producer producer[PRODUCERS];
    struct pd_journal journal;
    pthread_t thread[PRODUCERS];
    int fd = memory_file();
    CHECK(pd_journal_start(&journal, fd, block) == 0);
    for (unsigned p = 0; p < PRODUCERS; p++) {
        producer[p].source = p;
        pd_spsc_init(&producer[p].tap, producer[p].buffer, sizeof producer[p].buffer);
        CHECK(pd_journal_add(&journal, &producer[p].tap) == 0);     /* while it writes */
        pthread_create(&thread[p], NULL, produce, &producer[p]);
    }
    for (unsigned p = 0; p < PRODUCERS; p++) pthread_join(thread[p], NULL);
    CHECK(pd_journal_stop(&journal) == 0);

    struct file file = load(fd);
    struct pd_journal_record record;
    const uint8_t *body;
    uint64_t least[PRODUCERS] = { 0 }, got[PRODUCERS] = { 0 }, dropped[PRODUCERS] = { 0 }, wrong = 0;
    while (next(&file, &record, &body)) {
        if (record.kind == PD_JOURNAL_END) continue;
        uint64_t number, source = record.source;
        memcpy(&number, body, sizeof number);
        if (record.kind == PD_JOURNAL_DROPPED) {
            dropped[source] += number;
            continue;
        }
        wrong += number < least[source] || record.bytes != length_of(number) ||
                 record.t_ns != (int64_t)number ||
                 (record.bytes > 8 && body[record.bytes - 1] != (uint8_t)(number + source));
        least[source] = number + 1;
        got[source]++;
    }
    CHECK(wrong == 0, "%llu", (unsigned long long)wrong);
    for (unsigned p = 0; p < PRODUCERS; p++) {
        CHECK(dropped[p] == producer[p].refused, "tap %u", p);
        CHECK(got[p] + dropped[p] == RECORDS, "tap %u", p);
    }
    CHECK(record.kind == PD_JOURNAL_END);
    free(file.bytes);
}

int main(void)
{
    test_no_tap_no_record();
    test_the_file_holds_what_was_put();
    test_what_a_tap_dropped_is_in_the_file();
    test_a_full_disk_at_the_start();
    test_a_write_that_fails_later_is_said_and_holds_up_nobody();
    test_there_are_only_so_many_taps();
    test_each_taps_records_are_whole_and_in_order();
    return check_report("journal");
}
