#include "pd_ring.h"

#include <errno.h>

static inline _Atomic uint64_t *slot_of(const struct pd_ring *ring, uint64_t index)
{
    return ring->slots + (size_t)(index & (ring->n_slots - 1)) * (1 + (size_t)ring->words);
}

size_t pd_ring_bytes(uint32_t words, uint32_t n_slots)
{
    if (words == 0 || n_slots < 2 || (n_slots & (n_slots - 1))) return 0;
    uint64_t all = (uint64_t)n_slots * (1 + (uint64_t)words);      /* below 2^63 */
    if (all > SIZE_MAX / 2 / sizeof(uint64_t)) return 0;
    return sizeof(struct pd_ring_head) + (size_t)all * sizeof(uint64_t);
}

static int view(struct pd_ring *ring, void *memory, uint32_t words, uint32_t n_slots)
{
    ring->head = memory;
    ring->slots = (_Atomic uint64_t *)((char *)memory + sizeof(struct pd_ring_head));
    ring->words = words;
    ring->n_slots = n_slots;
    return 0;
}

int pd_ring_create(struct pd_ring *ring, void *memory, size_t bytes, uint32_t words,
                   uint32_t n_slots, uint64_t first)
{
    size_t need = pd_ring_bytes(words, n_slots);
    if (need == 0 || bytes < need || ((uintptr_t)memory & 7)) return -EINVAL;
    view(ring, memory, words, n_slots);
    ring->head->words = words;
    ring->head->n_slots = n_slots;
    ring->head->bytes = need;
    atomic_init(&ring->head->next, first);
    atomic_init(&ring->head->first, first);
    for (uint64_t i = 0; i < n_slots; i++)
        atomic_init(ring->slots + i * (1 + (size_t)words), 0);
    ring->head->magic = PD_RING_MAGIC;
    return 0;
}

int pd_ring_attach(struct pd_ring *ring, void *memory, size_t bytes)
{
    struct pd_ring_head *head = memory;
    if (bytes < sizeof *head || ((uintptr_t)memory & 7) || head->magic != PD_RING_MAGIC)
        return -EINVAL;
    /* Read once: what is checked must be what is used, whoever writes there. */
    const uint32_t words = *(volatile uint32_t *)&head->words;
    const uint32_t n_slots = *(volatile uint32_t *)&head->n_slots;
    size_t need = pd_ring_bytes(words, n_slots);
    if (need == 0 || need != head->bytes || bytes < need) return -EINVAL;
    return view(ring, memory, words, n_slots);
}

uint64_t pd_ring_push(struct pd_ring *ring, const uint64_t *frame)
{
    uint64_t index = atomic_load_explicit(&ring->head->next, memory_order_relaxed);
    _Atomic uint64_t *slot = slot_of(ring, index);
    atomic_store_explicit(slot, 2 * index + 1, memory_order_relaxed);
    for (uint32_t w = 0; w < ring->words; w++)
        atomic_store_explicit(slot + 1 + w, frame[w], memory_order_release);
    atomic_store_explicit(slot, 2 * index + 2, memory_order_release);
    atomic_store_explicit(&ring->head->next, index + 1, memory_order_release);
    return index;
}

int pd_ring_skip(struct pd_ring *ring, uint64_t next)
{
    uint64_t now = atomic_load_explicit(&ring->head->next, memory_order_relaxed);
    if (next < now) return -EINVAL;
    if (next == now) return 0;
    /* Each slot that the jump passes loses its old frame, once. */
    uint64_t from = next - now > ring->n_slots ? next - ring->n_slots : now;
    for (uint64_t i = from; i < next; i++)
        atomic_store_explicit(slot_of(ring, i), 2 * i + 1, memory_order_relaxed);
    atomic_store_explicit(&ring->head->next, next, memory_order_release);
    return 0;
}

uint64_t pd_ring_next(const struct pd_ring *ring)
{
    return atomic_load_explicit(&ring->head->next, memory_order_acquire);
}

uint64_t pd_ring_oldest(const struct pd_ring *ring)
{
    uint64_t next = pd_ring_next(ring);
    uint64_t first = atomic_load_explicit(&ring->head->first, memory_order_relaxed);
    return next - first > ring->n_slots ? next - ring->n_slots : first;
}

int pd_ring_read(const struct pd_ring *ring, uint64_t index, uint64_t *frame)
{
    /* Asked first: a slot looked at before its frame was whole, and `next` after,
     * would make a frame that was finished in between look gone. */
    if (index >= pd_ring_next(ring)) return -EAGAIN;
    _Atomic uint64_t *slot = slot_of(ring, index);
    const uint64_t whole = 2 * index + 2;
    if (atomic_load_explicit(slot, memory_order_acquire) != whole) return -EOVERFLOW;
    for (uint32_t w = 0; w < ring->words; w++)
        frame[w] = atomic_load_explicit(slot + 1 + w, memory_order_acquire);
    return atomic_load_explicit(slot, memory_order_relaxed) == whole ? 0 : -EOVERFLOW;
}
