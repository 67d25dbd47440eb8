/* What the files of pd_session share, and nobody else needs. */
#ifndef PD_SESSION_PARTS_H
#define PD_SESSION_PARTS_H

#include "pd_session.h"

#define PD_SESSION_FLIGHTS 256      /* packets in the line: bits of line_free */

enum { IN_DESYNC = 1, IN_DROP = 2, IN_JITTER = 4 };    /* of in_trouble */

struct pd_session_slot {
    uint64_t seq;
    uint32_t bytes, reserved;
    uint8_t data[];
};

struct pd_session_flight {
    int64_t release_ns;
    uint64_t order;
    uint32_t slot, bytes;
    uint64_t seq;
};

struct pd_session_sent {
    int64_t sent_ns, t_ns, loop_ns;
    int64_t there_ns;               /* the line lets it out; PD_NO_TIME: nothing held it */
    uint32_t bin, leg, flags, reserved;
    float leg_x, leg_y;
    float vx, vy, x, y;
};

static inline void pd_session_add(_Atomic uint64_t *counter, uint64_t n)
{
    /* One writer: no locked instruction is needed. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void pd_session_say(struct pd_session *session, enum pd_session_what what, uint64_t seq, int64_t value)
{
    if (session->n_events == PD_SESSION_EVENTS) return;     /* the port takes them each time */
    session->events[session->n_events++] = (struct pd_session_event){ .what = what, .seq = seq,
                                                                      .value = value };
}

static inline struct pd_session_sent *pd_session_sent_of(struct pd_session *session, uint64_t seq)
{
    return &session->sent[seq & (session->n_sent - 1)];
}

static inline struct pd_session_slot *pd_session_slot_of(const struct pd_session *session, uint64_t index)
{
    return (struct pd_session_slot *)(session->slots
                                      + (index & (session->n_slots - 1)) * session->slot_bytes);
}

/* pd_session_line.c: the way of the packet in the slot at `head`, and what is let out. */
void pd_session_dispatch(struct pd_session *session, struct pd_session_sent *sent, int64_t now_ns);
void pd_session_release(struct pd_session *session, int64_t now_ns);

/* pd_session_loop.c: what a new packet shows, and records of all that is settled. */
void pd_session_watch(struct pd_session *session, int64_t now_ns);
void pd_session_close_settled(struct pd_session *session);

#endif
