#define _GNU_SOURCE
#include "pd_port.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "pd_port_parts.h"
#include "pd_time.h"

#define WAKE UINT32_MAX             /* epoll's name for the command queue */
#define READY 64                    /* sockets a round; sessions that are due go first */
#define MANY 8                      /* packets in one go: their answers are read together, too */
#define NAP_NS (PD_NS_PER_MS / 2)
#define REST_NS (100 * PD_NS_PER_MS)    /* the longest sleep: the wall clock is read again */

int pd_port_init(struct pd_port *port, struct pd_connection *connections, uint32_t max_connections,
                 struct pd_port_session *sessions, struct pd_port_due *heap, uint32_t max_sessions,
                 struct pd_spsc *commands, struct pd_spsc *events, int notify_fd)
{
    if (events->bytes < 2 * RESERVED_BYTES) return -EINVAL;
    memset(port, 0, sizeof *port);
    port->connections = connections;
    port->max_connections = max_connections;
    port->sessions = sessions;
    port->heap = heap;
    port->max_sessions = max_sessions;
    port->virtual_ns = port->wall_read_ns = PD_NO_TIME;
    for (uint32_t i = 0; i < max_connections; i++) connections[i].peer.fd = -1;
    pd_hist_init(&port->lateness, PD_SESSION_JITTER_NS);
    pd_hist_init(&port->loops, PD_SESSION_DESYNC_NS);
    port->epoll_fd = -1;
    int rc = pd_post_init(&port->post, commands, events, notify_fd);
    if (rc) return rc;
    port->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = WAKE };
    if (port->epoll_fd < 0
        || epoll_ctl(port->epoll_fd, EPOLL_CTL_ADD, port->post.wake_fd, &event) < 0) {
        int error = errno;
        pd_port_close(port);
        return -error;
    }
    return 0;
}

void pd_port_close(struct pd_port *port)
{
    if (port->epoll_fd >= 0) close(port->epoll_fd);
    port->epoll_fd = -1;
    pd_post_close(&port->post);
}

int pd_port_order(struct pd_port *port, const struct pd_port_command *command,
                  const void *message)
{
    if (sizeof *command + command->bytes > PD_PORT_COMMAND_BYTES) return -EMSGSIZE;
    return pd_post_order(&port->post, command, sizeof *command, message, command->bytes);
}

/* -- commands ----------------------------------------------------------------------------- */

static void add_session(struct pd_port *port, uint32_t number, const void *pointer)
{
    struct pd_port_session *s = &port->sessions[number];
    s->session = (struct pd_session *)(uintptr_t)pointer;
    s->session->lateness = &port->lateness;
    s->session->loops = &port->loops;
    s->first = PD_NOBODY;
    s->n = 0;
    port->heap[port->n_sessions] = (struct pd_port_due){ .t_ns = PD_SESSION_NEVER,
                                                         .session = number };
    s->place = port->n_sessions++;
}

static void remove_session(struct pd_port *port, uint32_t number)
{
    struct pd_port_session *s = &port->sessions[number];
    pd_port_announce(port, number, "ended");
    while (s->first != PD_NOBODY) pd_port_leave(port, s->first, PD_LEFT_ENDED);
    uint32_t at = s->place;
    s->session = NULL;
    if (at != --port->n_sessions) {
        pd_port_place(port, at, port->heap[port->n_sessions]);
        pd_port_sift(port, at);
    }
}

static void join(struct pd_port *port, const struct pd_port_command *command, const void *greeting)
{
    struct pd_connection *c = &port->connections[command->connection];
    memset(c, 0, offsetof(struct pd_connection, in));
    c->session = PD_NOBODY;
    atomic_fetch_add_explicit(&port->n_connections, 1, memory_order_relaxed);
    if (pd_peer_join(&c->peer, (int)command->value, c->out, sizeof c->out, port->epoll_fd,
                     command->connection)) {
        pd_port_leave(port, command->connection, PD_LEFT_GONE);
        return;
    }
    c->peer.flags = PD_PEER_EDGE;
    pd_port_watch(port, command->connection);
    pd_port_link(port, command->connection, command->session);
    pd_port_give(port, command->connection, greeting, command->bytes, 1);
}

