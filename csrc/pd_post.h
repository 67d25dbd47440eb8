/* Post: orders to the thread that serves a port, and news from it.
 *
 * What is rare on a port (connections that come, changes, the end) is decided by
 * the event loop. It orders through one queue, and an eventfd wakes the thread;
 * the thread tells through another, and an eventfd wakes the loop. A record is a
 * head, whose structure is the port's, and a message.
 *
 * Two threads, one at each end; neither waits for the other, nothing allocates.
 */
#ifndef PD_POST_H
#define PD_POST_H

#include <stdatomic.h>
#include <stdint.h>

#include "pd_spsc.h"

struct pd_post {
    struct pd_spsc *orders, *news;  /* the caller's */
    int wake_fd, notify_fd;
    uint32_t told, reserved;
    _Atomic uint64_t untold;        /* news that found no room */
};

/* notify_fd: an eventfd of the caller's, or -1. 0 or -errno. */
int pd_post_init(struct pd_post *post, struct pd_spsc *orders, struct pd_spsc *news, int notify_fd);
void pd_post_close(struct pd_post *post);

/* Event loop. 0, or -ENOSPC: the queue is full, try again later. */
int pd_post_order(struct pd_post *post, const void *head, uint32_t head_bytes, const void *message,
                  uint32_t bytes);
/* Any thread. */
void pd_post_wake(struct pd_post *post);

/* The port's thread. Before it looks into the queue of orders. */
void pd_post_read(struct pd_post *post);
uint64_t pd_post_room(const struct pd_post *post);
/* One that finds no room is counted in `untold`. */
void pd_post_tell(struct pd_post *post, const void *head, uint32_t head_bytes, const void *message,
                  uint32_t bytes);
/* Wakes the loop, if anything was told since. */
void pd_post_notify(struct pd_post *post);

/* Writes an eventfd. Full means that whoever reads it has been told often enough. */
void pd_post_ring(int fd);

#endif
