"""Intake journal: queues and writer thread. See journal.pyi."""

from cython cimport no_gc_clear
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

import os

from phantomd.core.engine cimport Engine
from phantomd.core.intake cimport Intake


cdef extern from *:
    """
    #include "pd_spsc.h"
    #include "pd_intake.h"
    static void pd_tap_set(_Atomic(struct pd_spsc *) *where, struct pd_spsc *tap)
    {
        atomic_store_explicit(where, tap, memory_order_release);
    }
    """
    void pd_tap_set(void *where, pd_spsc *tap) nogil

cdef extern from "pd_spsc.h" nogil:
    size_t SPSC_BYTES "sizeof(struct pd_spsc)"


@no_gc_clear                        # a thread may be using its memory until the last owner goes
cdef class Tap:
    def __cinit__(self, uint32_t n_bytes=1 << 21):
        self.queue = <pd_spsc *>calloc(1, SPSC_BYTES)
        self.buffer = <uint8_t *>malloc(n_bytes)
        if self.queue == NULL or self.buffer == NULL:
            raise MemoryError
        if pd_spsc_init(self.queue, self.buffer, n_bytes):
            raise ValueError("a queue has a power of two of bytes")

    def __dealloc__(self):
        free(self.queue)
        free(self.buffer)

    @property
    def dropped(self):
        return (<pd_spsc_ *>self.queue).dropped

    def put(self, unsigned kind, unsigned source, int64_t t_ns, const uint8_t[::1] body):
        cdef const uint8_t *data = &body[0] if body.shape[0] else NULL
        return pd_journal_put(self.queue, kind, source, t_ns, data, body.shape[0]) == 0

    def clear(self):
        cdef uint8_t *scratch = <uint8_t *>malloc(2 * PD_JOURNAL_MAX_BODY)
        if scratch == NULL:
            raise MemoryError
        while pd_spsc_take(self.queue, scratch, 2 * PD_JOURNAL_MAX_BODY) > 0:
            pass
        free(scratch)


@no_gc_clear                        # a thread may be using its memory until the last owner goes
cdef class JournalWriter:
    def __cinit__(self, int fd):
        self.taps = []
        self.journal = <pd_journal *>calloc(1, sizeof(pd_journal))
        self.block = <uint8_t *>malloc(2 * PD_JOURNAL_MAX_BODY)
        if self.journal == NULL or self.block == NULL:
            raise MemoryError
        cdef int rc = pd_journal_start(self.journal, fd, self.block)
        if rc:
            raise OSError(-rc, os.strerror(-rc))
        self.running = True

    def __dealloc__(self):
        if self.running:
            with nogil:
                pd_journal_stop(self.journal)
        free(self.journal)
        free(self.block)

    def add(self, Tap tap not None):
        if pd_journal_add(self.journal, tap.queue):
            raise ValueError(f"a journal has at most {PD_JOURNAL_TAPS} queues")
        self.taps.append(tap)

    def stop(self):
        cdef int rc
        if not self.running:
            return
        self.running = False
        with nogil:
            rc = pd_journal_stop(self.journal)
        if rc:
            raise OSError(-rc, os.strerror(-rc))

    @property
    def error(self):
        return self.journal.error

    @property
    def bytes_written(self):
        return self.journal.bytes_written


def tap_intake(Intake intake not None, Tap tap, unsigned slot=0):
    intake.intake.slot = slot
    pd_tap_set(&intake.intake.tap, tap.queue if tap is not None else NULL)


def tap_engine(Engine engine not None, Tap tap):
    pd_tap_set(&engine.engine.tap, tap.queue if tap is not None else NULL)
