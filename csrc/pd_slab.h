/* Blocks of memory in huge pages: for many things that are each touched now and then.
 *
 * A thousand sessions in pages of 4 kB are more pages than the processor remembers, and each
 * packet then waits for page tables before it waits for memory. Where the system has no huge
 * pages, these are ordinary ones.
 *
 * The caller serialises take, give and map. A block is touched when it is taken: its owner never
 * waits for a page.
 */
#ifndef PD_SLAB_H
#define PD_SLAB_H

#include <stddef.h>
#include <stdint.h>

#define PD_SLAB_PAGE ((size_t)2 << 20)

struct pd_slab_chunk;

struct pd_slab {                    /* zeroed: nothing in it */
    struct pd_slab_chunk *chunks;
};

/* Zeroed, on a cache line. NULL: no memory. Blocks of one size lie together. */
void *pd_slab_take(struct pd_slab *slab, size_t bytes);

/* What take gave, or NULL. A chunk without blocks goes back to the system. */
void pd_slab_give(struct pd_slab *slab, void *block);

/* Zeroed, whole huge pages, not touched. NULL: no memory. To unmap: the same bytes. */
void *pd_slab_map(size_t bytes);
void pd_slab_unmap(void *memory, size_t bytes);

#endif
