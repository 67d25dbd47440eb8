/* pd_port with its thread: packets out, answers in, orders and events beside it. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "pd_port.h"
#include "pd_time.h"

#define N_BINS 64
#define N_UNITS 8
#define N_SESSIONS 4
#define N_CONNECTIONS 8
#define PERIOD_NS (2 * PD_NS_PER_MS)
#define QUEUE_BYTES (1 << 20)

struct rig {
    struct pd_port port;
    struct pd_bins bins;
    struct pd_packet_shape shape;
    struct pd_bins_span span;
    struct pd_spsc commands, events;
    struct pd_connection *connections;
    struct pd_port_session sessions[N_SESSIONS];
    struct pd_port_due heap[N_SESSIONS];
    struct pd_session session[N_SESSIONS];
    void *arena[N_SESSIONS], *line[N_SESSIONS];
    uint8_t *queues;
    uint8_t counts[N_BINS * N_UNITS];
    float kinematics[N_BINS * 4];
    uint32_t trial_of[N_BINS];
    int notify_fd;
    uint32_t told[8];
    int64_t tickets;
};

static struct rig *make_rig(void)
{
    struct rig *rig = calloc(1, sizeof *rig);
    rig->connections = calloc(N_CONNECTIONS, sizeof *rig->connections);
    rig->queues = calloc(2, QUEUE_BYTES);
    rig->notify_fd = eventfd(0, EFD_NONBLOCK);
    for (uint32_t i = 0; i < N_BINS; i++) rig->trial_of[i] = PD_BINS_NONE;
    rig->bins = (struct pd_bins){ .n_bins = N_BINS, .n_units = N_UNITS, .bin_ns = PERIOD_NS,
                                  .counts = rig->counts, .kinematics = rig->kinematics,
                                  .trial_of = rig->trial_of };
    rig->span = (struct pd_bins_span){ 0, N_BINS };
    pd_packet_shape_init(&rig->shape, N_UNITS, PERIOD_NS);
    pd_spsc_init(&rig->commands, rig->queues, QUEUE_BYTES);
    pd_spsc_init(&rig->events, rig->queues + QUEUE_BYTES, QUEUE_BYTES);
    CHECK(pd_port_init(&rig->port, rig->connections, N_CONNECTIONS, rig->sessions, rig->heap,
                       N_SESSIONS, &rig->commands, &rig->events, rig->notify_fd) == 0);
    for (uint32_t i = 0; i < N_SESSIONS; i++) {
        struct pd_session_config config = { .bins = &rig->bins, .shape = &rig->shape,
                                            .spans = &rig->span, .n_spans = 1, .loop = 1,
                                            .phase_ns = i * PERIOD_NS / N_SESSIONS,
                                            .record_slots = 64 };
        size_t bytes = (pd_session_bytes(&config) + 63) & ~(size_t)63;
        rig->arena[i] = aligned_alloc(64, bytes);
        memset(rig->arena[i], 0, bytes);
        rig->line[i] = calloc(1, pd_session_line_bytes(&config));
        CHECK(pd_session_init(&rig->session[i], &config, rig->arena[i], bytes, rig->line[i]) == 0);
    }
    return rig;
}

static void free_rig(struct rig *rig)
{
    pd_port_close(&rig->port);
    close(rig->notify_fd);
    for (uint32_t i = 0; i < N_SESSIONS; i++) {
        free(rig->arena[i]);
        free(rig->line[i]);
    }
    free(rig->connections);
    free(rig->queues);
    free(rig);
}

static void order(struct rig *rig, uint32_t what, uint32_t session, uint32_t connection,
                  int64_t value, const void *pointer, const char *message)
{
    struct pd_port_command command = { .what = what, .session = session, .connection = connection,
                                       .value = value, .pointer = pointer,
                                       .bytes = (uint32_t)strlen(message) };
    CHECK(pd_port_order(&rig->port, &command, message) == 0);
}

static void take_events(struct rig *rig)
{
    static uint8_t buffer[sizeof(struct pd_port_event) + PD_PORT_OUT_BYTES];
    struct pd_port_event event;
    while (pd_spsc_take(&rig->events, buffer, sizeof buffer) > 0) {
        memcpy(&event, buffer, sizeof event);
        rig->told[event.what]++;
        if (event.what == PD_TELLS_DONE) rig->tickets = event.value;
        if (event.what == PD_TELLS_LEFT) close((int)event.value);
    }
}

/* Waits until the thread has carried out what was ordered. */
static void settle(struct rig *rig)
{
    static int64_t ticket;
    struct pollfd wait = { .fd = rig->notify_fd, .events = POLLIN };
    uint64_t count;
    order(rig, PD_DO_TICKET, 0, 0, ++ticket, NULL, "");
    while (rig->tickets < ticket) {
        CHECK(poll(&wait, 1, 10000) == 1, "the thread says nothing");
        if (read(rig->notify_fd, &count, sizeof count) < 0 && errno != EAGAIN) return;
        take_events(rig);
    }
}

