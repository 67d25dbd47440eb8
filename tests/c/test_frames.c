/* pd_frames: how it is used, what its subscribers get, and the thread beside a tick. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "pd_frames.h"
#include "pd_time.h"

#define N_CLIENTS 8
#define N_CHANNELS 2
#define SLOTS 1024
#define FRAME PD_FRAME_BYTES(N_CHANNELS)
#define HEADER PD_FRAMES_HEADER_BYTES(N_CHANNELS)
#define HOLD_NS (20 * PD_NS_PER_MS)
#define DEADLINE_NS 7800000LL

struct rig {
    struct pd_frames frames;
    struct pd_frames_client clients[N_CLIENTS];
    struct pd_spsc orders, news;
    struct pd_hist lateness;
    struct pd_ring grid;
    void *memory, *queues, *out, *rest;
    int notify_fd, loop_fd;
    uint32_t left[N_CLIENTS], half, n_left;
    int64_t tickets;
    uint8_t farewell[PD_FRAMES_REST_BYTES];     /* of who left last */
    uint32_t farewell_bytes;
    uint8_t taken[sizeof(struct pd_frames_news) + PD_FRAMES_REST_BYTES];
};

static void make_grid(struct pd_ring *ring, void **memory, uint32_t n_channels, uint64_t first)
{
    size_t bytes = pd_ring_bytes(PD_GRID_WORDS(n_channels), SLOTS);
    *memory = calloc(1, bytes);
    CHECK(pd_ring_create(ring, *memory, bytes, PD_GRID_WORDS(n_channels), SLOTS, first) == 0);
}

static void order(struct rig *rig, uint32_t what, uint32_t connection, int64_t value,
                  const struct pd_ring *grid, const void *message, uint32_t bytes)
{
    struct pd_frames_command out = { .what = what, .connection = connection, .value = value,
                                   .grid = grid, .bytes = bytes };
    CHECK(pd_frames_order(&rig->frames, &out, message) == 0);
}

static void use_grid(struct rig *rig, const struct pd_ring *grid, uint64_t first, uint32_t n_channels)
{
    uint8_t header[PD_FRAMES_OUT_BYTES] = "PHANTOM1";
    order(rig, PD_FRAMES_SWITCH, 0, (int64_t)first, grid, header, PD_FRAMES_HEADER_BYTES(n_channels));
}

static struct rig *make_rig(uint64_t first)
{
    struct rig *rig = calloc(1, sizeof *rig);
    const uint32_t news_bytes = pd_frames_news_bytes(N_CLIENTS);
    rig->queues = calloc(1, news_bytes + (64u << 10));
    rig->out = calloc(N_CLIENTS, PD_FRAMES_OUT_BYTES);
    rig->rest = calloc(1, PD_FRAMES_REST_BYTES);
    rig->notify_fd = eventfd(0, EFD_NONBLOCK);
    rig->loop_fd = eventfd(0, EFD_NONBLOCK);
    CHECK(pd_spsc_init(&rig->news, rig->queues, news_bytes) == 0);
    CHECK(pd_spsc_init(&rig->orders, (uint8_t *)rig->queues + news_bytes, 64u << 10) == 0);
    pd_hist_init(&rig->lateness, DEADLINE_NS);
    make_grid(&rig->grid, &rig->memory, N_CHANNELS, first);
    const struct pd_frames_config config = {
        .clients = rig->clients, .out = rig->out, .rest = rig->rest, .max_clients = N_CLIENTS,
        .orders = &rig->orders, .news = &rig->news, .notify_fd = rig->notify_fd,
        .loop_fd = rig->loop_fd, .deadline_ns = DEADLINE_NS, .lateness = &rig->lateness,
    };
    CHECK(pd_frames_init(&rig->frames, &config) == 0);
    use_grid(rig, &rig->grid, first, N_CHANNELS);
    return rig;
}

static void free_rig(struct rig *rig)
{
    pd_frames_close(&rig->frames);
    close(rig->notify_fd);
    close(rig->loop_fd);
    free(rig->memory);
    free(rig->queues);
    free(rig->out);
    free(rig->rest);
    free(rig);
}