static void set_session(struct pd_port *port, const struct pd_port_command *command)
{
    struct pd_session *session = port->sessions[command->session].session;
    uint32_t before = atomic_load_explicit(&session->counts.state, memory_order_relaxed);
    int64_t now_ns = pd_port_clock(port);
    switch (command->what) {
    case PD_DO_PAUSE: pd_session_pause(session); break;
    case PD_DO_RESUME: pd_session_resume(session, now_ns); break;
    case PD_DO_SEEK: pd_session_seek(session, (uint32_t)command->value, now_ns); break;
    case PD_DO_STRESS: pd_session_set_stress(session, command->pointer); break;
    default: break;
    }
    uint32_t after = atomic_load_explicit(&session->counts.state, memory_order_relaxed);
    pd_port_reschedule(port, command->session);
    if (after != before)
        pd_port_announce(port, command->session, after == PD_SESSION_PAUSED ? "paused" : "running");
}

static void obey(struct pd_port *port, const struct pd_port_command *command, const void *message)
{
    const uint32_t number = command->connection;
    struct pd_connection *c = &port->connections[number < port->max_connections ? number : 0];
    switch (command->what) {
    case PD_DO_ADD: add_session(port, command->session, command->pointer); break;
    case PD_DO_REMOVE: remove_session(port, command->session); break;
    case PD_DO_JOIN: join(port, command, message); break;
    case PD_DO_MOVE:
        if (c->peer.fd < 0) break;
        if (c->session != PD_NOBODY) {
            uint32_t old = c->session;
            pd_port_unlink(port, number);
            pd_port_tell_session(port, old);
        }
        pd_port_link(port, number, command->session);
        pd_port_give(port, number, message, command->bytes, 1);
        break;
    case PD_DO_REPLY: pd_port_give(port, number, message, command->bytes, 0); break;
    case PD_DO_END:
        if (c->peer.fd < 0) break;
        pd_peer_put(&c->peer, message, command->bytes);
        pd_port_leave(port, number, PD_LEFT_ENDED);
        break;
    case PD_DO_END_ALL:
        for (uint32_t i = 0; i < port->max_connections; i++) pd_port_leave(port, i, PD_LEFT_ENDED);
        break;
    case PD_DO_BROADCAST:
        for (uint32_t i = 0; i < port->max_connections; i++)
            pd_port_give(port, i, message, command->bytes, 0);
        break;
    case PD_DO_TICKET:
        pd_port_tell(port, (struct pd_port_event){ .what = PD_TELLS_DONE, .value = command->value }, NULL);
        break;
    default: set_session(port, command); break;
    }
}

static void take_commands(struct pd_port *port)
{
    struct pd_port_command command;
    pd_post_read(&port->post);
    while (pd_spsc_take(port->post.orders, port->command, sizeof port->command) > 0) {
        memcpy(&command, port->command, sizeof command);
        obey(port, &command, port->command + sizeof command);
        if (port->virtual_ns == PD_NO_TIME) pd_port_serve_due(port);
    }
}

/* -- the round ------------------------------------------------------------------------------ */

static void read_wall_clock(struct pd_port *port, int64_t now_ns)
{
    if (port->wall_read_ns != PD_NO_TIME && now_ns - port->wall_read_ns < REST_NS) return;
    port->wall_read_ns = now_ns;
    port->wall_offset_ns = pd_time_wall_offset();
}

/* While one is read, what the next two will touch comes from memory. */
static void prefetch_later(const struct pd_port *port, const struct epoll_event *ready, int i, int n)
{
    uint32_t next = i + 1 < n ? ready[i + 1].data.u32 : WAKE;
    uint32_t second = i + 2 < n ? ready[i + 2].data.u32 : WAKE;
    if (second != WAKE) __builtin_prefetch(&port->connections[second], 1);
    if (next == WAKE || port->connections[next].session == PD_NOBODY) return;
    pd_session_prefetch(port->sessions[port->connections[next].session].session);
}

/* Commands come last: a connection that one of them makes may have the number of one that has
 * just left, and what the kernel told of that is not for it. */
