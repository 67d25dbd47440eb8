/* pd_ring: indices, what is gone and what is not yet there, memory that is
 * shared or hostile, and one writer beside four readers. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "pd_ring.h"

/* The content of a frame is a function of its index and the place of the word. */
static uint64_t word_of(uint64_t index, uint32_t w)
{
    return (index + 1) * 0x9e3779b97f4a7c15ull ^ (w * 0xc2b2ae3d27d4eb4full);
}

static void fill(uint64_t *frame, uint32_t words, uint64_t index)
{
    for (uint32_t w = 0; w < words; w++) frame[w] = word_of(index, w);
}

static int is_whole(const uint64_t *frame, uint32_t words, uint64_t index)
{
    for (uint32_t w = 0; w < words; w++)
        if (frame[w] != word_of(index, w)) return 0;
    return 1;
}

static void push(struct pd_ring *ring)
{
    uint64_t frame[64];
    fill(frame, ring->words, pd_ring_next(ring));
    pd_ring_push(ring, frame);
}

static int read_whole(const struct pd_ring *ring, uint64_t index)
{
    uint64_t frame[64];
    int rc = pd_ring_read(ring, index, frame);
    CHECK(rc || is_whole(frame, ring->words, index), "frame %llu", (unsigned long long)index);
    return rc;
}

static void test_sizes(void)
{
    const size_t head = sizeof(struct pd_ring_head);
    CHECK(pd_ring_bytes(3, 8) == head + 8 * 4 * 8);
    CHECK(pd_ring_bytes(0, 8) == 0);
    CHECK(pd_ring_bytes(3, 0) == 0);
    CHECK(pd_ring_bytes(3, 1) == 0);
    CHECK(pd_ring_bytes(3, 12) == 0);
    CHECK(pd_ring_bytes(UINT32_MAX, 1u << 31) == 0, "the product does not fit 64 bits");
    CHECK(pd_ring_bytes(UINT32_MAX, 1u << 30) == 0);
}

static void test_absolute_indices(void)
{
    static uint64_t memory[1024];
    struct pd_ring ring;
    CHECK(pd_ring_create(&ring, memory, sizeof memory, 3, 8, 1000) == 0);
    CHECK(pd_ring_next(&ring) == 1000 && pd_ring_oldest(&ring) == 1000);
    CHECK(read_whole(&ring, 1000) == -EAGAIN);
    CHECK(read_whole(&ring, 999) == -EOVERFLOW, "never written, and never will be");
    CHECK(read_whole(&ring, UINT64_MAX) == -EAGAIN);
    CHECK(read_whole(&ring, UINT64_MAX / 2) == -EAGAIN);
    for (int i = 0; i < 8; i++) push(&ring);
    CHECK(pd_ring_oldest(&ring) == 1000);
    for (uint64_t i = 1000; i < 1008; i++) CHECK(read_whole(&ring, i) == 0);
    push(&ring);
    CHECK(pd_ring_oldest(&ring) == 1001);
    CHECK(read_whole(&ring, 1000) == -EOVERFLOW);
    CHECK(read_whole(&ring, 1008) == 0);
    CHECK(read_whole(&ring, 1009) == -EAGAIN);
    CHECK(read_whole(&ring, 1016) == -EAGAIN, "a slot with an older frame");
}

static void test_skip(void)
{
    static uint64_t memory[1024];
    struct pd_ring ring;
    pd_ring_create(&ring, memory, sizeof memory, 2, 8, 0);
    for (int i = 0; i < 10; i++) push(&ring);
    CHECK(pd_ring_skip(&ring, 9) == -EINVAL);
    CHECK(pd_ring_skip(&ring, 10) == 0 && pd_ring_next(&ring) == 10);
    CHECK(pd_ring_skip(&ring, 13) == 0 && pd_ring_next(&ring) == 13);
    for (uint64_t i = 2; i < 5; i++) CHECK(read_whole(&ring, i) == -EOVERFLOW);
    for (uint64_t i = 5; i < 10; i++) CHECK(read_whole(&ring, i) == 0);
    for (uint64_t i = 10; i < 13; i++) CHECK(read_whole(&ring, i) == -EOVERFLOW);
    CHECK(read_whole(&ring, 13) == -EAGAIN);
    push(&ring);
    CHECK(read_whole(&ring, 13) == 0);
    CHECK(pd_ring_skip(&ring, 1000000) == 0);
    for (uint64_t i = 0; i < 20; i++) CHECK(read_whole(&ring, i) == -EOVERFLOW);
    CHECK(read_whole(&ring, 999999) == -EOVERFLOW);
    push(&ring);
    CHECK(read_whole(&ring, 1000000) == 0);
}

