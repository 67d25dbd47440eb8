# Memory of the C core, inline in each module that has use for it.

from libc.errno cimport errno
from libc.string cimport memset

cdef extern from "stdlib.h" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *at, size_t n, int prot, int flags, int fd, long offset)
    int munmap(void *at, size_t n)
    int mlock(const void *at, size_t n)
    enum:
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_ANONYMOUS
    void *MAP_FAILED


# A vector of lanes lies in one cache line. The caller frees it.
cdef inline void *block(size_t size, str what) except NULL:
    cdef void *memory = aligned_alloc(64, (size + 63) // 64 * 64)
    if memory == NULL:
        raise MemoryError(f"{size} bytes for {what}")
    return memory


# The same as an array of bytes, zeroed.
cdef inline object aligned(size_t size):
    from numpy import uint8, zeros
    memory = zeros(size + 64, uint8)
    start = -memory.ctypes.data % 64
    return memory[start:start + size]


# Zeroed, touched, and locked where the system allows it; lock_error is 0 or errno. NULL if there
# are none; else the caller's to munmap.
cdef inline void *pages(size_t size, int *lock_error) noexcept nogil:
    cdef void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if memory == MAP_FAILED:
        return NULL
    lock_error[0] = 0 if mlock(memory, size) == 0 else errno
    memset(memory, 0, size)
    return memory


# What a kernel said of a saved state.
cdef inline int check_restored(int rc, bytes saved) except -1:
    if rc:
        raise ValueError(f"{len(saved)} bytes are not the state of this configuration")
    return 0