/* The event loop's side of the post. */
static void take_news(struct rig *rig)
{
    struct pd_frames_news news;
    while (pd_spsc_take(&rig->news, rig->taken, sizeof rig->taken) > 0) {
        memcpy(&news, rig->taken, sizeof news);
        if (news.what == PD_FRAMES_DONE) rig->tickets = news.value;
        if (news.what == PD_FRAMES_HALF) rig->half++;
        if (news.what != PD_FRAMES_LEFT) continue;
        rig->left[news.connection] = 1 + news.code;
        rig->n_left++;
        rig->farewell_bytes = news.bytes;
        memcpy(rig->farewell, rig->taken + sizeof news, news.bytes);
        close((int)news.value);
    }
}

/* What the tick does: frame `index`, due a hold after its instant. */
static void push_grid(struct pd_ring *grid, uint32_t n_channels)
{
    uint64_t frame[PD_GRID_WORDS(PD_MAX_VALUES)] = { 0 };
    struct pd_grid *out = (struct pd_grid *)frame;
    uint64_t index = pd_ring_next(grid);
    out->t_ns = (int64_t)index * PD_GRID_NS;
    out->due_ns = out->t_ns + HOLD_NS;
    for (uint32_t i = 0; i < n_channels; i++) out->value[i] = (double)index + i;
    pd_ring_push(grid, frame);
}

static void push(struct rig *rig, uint32_t n)
{
    while (n--) push_grid(&rig->grid, N_CHANNELS);
}

/* All that there is to do, at the instant at which the newest frame is due. */
static void step(struct rig *rig)
{
    pd_frames_step(&rig->frames, (int64_t)(pd_ring_next(&rig->grid) - 1) * PD_GRID_NS + HOLD_NS);
    take_news(rig);
}

static int join(struct rig *rig, uint32_t connection, int sndbuf)
{
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    if (sndbuf) CHECK(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf) == 0);
    rig->left[connection] = 0;
    order(rig, PD_FRAMES_JOIN, connection, ends[1], NULL, NULL, 0);
    return ends[0];
}

static uint32_t read_some(int fd, uint8_t *data, uint32_t bytes)
{
    uint32_t got = 0;
    while (got < bytes) {
        ssize_t n = recv(fd, data + got, bytes - got, MSG_DONTWAIT);
        if (n <= 0) break;
        got += (uint32_t)n;
    }
    return got;
}

static uint64_t word_at(const uint8_t *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof word);
    return word;
}

/* -- on a virtual clock ---------------------------------------------------------------------- */

static void test_a_subscriber_gets_the_header_and_the_frames_that_follow(void)
{
    struct rig *rig = make_rig(100);
    uint8_t data[HEADER + 8 * FRAME];
    push(rig, 2);
    step(rig);
    int fd = join(rig, 3, 0);
    step(rig);
    push(rig, 3);
    step(rig);
    CHECK(read_some(fd, data, sizeof data) == HEADER + 3 * FRAME);
    CHECK(memcmp(data, "PHANTOM1", 8) == 0);
    CHECK(word_at(data + 40) == 102);
    for (uint32_t i = 0; i < 3; i++) {
        const uint8_t *frame = data + HEADER + i * FRAME;
        uint32_t flags, age_us;
        float value;
        memcpy(&flags, frame + 16, 4);
        memcpy(&age_us, frame + 20, 4);
        memcpy(&value, frame + 28, 4);
        CHECK(word_at(frame) == 102 + i);
        CHECK(word_at(frame + 8) == (102 + i) * PD_GRID_NS);
        CHECK(flags == (i < 2 ? PD_GRID_LATE : 0), "two periods after due, one, and none");
        CHECK(age_us == (HOLD_NS + (2 - i) * PD_GRID_NS) / 1000);
        CHECK(value == 103.0f + i);
    }
    CHECK(atomic_load(&rig->frames.published) == 5);
    CHECK(atomic_load(&rig->lateness.count) == 5 && atomic_load(&rig->lateness.missed) == 3);
    CHECK(atomic_load(&rig->frames.newest_ns) == 104 * PD_GRID_NS);
    close(fd);
    free_rig(rig);
}

