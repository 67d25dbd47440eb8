#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "pd_port_parts.h"
#include "pd_time.h"

/* What a client may send: four times its session's rate, at least 400 a second, in bursts of 400
 * (an attach counts for 20); and how often its refusals are told: ten a second, in bursts of 20. */
#define BURST 400
#define SLOWEST_NS (PD_NS_PER_S / 400)
#define ATTACH_COST 20              /* answers */
#define REFUSAL_NS (PD_NS_PER_S / 10)
#define REFUSAL_BURST 20
#define SLOW_NS (50 * PD_NS_PER_MS)

/* -- answers ----------------------------------------------------------------------------- */

/* A bucket as one instant (GCRA): it is empty at *empty_ns. 0: over the limit. */
static int take_token(int64_t *empty_ns, int64_t now_ns, int64_t cost_ns, int64_t burst_ns)
{
    if (*empty_ns < now_ns) *empty_ns = now_ns;
    *empty_ns += cost_ns;
    return *empty_ns - now_ns <= burst_ns;
}

static void refuse(struct pd_port *port, uint32_t number, uint32_t code, uint32_t why, uint64_t seq,
                   int64_t now_ns)
{
    struct pd_connection *c = &port->connections[number];
    int64_t before_ns = c->refusals_ns;
    c->unsaid++;
    if (!take_token(&c->refusals_ns, now_ns, REFUSAL_NS, REFUSAL_BURST * REFUSAL_NS)) {
        c->refusals_ns = before_ns;
        return;
    }
    pd_port_tell(port, (struct pd_port_event){ .what = PD_TELLS_REFUSED, .connection = number,
                                       .session = c->session, .code = code, .why = why,
                                       .seq = seq, .count = c->unsaid }, NULL);
    c->unsaid = 0;
}

static void take_answer(struct pd_port *port, uint32_t number, const struct pd_answer *answer,
                        int64_t now_ns)
{
    struct pd_connection *c = &port->connections[number];
    if (answer->kind == PD_ANSWER_ATTACH) {
        pd_port_tell(port, (struct pd_port_event){ .what = PD_TELLS_ATTACH, .connection = number,
                                           .session = c->session, .bytes = answer->code_bytes },
             answer->code);
        return;
    }
    if (c->session == PD_NOBODY) return;
    struct pd_session *session = port->sessions[c->session].session;
    uint64_t seq = 0;
    enum pd_session_refusal refusal = pd_session_answer(session, number, answer, now_ns, &seq);
    if (refusal != PD_REFUSED_NOT) refuse(port, number, refusal, answer->why, seq, now_ns);
    if (session->n_events) pd_port_tell_session(port, c->session);
}

static void half_close(struct pd_port *port, uint32_t number)
{
    struct pd_connection *c = &port->connections[number];
    c->peer.flags |= PD_PEER_HALF_CLOSED;
    if (c->session != PD_NOBODY) {
        pd_session_left(port->sessions[c->session].session, number);
        pd_port_tell_session(port, c->session);
    }
    pd_port_tell(port, (struct pd_port_event){ .what = PD_TELLS_HALF, .connection = number }, NULL);
    pd_port_watch(port, number);
}

/* One read of a connection, and all whole messages in it. */
void pd_port_receive(struct pd_port *port, uint32_t number)
{
    struct pd_connection *c = &port->connections[number];
    uint8_t *at = port->in;
    memcpy(at, c->in, c->in_bytes);
    ssize_t got = recv(c->peer.fd, at + c->in_bytes, PD_PORT_IN_BYTES, MSG_DONTWAIT);
    if (got == PD_PORT_IN_BYTES || (got < 0 && errno == EINTR))
        pd_peer_look_again(&c->peer, port->epoll_fd, number);
    if (got < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            pd_port_leave(port, number, PD_LEFT_GONE);
        return;
    }
    if (got == 0) {
        half_close(port, number);
        return;
    }
    const int64_t now_ns = pd_port_clock(port);
    int64_t each_ns = SLOWEST_NS;
    if (c->session != PD_NOBODY) {
        int64_t period_ns = port->sessions[c->session].session->config.bins->bin_ns;
        if (period_ns / 4 < each_ns) each_ns = period_ns / 4;
    }
    size_t left = c->in_bytes + (size_t)got;
    int within = 1;
    while (left) {
        struct pd_answer answer;
        int64_t took = pd_answer_parse(at, left, &answer);
        if (took < 0) {
            pd_port_leave(port, number, took == -EMSGSIZE ? PD_LEFT_TOO_BIG : PD_LEFT_BAD_FRAME);
            return;
        }
        if (took == 0) break;
        at += took;
        left -= (size_t)took;
        int is_attach = answer.kind == PD_ANSWER_ATTACH;
        within = take_token(&c->tokens_ns, now_ns, each_ns * (is_attach ? ATTACH_COST : 1),
                            BURST * each_ns);
        if (is_attach && !within)
            refuse(port, number, PD_REFUSED_TOO_OFTEN, 0, 0, now_ns);
        else
            take_answer(port, number, &answer, now_ns);
    }
    /* Half a message is shorter than a whole one may be: the parser says so. */
    memcpy(c->in, at, left);
    c->in_bytes = (uint32_t)left;
    if (!within) {
        c->peer.flags |= PD_PEER_SLOWED;
        if (port->n_slowed++ == 0) port->slowed_until_ns = now_ns + SLOW_NS;
        pd_port_watch(port, number);
    }
}

/* Those who sent too much are read again. */
void pd_port_forgive(struct pd_port *port, int64_t now_ns)
{
    if (port->n_slowed == 0 || now_ns < port->slowed_until_ns) return;
    port->n_slowed = 0;
    port->slowed_until_ns = now_ns + SLOW_NS;
    for (uint32_t i = 0; i < port->max_connections; i++) {
        struct pd_connection *c = &port->connections[i];
        if (c->peer.fd < 0 || !(c->peer.flags & PD_PEER_SLOWED)) continue;
        if (c->tokens_ns > now_ns + SLOW_NS) {
            port->n_slowed++;               /* still far over */
            continue;
        }
        c->peer.flags &= ~(uint32_t)PD_PEER_SLOWED;
        pd_port_watch(port, i);
    }
}

