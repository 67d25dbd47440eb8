"""Samples through shared memory: the daemon's side and the child's. See shared.pyi."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cython cimport no_gc_clear
from libc.stdint cimport int64_t, uint32_t, uint64_t

import os

from phantomd.core.intake cimport Driver, Intake, PD_NO_TIME, pd_intake


cdef extern from "pd_shared.h" nogil:
    enum:
        PD_SHARED_RESTART
    struct pd_shared_counts:
        uint64_t overrun
        uint64_t refused
        uint64_t restamped
    struct pd_shared:
        pd_intake *intake
    struct pd_shared_writer:
        uint32_t n_values
    size_t pd_shared_bytes(uint32_t n_values, uint32_t n_slots)
    int pd_shared_init(pd_shared *shared, void *memory, size_t bytes, uint32_t n_slots,
                       pd_intake *intake, pd_shared_counts *counts, int wake_fd, int64_t hang_ns)
    int pd_shared_woken(void *self, int64_t now_ns)
    int pd_shared_attach(pd_shared_writer *writer, void *memory, size_t bytes, uint32_t n_values)
    void pd_shared_put(pd_shared_writer *writer, uint64_t index, uint32_t behind,
                       int64_t arrival_ns, int64_t device_ns, uint32_t flags, const double *values)
    void pd_shared_beat(pd_shared_writer *writer)
    int pd_shared_guard(int fd)


def bytes_needed(uint32_t n_values, uint32_t n_slots):
    return pd_shared_bytes(n_values, n_slots)


def guard(int fd):
    cdef int rc = pd_shared_guard(fd)
    if rc:
        raise OSError(-rc, os.strerror(-rc))


@no_gc_clear                        # its pump may be running until it goes
cdef class SharedDriver(Driver):
    cdef pd_shared shared
    cdef pd_shared_counts counts
    cdef object memory
    cdef Py_buffer view
    cdef bint viewed

    def __cinit__(self, Intake intake not None, memory, uint32_t n_slots, int wake_fd, *,
                  int64_t hang_ns):
        PyObject_GetBuffer(memory, &self.view, PyBUF_WRITABLE)
        self.viewed = True
        self.memory = memory
        self.intake = intake
        if pd_shared_init(&self.shared, self.view.buf, <size_t>self.view.len, n_slots,
                          &intake.intake, &self.counts, wake_fd, hang_ns):
            raise ValueError(f"the memory must hold {pd_shared_bytes(intake.n_values, n_slots)} "
                             "bytes (0: there is no such ring)")
        self.driver.self = &self.shared
        self.driver.intake = &intake.intake
        self.driver.woken = pd_shared_woken

    def __dealloc__(self):
        if self.viewed:
            PyBuffer_Release(&self.view)

    def go_on(self, Intake intake not None):
        cdef Intake own = self.intake
        if (intake.n_values, intake.rate_hz, intake.modulus) != (own.n_values, own.rate_hz,
                                                                 own.modulus):
            raise ValueError(f"{own.n_values} values at {own.rate_hz} Hz and modulus {own.modulus} "
                             "don't go on in an intake of another form")
        self.intake = intake
        self.shared.intake = &intake.intake
        self.driver.intake = &intake.intake

    def counters(self):
        return {
            "overrun": self.counts.overrun,
            "refused": self.counts.refused,
            "restamped": self.counts.restamped,
        }


cdef class SharedWriter:
    cdef pd_shared_writer writer
    cdef object memory
    cdef Py_buffer view
    cdef bint viewed

    def __cinit__(self, memory, uint32_t n_values):
        PyObject_GetBuffer(memory, &self.view, PyBUF_WRITABLE)
        self.viewed = True
        self.memory = memory
        if pd_shared_attach(&self.writer, self.view.buf, <size_t>self.view.len, n_values):
            raise ValueError(f"there is no ring for {n_values} values in this memory")

    def __dealloc__(self):
        if self.viewed:
            PyBuffer_Release(&self.view)

    def put(self, const double[:, ::1] values, const uint64_t[::1] index,
            const int64_t[::1] arrival_ns, const int64_t[::1] device_ns=None, *,
            bint together=False, bint restart=False):
        cdef Py_ssize_t n = values.shape[0], i
        cdef bint stamped = device_ns is not None
        if values.shape[1] != self.writer.n_values:
            raise ValueError(f"a sample has {self.writer.n_values} values, not {values.shape[1]}")
        if index.shape[0] != n or arrival_ns.shape[0] != n or (stamped and device_ns.shape[0] != n):
            raise ValueError(f"{n} samples need {n} indices and stamps")
        with nogil:
            for i in range(n):
                pd_shared_put(&self.writer, index[i], <uint32_t>(n - 1 - i) if together else 0,
                              arrival_ns[i], device_ns[i] if stamped else PD_NO_TIME,
                              PD_SHARED_RESTART if restart and i == 0 else 0, &values[i, 0])

    def beat(self):
        pd_shared_beat(&self.writer)
