/* Ring of fixed-size frames: one writer, any number of readers, overwriting.
 *
 * It lies in memory that the caller owns, private or shared between
 * processes, holds no pointers, and can be attached to from a child process.
 * A frame is `words` 64-bit words. Frames carry an absolute index from the
 * first frame on; index i lives in slot i mod n_slots.
 *
 * Each slot has a sequence number: 2i+1 while frame i is being written, 2i+2
 * once it is whole. A reader copies the frame and takes it only when the
 * number was 2i+2 before and after, so a torn frame cannot be taken, and a
 * writer that dies in the middle of one leaves only that slot unreadable.
 * The words are stored with release and loaded with acquire, which orders
 * them between the two looks at the number without a fence (and lets a race
 * detector follow the argument).
 *
 * Writer: one thread, never blocks. Readers: any thread or process, never
 * block the writer. Nothing allocates.
 */
#ifndef PD_RING_H
#define PD_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define PD_RING_MAGIC 0x30474e4952445031ull     /* "1PDRING0" */

struct pd_ring_head {
    uint64_t magic;
    uint32_t words;                 /* 64-bit words a frame */
    uint32_t n_slots;               /* a power of two */
    uint64_t bytes;                 /* of the whole ring */
    _Atomic uint64_t next;          /* index of the next frame to be written */
    _Atomic uint64_t first;         /* index of the first frame ever written */
    uint64_t reserved[3];
};

struct pd_ring {                    /* a view of it, one a thread or process */
    struct pd_ring_head *head;
    _Atomic uint64_t *slots;        /* n_slots × (1 + words) */
    uint32_t words;                 /* copies, so that a hostile writer in    */
    uint32_t n_slots;               /* another process can't move the bounds  */
};

/* Bytes needed; 0 when n_slots is no power of two or the size overflows. */
size_t pd_ring_bytes(uint32_t words, uint32_t n_slots);

/* Makes an empty ring in `memory` (8-byte aligned) whose first frame will have
 * index `first`. 0, or -EINVAL. */
int pd_ring_create(struct pd_ring *ring, void *memory, size_t bytes, uint32_t words,
                   uint32_t n_slots, uint64_t first);

/* A view of a ring that somebody else made. 0, or -EINVAL when it is not one. */
int pd_ring_attach(struct pd_ring *ring, void *memory, size_t bytes);

/* Writer. Overwrites the oldest frame. Returns the frame's index. */
uint64_t pd_ring_push(struct pd_ring *ring, const uint64_t *frame);

/* Writer. The next frame will have this index; what lies between was never
 * written. Going back is refused with -EINVAL. */
int pd_ring_skip(struct pd_ring *ring, uint64_t next);

/* Any thread. One past the newest frame; the oldest that may still be there. */
uint64_t pd_ring_next(const struct pd_ring *ring);
uint64_t pd_ring_oldest(const struct pd_ring *ring);

/* Any thread. Copies frame `index`. 0, -EAGAIN when it is not written yet, or
 * -EOVERFLOW when it is gone: overwritten, or skipped over by the writer. */
int pd_ring_read(const struct pd_ring *ring, uint64_t index, uint64_t *frame);

#endif
