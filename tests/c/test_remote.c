/* Remote: frames of 7069 in any pieces, losses, and frames that contradict each other. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "pd_remote.h"

#define N 3
#define FRAME (PD_REMOTE_HEAD + 4 * N + 4)      /* four bytes of a later revision */
#define SLOTS 256
#define WORDS PD_NATIVE_WORDS(N)

static _Atomic uint64_t memory[8 + SLOTS * (1 + WORDS)];
static struct pd_ring ring;
static struct pd_intake_counts counts;
static struct pd_intake intake;
static struct pd_remote remote;

static void begin(int fd)
{
    CHECK(!pd_ring_create(&ring, memory, sizeof memory, WORDS, SLOTS, 0));
    CHECK(!pd_intake_init(&intake, &ring, &counts, 128, 0, N));
    CHECK(!pd_remote_init(&remote, &intake, FRAME, fd));
}

static void put(uint8_t *at, uint64_t index, uint32_t flags, float value)
{
    int64_t t_ns = 5000 + (int64_t)index * PD_GRID_NS;
    float values[N] = { value, -value, value / 2 };
    memset(at, 0xEE, FRAME);
    memcpy(at, &index, 8);
    memcpy(at + 8, &t_ns, 8);
    memcpy(at + 16, &flags, 4);
    memcpy(at + PD_REMOTE_HEAD, values, sizeof values);
}

static const struct pd_native *sample(uint64_t index)
{
    static uint64_t words[WORDS];
    CHECK(!pd_ring_read(&ring, index, words));
    return (const struct pd_native *)words;
}

static void test_frames_are_the_same_in_any_pieces(void)
{
    uint8_t bytes[20 * FRAME];
    for (uint32_t k = 0; k < 20; k++) put(bytes + k * FRAME, 100 + k, 0, (float)k * 0.1f);
    for (size_t cut = 1; cut <= sizeof bytes; cut += 13) {
        begin(-1);
        for (size_t at = 0; at < sizeof bytes; at += cut)
            pd_remote_feed(&remote, bytes + at, cut < sizeof bytes - at ? cut : sizeof bytes - at,
                           (int64_t)at);
        CHECK(counts.accepted == 20 && counts.lost == 0 && remote.state.n_pending == 0);
        CHECK(sample(7)->value[0] == (double)(7 * 0.1f) && sample(7)->value[1] == -(double)(7 * 0.1f));
        CHECK(sample(7)->device_ns == 5000 + 107 * PD_GRID_NS);
    }
}

static void test_the_newer_ones_in_a_read_stand_behind(void)
{
    uint8_t bytes[4 * FRAME];
    begin(-1);
    for (uint32_t k = 0; k < 4; k++) put(bytes + k * FRAME, k, 0, 1);
    pd_remote_feed(&remote, bytes, sizeof bytes, 77);
    for (uint32_t k = 0; k < 4; k++) CHECK(sample(k)->behind == 3 - k && sample(k)->arrival_ns == 77);
}

static void test_missing_and_not_finite_frames_are_losses(void)
{
    uint8_t bytes[FRAME];
    begin(-1);
    for (uint32_t k = 0; k < 6; k++) {
        put(bytes, 50 + k, k == 2 ? 1 | 16 : 0, k == 4 ? NAN : 1);
        pd_remote_feed(&remote, bytes, FRAME, k);
    }
    CHECK(counts.accepted == 4 && counts.lost == 2 && pd_ring_next(&ring) == 6);
    put(bytes, 60, 0, 1);           /* this client was too slow for four of them */
    pd_remote_feed(&remote, bytes, FRAME, 9);
    CHECK(counts.lost == 6 && sample(10)->lost_before == 4);
}

static void broken_by(uint64_t index, int64_t shift_ns, uint32_t fault)
{
    int ends[2];
    uint8_t bytes[2 * FRAME], byte;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    begin(ends[0]);
    put(bytes, 10, 0, 1);
    put(bytes + FRAME, index, 0, 1);
    int64_t t_ns;
    memcpy(&t_ns, bytes + FRAME + 8, 8);
    t_ns += shift_ns;
    memcpy(bytes + FRAME + 8, &t_ns, 8);
    pd_remote_feed(&remote, bytes, sizeof bytes, 0);
    CHECK(remote.fault == fault && counts.accepted == 1);
    CHECK(read(ends[0], &byte, 1) == 0);        /* shut down: the pump ends */
    put(bytes, 11, 0, 1);
    pd_remote_feed(&remote, bytes, FRAME, 0);
    CHECK(counts.accepted == 1 && counts.junk_bytes == FRAME);
    close(ends[0]);
    close(ends[1]);
}

static void test_frames_that_contradict_each_other_break_the_stream(void)
{
    broken_by(10, 0, PD_REMOTE_INDEX);
    broken_by(9, 0, PD_REMOTE_INDEX);
    broken_by(11, 1, PD_REMOTE_TIME);
    broken_by(11 + 128 * 86400 + 1, 0, PD_REMOTE_JUMP);
    broken_by(UINT64_MAX, 0, PD_REMOTE_JUMP);
}

static void test_frames_too_short_for_their_channels_are_refused(void)
{
    begin(-1);
    CHECK(pd_remote_init(&remote, &intake, PD_REMOTE_HEAD + 4 * N - 1, -1) < 0);
    CHECK(pd_remote_init(&remote, &intake, PD_REMOTE_MAX_BYTES + 1, -1) < 0);
}

int main(void)
{
    test_frames_are_the_same_in_any_pieces();
    test_the_newer_ones_in_a_read_stand_behind();
    test_missing_and_not_finite_frames_are_losses();
    test_frames_that_contradict_each_other_break_the_stream();
    test_frames_too_short_for_their_channels_are_refused();
    return check_report("remote");
}
