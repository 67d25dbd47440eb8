/* A session: one clock and one position in a dataset, the packets that it made,
 * and what its decoder answered. No sockets here (pd_port.h has them).
 *
 * Time. Packets are due at phase + k·period on the monotonic clock. A session
 * that comes late skips instants, never bins, so nothing ever bursts: not after
 * a pause, a stall, or a seek. `seq` counts the packets and never goes back.
 *
 * History. What went out lies in a ring of two seconds, which all subscribers
 * read with cursors of their own. Under network stress a packet first lies in
 * the line until it is released, or is lost there.
 *
 * Loop. A packet can be answered for two seconds. Answered or given up, it
 * becomes a record, in the order of seq, in a ring that any thread may read.
 *
 * Owner: the port's thread, or the caller on a virtual clock. `counts` and
 * `records` may be read by any thread. Nothing allocates, blocks or fails.
 */
#ifndef PD_SESSION_H
#define PD_SESSION_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "pd_answer.h"
#include "pd_bins.h"
#include "pd_hist.h"
#include "pd_packet.h"
#include "pd_ring.h"
#include "pd_stress.h"

#define PD_SESSION_KEEP_NS 2000000000LL     /* history, and how long an answer is taken */
#define PD_SESSION_DESYNC_NS 50000000LL
#define PD_SESSION_JITTER_NS 3000000LL
#define PD_SESSION_DROP_NS 250000000LL      /* without an answer */
#define PD_SESSION_RECOVERED 8              /* answers in time, one after the other */
#define PD_SESSION_STEADY_NS 1000000000LL   /* without jitter */
#define PD_SESSION_RECORD_WORDS 6
#define PD_SESSION_EVENTS 8
#define PD_SESSION_NEVER INT64_MAX
#define PD_NOBODY UINT32_MAX

/* A live source's frame is a record of pd_broadband.h: the bin's number, t_ns, flags, then the
 * counts, four to a word, and perhaps more. Words at least, and at most. */
#define PD_SESSION_LIVE_HEAD 3u
#define PD_SESSION_LIVE_WORDS(n_units) (PD_SESSION_LIVE_HEAD + ((n_units) + 3u) / 4u)
#define PD_SESSION_LIVE_MOST 1024u

enum pd_session_state { PD_SESSION_RUNNING, PD_SESSION_PAUSED, PD_SESSION_ENDED };

enum pd_session_what {              /* what a session has to tell */
    PD_SAYS_DESYNC = 1,             /* value: loop_ns */
    PD_SAYS_IN_TIME,                /* value: answers in time since */
    PD_SAYS_DROP,                   /* value: packets without an answer */
    PD_SAYS_BACK,                   /* the decoder answers again; value: packets missed */
    PD_SAYS_JITTER,                 /* value: interval - period, ns */
    PD_SAYS_STEADY,
    PD_SAYS_ENDED,
    PD_SAYS_DECODER,                /* value: its connection */
    PD_SAYS_DECODER_LEFT,
    PD_SAYS_CUT,                    /* stress ends the connections */
};

struct pd_session_event {
    uint32_t what, reserved;
    uint64_t seq;
    int64_t value;
};

enum pd_session_refusal {
    PD_REFUSED_NOT,
    PD_REFUSED_TAKEN,               /* another connection is the decoder */
    PD_REFUSED_NEVER_SENT,
    PD_REFUSED_TOO_OLD,
    PD_REFUSED_TWICE,
    PD_REFUSED_INVALID,             /* the answer's `why` says what is wrong */
    PD_REFUSED_TOO_OFTEN,           /* attaches; by the port */
};

enum { PD_RECORD_ANSWERED = 1, PD_RECORD_DESYNC = 2, PD_RECORD_INVALID = 4, PD_RECORD_LOST = 8,
       PD_RECORD_DECODER = 16 };    /* there was a decoder when it was sent */

struct pd_session_record {          /* PD_SESSION_RECORD_WORDS words */
    uint64_t seq;
    int64_t t_ns;                   /* when the packet was due */
    uint32_t bin, flags;
    float vx, vy, x, y;             /* the decoder's; NaN without an answer */
    int64_t loop_ns;
};

struct pd_session_counts {          /* since the session was made */
    _Atomic uint64_t packets, answered, missed, invalid, desyncs, lost;
    _Atomic uint64_t dropped;       /* messages that slow subscribers lost */
    _Atomic uint32_t state, bin, subscribers, decoder;
};

