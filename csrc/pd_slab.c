#define _GNU_SOURCE
#include "pd_slab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK_BYTES (4 * PD_SLAB_PAGE)
#define MOST 64                     /* blocks a chunk: bits of `used` */

struct pd_slab_chunk {
    struct pd_slab_chunk *after;
    size_t block_bytes;
    uint32_t n;
    uint64_t used;
    uint8_t *memory;
};

static size_t whole_pages(size_t bytes)
{
    return (bytes + PD_SLAB_PAGE - 1) & ~(PD_SLAB_PAGE - 1);
}

void *pd_slab_map(size_t bytes)
{
    /* A page too many, so that one can begin where the system's begin; the rest goes back. */
    const size_t wanted = whole_pages(bytes), all = wanted + PD_SLAB_PAGE;
    uint8_t *at = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return NULL;
    const size_t before = -(uintptr_t)at & (PD_SLAB_PAGE - 1);
    if (before) munmap(at, before);
    munmap(at + before + wanted, PD_SLAB_PAGE - before);
    at += before;
    (void)madvise(at, wanted, MADV_HUGEPAGE);   /* refused: ordinary pages do as well, slower */
    return at;
}

void pd_slab_unmap(void *memory, size_t bytes)
{
    if (memory) munmap(memory, whole_pages(bytes));
}

static uint64_t all_used(uint32_t n)
{
    return n == MOST ? UINT64_MAX : (1ull << n) - 1;
}

static struct pd_slab_chunk *add_chunk(struct pd_slab *slab, size_t block_bytes)
{
    struct pd_slab_chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk) return NULL;
    size_t n = CHUNK_BYTES / block_bytes;
    chunk->n = n == 0 ? 1 : n > MOST ? MOST : (uint32_t)n;
    chunk->block_bytes = block_bytes;
    chunk->memory = pd_slab_map(chunk->n * block_bytes);
    if (!chunk->memory) {
        free(chunk);
        return NULL;
    }
    chunk->after = slab->chunks;
    slab->chunks = chunk;
    return chunk;
}

void *pd_slab_take(struct pd_slab *slab, size_t bytes)
{
    const size_t block_bytes = (bytes + 63) & ~(size_t)63;
    struct pd_slab_chunk *chunk = slab->chunks;
    if (block_bytes == 0) return NULL;
    while (chunk && (chunk->block_bytes != block_bytes || chunk->used == all_used(chunk->n)))
        chunk = chunk->after;
    if (!chunk && !(chunk = add_chunk(slab, block_bytes))) return NULL;
    uint32_t place = (uint32_t)__builtin_ctzll(~chunk->used);
    chunk->used |= 1ull << place;
    return memset(chunk->memory + place * block_bytes, 0, block_bytes);
}

void pd_slab_give(struct pd_slab *slab, void *block)
{
    const uint8_t *at = block;
    for (struct pd_slab_chunk **link = &slab->chunks; at && *link; link = &(*link)->after) {
        struct pd_slab_chunk *chunk = *link;
        if (at < chunk->memory || at >= chunk->memory + chunk->n * chunk->block_bytes) continue;
        chunk->used &= ~(1ull << (size_t)(at - chunk->memory) / chunk->block_bytes);
        if (chunk->used) return;
        *link = chunk->after;
        pd_slab_unmap(chunk->memory, chunk->n * chunk->block_bytes);
        free(chunk);
        return;
    }
}
