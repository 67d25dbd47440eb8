"""Ring of fixed-size frames. See ring.pyi."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cython cimport no_gc_clear
from libc.errno cimport EAGAIN, errno
from libc.stdint cimport uint32_t, uint64_t

import numpy as np

cdef extern from "<sys/mman.h>" nogil:
    int mlock(const void *at, size_t n)


@no_gc_clear                        # a thread may be using its memory until the last owner goes
cdef class Ring:
    def __init__(self, uint32_t words, uint32_t n_slots, *, uint64_t first=0, memory=None):
        cdef size_t need = pd_ring_bytes(words, n_slots)
        if need == 0:
            raise ValueError(f"a ring has at least one word and a power of two of slots, "
                             f"not {words} and {n_slots}")
        self._hold(np.zeros(need // 8, np.uint64) if memory is None else memory)
        if pd_ring_create(&self.ring, self.view.buf, <size_t>self.view.len, words, n_slots, first):
            raise ValueError(f"the memory must be 8-byte aligned and hold {need} bytes")

    @classmethod
    def attach(cls, memory):
        cdef Ring ring = cls.__new__(cls)
        ring._hold(memory)
        if pd_ring_attach(&ring.ring, ring.view.buf, <size_t>ring.view.len):
            raise ValueError("there is no ring in this memory")
        return ring

    def _hold(self, memory):
        PyObject_GetBuffer(memory, &self.view, PyBUF_WRITABLE)
        self.viewed = True
        self.memory = memory

    def __dealloc__(self):
        if self.viewed:
            PyBuffer_Release(&self.view)

    @staticmethod
    def bytes_needed(uint32_t words, uint32_t n_slots):
        return pd_ring_bytes(words, n_slots)

    def lock(self):
        return 0 if mlock(self.view.buf, <size_t>self.view.len) == 0 else errno

    @property
    def words(self):
        return self.ring.words

    @property
    def n_slots(self):
        return self.ring.n_slots

    @property
    def next(self):
        return pd_ring_next(&self.ring)

    @property
    def oldest(self):
        return pd_ring_oldest(&self.ring)

    def push(self, const uint64_t[::1] frame):
        if frame.shape[0] != self.ring.words:
            raise ValueError(f"a frame has {self.ring.words} words, not {frame.shape[0]}")
        return pd_ring_push(&self.ring, &frame[0])

    def skip(self, uint64_t next):
        if pd_ring_skip(&self.ring, next):
            raise ValueError(f"a ring can't go back to {next}")

    def read(self, uint64_t index):
        frame = np.empty(self.ring.words, np.uint64)
        cdef uint64_t[::1] words = frame
        cdef int rc = pd_ring_read(&self.ring, index, &words[0])
        if rc == 0:
            return frame
        if rc == -EAGAIN:
            raise IndexError(f"frame {index} is not written yet")
        raise LookupError(f"frame {index} is gone")