static void test_who_does_not_read_loses_the_oldest_and_nobody_else_does(void)
{
    struct rig *rig = make_rig(0);
    static uint8_t data[1 << 20];
    int deaf = join(rig, 0, 4096), reader = join(rig, 1, 0);
    uint64_t read_by = 0, pushed = 0;
    step(rig);
    CHECK(read_some(reader, data, sizeof data) == HEADER);
    while (atomic_load(&rig->frames.dropped) < 300) {
        push(rig, 7);
        pushed += 7;
        step(rig);
        uint32_t got = read_some(reader, data, sizeof data);
        for (uint32_t at = 0; at < got; at += FRAME) CHECK(word_at(data + at) == read_by++);
    }
    CHECK(read_by == pushed);
    uint64_t dropped = atomic_load(&rig->frames.dropped);
    uint64_t seen = 0, next = 0, lost = 0;
    uint32_t kept = 0, from = HEADER;
    for (int quiet = 0; quiet < 2; quiet++) {       /* the rest comes as there is room */
        uint32_t got = read_some(deaf, data + kept, sizeof data - kept);
        if (got) quiet = -1;
        kept += got;
        for (; from + FRAME <= kept; from += FRAME, seen++) {
            lost += word_at(data + from) - next;
            next = word_at(data + from) + 1;
        }
        step(rig);
    }
    CHECK(from == kept, "a frame is broken");
    CHECK(next == pushed && lost == dropped && seen == pushed - dropped);
    CHECK(atomic_load(&rig->frames.dropped) == dropped);
    close(deaf);
    close(reader);
    free_rig(rig);
}

static void test_more_than_the_history_at_once_loses_nothing_for_a_reader(void)
{
    struct rig *rig = make_rig(0);
    static uint8_t data[HEADER + 1000 * FRAME];
    int fd = join(rig, 0, 1 << 20);
    step(rig);
    push(rig, 1000);
    step(rig);
    CHECK(read_some(fd, data, sizeof data) == sizeof data);
    for (uint32_t i = 0; i < 1000; i++) CHECK(word_at(data + HEADER + i * FRAME) == i);
    CHECK(atomic_load(&rig->frames.dropped) == 0);
    push(rig, SLOTS + 10);                          /* the tick overtook: ten are gone */
    step(rig);
    CHECK(read_some(fd, data, FRAME) == FRAME && word_at(data) == 1010);
    close(fd);
    free_rig(rig);
}

static void test_what_clients_send_is_judged_once_and_thrown_away(void)
{
    struct rig *rig = make_rig(0);
    uint8_t data[HEADER + FRAME], noise[1000];
    int http = join(rig, 0, 0), ours = join(rig, 1, 0), half = join(rig, 2, 0), gone = join(rig, 3, 0);
    step(rig);
    memset(noise, 'x', sizeof noise);
    CHECK(write(http, "GET / HTTP/1.1", 14) == 14);
    CHECK(write(ours, "PHAN", 4) == 4);
    CHECK(shutdown(half, SHUT_WR) == 0);
    close(gone);
    for (int i = 0; i < 4; i++) {                   /* read once a grid period */
        push(rig, 1);
        step(rig);
        if (i == 0) CHECK(write(ours, "TOM1", 4) == 4);
        else CHECK(write(ours, noise, sizeof noise) == (ssize_t)sizeof noise);
    }
    CHECK(rig->left[0] == 1 + PD_FRAMES_NOT_OURS && rig->left[3] == 1 + PD_FRAMES_GONE);
    CHECK(rig->left[1] == 0 && rig->left[2] == 0 && rig->half == 1);
    CHECK(read_some(ours, data, sizeof data) == sizeof data);
    CHECK(read_some(half, data, sizeof data) == sizeof data);
    CHECK(read_some(http, data, sizeof data) == HEADER + FRAME);
    close(http);
    close(ours);
    close(half);
    free_rig(rig);
}