struct pd_session_config {
    const struct pd_bins *bins;     /* of a live source: n_units and bin_ns only */
    const struct pd_packet_shape *shape;
    const struct pd_bins_span *spans;
    uint32_t n_spans, loop;
    const struct pd_ring *live;     /* NULL: from `bins` */
    int64_t phase_ns;               /* 0 .. period */
    uint32_t record_slots;          /* a power of two */
    uint32_t reserved;
};

struct pd_session_slot;             /* of the history */
struct pd_session_sent;             /* of the answers' window */
struct pd_session_flight;           /* of the line */

struct pd_session {
    struct pd_session_config config;
    const struct pd_stress *stress; /* NULL: none */
    struct pd_session_counts counts;
    struct pd_hist loop;            /* latency of the loop */
    struct pd_ring records;
    struct pd_hist *lateness;       /* the port's; NULL: nobody asks */
    struct pd_hist *loops;          /* the port's, of all sessions */
    /* clock and position */
    int64_t due_ns, last_ns;
    uint64_t seq;                   /* of the next packet */
    uint64_t live_next;
    uint32_t span, bin, span_done;
    uint32_t leg, leg_trial, last_bin;
    float leg_x, leg_y;
    uint32_t jumped, is_running;
    /* history: messages base .. head-1, message i in slot i mod n_slots */
    uint8_t *slots;
    uint32_t n_slots, slot_bytes;
    uint64_t head;
    /* line */
    struct pd_session_flight *flights;
    uint8_t *line;
    uint32_t n_flights;
    int64_t line_ns;                /* release of the newest packet that keeps its place */
    uint64_t line_free[4];          /* one bit a slot */
    /* loop */
    struct pd_session_sent *sent;
    struct pd_packet_answer *answers;
    uint32_t n_sent, window;        /* slots (a power of two); packets that can be answered */
    uint64_t closed;                /* records exist up to here */
    uint64_t answers_put, answers_taken;
    uint64_t newest_answered, newest_sent;
    uint32_t has_sent, decoder;
    double x, y;
    uint32_t cursor_leg, in_trouble, in_time;
    int64_t steady_ns;
    struct pd_session_event events[PD_SESSION_EVENTS];
    uint32_t n_events;
};

/* Bytes that pd_session_init needs behind the session, in `arena`. 0: bad configuration. */
size_t pd_session_bytes(const struct pd_session_config *config);

/* And of the line, which is touched under network stress only. */
size_t pd_session_line_bytes(const struct pd_session_config *config);

/* `arena` is zeroed and 64-byte aligned; `line` 8-byte aligned. 0 or -EINVAL. */
int pd_session_init(struct pd_session *session, const struct pd_session_config *config,
                    void *arena, size_t bytes, void *line);

/* When something is to be done next; PD_SESSION_NEVER: nothing by itself. */
int64_t pd_session_next(const struct pd_session *session);

/* Makes the packet that is due, if one is, and releases what the line has
 * held long enough: `head` moves on by as many messages. */
void pd_session_step(struct pd_session *session, int64_t now_ns, int64_t wall_offset_ns);

/* Asks for what the next step will touch: it is in memory, and a thousand others lie between. */
void pd_session_prefetch(const struct pd_session *session);

/* Message `index` of the history, and its sequence number; 0 bytes: gone. */
uint32_t pd_session_message(const struct pd_session *session, uint64_t index,
                            const uint8_t **data, uint64_t *seq);
uint64_t pd_session_base(const struct pd_session *session);

void pd_session_subscribers(struct pd_session *session, uint32_t n, int64_t now_ns);
void pd_session_pause(struct pd_session *session);
void pd_session_resume(struct pd_session *session, int64_t now_ns);
/* The next packet is the first at or after `bin` among what the session plays. */
void pd_session_seek(struct pd_session *session, uint32_t bin, int64_t now_ns);
void pd_session_set_stress(struct pd_session *session, const struct pd_stress *stress);

/* An answer, or what came instead of one, of `connection`. *seq: the packet that it was for. */
enum pd_session_refusal pd_session_answer(struct pd_session *session, uint32_t connection,
                                          const struct pd_answer *answer, int64_t now_ns,
                                          uint64_t *seq);
/* The decoder, if it was that connection, is gone. */
void pd_session_left(struct pd_session *session, uint32_t connection);

#endif