static int join(struct rig *rig, uint32_t session, uint32_t connection)
{
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    order(rig, PD_DO_JOIN, session, connection, ends[1], NULL, "hello");
    return ends[0];
}

/* Answers the newest packet after each read, so many times. */
static void *decode(void *argument)
{
    static const uint8_t answer[] = "\x82\xa2vx\x01\xa2vy\x02";
    int fd = *(int *)argument;
    uint8_t data[8192];
    for (int i = 0; i < 200; i++) {
        if (read(fd, data, sizeof data) <= 0) break;
        if (write(fd, answer, sizeof answer - 1) < 0) break;
    }
    return NULL;
}

static void test_sessions_run_while_they_are_steered(void)
{
    struct rig *rig = make_rig();
    pthread_t decoder[N_SESSIONS];
    int fd[N_SESSIONS];
    static struct pd_stress stress;
    struct pd_stress_config faults = { .seed = 3, .noise_std = 1.0, .drift_period_s = 60.0,
                                       .latency_ms = 1.0, .loss = 0.1 };
    CHECK(pd_stress_init(&stress, &faults, N_UNITS, NULL) == 0);
    CHECK(pd_port_start(&rig->port, 0, -1) == 0);
    for (uint32_t i = 0; i < N_SESSIONS; i++) {
        order(rig, PD_DO_ADD, i, 0, 0, &rig->session[i], "");
        fd[i] = join(rig, i, i);
        CHECK(pthread_create(&decoder[i], NULL, decode, &fd[i]) == 0);
    }
    for (int round = 0; round < 20; round++) {
        order(rig, PD_DO_PAUSE, 0, 0, 0, NULL, "");
        order(rig, PD_DO_SEEK, 1, 0, round, NULL, "");
        order(rig, PD_DO_STRESS, 2, 0, 0, round % 2 ? &stress : NULL, "");
        order(rig, PD_DO_RESUME, 0, 0, 0, NULL, "");
        order(rig, PD_DO_BROADCAST, 0, 0, 0, NULL, "\x80");
        settle(rig);
        CHECK(atomic_load(&rig->session[0].counts.state) == PD_SESSION_RUNNING);
        pd_hist_quantile(&rig->port.loops, 0.5);
    }
    for (uint32_t i = 0; i < N_SESSIONS; i++) pthread_join(decoder[i], NULL);
    settle(rig);
    for (uint32_t i = 0; i < N_SESSIONS; i++) {
        CHECK(atomic_load(&rig->session[i].counts.answered) > 50);
        order(rig, PD_DO_REMOVE, i, 0, 0, NULL, "");
    }
    settle(rig);
    CHECK(rig->told[PD_TELLS_LEFT] == N_SESSIONS);
    CHECK(atomic_load(&rig->port.n_connections) == 0);
    pd_port_stop(&rig->port);
    for (uint32_t i = 0; i < N_SESSIONS; i++) close(fd[i]);
    free_rig(rig);
}