static void test_another_grid_ends_everybody_where_it_begins(void)
{
    struct rig *rig = make_rig(0);
    struct pd_ring other;
    void *memory;
    uint8_t data[HEADER + 8 * FRAME];
    int fd = join(rig, 0, 0);
    step(rig);
    push(rig, 2);
    step(rig);
    pd_frames_hold(&rig->frames);
    push(rig, 1);
    uint64_t first = pd_ring_next(&rig->grid);      /* here the other one begins */
    push(rig, 1);                                   /* the tick has not heard of it yet */
    step(rig);
    CHECK(read_some(fd, data, sizeof data) == HEADER + 2 * FRAME);
    make_grid(&other, &memory, 4, first);
    use_grid(rig, &other, first, 4);
    step(rig);
    CHECK(read_some(fd, data, sizeof data) == FRAME && word_at(data) == 2);
    CHECK(rig->left[0] == 1 + PD_FRAMES_ENDED);
    int after = join(rig, 0, 0);
    step(rig);
    push_grid(&other, 4);
    step(rig);
    CHECK(read_some(after, data, sizeof data) == PD_FRAMES_HEADER_BYTES(4) + PD_FRAME_BYTES(4));
    CHECK(word_at(data + 40) == 3 && word_at(data + PD_FRAMES_HEADER_BYTES(4)) == 3);
    close(fd);
    close(after);
    free_rig(rig);
    free(memory);
}

static void test_who_lags_and_ends_is_told_what_is_owed(void)
{
    struct rig *rig = make_rig(0);
    static uint8_t data[1 << 20];
    int fd = join(rig, 0, 4096);
    step(rig);
    while (rig->frames.n_blocked == 0) {
        push(rig, 1);
        step(rig);
    }
    push(rig, 100);
    order(rig, PD_FRAMES_END_ALL, 0, 0, NULL, NULL, 0);
    step(rig);
    CHECK(rig->left[0] == 1 + PD_FRAMES_ENDED);
    uint32_t got = read_some(fd, data, sizeof data);
    memcpy(data + got, rig->farewell, rig->farewell_bytes);
    got += rig->farewell_bytes;
    const uint64_t n = pd_ring_next(&rig->grid);
    CHECK(got == HEADER + n * FRAME);
    for (uint64_t i = 0; i < n; i++) CHECK(word_at(data + HEADER + i * FRAME) == i);
    close(fd);
    free_rig(rig);
}

/* -- the thread --------------------------------------------------------------------------------- */

/* Waits until the thread has carried out what was ordered. */
static void wait_for_it(struct rig *rig)
{
    static int64_t ticket;
    struct pollfd wait = { .fd = rig->notify_fd, .events = POLLIN };
    uint64_t times;
    order(rig, PD_FRAMES_TICKET, 0, ++ticket, NULL, NULL, 0);
    while (rig->tickets < ticket) {
        CHECK(poll(&wait, 1, 10000) == 1, "the thread says nothing");
        if (read(rig->notify_fd, &times, sizeof times) < 0 && errno != EAGAIN) return;
        take_news(rig);
    }
}

struct ticking {
    struct pd_ring *grid;
    int tick_fd;
    uint32_t n;
};

static void *tick(void *argument)
{
    struct ticking *ticking = argument;
    const uint64_t one = 1;
    for (uint32_t i = 0; i < ticking->n; i++) {
        push_grid(ticking->grid, N_CHANNELS);
        if (write(ticking->tick_fd, &one, sizeof one) < 0) return NULL;
        pd_time_sleep_until(pd_time_now() + 100 * PD_NS_PER_US);
    }
    return NULL;
}

struct subscriber {
    int fd;
    uint64_t n, lost;
    uint32_t kept;
};

/* Every frame from the header's first index on, until the thread ends the connection. */
static void *subscribe(void *argument)
{
    struct subscriber *self = argument;
    uint8_t data[HEADER + 64 * FRAME];
    uint64_t next = 0;
    uint32_t kept = 0, at = 0;
    for (ssize_t got; (got = read(self->fd, data + kept, sizeof data - kept)) > 0;) {
        kept += (uint32_t)got;
        if (next == 0 && kept >= HEADER) {
            next = 1 + word_at(data + 40);
            at = HEADER;
        }
        while (next && at + FRAME <= kept) {
            self->lost += word_at(data + at) - (next - 1);
            self->n++;
            next = word_at(data + at) + 2;
            at += FRAME;
        }
        memmove(data, data + at, kept - at);
        kept -= at;
        at = 0;
    }
    self->kept = kept;
    return NULL;
}

