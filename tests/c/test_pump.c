/* pd_pump: bytes from a descriptor, samples by the clock, and how a thread ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "pd_pump.h"

#define FINAL (1 << 20)

struct rig {                        /* a driver that only remembers */
    struct pd_driver driver;
    struct pd_intake intake;
    struct pd_intake_counts counts;
    struct pd_ring ring;
    uint64_t memory[256];
    struct pd_pump pump;
    int notify_fd;
    uint8_t got[FINAL];
    _Atomic size_t n;
    _Atomic int calls;
    size_t first_n, largest_n;
    int64_t last_ns;
    int early, backwards;
    _Atomic int64_t next_ns;
};

static void feed(void *self, const uint8_t *bytes, size_t n, int64_t arrival_ns)
{
    struct rig *rig = self;
    size_t at = atomic_load(&rig->n);
    if (at + n <= sizeof rig->got) memcpy(rig->got + at, bytes, n);
    if (atomic_load(&rig->calls) == 0) rig->first_n = n;
    if (n > rig->largest_n) rig->largest_n = n;
    rig->backwards += arrival_ns < rig->last_ns;
    rig->last_ns = arrival_ns;
    atomic_store(&rig->n, at + n);
    atomic_fetch_add(&rig->calls, 1);
}

static int64_t advance(void *self, int64_t now_ns)
{
    struct rig *rig = self;
    rig->early += atomic_load(&rig->calls) && now_ns < atomic_load(&rig->next_ns);
    rig->backwards += now_ns < rig->last_ns;
    rig->last_ns = now_ns;
    atomic_store(&rig->next_ns, now_ns + 200 * PD_NS_PER_US);
    atomic_fetch_add(&rig->calls, 1);
    return atomic_load(&rig->next_ns);
}

static struct rig *make_rig(int by_clock)
{
    struct rig *rig = calloc(1, sizeof *rig);
    pd_ring_create(&rig->ring, rig->memory, sizeof rig->memory, PD_NATIVE_WORDS(1), 16, 0);
    pd_intake_init(&rig->intake, &rig->ring, &rig->counts, 250, 0, 1);
    rig->driver = (struct pd_driver){ .self = rig, .intake = &rig->intake };
    if (by_clock) rig->driver.advance = advance;
    else rig->driver.feed = feed;
    rig->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return rig;
}

static void free_rig(struct rig *rig)
{
    close(rig->notify_fd);
    free(rig);
}

static int told(const struct rig *rig, int wait_ms)
{
    struct pollfd on = { .fd = rig->notify_fd, .events = POLLIN };
    return poll(&on, 1, wait_ms) == 1;
}

static void wait_for_bytes(struct rig *rig, size_t n)
{
    while (atomic_load(&rig->n) < n) sched_yield();
}

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 131 + i / 256);
}

static void make_bytes(uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) bytes[i] = byte_at(i);
}

static void check_bytes(const struct rig *rig, size_t n)
{
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++) wrong += rig->got[i] != byte_at(i);
    CHECK(atomic_load(&rig->n) == n && wrong == 0, "%zu wrong", wrong);
}

static void make_pipe(int ends[2])
{
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
}

static void test_bytes_arrive_in_order_until_the_other_end_hangs_up(void)
{
    struct rig *rig = make_rig(0);
    uint8_t bytes[5000];
    int ends[2];
    make_bytes(bytes, sizeof bytes);
    make_pipe(ends);
    CHECK(pd_pump_start(&rig->pump, &rig->driver, ends[0], rig->notify_fd, 0, -1) == 0);
    for (size_t at = 0; at < sizeof bytes; at += 100) {
        CHECK(write(ends[1], bytes + at, 100) == 100);
        sched_yield();
    }
    wait_for_bytes(rig, sizeof bytes);
    CHECK(!told(rig, 0) && atomic_load(&rig->pump.end_error) == 0);
    close(ends[1]);
    CHECK(told(rig, 10000));
    CHECK(atomic_load(&rig->pump.end_error) == ENODEV);
    pd_pump_stop(&rig->pump);
    check_bytes(rig, sizeof bytes);
    CHECK(rig->pump.bytes == sizeof bytes && rig->backwards == 0);
    close(ends[0]);
    free_rig(rig);
}