static void serve_ready(struct pd_port *port, const struct epoll_event *ready, int n)
{
    int ordered = 0;
    for (int i = 0; i < n; i++) {
        uint32_t number = ready[i].data.u32;
        prefetch_later(port, ready, i, n);
        if (number == WAKE) {
            ordered = 1;
            continue;
        }
        struct pd_connection *c = &port->connections[number];
        uint32_t what = ready[i].events;
        if (c->peer.fd >= 0 && what & EPOLLOUT) pd_port_flush(port, number);
        if (c->peer.fd >= 0 && what & EPOLLIN) pd_port_receive(port, number);
        if (c->peer.fd >= 0 && what & (EPOLLERR | EPOLLHUP)) pd_port_leave(port, number, PD_LEFT_GONE);
        if (port->virtual_ns == PD_NO_TIME) pd_port_serve_due(port);
    }
    if (ordered) take_commands(port);
}

int64_t pd_port_step(struct pd_port *port, int64_t now_ns, int64_t wall_offset_ns)
{
    struct epoll_event ready[READY];
    int n;
    port->virtual_ns = now_ns;
    port->wall_offset_ns = wall_offset_ns;
    take_commands(port);
    pd_port_serve_due(port);
    pd_port_forgive(port, now_ns);
    while ((n = epoll_wait(port->epoll_fd, ready, READY, 0)) > 0) serve_ready(port, ready, n);
    pd_post_notify(&port->post);
    return pd_port_serve_due(port);
}

/* How long there is nothing to do, unless a socket says so. */
static int64_t rest_ns(const struct pd_port *port, int64_t next_ns, int64_t now_ns)
{
    int64_t wait_ns = next_ns - now_ns < REST_NS ? next_ns - now_ns : REST_NS;
    if (port->n_slowed && port->slowed_until_ns - now_ns < wait_ns)
        wait_ns = port->slowed_until_ns - now_ns;
    return wait_ns < 0 ? 0 : wait_ns;
}

static void nap(int64_t next_ns, int64_t most_ns)
{
    int64_t until_ns = pd_time_now() + most_ns;
    pd_time_sleep_until(next_ns < until_ns ? next_ns : until_ns);
}

static void *run(void *argument)
{
    struct pd_port *port = argument;
    struct epoll_event ready[READY];
    if (port->priority > 0)
        atomic_store_explicit(&port->promote_error, -pd_thread_promote(port->priority, port->cpu),
                              memory_order_relaxed);
    while (!atomic_load_explicit(&port->stop, memory_order_acquire)) {
        int64_t now_ns = pd_time_now();
        read_wall_clock(port, now_ns);
        pd_port_forgive(port, now_ns);
        int64_t next_ns = pd_port_serve_due(port);
        pd_post_notify(&port->post);
        now_ns = pd_time_now();
        /* With nowhere to tell it, nothing more is read for a moment. */
        if (pd_post_room(&port->post) < RESERVED_BYTES + PD_PORT_IN_BYTES) {
            nap(next_ns, PD_NS_PER_MS);
            continue;
        }
        int busy = port->sent >= MANY;
        int64_t wait_ns = busy ? 0 : rest_ns(port, next_ns, now_ns);
        struct timespec wait = { .tv_sec = wait_ns / PD_NS_PER_S, .tv_nsec = wait_ns % PD_NS_PER_S };
        if (!busy) port->sent = 0;
        int n = epoll_pwait2(port->epoll_fd, ready, READY, &wait, NULL);
        if (n < 0 && errno != EINTR) break;
        serve_ready(port, ready, n);
        pd_post_notify(&port->post);
        if (busy && n < READY) {
            port->sent = 0;
            nap(pd_port_serve_due(port), NAP_NS);
        }
    }
    return NULL;
}

int pd_port_start(struct pd_port *port, int priority, int cpu)
{
    port->priority = priority;
    port->cpu = cpu;
    port->virtual_ns = PD_NO_TIME;
    atomic_store(&port->stop, 0);
    return -pthread_create(&port->thread, NULL, run, port);
}

void pd_port_stop(struct pd_port *port)
{
    atomic_store_explicit(&port->stop, 1, memory_order_release);
    pd_post_wake(&port->post);
    pthread_join(port->thread, NULL);
}