static void test_create_refuses(void)
{
    static uint64_t memory[64];
    struct pd_ring ring;
    CHECK(pd_ring_create(&ring, memory, pd_ring_bytes(2, 4) - 1, 2, 4, 0) == -EINVAL);
    CHECK(pd_ring_create(&ring, (char *)memory + 4, sizeof memory - 8, 2, 4, 0) == -EINVAL);
    CHECK(pd_ring_create(&ring, memory, sizeof memory, 2, 3, 0) == -EINVAL);
    CHECK(pd_ring_create(&ring, memory, sizeof memory, UINT32_MAX, 1u << 31, 0) == -EINVAL);
}

static void test_attach_trusts_no_header(void)
{
    static uint64_t memory[64];
    struct pd_ring ring, other;
    const size_t need = pd_ring_bytes(2, 4);
    struct pd_ring_head *head = (struct pd_ring_head *)memory;

    pd_ring_create(&ring, memory, sizeof memory, 2, 4, 7);
    push(&ring);
    CHECK(pd_ring_attach(&other, memory, need) == 0);
    CHECK(other.words == 2 && other.n_slots == 4 && read_whole(&other, 7) == 0);
    CHECK(pd_ring_attach(&other, memory, need - 1) == -EINVAL);
    CHECK(pd_ring_attach(&other, memory, sizeof *head - 1) == -EINVAL);
    CHECK(pd_ring_attach(&other, memory, 0) == -EINVAL);
    CHECK(pd_ring_attach(&other, (char *)memory + 4, need) == -EINVAL);

    static const struct { uint64_t magic; uint32_t words, n_slots; uint64_t bytes; } bad[] = {
        { 0, 2, 4, 0 },
        { PD_RING_MAGIC + 1, 2, 4, 0 },
        { PD_RING_MAGIC, 3, 4, 0 },
        { PD_RING_MAGIC, 2, 8, 0 },
        { PD_RING_MAGIC, 2, 3, 0 },
        { PD_RING_MAGIC, 2, 0, 0 },
        { PD_RING_MAGIC, 0, 4, 0 },
        { PD_RING_MAGIC, 2, 4, 1 },
        { PD_RING_MAGIC, 1 << 20, 1 << 20, 0 },
        /* sizes whose product is 0 modulo 2^64 */
        { PD_RING_MAGIC, UINT32_MAX, 1u << 31, sizeof(struct pd_ring_head) },
        { PD_RING_MAGIC, (1u << 30) - 1, 1u << 31, sizeof(struct pd_ring_head) },
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        pd_ring_create(&ring, memory, sizeof memory, 2, 4, 0);
        head->magic = bad[i].magic;
        head->words = bad[i].words;
        head->n_slots = bad[i].n_slots;
        if (bad[i].bytes) head->bytes = bad[i].bytes;
        CHECK(pd_ring_attach(&other, memory, sizeof memory) == -EINVAL, "header %u", i);
    }
}

/* A writer in another process that moves the bounds after we attached. */
static void test_a_header_that_changes_later_moves_nothing(void)
{
    static uint64_t memory[64];
    struct pd_ring ring;
    pd_ring_create(&ring, memory, sizeof memory, 2, 4, 0);
    push(&ring);
    ring.head->words = ring.head->n_slots = UINT32_MAX;
    atomic_store(&ring.head->first, UINT64_MAX);
    atomic_store(&ring.head->next, UINT64_MAX - 1);
    uint64_t frame[2];
    for (uint64_t i = 0; i < 8; i++) {
        int rc = pd_ring_read(&ring, i, frame);
        CHECK(rc == (i ? -EOVERFLOW : 0), "%llu: %d", (unsigned long long)i, rc);
    }
    (void)pd_ring_oldest(&ring);
}

