#include "pd_spsc.h"

#include <errno.h>
#include <string.h>

static uint64_t copy_in(struct pd_spsc *queue, uint64_t at, const void *from, uint32_t bytes)
{
    uint32_t offset = (uint32_t)(at & (queue->bytes - 1));
    uint32_t run = queue->bytes - offset < bytes ? queue->bytes - offset : bytes;
    if (run) memcpy(queue->buffer + offset, from, run);
    if (bytes > run) memcpy(queue->buffer, (const uint8_t *)from + run, bytes - run);
    return at + bytes;
}

static uint64_t copy_out(const struct pd_spsc *queue, uint64_t at, void *to, uint32_t bytes)
{
    uint32_t offset = (uint32_t)(at & (queue->bytes - 1));
    uint32_t run = queue->bytes - offset < bytes ? queue->bytes - offset : bytes;
    if (run) memcpy(to, queue->buffer + offset, run);
    if (bytes > run) memcpy((uint8_t *)to + run, queue->buffer, bytes - run);
    return at + bytes;
}

int pd_spsc_init(struct pd_spsc *queue, void *buffer, uint32_t bytes)
{
    if (bytes < 16 || (bytes & (bytes - 1))) return -EINVAL;
    queue->buffer = buffer;
    queue->bytes = bytes;
    atomic_init(&queue->written, 0);
    atomic_init(&queue->dropped, 0);
    atomic_init(&queue->taken, 0);
    return 0;
}

int pd_spsc_put(struct pd_spsc *queue, const void *head, uint32_t head_bytes,
                const void *body, uint32_t body_bytes)
{
    uint64_t written = atomic_load_explicit(&queue->written, memory_order_relaxed);
    uint64_t taken = atomic_load_explicit(&queue->taken, memory_order_acquire);
    uint64_t need = sizeof(uint32_t) + (uint64_t)head_bytes + body_bytes;
    if (need > queue->bytes - (written - taken)) {
        atomic_fetch_add_explicit(&queue->dropped, 1, memory_order_relaxed);
        return -ENOSPC;
    }
    uint32_t size = head_bytes + body_bytes;
    written = copy_in(queue, written, &size, sizeof size);
    written = copy_in(queue, written, head, head_bytes);
    written = copy_in(queue, written, body, body_bytes);
    atomic_store_explicit(&queue->written, written, memory_order_release);
    return 0;
}

int64_t pd_spsc_take(struct pd_spsc *queue, void *out, uint32_t room)
{
    uint64_t taken = atomic_load_explicit(&queue->taken, memory_order_relaxed);
    uint64_t written = atomic_load_explicit(&queue->written, memory_order_acquire);
    if (taken == written) return 0;
    uint32_t size;
    taken = copy_out(queue, taken, &size, sizeof size);
    if (size > room) return -EMSGSIZE;
    taken = copy_out(queue, taken, out, size);
    atomic_store_explicit(&queue->taken, taken, memory_order_release);
    return size;
}
