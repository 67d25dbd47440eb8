/* Player: rows by the clock, losses, the end, and a filler that is late. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "pd_play.h"

#define N_VALUES 2
#define ROWS 16
#define SLOTS 64
#define PERIOD (4 * PD_NS_PER_MS)
#define WORDS PD_NATIVE_WORDS(N_VALUES)

static _Atomic uint64_t memory[8 + SLOTS * (1 + WORDS)];
static uint64_t rows[ROWS * PD_PLAY_WORDS(N_VALUES)];
static struct pd_ring ring;
static struct pd_intake_counts counts;
static struct pd_intake intake;
static struct pd_play play;

static void begin(int marker_fd)
{
    CHECK(!pd_ring_create(&ring, memory, sizeof memory, WORDS, SLOTS, 0));
    CHECK(!pd_intake_init(&intake, &ring, &counts, 250, 0, N_VALUES));
    CHECK(!pd_play_init(&play, &intake, rows, ROWS, marker_fd));
}

static void fill(int n, uint32_t flags)
{
    uint64_t first = play.filled;
    for (int k = 0; k < n; k++) {
        struct pd_play_row *row = pd_play_row(&play, (uint64_t)k);
        *row = (struct pd_play_row){ .at_ns = (int64_t)(first + (uint64_t)k) * PERIOD,
                                     .device_ns = PD_NO_TIME, .flags = flags };
        row->value[0] = (double)(first + (uint64_t)k);
        row->value[1] = -row->value[0];
    }
    pd_play_fill(&play, (uint64_t)n);
}

static const struct pd_native *sample(uint64_t index)
{
    static uint64_t words[WORDS];
    CHECK(!pd_ring_read(&ring, index, words));
    return (const struct pd_native *)words;
}

static void test_rows_come_at_their_instants(void)
{
    begin(-1);
    fill(10, 0);
    CHECK(pd_play_advance(&play, 1000) == 1000 + PERIOD);
    CHECK(pd_ring_next(&ring) == 1);
    /* Called late: the arrival is the instant all the same. */
    CHECK(pd_play_advance(&play, 1000 + 3 * PERIOD + 7) == 1000 + 4 * PERIOD);
    CHECK(pd_ring_next(&ring) == 4);
    CHECK(sample(3)->arrival_ns == 1000 + 3 * PERIOD && sample(3)->value[1] == -3);
    CHECK(pd_play_room(&play) == ROWS - 6);
}

static void test_lost_rows_pass_and_the_index_moves_on(void)
{
    begin(-1);
    fill(2, 0);
    fill(3, PD_PLAY_LOST);
    fill(1, 0);
    pd_play_advance(&play, 0);
    CHECK(pd_play_advance(&play, 5 * PERIOD) == 5 * PERIOD + 2 * PD_NS_PER_MS);
    CHECK(counts.accepted == 3 && counts.lost == 3 && pd_ring_next(&ring) == 6);
    CHECK(sample(5)->lost_before == 3 && sample(3)->flags == PD_NATIVE_LOST);
}

static void test_a_row_that_is_not_there_when_due_arrives_when_it_is(void)
{
    begin(-1);
    fill(1, 0);
    pd_play_advance(&play, 0);
    CHECK(pd_play_advance(&play, PERIOD) == PERIOD + 2 * PD_NS_PER_MS);
    CHECK(play.starved == 1);
    fill(2, 0);
    pd_play_advance(&play, 2 * PERIOD + 5);
    CHECK(sample(1)->arrival_ns == 2 * PERIOD + 5);
    CHECK(sample(2)->arrival_ns == 2 * PERIOD);
    CHECK(play.starved == 2);       /* it looks for row 3, too */
}

static void test_it_ends_after_the_last_row(void)
{
    begin(-1);
    fill(3, 0);
    pd_play_finish(&play);
    CHECK(pd_play_advance(&play, 0) == PERIOD);
    CHECK(pd_play_advance(&play, 2 * PERIOD) == PD_DRIVER_ENDED);
    CHECK(pd_play_advance(&play, 9 * PERIOD) == PD_DRIVER_ENDED);
    CHECK(counts.accepted == 3);
}

static void test_a_reset_begins_a_segment(void)
{
    begin(-1);
    fill(2, 0);
    fill(1, PD_PLAY_RESET);
    pd_play_advance(&play, 0);
    pd_play_advance(&play, 2 * PERIOD);
    CHECK(counts.resets == 2 && sample(2)->flags == PD_NATIVE_RESET);
}

static void test_a_marked_row_is_told(void)
{
    int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t told = 0;
    begin(fd);
    fill(1, 0);
    fill(1, PD_PLAY_MARKED | PD_PLAY_LOST);
    pd_play_advance(&play, 0);
    CHECK(read(fd, &told, sizeof told) < 0);
    pd_play_advance(&play, PERIOD);
    CHECK(read(fd, &told, sizeof told) == sizeof told && told == 1);
    close(fd);
}

static void test_the_ring_goes_round(void)
{
    begin(-1);
    for (int k = 0; k < 40; k++) {
        fill(ROWS / 2, 0);
        pd_play_advance(&play, k == 0 ? 0 : (int64_t)(play.filled - 1) * PERIOD);
        if (k == 0) pd_play_advance(&play, (int64_t)(play.filled - 1) * PERIOD);
        CHECK(pd_play_room(&play) == ROWS);
    }
    CHECK(counts.accepted == 40 * ROWS / 2 && counts.lost == 0);
    CHECK(sample(pd_ring_next(&ring) - 1)->value[0] == 40 * ROWS / 2 - 1);
}

static void test_what_can_not_be_is_refused(void)
{
    begin(-1);
    CHECK(pd_play_init(&play, &intake, rows, 12, -1) < 0);
    CHECK(pd_play_init(&play, &intake, NULL, ROWS, -1) < 0);
}

int main(void)
{
    test_rows_come_at_their_instants();
    test_lost_rows_pass_and_the_index_moves_on();
    test_a_row_that_is_not_there_when_due_arrives_when_it_is();
    test_it_ends_after_the_last_row();
    test_a_reset_begins_a_segment();
    test_a_marked_row_is_told();
    test_the_ring_goes_round();
    test_what_can_not_be_is_refused();
    return check_report("play");
}
