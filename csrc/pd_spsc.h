/* Queue of variable-size records between two threads: one producer, one
 * consumer, bounded, never blocking. A record that does not fit is dropped
 * and counted; nothing is ever half written.
 *
 * The producer side is safe on a deadline: no allocation, no system call.
 */
#ifndef PD_SPSC_H
#define PD_SPSC_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct pd_spsc {
    uint8_t *buffer;
    uint32_t bytes;                 /* a power of two */
    _Atomic uint64_t written;       /* producer */
    _Atomic uint64_t dropped;       /* producer */
    _Atomic uint64_t taken;         /* consumer */
};

/* `buffer` of `bytes` (a power of two) is the caller's. 0 or -EINVAL. */
int pd_spsc_init(struct pd_spsc *queue, void *buffer, uint32_t bytes);

/* Producer. The record is the two parts one after the other (either may be
 * empty). 0, or -ENOSPC: dropped and counted. */
int pd_spsc_put(struct pd_spsc *queue, const void *head, uint32_t head_bytes,
                const void *body, uint32_t body_bytes);

/* Consumer. Copies the next record; its size, 0 when empty, -EMSGSIZE when
 * `room` is too small (the record stays). */
int64_t pd_spsc_take(struct pd_spsc *queue, void *out, uint32_t room);

#endif
