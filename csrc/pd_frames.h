/* Frames: port 7069, and the thread that serves it.
 *
 * The thread owns all subscribers. The tick wakes it; it takes what is new in the
 * grid ring, encodes each frame once (age and LATE are of that instant), and gives
 * it to everybody with one send. Then it wakes the event loop, if that has the rest
 * to do: so the tick makes one system call, and nothing that has milliseconds to
 * spare stands before a frame. It takes no lock and allocates nothing. What is
 * rare is ordered by the event loop and told to it through a post (pd_post.h). On
 * a virtual clock pd_frames_step is called instead of the thread.
 *
 * Subscribers. Each first gets the header, whose `first_index` is that of the first
 * frame that follows. The newest 256 frames are kept, two seconds of them; each
 * subscriber has a cursor. One whose socket is full loses its oldest frames after
 * that, which their indices tell, and holds nobody up. A frame that was begun is
 * always finished. What clients send is judged by its first bytes, then thrown away,
 * 16 KiB a grid period at most; one that closes its sending half goes on.
 *
 * Another grid (other channels): pd_frames_hold, then make it beginning at the
 * index at which the old one stands, then PD_FRAMES_SWITCH with that index. Every
 * connection gets what was published until there, and ends; who joins afterwards
 * gets the new header.
 *
 * The first order is a switch.
 *
 * Memory is the caller's: structure, queues, connections, and the grid rings, each
 * until the switch that takes it away has been carried out.
 */
#ifndef PD_FRAMES_H
#define PD_FRAMES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "pd_grid.h"
#include "pd_hist.h"
#include "pd_native.h"
#include "pd_peer.h"
#include "pd_post.h"
#include "pd_ring.h"

#define PD_FRAMES_HISTORY 256u
#define PD_FRAMES_HEADER_BYTES(n_channels) (64u + 16u * (uint32_t)(n_channels))
#define PD_FRAMES_OUT_BYTES PD_FRAMES_HEADER_BYTES(PD_MAX_VALUES)   /* one's own: header, or rest */
#define PD_FRAMES_REST_BYTES (PD_FRAMES_OUT_BYTES + PD_FRAMES_HISTORY * PD_FRAME_BYTES(PD_MAX_VALUES))
#define PD_FRAMES_IN_BYTES 16384
#define PD_FRAMES_STACK (128 * 1024)

enum pd_frames_do {                 /* orders */
    PD_FRAMES_SWITCH = 1,           /* grid; value: where it begins; message: the header, whose
                                       wall offset and first index are filled in for each client */
    PD_FRAMES_JOIN,                 /* connection; value: its socket */
    PD_FRAMES_END,                  /* connection: what was begun is its last */
    PD_FRAMES_END_ALL,              /* each with everything that the tick has made until now */
    PD_FRAMES_TICKET,               /* value comes back in PD_FRAMES_DONE */
};

struct pd_frames_command {            /* followed by `bytes` of a message */
    uint32_t what, connection, bytes, reserved;
    int64_t value;
    const struct pd_ring *grid;
};

enum pd_frames_tells {              /* news */
    PD_FRAMES_LEFT = 1,             /* connection; value: its socket, the caller's now; code: why;
                                       message: what it is still owed */
    PD_FRAMES_HALF,                 /* connection: it sends no more, and reads on */
    PD_FRAMES_DONE,                 /* value: of the ticket */
};

enum pd_frames_left {
    PD_FRAMES_GONE,                 /* the peer closed or died: nothing to send */
    PD_FRAMES_ENDED,                /* by order */
    PD_FRAMES_NOT_OURS,             /* its first bytes are not those of such a stream */
};

struct pd_frames_news {             /* followed by `bytes` of a message */
    uint32_t what, connection, code, bytes;
    int64_t value;
};

struct pd_frames_client {
    struct pd_peer peer;
    uint64_t cursor;                /* position of the next frame that it gets */
    uint32_t opening_bytes;         /* of its first eight, once they are judged */
    uint8_t opening[8];
};

