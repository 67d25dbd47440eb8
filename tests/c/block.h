/* Memory exactly as large as it may be read or written, so that a sanitizer sees one byte more. It
 * holds no zeros: what reads before it writes is told by its results. */
#ifndef BLOCK_H
#define BLOCK_H

#include <stdlib.h>
#include <string.h>

static void *block_at(size_t alignment, size_t bytes)
{
    void *memory;
    if (posix_memalign(&memory, alignment, bytes) != 0) abort();
    memset(memory, 0x5a, bytes);
    return memory;
}

static void *block(size_t bytes)
{
    return block_at(sizeof(double), bytes);
}

#endif