static void test_the_thread_serves_while_clients_come_and_go(void)
{
    struct rig *rig = make_rig(0);
    struct ticking ticking = { &rig->grid, rig->frames.tick_fd, 3000 };
    pthread_t ticker, readers[N_CLIENTS / 2];
    struct subscriber subscriber[N_CLIENTS / 2] = { 0 };
    uint64_t times = 0, lost = 0;
    CHECK(pd_frames_start(&rig->frames, 0, -1) == 0);
    for (uint32_t i = 0; i < N_CLIENTS / 2; i++) {
        subscriber[i].fd = join(rig, i, 0);
        CHECK(pthread_create(&readers[i], NULL, subscribe, &subscriber[i]) == 0);
    }
    wait_for_it(rig);
    CHECK(pthread_create(&ticker, NULL, tick, &ticking) == 0);
    for (int round = 0; round < 20; round++) {
        uint8_t data[HEADER];
        int reset = join(rig, N_CLIENTS - 1, 0), http = join(rig, N_CLIENTS - 2, 0);
        CHECK(read(http, data, HEADER) == HEADER);
        CHECK(write(http, "GET / HT", 8) == 8);
        close(reset);
        while (!rig->left[N_CLIENTS - 1] || !rig->left[N_CLIENTS - 2]) wait_for_it(rig);
        close(http);
    }
    pthread_join(ticker, NULL);
    order(rig, PD_FRAMES_END_ALL, 0, 0, NULL, NULL, 0);
    wait_for_it(rig);
    for (uint32_t i = 0; i < N_CLIENTS / 2; i++) pthread_join(readers[i], NULL);
    CHECK(rig->n_left == 40 + N_CLIENTS / 2);
    CHECK(atomic_load(&rig->frames.published) == 3000);
    CHECK(read(rig->loop_fd, &times, sizeof times) == sizeof times && times > 0);
    pd_frames_stop(&rig->frames);
    for (uint32_t i = 0; i < N_CLIENTS / 2; i++) {
        CHECK(subscriber[i].n + subscriber[i].lost == 3000 && subscriber[i].kept == 0);
        lost += subscriber[i].lost;
        close(subscriber[i].fd);
    }
    CHECK(lost == atomic_load(&rig->frames.dropped));
    free_rig(rig);
}

/* The grid changes while the tick goes on in the old one: no frame of it is published
 * that the new one has as well. */
static void test_a_switch_beside_a_running_tick_is_exact(void)
{
    struct rig *rig = make_rig(0);
    struct ticking ticking = { &rig->grid, rig->frames.tick_fd, 600 };
    struct pd_ring other;
    void *memory;
    uint8_t data[HEADER + 1000 * FRAME];
    pthread_t ticker;
    CHECK(pd_frames_start(&rig->frames, 0, -1) == 0);
    int fd = join(rig, 0, 1 << 20);
    wait_for_it(rig);
    CHECK(pthread_create(&ticker, NULL, tick, &ticking) == 0);
    while (pd_ring_next(&rig->grid) < 200) pd_time_sleep_until(pd_time_now() + PD_NS_PER_MS);
    pd_frames_hold(&rig->frames);
    uint64_t first = pd_ring_next(&rig->grid);
    make_grid(&other, &memory, N_CHANNELS, first);
    pthread_join(ticker, NULL);
    use_grid(rig, &other, first, N_CHANNELS);
    wait_for_it(rig);
    uint32_t got = read_some(fd, data, sizeof data);
    CHECK(got == HEADER + first * FRAME);
    CHECK(word_at(data + got - FRAME) == first - 1);
    pd_frames_stop(&rig->frames);
    close(fd);
    free_rig(rig);
    free(memory);
}

int main(void)
{
    test_a_subscriber_gets_the_header_and_the_frames_that_follow();
    test_who_does_not_read_loses_the_oldest_and_nobody_else_does();
    test_more_than_the_history_at_once_loses_nothing_for_a_reader();
    test_what_clients_send_is_judged_once_and_thrown_away();
    test_another_grid_ends_everybody_where_it_begins();
    test_who_lags_and_ends_is_told_what_is_owed();
    test_the_thread_serves_while_clients_come_and_go();
    test_a_switch_beside_a_running_tick_is_exact();
    return check_report("frames");
}