struct pd_frames {
    struct pd_frames_client *clients;
    uint8_t *out;                   /* [max_clients][PD_FRAMES_OUT_BYTES] */
    uint8_t *rest;                  /* PD_FRAMES_REST_BYTES: what one who leaves is owed */
    uint32_t max_clients, n_used;   /* n_used: none from it on has ever joined */
    uint32_t n_blocked, n_slowed;
    int64_t slowed_until_ns;
    struct pd_post post;
    int epoll_fd, tick_fd, loop_fd;
    _Atomic uint64_t loop_from;     /* frames before this index alone don't wake the loop */
    /* the grid */
    const struct pd_ring *grid;     /* NULL before the first switch */
    uint32_t n_channels, frame_bytes, header_bytes;
    uint64_t next;                  /* index of the next frame to publish */
    _Atomic int held;
    /* positions count frames published: history has [base, head); who is not blocked
       has been sent all before `flushed` */
    uint64_t base, head, flushed;
    int64_t deadline_ns;
    int64_t virtual_ns;             /* PD_NO_TIME: the real clock */
    struct pd_hist *lateness;       /* published − due; the caller's, or NULL */
    _Atomic uint64_t published, dropped;
    _Atomic int64_t newest_ns;      /* of the newest frame, PD_NO_TIME before there is one */
    /* the thread */
    pthread_t thread;
    void *stack;                    /* PD_FRAMES_STACK bytes, locked; the caller's, or NULL */
    int priority, cpu;
    _Atomic int stop, promote_error;
    uint64_t frame[PD_GRID_WORDS(PD_MAX_VALUES)];
    uint8_t header[PD_FRAMES_OUT_BYTES];
    uint8_t order[sizeof(struct pd_frames_command) + PD_FRAMES_OUT_BYTES];
    uint8_t in[PD_FRAMES_IN_BYTES];
    uint8_t history[PD_FRAMES_HISTORY * PD_FRAME_BYTES(PD_MAX_VALUES)];
};

struct pd_frames_config {
    struct pd_frames_client *clients;   /* max_clients of them */
    uint8_t *out, *rest;            /* max_clients × PD_FRAMES_OUT_BYTES; PD_FRAMES_REST_BYTES */
    uint32_t max_clients;
    struct pd_spsc *orders, *news;  /* news: at least pd_frames_news_bytes */
    int notify_fd;                  /* an eventfd: there is news; or -1 */
    int loop_fd;                    /* an eventfd: the tick has been, and its frames are out, if the
                                       loop has use for that (pd_frames_loop_from); or -1 */
    int64_t deadline_ns;            /* after due: frames are LATE */
    struct pd_hist *lateness;
};

/* The fewest bytes of the queue of news for so many clients: a power of two. What
 * was begun always finds room there; the history of one that lags and ends as well,
 * unless many do at once (then it loses its newest frames). 0 for too many. */
uint32_t pd_frames_news_bytes(uint32_t max_clients);

/* 0 or -errno. Afterwards `tick_fd` is the eventfd for the tick to write. */
int pd_frames_init(struct pd_frames *frames, const struct pd_frames_config *config);
void pd_frames_close(struct pd_frames *frames);

/* Event loop. 0, or -ENOSPC: the queue is full, try again later; -EMSGSIZE. */
int pd_frames_order(struct pd_frames *frames, const struct pd_frames_command *order,
                    const void *message);

/* Event loop. Until the next switch, or until it is let go, nothing is published
 * that the grid gets from now on: all that was lies before the `pd_ring_next` that
 * is read afterwards. */
void pd_frames_hold(struct pd_frames *frames);
void pd_frames_let_go(struct pd_frames *frames);

/* Event loop. It is woken when the tick has something else than frames (PD_NOTIFY_OTHER of
 * pd_engine.h), and by frames from this index on; 0: by each. */
void pd_frames_loop_from(struct pd_frames *frames, uint64_t index);

/* Virtual clock only: everything that is to be done at now_ns. */
void pd_frames_step(struct pd_frames *frames, int64_t now_ns);

/* The thread. Priority 0: not promoted; cpu -1: any. 0 or -errno. A refused
 * promotion is no error: promote_error. */
int pd_frames_start(struct pd_frames *frames, int priority, int cpu);
void pd_frames_stop(struct pd_frames *frames);

#endif
