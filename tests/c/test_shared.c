/* pd_shared: samples of a child that is well, hostile, hung or gone. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "pd_pump.h"
#include "pd_shared.h"

#define SLOTS 64
#define PERIOD_NS (4 * PD_NS_PER_MS)
#define NOW (1000 * PD_NS_PER_S)
#define HANG_NS PD_NS_PER_S

struct rig {
    _Alignas(64) uint8_t memory[PD_SHARED_HEAD_BYTES + 64 + 8 * SLOTS * (1 + 4 + 2)];
    uint64_t native[4096];
    struct pd_ring ring;
    struct pd_intake intake;
    struct pd_intake_counts counts;
    struct pd_shared_counts shared_counts;
    struct pd_shared shared;
    struct pd_shared_writer writer;
    int ends[2];
};

static struct rig *make_rig(uint32_t modulus)
{
    struct rig *rig = aligned_alloc(64, (sizeof *rig + 63) & ~(size_t)63);
    memset(rig, 0, sizeof *rig);
    CHECK(pd_ring_create(&rig->ring, rig->native, sizeof rig->native, PD_NATIVE_WORDS(2), 256, 0) == 0);
    CHECK(pd_intake_init(&rig->intake, &rig->ring, &rig->counts, 250, modulus, 2) == 0);
    CHECK(pipe2(rig->ends, O_CLOEXEC | O_NONBLOCK) == 0);
    CHECK(pd_shared_init(&rig->shared, rig->memory, sizeof rig->memory, SLOTS, &rig->intake,
                         &rig->shared_counts, rig->ends[0], HANG_NS) == 0);
    CHECK(pd_shared_attach(&rig->writer, rig->memory, sizeof rig->memory, 2) == 0);
    return rig;
}

static void free_rig(struct rig *rig)
{
    close(rig->ends[0]);
    if (rig->ends[1] >= 0) close(rig->ends[1]);
    free(rig);
}

static void put(struct rig *rig, uint64_t index, int64_t arrival_ns, uint32_t flags)
{
    const double values[2] = { (double)index, -1 };
    pd_shared_put(&rig->writer, index, 0, arrival_ns, PD_NO_TIME, flags, values);
}

static struct pd_native *native(struct rig *rig, uint64_t index)
{
    static uint64_t frame[PD_NATIVE_WORDS(2)];
    CHECK(pd_ring_read(&rig->ring, index, frame) == 0, "frame %llu", (unsigned long long)index);
    return (struct pd_native *)frame;
}

static void test_samples_come_with_their_stamps_and_gaps(void)
{
    struct rig *rig = make_rig(0);
    for (uint64_t n = 0; n < 10; n++)
        if (n != 4) put(rig, n, NOW + (int64_t)n * PERIOD_NS, 0);
    CHECK(pd_shared_woken(&rig->shared, NOW + 40 * PD_NS_PER_MS) == 0);
    CHECK(rig->counts.accepted == 9 && rig->counts.lost == 1);
    CHECK(native(rig, 4)->flags == PD_NATIVE_LOST);
    CHECK(native(rig, 5)->value[0] == 5 && native(rig, 5)->arrival_ns == NOW + 5 * PERIOD_NS);
    CHECK(native(rig, 5)->lost_before == 1);
    free_rig(rig);
}

static void test_a_restart_is_a_new_segment(void)
{
    struct rig *rig = make_rig(0);
    put(rig, 0, NOW, 0);
    put(rig, 0, NOW + 100 * PERIOD_NS, PD_SHARED_RESTART);
    CHECK(pd_shared_woken(&rig->shared, NOW + 100 * PERIOD_NS) == 0);
    CHECK(rig->counts.resets == 2 && native(rig, 100)->flags == PD_NATIVE_RESET);
    free_rig(rig);
}

static void test_a_counter_is_unwrapped_by_the_intake(void)
{
    struct rig *rig = make_rig(256);
    put(rig, 255, NOW, 0);
    put(rig, 2, NOW + 3 * PERIOD_NS, 0);
    CHECK(pd_shared_woken(&rig->shared, NOW + 3 * PERIOD_NS) == 0);
    CHECK(rig->counts.accepted == 2 && rig->counts.lost == 2 && rig->counts.resets == 1);
    free_rig(rig);
}

static void test_impossible_stamps_are_replaced(void)
{
    struct rig *rig = make_rig(0);
    put(rig, 0, NOW + PD_NS_PER_S, 0);
    put(rig, 1, NOW - 100 * PD_NS_PER_S, 0);
    put(rig, 2, INT64_MIN, 0);
    CHECK(pd_shared_woken(&rig->shared, NOW) == 0);
    CHECK(rig->shared_counts.restamped == 3);
    for (uint64_t n = 0; n < 3; n++) CHECK(native(rig, n)->arrival_ns == NOW);
    free_rig(rig);
}

static void test_impossible_indices_are_refused_and_end_it_when_they_go_on(void)
{
    struct rig *rig = make_rig(0);
    int rc = 0, rounds = 0;
    put(rig, 0, NOW, 0);
    put(rig, 1ull << 60, NOW, 0);
    put(rig, 1, NOW + PERIOD_NS, 0);
    CHECK(pd_shared_woken(&rig->shared, NOW + PERIOD_NS) == 0);
    CHECK(rig->shared_counts.refused == 1 && rig->counts.accepted == 2 && rig->counts.lost == 0);
    while (rc == 0 && rounds++ < 100) {
        for (int n = 0; n < 32; n++) put(rig, 1ull << 60, NOW, 0);
        rc = pd_shared_woken(&rig->shared, NOW);
    }
    CHECK(rc == -EPROTO && rounds == 8, "%d after %d", rc, rounds);
    free_rig(rig);
}

static void test_what_was_overwritten_is_counted_and_lost(void)
{
    struct rig *rig = make_rig(0);
    put(rig, 0, NOW, 0);
    CHECK(pd_shared_woken(&rig->shared, NOW) == 0);
    for (uint64_t n = 1; n <= SLOTS + 10; n++) put(rig, n, NOW + (int64_t)n * PERIOD_NS, 0);
    CHECK(pd_shared_woken(&rig->shared, NOW + PD_NS_PER_S) == 0);
    CHECK(rig->shared_counts.overrun == 10 && rig->counts.lost == 10);
    free_rig(rig);
}

static void test_a_hostile_head_moves_no_bounds(void)
{
    struct rig *rig = make_rig(0);
    struct pd_ring_head *head = (struct pd_ring_head *)(rig->memory + PD_SHARED_HEAD_BYTES);
    put(rig, 0, NOW, 0);
    head->words = 1u << 30;
    head->n_slots = 1u << 30;
    head->bytes = ~0ull;
    CHECK(pd_shared_woken(&rig->shared, NOW) == 0 && rig->counts.accepted == 1);
    const uint64_t ends[] = { ~0ull, 1ull << 63, 0, 5 };
    for (unsigned n = 0; n < 4; n++) {
        atomic_store(&head->next, ends[n]);
        CHECK(pd_shared_woken(&rig->shared, NOW + PD_NS_PER_MS) == 0);
    }
    CHECK(rig->counts.accepted == 1 && rig->counts.lost == 0);
    memset(rig->memory, 0xFF, sizeof rig->memory);
    for (int n = 0; n < 3; n++) pd_shared_woken(&rig->shared, NOW + PD_NS_PER_MS);
    CHECK(rig->counts.accepted == 1);
    free_rig(rig);
}

static void test_a_heart_that_stops_is_noticed_and_one_that_beats_is_not(void)
{
    struct rig *rig = make_rig(0);
    int64_t t_ns = NOW;
    for (int n = 0; n < 50; n++, t_ns += HANG_NS / 2) {
        pd_shared_beat(&rig->writer);
        CHECK(pd_shared_woken(&rig->shared, t_ns) == 0);
    }
    t_ns -= HANG_NS / 2;
    CHECK(pd_shared_woken(&rig->shared, t_ns + HANG_NS) == 0);
    CHECK(pd_shared_woken(&rig->shared, t_ns + HANG_NS + 1) == -ETIMEDOUT);
    free_rig(rig);
}

static void *write_and_leave(void *argument)
{
    struct rig *rig = argument;
    for (uint64_t n = 0; n < 40; n++) {
        put(rig, n, pd_time_now(), 0);
        CHECK(write(rig->ends[1], "", 1) == 1);
        sched_yield();
    }
    close(rig->ends[1]);
    rig->ends[1] = -1;
    return NULL;
}

static void test_the_pump_takes_everything_and_ends_with_the_child(void)
{
    struct rig *rig = make_rig(0);
    struct pd_driver driver = { .self = &rig->shared, .intake = &rig->intake,
                                .woken = pd_shared_woken };
    struct pd_pump *pump = calloc(1, sizeof *pump);
    pthread_t child;
    CHECK(pd_pump_start(pump, &driver, rig->ends[0], -1, 0, -1) == 0);
    CHECK(pthread_create(&child, NULL, write_and_leave, rig) == 0);
    while (atomic_load(&pump->end_error) == 0) sched_yield();
    pthread_join(child, NULL);
    pd_pump_stop(pump);
    CHECK(pump->end_error == ENODEV && rig->counts.accepted == 40 && rig->counts.lost == 0);
    free(pump);
    free_rig(rig);
}

static void test_a_child_that_wakes_on_and_on_does_not_keep_the_thread(void)
{
    struct rig *rig = make_rig(0);
    struct pd_driver driver = { .self = &rig->shared, .intake = &rig->intake,
                                .woken = pd_shared_woken };
    struct pd_pump *pump = calloc(1, sizeof *pump);
    const int64_t begun_ns = pd_time_now();
    CHECK(pd_pump_start(pump, &driver, rig->ends[0], -1, 0, -1) == 0);
    while (pd_time_now() - begun_ns < 50 * PD_NS_PER_MS) {
        pd_shared_beat(&rig->writer);
        if (write(rig->ends[1], "", 1) < 0) sched_yield();
    }
    pd_pump_stop(pump);
    const int64_t most = (pd_time_now() - begun_ns) / (250 * PD_NS_PER_US) + 2;
    CHECK((int64_t)pump->rounds <= most, "%llu rounds, not %lld",
          (unsigned long long)pump->rounds, (long long)most);
    CHECK(pump->rounds > 2 && pump->end_error == 0);
    free(pump);
    free_rig(rig);
}

static void test_the_guard_ends_a_process_that_hangs(void)
{
    int ends[2], status = 0;
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    pid_t child = fork();
    if (child == 0) {
        setsid();
        close(ends[1]);
        if (pd_shared_guard(ends[0])) _exit(1);
        for (;;) pause();
    }
    close(ends[0]);
    close(ends[1]);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %d", status);
}

int main(void)
{
    test_samples_come_with_their_stamps_and_gaps();
    test_a_restart_is_a_new_segment();
    test_a_counter_is_unwrapped_by_the_intake();
    test_impossible_stamps_are_replaced();
    test_impossible_indices_are_refused_and_end_it_when_they_go_on();
    test_what_was_overwritten_is_counted_and_lost();
    test_a_hostile_head_moves_no_bounds();
    test_a_heart_that_stops_is_noticed_and_one_that_beats_is_not();
    test_the_pump_takes_everything_and_ends_with_the_child();
    test_a_child_that_wakes_on_and_on_does_not_keep_the_thread();
    test_the_guard_ends_a_process_that_hangs();
    return check_report("shared");
}
