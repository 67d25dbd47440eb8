/* Peer: a client's connection, in the hands of the thread that serves its port.
 *
 * What all such ports have in common: what is waited for on the socket, and the
 * bytes that are this client's own (a greeting, a reply, the rest of a message
 * that was begun, which is always finished before anything else).
 *
 * Owner: the port's thread. Nothing blocks or allocates. The socket is the event
 * loop's before and after: it accepts, and it says farewell.
 */
#ifndef PD_PEER_H
#define PD_PEER_H

#include <stdint.h>
#include <sys/uio.h>

enum {                              /* flags */
    PD_PEER_BLOCKED = 1,            /* its socket is full */
    PD_PEER_SLOWED = 2,             /* it sent too much, and is not read for now */
    PD_PEER_HALF_CLOSED = 4,        /* it sends no more, and reads on */
    PD_PEER_EDGE = 8,               /* epoll tells of new bytes once, and does not look again */
};

struct pd_peer {
    int fd;                         /* -1: free */
    uint32_t interest, flags;
    uint32_t out_from, out_to, out_room;
    uint8_t *out;                   /* its own bytes lie in [out_from, out_to) */
};

/* Takes a non-blocking socket; `out` of `room` bytes is the caller's. epoll calls it
 * `name`. 0 or -errno. */
int pd_peer_join(struct pd_peer *peer, int fd, uint8_t *out, uint32_t room, int epoll_fd,
                 uint32_t name);
/* Gives the socket back. */
void pd_peer_leave(struct pd_peer *peer, int epoll_fd);

/* Asks epoll for what its flags say that it waits for. */
void pd_peer_watch(struct pd_peer *peer, int epoll_fd, uint32_t name);
/* With PD_PEER_EDGE, after a read that may have left something. */
void pd_peer_look_again(struct pd_peer *peer, int epoll_fd, uint32_t name);

/* A message for it alone, behind its other own bytes. 0 or -ENOSPC. */
int pd_peer_put(struct pd_peer *peer, const void *message, uint32_t bytes);

/* 1: all its own bytes went out; 0: the socket is full; -1: the peer is gone. */
int pd_peer_send_own(struct pd_peer *peer);

/* One send. Bytes that were taken; 0: the socket is full; -1: the peer is gone. */
int64_t pd_peer_send(struct pd_peer *peer, struct iovec *parts, uint32_t n);

#endif
