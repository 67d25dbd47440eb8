"""Intake, drivers and pumps. See intake.pyi."""

from cython cimport no_gc_clear
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import os

from phantomd.core.ring cimport Ring, pd_ring_next

NATIVE_HEAD_WORDS = 5
NEVER = PD_DRIVER_ENDED

cdef int64_t _time_or_none(object t_ns):
    return PD_NO_TIME if t_ns is None else t_ns


@no_gc_clear                        # a thread may be using its memory until the last owner goes
cdef class Intake:
    def __init__(self, Ring ring, double rate_hz, uint32_t n_values, uint32_t modulus=0):
        if pd_intake_init(&self.intake, &ring.ring, &self.counts, rate_hz, modulus, n_values):
            raise ValueError(f"an intake of {n_values} values at {rate_hz} Hz and modulus {modulus} "
                             f"needs a ring of {NATIVE_HEAD_WORDS + n_values} words")
        self.ring = ring
        self.rate_hz = rate_hz
        self.modulus = modulus
        self.n_values = n_values

    def counted(self, uint32_t counter, int64_t arrival_ns, const double[::1] values,
                uint32_t behind=0, device_ns=None):
        self._check(values)
        if self.modulus == 0:
            raise ValueError("this intake has no packet counter")
        return bool(pd_intake_counted(&self.intake, counter, behind, arrival_ns,
                                      _time_or_none(device_ns), &values[0]))

    def indexed(self, uint64_t index, int64_t arrival_ns, const double[::1] values,
                uint32_t behind=0, device_ns=None):
        self._check(values)
        return bool(pd_intake_indexed(&self.intake, index, behind, arrival_ns,
                                      _time_or_none(device_ns), &values[0]))

    cdef int _check(self, const double[::1] values) except -1:
        if values.shape[0] != self.n_values:
            raise ValueError(f"a sample has {self.n_values} values, not {values.shape[0]}")
        return 0

    def junk(self, uint32_t n):
        pd_intake_junk(&self.intake, n)

    def mark(self, uint32_t marker):
        pd_intake_mark(&self.intake, marker)

    def reset(self):
        pd_intake_reset(&self.intake)

    def counters(self):
        return {
            "accepted": self.counts.accepted,
            "lost": self.counts.lost,
            "duplicates": self.counts.duplicates,
            "strays": self.counts.strays,
            "resets": self.counts.resets,
            "junk_bytes": self.counts.junk_bytes,
        }

    @staticmethod
    def next_of(bytes state):
        if len(state) != sizeof(pd_intake_state):
            raise ValueError("this state is of another build")
        return (<pd_intake_state *>(<char *>state)).next

    @property
    def last_arrival_ns(self):
        cdef int64_t t_ns = self.counts.last_arrival_ns
        return None if t_ns == PD_NO_TIME else t_ns

    @property
    def journal_begun(self):
        return self.intake.tap == self.intake.tap_begun

    @property
    def next(self):
        return pd_ring_next(&self.ring.ring)

    @property
    def state(self):
        return (<const uint8_t *>&self.intake.state)[:sizeof(pd_intake_state)]

    @state.setter
    def state(self, bytes saved):
        if len(saved) != sizeof(pd_intake_state):
            raise ValueError("this state is of another build")
        memcpy(&self.intake.state, <const char *>saved, sizeof(pd_intake_state))


@no_gc_clear                        # a thread may be using its memory until the last owner goes
cdef class Driver:
    def feed(self, const uint8_t[::1] data, int64_t arrival_ns):
        if self.driver.feed == NULL:
            raise TypeError("this driver takes no bytes")
        if data.shape[0] == 0:
            return
        with nogil:
            pd_driver_feed(&self.driver, &data[0], data.shape[0], arrival_ns)

    def advance(self, int64_t now_ns):
        if self.driver.advance == NULL:
            raise TypeError("this driver goes by its bytes, not by the clock")
        cdef int64_t next_ns
        with nogil:
            next_ns = pd_driver_advance(&self.driver, now_ns)
        return next_ns

    def woken(self, int64_t now_ns):
        if self.driver.woken == NULL:
            raise TypeError("this driver has no descriptor of its own")
        cdef int rc
        with nogil:
            rc = pd_driver_woken(&self.driver, now_ns)
        return -rc

    def reset(self):
        pd_driver_reset(&self.driver)

    def begin_journal(self, int64_t t_ns):
        pd_driver_begin_journal(&self.driver, t_ns)

    @property
    def by_clock(self):
        return self.driver.advance != NULL

    @property
    def ended(self):
        return False

    @property
    def fault(self):
        return ""

    @property
    def heard_ns(self):
        return self.intake.last_arrival_ns

    @property
    def state(self):
        return (<const uint8_t *>self.driver.state)[:self.driver.state_bytes]

    @state.setter
    def state(self, bytes saved):
        if len(saved) != self.driver.state_bytes:
            raise ValueError("this state is of another build")
        memcpy(self.driver.state, <const char *>saved, self.driver.state_bytes)


@no_gc_clear                        # a thread may be using its memory until the last owner goes
cdef class Pump:
    def __cinit__(self, Driver driver not None, int fd=-1, *, int notify_fd=-1, int priority=60,
                  int cpu=-1):
        if (fd < 0) != driver.by_clock:
            raise ValueError("a driver of bytes needs a file descriptor, one by the clock none")
        self.driver = driver
        self.pump = <pd_pump *>calloc(1, sizeof(pd_pump))
        if self.pump == NULL:
            raise MemoryError
        cdef int rc = pd_pump_start(self.pump, &driver.driver, fd, notify_fd, priority, cpu)
        if rc:
            raise OSError(-rc, os.strerror(-rc))
        self.running = True

    def stop(self):
        if self.running:
            self.running = False
            with nogil:
                pd_pump_stop(self.pump)

    def __dealloc__(self):
        if self.running:
            with nogil:
                pd_pump_stop(self.pump)
        free(self.pump)

    @property
    def promote_error(self):
        return self.pump.promote_error

    @property
    def end_error(self):
        return self.pump.end_error

    @property
    def bytes_read(self):
        return self.pump.bytes

    @property
    def rounds(self):
        return self.pump.rounds
