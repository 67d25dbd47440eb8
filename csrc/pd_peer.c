#define _GNU_SOURCE
#include "pd_peer.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

int pd_peer_join(struct pd_peer *peer, int fd, uint8_t *out, uint32_t room, int epoll_fd,
                 uint32_t name)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = name };
    *peer = (struct pd_peer){ .fd = fd, .interest = EPOLLIN, .out = out, .out_room = room };
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void pd_peer_leave(struct pd_peer *peer, int epoll_fd)
{
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, peer->fd, NULL);
    peer->fd = -1;
}

void pd_peer_look_again(struct pd_peer *peer, int epoll_fd, uint32_t name)
{
    struct epoll_event event = { .events = peer->interest, .data.u32 = name };
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, peer->fd, &event);
}

void pd_peer_watch(struct pd_peer *peer, int epoll_fd, uint32_t name)
{
    uint32_t interest = (peer->flags & (PD_PEER_SLOWED | PD_PEER_HALF_CLOSED) ? 0 : EPOLLIN)
                        | (peer->flags & PD_PEER_BLOCKED ? EPOLLOUT : 0)
                        | (peer->flags & PD_PEER_EDGE ? EPOLLET : 0);
    if (interest == peer->interest) return;
    peer->interest = interest;
    pd_peer_look_again(peer, epoll_fd, name);
}

int pd_peer_put(struct pd_peer *peer, const void *message, uint32_t bytes)
{
    if (peer->out_from && peer->out_to + bytes > peer->out_room) {
        memmove(peer->out, peer->out + peer->out_from, peer->out_to - peer->out_from);
        peer->out_to -= peer->out_from;
        peer->out_from = 0;
    }
    if (peer->out_to + bytes > peer->out_room) return -ENOSPC;
    memcpy(peer->out + peer->out_to, message, bytes);
    peer->out_to += bytes;
    return 0;
}

int pd_peer_send_own(struct pd_peer *peer)
{
    while (peer->out_from < peer->out_to) {
        struct iovec own = { peer->out + peer->out_from, peer->out_to - peer->out_from };
        int64_t sent = pd_peer_send(peer, &own, 1);
        if (sent <= 0) return (int)sent;
        peer->out_from += (uint32_t)sent;
    }
    peer->out_from = peer->out_to = 0;
    return 1;
}

int64_t pd_peer_send(struct pd_peer *peer, struct iovec *parts, uint32_t n)
{
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = n };
    const int how = MSG_DONTWAIT | MSG_NOSIGNAL;
    ssize_t sent;
    do
        sent = n == 1 ? send(peer->fd, parts->iov_base, parts->iov_len, how)
                      : sendmsg(peer->fd, &message, how);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
    return sent;
}
