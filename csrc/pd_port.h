/* The port of the sessions: connections, and the thread that serves them.
 *
 * One thread owns all sessions and connections: it sleeps until the next packet
 * is due or a socket is ready, makes and sends packets, reads and matches
 * answers. It takes no lock and allocates nothing. What is rare is the event
 * loop's: it orders through a queue of commands (and an eventfd), and is told
 * through a queue of events (and another). On a virtual clock pd_port_step is
 * called instead of the thread.
 *
 * Subscribers. Each has a cursor in its session's history; one that can't take
 * its messages loses the oldest after two seconds of them, is told by a `gap`,
 * and holds nobody up. A message that was begun is always finished. A client
 * that sends more than four times what there is to answer is read more slowly.
 *
 * Memory: sessions, connections and queues are the caller's, and stay until the
 * command that takes them back is done.
 */
#ifndef PD_PORT_H
#define PD_PORT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "pd_hist.h"
#include "pd_peer.h"
#include "pd_post.h"
#include "pd_session.h"

#define PD_PORT_OUT_BYTES 16384     /* a subscriber's own messages, and what was begun */
#define PD_PORT_IN_BYTES 16384      /* one read */
#define PD_PORT_COMMAND_BYTES 8192  /* the longest command, its message included */

enum pd_port_do {                   /* commands */
    PD_DO_ADD = 1,                  /* session, pointer */
    PD_DO_REMOVE,                   /* session: its connections end, after `ended` */
    PD_DO_JOIN,                     /* connection, session, value: socket; message: greeting */
    PD_DO_MOVE,                     /* connection, session; message: greeting */
    PD_DO_REPLY,                    /* connection; message */
    PD_DO_END,                      /* connection; message: its last */
    PD_DO_END_ALL,
    PD_DO_BROADCAST,                /* message, to all */
    PD_DO_PAUSE,                    /* session */
    PD_DO_RESUME,
    PD_DO_SEEK,                     /* session, value: bin */
    PD_DO_STRESS,                   /* session, pointer: struct pd_stress, or NULL */
    PD_DO_TICKET,                   /* value comes back in PD_TELLS_DONE */
};

struct pd_port_command {            /* followed by `bytes` of a message */
    uint32_t what, session, connection, bytes;
    int64_t value;
    const void *pointer;
};

enum pd_port_tells {                /* events */
    PD_TELLS_LEFT = 1,              /* connection; value: its socket, the caller's now */
    PD_TELLS_ATTACH,                /* connection; message: the session's code */
    PD_TELLS_REFUSED,               /* connection, session, code, why, seq; count: how often */
    PD_TELLS_SESSION,               /* session; code: enum pd_session_what; seq, value */
    PD_TELLS_DONE,                  /* value: of the ticket */
    PD_TELLS_HALF,                  /* connection: it sends no more, and reads on */
};

enum pd_port_left {                 /* code of PD_TELLS_LEFT; what is unsent is its message */
    PD_LEFT_GONE,                   /* the peer closed or died: nothing to send */
    PD_LEFT_ENDED,                  /* by command */
    PD_LEFT_BAD_FRAME,              /* no MessagePack map */
    PD_LEFT_TOO_BIG,
    PD_LEFT_DEAF,                   /* takes not even what is its own */
};

struct pd_port_event {
    uint32_t what, session, connection, code, why, count, bytes, reserved;
    uint64_t seq;
    int64_t value;
};

struct pd_connection {
    struct pd_peer peer;
    uint32_t session, before, after;    /* in the session's list */
    uint64_t cursor, next_seq;
    int64_t tokens_ns, refusals_ns; /* when the buckets are empty again (GCRA) */
    uint32_t unsaid;                /* refusals that were not told */
    uint32_t in_bytes;
    uint8_t in[PD_ANSWER_MAX_BYTES];
    uint8_t out[PD_PORT_OUT_BYTES];
};

struct pd_port_session {
    struct pd_session *session;     /* NULL: free */
    uint32_t first, n;              /* connections */
    uint32_t place;                 /* in the heap */
    uint32_t reserved;
};

struct pd_port_due {
    int64_t t_ns;
    uint32_t session, reserved;
};

struct pd_port {
    struct pd_connection *connections;
    struct pd_port_session *sessions;
    struct pd_port_due *heap;       /* one for each session */
    uint32_t max_connections, max_sessions, n_sessions;
    uint32_t n_slowed;              /* connections that are not read for now */
    int64_t slowed_until_ns;
    struct pd_post post;
    int epoll_fd;
    int64_t virtual_ns;             /* PD_NO_TIME: the real clock */
    int64_t wall_offset_ns, wall_read_ns;
    uint32_t sent, reserved;        /* messages since the thread last waited */
    struct pd_hist lateness;        /* of packets: made − due; deadline 3 ms */
    struct pd_hist loops;           /* of all sessions; deadline 50 ms */
    _Atomic uint64_t published, dropped;
    _Atomic uint32_t n_connections;
    _Atomic int stop, promote_error;
    pthread_t thread;
    int priority, cpu;
    uint8_t in[PD_ANSWER_MAX_BYTES + PD_PORT_IN_BYTES];
    uint8_t command[PD_PORT_COMMAND_BYTES];
};

/* The arrays and queues (`events` at least 1 MiB) are the caller's; connections
 * are zeroed. notify_fd: an eventfd, or -1. 0 or -errno. */
int pd_port_init(struct pd_port *port, struct pd_connection *connections, uint32_t max_connections,
                 struct pd_port_session *sessions, struct pd_port_due *heap, uint32_t max_sessions,
                 struct pd_spsc *commands, struct pd_spsc *events, int notify_fd);
void pd_port_close(struct pd_port *port);

/* Event loop's thread. 0, or -ENOSPC: the queue is full, try again later. */
int pd_port_order(struct pd_port *port, const struct pd_port_command *command,
                  const void *message);

/* Virtual clock only: everything that is to be done at now_ns. Returns when
 * something is due next. */
int64_t pd_port_step(struct pd_port *port, int64_t now_ns, int64_t wall_offset_ns);

/* The thread. Priority 0: not promoted; cpu -1: any. 0 or -errno. A refused
 * promotion is no error: promote_error. */
int pd_port_start(struct pd_port *port, int priority, int cpu);
void pd_port_stop(struct pd_port *port);

#endif
