#define _GNU_SOURCE
#include <string.h>

#include "pd_port_parts.h"
#include "pd_time.h"

#define GATHER 16                   /* messages a send */

int64_t pd_port_clock(const struct pd_port *port)
{
    return port->virtual_ns == PD_NO_TIME ? pd_time_now() : port->virtual_ns;
}

void pd_port_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* -- events ------------------------------------------------------------------------ */

void pd_port_tell(struct pd_port *port, struct pd_port_event event, const void *message)
{
    int kept = event.what == PD_TELLS_LEFT || event.what == PD_TELLS_DONE;
    int waited_for = event.what == PD_TELLS_ATTACH;     /* one code: there is always room for it */
    if (!waited_for
        && pd_post_room(&port->post) < RESERVED_BYTES + sizeof event + event.bytes + 64) {
        if (!kept) {
            pd_port_count(&port->post.untold, 1);
            return;
        }
        event.bytes = 0;
    }
    pd_post_tell(&port->post, &event, sizeof event, message, event.bytes);
}

/* -- heap of sessions by their next instant ------------------------------------------ */

void pd_port_place(struct pd_port *port, uint32_t at, struct pd_port_due due)
{
    port->heap[at] = due;
    port->sessions[due.session].place = at;
}

void pd_port_sift(struct pd_port *port, uint32_t at)
{
    struct pd_port_due due = port->heap[at];
    while (at && port->heap[(at - 1) / 2].t_ns > due.t_ns) {
        pd_port_place(port, at, port->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= port->n_sessions) break;
        if (child + 1 < port->n_sessions && port->heap[child + 1].t_ns < port->heap[child].t_ns)
            child++;
        if (port->heap[child].t_ns >= due.t_ns) break;
        pd_port_place(port, at, port->heap[child]);
        at = child;
    }
    pd_port_place(port, at, due);
}

void pd_port_reschedule(struct pd_port *port, uint32_t session)
{
    uint32_t at = port->sessions[session].place;
    port->heap[at].t_ns = pd_session_next(port->sessions[session].session);
    pd_port_sift(port, at);
}

/* -- connections ---------------------------------------------------------------------- */

void pd_port_watch(struct pd_port *port, uint32_t number)
{
    struct pd_connection *c = &port->connections[number];
    pd_peer_watch(&c->peer, port->epoll_fd, number);
}

void pd_port_unlink(struct pd_port *port, uint32_t number)
{
    struct pd_connection *c = &port->connections[number];
    if (c->session == PD_NOBODY) return;
    struct pd_port_session *s = &port->sessions[c->session];
    if (c->before != PD_NOBODY) port->connections[c->before].after = c->after;
    else s->first = c->after;
    if (c->after != PD_NOBODY) port->connections[c->after].before = c->before;
    pd_session_left(s->session, number);
    pd_session_subscribers(s->session, --s->n, pd_port_clock(port));
    pd_port_reschedule(port, c->session);
    c->session = PD_NOBODY;
}

void pd_port_link(struct pd_port *port, uint32_t number, uint32_t session)
{
    struct pd_connection *c = &port->connections[number];
    struct pd_port_session *s = &port->sessions[session];
    c->session = session;
    c->before = PD_NOBODY;
    c->after = s->first;
    if (s->first != PD_NOBODY) port->connections[s->first].before = number;
    s->first = number;
    c->cursor = s->session->head;
    c->next_seq = s->session->seq;
    pd_session_subscribers(s->session, ++s->n, pd_port_clock(port));
    pd_port_reschedule(port, session);
}

void pd_port_tell_session(struct pd_port *port, uint32_t number)
{
    struct pd_session *session = port->sessions[number].session;
    for (uint32_t i = 0; i < session->n_events; i++)
        pd_port_tell(port, (struct pd_port_event){ .what = PD_TELLS_SESSION, .session = number,
                                           .code = session->events[i].what,
                                           .seq = session->events[i].seq,
                                           .value = session->events[i].value }, NULL);
    session->n_events = 0;
}

/* The connection is no longer ours: the event loop sends what is left, and closes. */
void pd_port_leave(struct pd_port *port, uint32_t number, enum pd_port_left code)
{
    struct pd_connection *c = &port->connections[number];
    uint32_t session = c->session;
    const int fd = c->peer.fd;
    if (fd < 0) return;
    pd_port_unlink(port, number);
    if (session != PD_NOBODY) pd_port_tell_session(port, session);
    pd_peer_leave(&c->peer, port->epoll_fd);
    if (c->peer.flags & PD_PEER_SLOWED) port->n_slowed--;
    pd_port_tell(port, (struct pd_port_event){ .what = PD_TELLS_LEFT, .connection = number,
                                       .session = session, .code = code, .value = fd,
                                       .bytes = code == PD_LEFT_GONE ? 0 : c->peer.out_to - c->peer.out_from },
         c->peer.out + c->peer.out_from);
    atomic_fetch_sub_explicit(&port->n_connections, 1, memory_order_relaxed);
}

