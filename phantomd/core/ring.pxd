from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "pd_ring.h" nogil:
    struct pd_ring:
        uint32_t words
        uint32_t n_slots
    size_t pd_ring_bytes(uint32_t words, uint32_t n_slots)
    int pd_ring_create(pd_ring *ring, void *memory, size_t bytes, uint32_t words,
                       uint32_t n_slots, uint64_t first)
    int pd_ring_attach(pd_ring *ring, void *memory, size_t bytes)
    uint64_t pd_ring_push(pd_ring *ring, const uint64_t *frame)
    int pd_ring_skip(pd_ring *ring, uint64_t next)
    uint64_t pd_ring_next(const pd_ring *ring)
    uint64_t pd_ring_oldest(const pd_ring *ring)
    int pd_ring_read(const pd_ring *ring, uint64_t index, uint64_t *frame)


cdef class Ring:
    cdef pd_ring ring
    cdef object memory              # keeps the buffer alive
    cdef Py_buffer view
    cdef bint viewed
