#define _GNU_SOURCE
#include "pd_post.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int pd_post_init(struct pd_post *post, struct pd_spsc *orders, struct pd_spsc *news, int notify_fd)
{
    memset(post, 0, sizeof *post);
    post->orders = orders;
    post->news = news;
    post->notify_fd = notify_fd;
    post->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return post->wake_fd < 0 ? -errno : 0;
}

void pd_post_close(struct pd_post *post)
{
    if (post->wake_fd >= 0) close(post->wake_fd);
    post->wake_fd = -1;
}

void pd_post_ring(int fd)
{
    const uint64_t one = 1;
    if (fd >= 0 && write(fd, &one, sizeof one) < 0) return;
}

void pd_post_wake(struct pd_post *post)
{
    pd_post_ring(post->wake_fd);
}

int pd_post_order(struct pd_post *post, const void *head, uint32_t head_bytes, const void *message,
                  uint32_t bytes)
{
    int rc = pd_spsc_put(post->orders, head, head_bytes, message, bytes);
    pd_post_wake(post);
    return rc;
}

void pd_post_read(struct pd_post *post)
{
    uint64_t told;
    if (read(post->wake_fd, &told, sizeof told) < 0) return;
}

uint64_t pd_post_room(const struct pd_post *post)
{
    return post->news->bytes
           - (atomic_load_explicit(&post->news->written, memory_order_relaxed)
              - atomic_load_explicit(&post->news->taken, memory_order_acquire));
}

void pd_post_tell(struct pd_post *post, const void *head, uint32_t head_bytes, const void *message,
                  uint32_t bytes)
{
    if (pd_spsc_put(post->news, head, head_bytes, message, bytes))
        atomic_fetch_add_explicit(&post->untold, 1, memory_order_relaxed);
    post->told = 1;
}

void pd_post_notify(struct pd_post *post)
{
    if (!post->told) return;
    post->told = 0;
    pd_post_ring(post->notify_fd);
}