/* Messages that left the history before this subscriber took them. */
static void put_gap(struct pd_port *port, struct pd_connection *c, struct pd_session *session)
{
    uint8_t gap[PD_PACKET_GAP_BYTES];
    const uint8_t *data;
    uint64_t base = pd_session_base(session), lost = base - c->cursor, seq = 0;
    pd_session_message(session, base, &data, &seq);
    uint64_t missing = seq > c->next_seq ? seq - c->next_seq : lost;
    pd_peer_put(&c->peer, gap, pd_packet_gap(gap, c->next_seq, missing));
    c->cursor = base;
    c->next_seq = seq;
    pd_port_count(&session->counts.dropped, lost);
    pd_port_count(&port->dropped, lost);
}

/* As pd_peer_send_own, for the session's messages. */
static int send_shared(struct pd_port *port, struct pd_connection *c)
{
    struct pd_session *session = port->sessions[c->session].session;
    while (c->cursor < session->head) {
        struct iovec part[GATHER];
        uint64_t seq[GATHER];
        const uint8_t *data;
        if (c->cursor < pd_session_base(session)) {
            put_gap(port, c, session);
            int rc = pd_peer_send_own(&c->peer);
            if (rc <= 0) return rc;
        }
        size_t n = 0;
        while (n < GATHER && c->cursor + n < session->head) {
            part[n].iov_len = pd_session_message(session, c->cursor + n, &data, &seq[n]);
            part[n].iov_base = (void *)(uintptr_t)data;
            n++;
        }
        int64_t sent = pd_peer_send(&c->peer, part, (uint32_t)n);
        if (sent <= 0) return (int)sent;
        size_t left = (size_t)sent;
        for (size_t i = 0; i < n && left; i++) {
            size_t took = left < part[i].iov_len ? left : part[i].iov_len;
            c->cursor++;
            c->next_seq = seq[i] + 1;
            left -= took;
            if (took < part[i].iov_len)     /* begun, so it will be finished */
                pd_peer_put(&c->peer, (uint8_t *)part[i].iov_base + took, (uint32_t)(part[i].iov_len - took));
        }
        if (c->peer.out_to) return 0;
    }
    return 1;
}

/* All that this subscriber is owed, as far as its socket takes it. */
void pd_port_flush(struct pd_port *port, uint32_t number)
{
    struct pd_connection *c = &port->connections[number];
    int rc = pd_peer_send_own(&c->peer);
    if (rc > 0 && c->session != PD_NOBODY) rc = send_shared(port, c);
    if (rc < 0) {
        pd_port_leave(port, number, PD_LEFT_GONE);
        return;
    }
    if (rc == 0) c->peer.flags |= PD_PEER_BLOCKED;
    else c->peer.flags &= ~(uint32_t)PD_PEER_BLOCKED;
    pd_port_watch(port, number);
}

void pd_port_give(struct pd_port *port, uint32_t number, const void *message, uint32_t bytes,
                 int must)
{
    struct pd_connection *c = &port->connections[number];
    if (c->peer.fd < 0) return;
    if (pd_peer_put(&c->peer, message, bytes)) {
        pd_port_count(&port->dropped, 1);
        if (must) pd_port_leave(port, number, PD_LEFT_DEAF);
        return;
    }
    if (!(c->peer.flags & PD_PEER_BLOCKED)) pd_port_flush(port, number);
}

void pd_port_announce(struct pd_port *port, uint32_t session, const char *state)
{
    uint8_t message[PD_PACKET_STATE_BYTES];
    uint32_t bytes = pd_packet_state(message, state);
    for (uint32_t i = port->sessions[session].first, next; i != PD_NOBODY; i = next) {
        next = port->connections[i].after;
        pd_port_give(port, i, message, bytes, 0);
    }
}

/* -- packets --------------------------------------------------------------------------- */

static void serve_session(struct pd_port *port, uint32_t number, int64_t now_ns)
{
    struct pd_port_session *s = &port->sessions[number];
    struct pd_session *session = s->session;
    uint64_t head = session->head;
    pd_session_step(session, now_ns, port->wall_offset_ns);
    pd_port_reschedule(port, number);
    pd_session_prefetch(port->sessions[port->heap[0].session].session);
    if (session->head != head) {
        pd_port_count(&port->published, session->head - head);
        for (uint32_t i = s->first, next; i != PD_NOBODY; i = next) {
            next = port->connections[i].after;
            if (!(port->connections[i].peer.flags & PD_PEER_BLOCKED)) pd_port_flush(port, i);
            port->sent++;
        }
    }
    if (session->n_events == 0) return;
    int ended = 0, cut = 0;
    for (uint32_t i = 0; i < session->n_events; i++) {
        ended |= session->events[i].what == PD_SAYS_ENDED;
        cut |= session->events[i].what == PD_SAYS_CUT;
    }
    pd_port_tell_session(port, number);
    if (ended) pd_port_announce(port, number, "ended");
    while (cut && s->first != PD_NOBODY) pd_port_leave(port, s->first, PD_LEFT_ENDED);
}

/* Everything that is due. Returns when the next packet is. */
int64_t pd_port_serve_due(struct pd_port *port)
{
    for (;;) {
        if (port->n_sessions == 0) return PD_SESSION_NEVER;
        int64_t now_ns = pd_port_clock(port);
        if (port->heap[0].t_ns > now_ns) return port->heap[0].t_ns;
        serve_session(port, port->heap[0].session, now_ns);
    }
}