static void *shared_memory(size_t bytes)
{
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void test_a_child_reads_what_the_parent_writes(void)
{
    enum { FRAMES = 20000 };
    const size_t bytes = pd_ring_bytes(8, 64);
    void *memory = shared_memory(bytes);
    struct pd_ring ring;
    pd_ring_create(&ring, memory, bytes, 8, 64, 0);
    pid_t child = fork();
    if (child == 0) {
        struct pd_ring mine;
        if (pd_ring_attach(&mine, memory, bytes)) _exit(2);
        uint64_t frame[8], got = 0;
        for (uint64_t i = 0; i < FRAMES;) {
            int rc = pd_ring_read(&mine, i, frame);
            if (rc == -EAGAIN) {
                sched_yield();
                continue;
            }
            if (rc == 0 && !is_whole(frame, 8, i)) _exit(3);
            got += rc == 0;
            i++;
        }
        _exit(got >= 64 ? 0 : 4);
    }
    for (int i = 0; i < FRAMES; i++) {
        push(&ring);
        if (i % 32 == 0) sched_yield();
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
    munmap(memory, bytes);
}

/* Frames so long that the writer is in the middle of one nearly always. */
static void test_a_writer_killed_in_a_frame_leaves_one_slot_unreadable(void)
{
    enum { WORDS = 4096, SLOTS = 8, ROUNDS = 20 };
    const size_t bytes = pd_ring_bytes(WORDS, SLOTS);
    void *memory = shared_memory(bytes);
    uint64_t *frame = malloc(WORDS * sizeof *frame);
    struct pd_ring ring;
    int in_the_middle = 0;
    pd_ring_create(&ring, memory, bytes, WORDS, SLOTS, 0);
    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t before = pd_ring_next(&ring);
        pid_t child = fork();
        if (child == 0) {
            struct pd_ring mine;
            if (pd_ring_attach(&mine, memory, bytes)) _exit(2);
            for (;;) {
                fill(frame, WORDS, pd_ring_next(&mine));
                for (int again = 0; again < 20; again++) {
                    /* the same frame into the same slot: seldom outside of a push */
                    uint64_t index = pd_ring_push(&mine, frame);
                    if (again < 19) atomic_store(&mine.head->next, index);
                }
            }
        }
        while (pd_ring_next(&ring) < before + 2 * SLOTS) sched_yield();
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);

        const uint64_t next = pd_ring_next(&ring);
        int unreadable = 0;
        for (uint64_t i = next - SLOTS; i < next; i++) {
            int rc = pd_ring_read(&ring, i, frame);
            CHECK(rc == 0 ? is_whole(frame, WORDS, i) : rc == -EOVERFLOW);
            unreadable += rc != 0;
        }
        CHECK(unreadable <= 1, "%d slots", unreadable);
        in_the_middle += unreadable;
        CHECK(pd_ring_read(&ring, next, frame) == -EAGAIN);
        fill(frame, WORDS, next);
        pd_ring_push(&ring, frame);             /* another writer takes over */
        CHECK(pd_ring_read(&ring, next, frame) == 0 && is_whole(frame, WORDS, next));
    }
    CHECK(in_the_middle > 0, "no writer was killed inside a frame");
    free(frame);
    munmap(memory, bytes);
}

/* -- one writer, four readers ------------------------------------------------ */

enum { STRESS_FRAMES = 150000, STRESS_WORDS = 8, STRESS_SLOTS = 64, READERS = 4 };

struct reader {
    struct pd_ring ring;
    int pace;                       /* rests this often, so that it is overtaken */
    uint64_t got, gone, torn, lied;
};

static void *read_all(void *argument)
{
    struct reader *reader = argument;
    uint64_t frame[STRESS_WORDS];
    for (uint64_t i = 0; i < STRESS_FRAMES;) {
        int rc = pd_ring_read(&reader->ring, i, frame);
        if (rc == -EAGAIN) {
            sched_yield();
            continue;
        }
        if (rc == 0) {
            reader->got++;
            reader->torn += !is_whole(frame, STRESS_WORDS, i);
        } else {
            reader->gone++;
            /* gone means that the frame one turn later has at least been begun */
            reader->lied += pd_ring_next(&reader->ring) < i + STRESS_SLOTS;
        }
        i++;
        if (reader->pace && i % (uint64_t)reader->pace == 0)
            for (int k = 0; k < 20; k++) sched_yield();
    }
    return NULL;
}

static void *write_all(void *argument)
{
    struct pd_ring *ring = argument;
    for (int i = 0; i < STRESS_FRAMES; i++) {
        push(ring);
        if (i % 16 == 0) sched_yield();
    }
    return NULL;
}

static void test_readers_get_whole_frames_in_order_or_know_that_they_are_gone(void)
{
    static uint64_t memory[STRESS_SLOTS * (STRESS_WORDS + 1) + 16];
    struct pd_ring ring;
    CHECK(pd_ring_create(&ring, memory, sizeof memory, STRESS_WORDS, STRESS_SLOTS, 0) == 0);
    struct reader reader[READERS] = { { .pace = 0 }, { .pace = 0 }, { .pace = 500 }, { .pace = 50 } };
    pthread_t thread[READERS], writer;
    for (int r = 0; r < READERS; r++) {
        CHECK(pd_ring_attach(&reader[r].ring, memory, sizeof memory) == 0);
        pthread_create(&thread[r], NULL, read_all, &reader[r]);
    }
    pthread_create(&writer, NULL, write_all, &ring);
    pthread_join(writer, NULL);
    for (int r = 0; r < READERS; r++) {
        pthread_join(thread[r], NULL);
        CHECK(reader[r].got + reader[r].gone == STRESS_FRAMES);
        CHECK(reader[r].torn == 0, "reader %d: %llu", r, (unsigned long long)reader[r].torn);
        CHECK(reader[r].lied == 0, "reader %d: %llu frames called gone that were not", r,
              (unsigned long long)reader[r].lied);
        CHECK(reader[r].got >= STRESS_SLOTS);
    }
}

int main(void)
{
    test_sizes();
    test_absolute_indices();
    test_skip();
    test_create_refuses();
    test_attach_trusts_no_header();
    test_a_header_that_changes_later_moves_nothing();
    test_a_child_reads_what_the_parent_writes();
    test_a_writer_killed_in_a_frame_leaves_one_slot_unreadable();
    test_readers_get_whole_frames_in_order_or_know_that_they_are_gone();
    return check_report("ring");
}