static void test_clients_come_and_go(void)
{
    struct rig *rig = make_rig();
    uint8_t data[8192];
    CHECK(pd_port_start(&rig->port, 0, -1) == 0);
    order(rig, PD_DO_ADD, 0, 0, 0, &rig->session[0], "");
    for (int round = 0; round < 50; round++) {
        int first = join(rig, 0, 0), second = join(rig, 0, 1);
        CHECK(read(first, data, 5) == 5 && memcmp(data, "hello", 5) == 0);
        CHECK(read(first, data, sizeof data) > 0);
        CHECK(write(second, "\xc1", 1) == 1);
        close(first);
        while (rig->told[PD_TELLS_LEFT] < 2u * (uint32_t)(round + 1)) settle(rig);
        close(second);
    }
    CHECK(rig->told[PD_TELLS_LEFT] == 100);
    CHECK(atomic_load(&rig->session[0].counts.subscribers) == 0);
    pd_port_stop(&rig->port);
    free_rig(rig);
}

/* Eight messages in one go: the thread reads what came of them together, too. */
static void test_subscribers_of_one_session_are_all_heard(void)
{
    struct rig *rig = make_rig();
    pthread_t client[N_CONNECTIONS];
    int fd[N_CONNECTIONS];
    CHECK(pd_port_start(&rig->port, 0, -1) == 0);
    order(rig, PD_DO_ADD, 0, 0, 0, &rig->session[0], "");
    for (uint32_t i = 0; i < N_CONNECTIONS; i++) fd[i] = join(rig, 0, i);
    for (uint32_t i = 0; i < N_CONNECTIONS; i++)
        CHECK(pthread_create(&client[i], NULL, decode, &fd[i]) == 0);
    for (uint32_t i = 0; i < N_CONNECTIONS; i++) pthread_join(client[i], NULL);
    while (rig->told[PD_TELLS_REFUSED] < N_CONNECTIONS - 1) settle(rig);
    CHECK(atomic_load(&rig->session[0].counts.answered) > 50);
    order(rig, PD_DO_REMOVE, 0, 0, 0, NULL, "");
    settle(rig);
    CHECK(rig->told[PD_TELLS_LEFT] == N_CONNECTIONS);
    pd_port_stop(&rig->port);
    for (uint32_t i = 0; i < N_CONNECTIONS; i++) close(fd[i]);
    free_rig(rig);
}

/* Nothing more comes after it, so no edge says that there is more. */
static void test_what_one_read_does_not_take_is_read_without_being_asked(void)
{
    enum { LONG = 4000, N = 12 };           /* three reads */
    static const uint8_t attach[] = "\x81\xa6" "attach\xa4mine";
    static uint8_t answer[LONG] = "\x83\xa2vx\x01\xa2vy\x02\xa3pad\xc5";
    const size_t head = 14;
    struct rig *rig = make_rig();
    answer[head] = (LONG - head - 2) >> 8;
    answer[head + 1] = (LONG - head - 2) & 255;
    order(rig, PD_DO_ADD, 0, 0, 0, &rig->session[0], "");
    int fd = join(rig, 0, 0);
    for (int i = 0; i < N; i++) CHECK(write(fd, answer, LONG) == LONG);
    CHECK(write(fd, attach, sizeof attach - 1) == (ssize_t)sizeof attach - 1);
    CHECK(pd_port_start(&rig->port, 0, -1) == 0);
    const int64_t end_ns = pd_time_now() + 20 * PD_NS_PER_S;
    do settle(rig);
    while (rig->told[PD_TELLS_ATTACH] == 0 && pd_time_now() < end_ns);
    CHECK(rig->told[PD_TELLS_ATTACH] == 1);
    pd_port_stop(&rig->port);
    close(fd);
    free_rig(rig);
}

int main(void)
{
    test_sessions_run_while_they_are_steered();
    test_subscribers_of_one_session_are_all_heard();
    test_what_one_read_does_not_take_is_read_without_being_asked();
    test_clients_come_and_go();
    return check_report("port");
}