static void test_what_lies_there_comes_in_one_piece_up_to_a_chunk(void)
{
    enum { MUCH = PD_PUMP_CHUNK + 30000 };
    struct rig *rig = make_rig(0);
    uint8_t *bytes = malloc(MUCH);
    int ends[2];
    make_bytes(bytes, MUCH);
    make_pipe(ends);
    if (fcntl(ends[1], F_SETPIPE_SZ, 1 << 18) >= MUCH) {
        CHECK(write(ends[1], bytes, MUCH) == MUCH);
        close(ends[1]);                     /* what was sent before the end is not lost */
        CHECK(pd_pump_start(&rig->pump, &rig->driver, ends[0], rig->notify_fd, 0, -1) == 0);
        CHECK(told(rig, 10000));
        pd_pump_stop(&rig->pump);
        check_bytes(rig, MUCH);
        CHECK(rig->first_n == PD_PUMP_CHUNK && rig->largest_n == PD_PUMP_CHUNK);
        CHECK(atomic_load(&rig->calls) == 2);
    }
    close(ends[0]);
    free(bytes);
    free_rig(rig);
}

static void test_a_pty_that_is_hung_up_ends_it(void)
{
    struct rig *rig = make_rig(0);
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    CHECK(slave >= 0);
    CHECK(pd_pump_start(&rig->pump, &rig->driver, master, rig->notify_fd, 0, -1) == 0);
    CHECK(write(slave, "abc", 3) == 3);
    wait_for_bytes(rig, 3);
    CHECK(memcmp(rig->got, "abc", 3) == 0);
    close(slave);
    CHECK(told(rig, 10000));
    int error = atomic_load(&rig->pump.end_error);
    CHECK(error == EIO || error == ENODEV, "%d", error);
    pd_pump_stop(&rig->pump);
    close(master);
    free_rig(rig);
}

static void test_a_reset_socket_ends_it(void)
{
    struct rig *rig = make_rig(0);
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    CHECK(pd_pump_start(&rig->pump, &rig->driver, ends[0], rig->notify_fd, 0, -1) == 0);
    CHECK(write(ends[1], "abc", 3) == 3);
    wait_for_bytes(rig, 3);
    shutdown(ends[1], SHUT_RDWR);
    CHECK(told(rig, 10000) && atomic_load(&rig->pump.end_error) == ENODEV);
    pd_pump_stop(&rig->pump);
    close(ends[0]);
    close(ends[1]);
    free_rig(rig);
}

static void test_stopping_wakes_it_and_is_no_error(void)
{
    struct rig *rig = make_rig(0);
    int ends[2];
    make_pipe(ends);
    int64_t start_ns = pd_time_now();
    for (int i = 0; i < 50; i++) {
        CHECK(pd_pump_start(&rig->pump, &rig->driver, ends[0], rig->notify_fd, 0, -1) == 0);
        pd_pump_stop(&rig->pump);
        CHECK(atomic_load(&rig->pump.end_error) == 0);
    }
    /* 50 rounds of 100 ms would be 5 s */
    CHECK(pd_time_now() - start_ns < 3 * PD_NS_PER_S);
    CHECK(!told(rig, 0));
    close(ends[0]);
    close(ends[1]);
    free_rig(rig);
}

static void test_a_silent_device_still_makes_rounds(void)
{
    struct rig *rig = make_rig(0);
    int ends[2];
    make_pipe(ends);
    CHECK(pd_pump_start(&rig->pump, &rig->driver, ends[0], rig->notify_fd, 0, -1) == 0);
    while (atomic_load(&rig->pump.rounds) < 2) sched_yield();
    CHECK(atomic_load(&rig->calls) == 0);
    pd_pump_stop(&rig->pump);
    close(ends[0]);
    close(ends[1]);
    free_rig(rig);
}

static void test_by_the_clock_it_is_called_when_it_asked_for(void)
{
    struct rig *rig = make_rig(1);
    CHECK(pd_pump_start(&rig->pump, &rig->driver, -1, rig->notify_fd, 0, -1) == 0);
    while (atomic_load(&rig->calls) < 50) sched_yield();
    pd_pump_stop(&rig->pump);
    CHECK(rig->early == 0 && rig->backwards == 0);
    CHECK(!told(rig, 0));
    free_rig(rig);
}

static int64_t advance_twice(void *self, int64_t now_ns)
{
    int *calls = self;
    return ++*calls == 2 ? PD_DRIVER_ENDED : now_ns;
}

static void test_a_driver_that_has_no_more_ends_it(void)
{
    struct rig *rig = make_rig(1);
    int calls = 0;
    rig->driver.self = &calls;
    rig->driver.advance = advance_twice;
    CHECK(pd_pump_start(&rig->pump, &rig->driver, -1, rig->notify_fd, 0, -1) == 0);
    CHECK(told(rig, 10000) && atomic_load(&rig->pump.end_error) == ENODATA);
    pd_pump_stop(&rig->pump);
    CHECK(calls == 2);
    free_rig(rig);
}

static void test_a_refused_promotion_is_said_and_it_runs(void)
{
    struct rig *rig = make_rig(1);
    CHECK(pd_pump_start(&rig->pump, &rig->driver, -1, rig->notify_fd, 1000, -1) == 0);
    while (atomic_load(&rig->calls) < 3) sched_yield();
    CHECK(atomic_load(&rig->pump.promote_error) == EINVAL, "no system has this priority");
    pd_pump_stop(&rig->pump);
    free_rig(rig);
}

static void test_the_journal_gets_the_state_and_then_the_bytes(void)
{
    static uint8_t buffer[1 << 16], record[1 << 16];
    struct pd_spsc tap;
    struct rig *rig = make_rig(0);
    uint8_t bytes[3000], state[5] = "four";
    int ends[2];
    make_bytes(bytes, sizeof bytes);
    make_pipe(ends);
    pd_spsc_init(&tap, buffer, sizeof buffer);
    rig->driver.state = state;
    rig->driver.state_bytes = sizeof state;
    rig->intake.slot = 6;
    atomic_store(&rig->intake.tap, &tap);
    CHECK(pd_pump_start(&rig->pump, &rig->driver, ends[0], rig->notify_fd, 0, -1) == 0);
    for (size_t at = 0; at < sizeof bytes; at += 1000) {
        CHECK(write(ends[1], bytes + at, 1000) == 1000);
        wait_for_bytes(rig, at + 1000);
    }
    pd_pump_stop(&rig->pump);

    size_t n = 0;
    int64_t took, number = 0, wrong = 0;
    while ((took = pd_spsc_take(&tap, record, sizeof record)) > 0) {
        struct pd_journal_record head;
        memcpy(&head, record, sizeof head);
        const uint8_t *body = record + sizeof head;
        CHECK(head.source == 6 && head.bytes == took - (int64_t)sizeof head);
        if (number == 0) {
            CHECK(head.kind == PD_JOURNAL_INTAKE_STATE &&
                  head.bytes == sizeof(struct pd_intake_state));
        } else if (number == 1) {
            CHECK(head.kind == PD_JOURNAL_DRIVER_STATE && head.bytes == sizeof state &&
                  memcmp(body, state, sizeof state) == 0);
        } else {
            CHECK(head.kind == PD_JOURNAL_BYTES);
            for (uint32_t i = 0; i < head.bytes; i++) wrong += body[i] != byte_at(n + i);
            n += head.bytes;
        }
        number++;
    }
    CHECK(n == sizeof bytes && wrong == 0);
    close(ends[0]);
    close(ends[1]);
    free_rig(rig);
}

int main(void)
{
    test_bytes_arrive_in_order_until_the_other_end_hangs_up();
    test_what_lies_there_comes_in_one_piece_up_to_a_chunk();
    test_a_pty_that_is_hung_up_ends_it();
    test_a_reset_socket_ends_it();
    test_stopping_wakes_it_and_is_no_error();
    test_a_silent_device_still_makes_rounds();
    test_by_the_clock_it_is_called_when_it_asked_for();
    test_a_driver_that_has_no_more_ends_it();
    test_a_refused_promotion_is_said_and_it_runs();
    test_the_journal_gets_the_state_and_then_the_bytes();
    return check_report("pump");
}
