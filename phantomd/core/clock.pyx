"""Clock of a device. See clock.pyi."""

from libc.math cimport NAN, isfinite, llrint

import msgspec
import numpy as np

NONE = PD_CLOCK_NONE
LOCKED = PD_CLOCK_LOCKED
RELOCKED = PD_CLOCK_RELOCKED
FOLLOWED = PD_CLOCK_FOLLOWED


class ClockReport(msgspec.Struct, frozen=True):
    locked: bool
    rate_hz: float
    rate_sd_ppm: float
    offset_sd_us: float
    uncertainty_us: float
    jitter_us: float
    clump: float
    blocks: int
    steps: int
    follows: int


cdef _columns(indices, arrivals_ns, behind):
    """Contiguous columns of one length, none of it negative where the C side is unsigned."""
    index = np.ascontiguousarray(indices, np.int64)
    arrival = np.ascontiguousarray(arrivals_ns, np.int64)
    newer = np.zeros(index.shape, np.int64) if behind is None else np.ascontiguousarray(
        behind, np.int64)
    if index.ndim != 1 or index.shape != arrival.shape or index.shape != newer.shape:
        raise ValueError("indices, arrivals_ns and behind are vectors of one length")
    if index.size and (index.min() < 0 or newer.min() < 0 or newer.max() > 0xFFFFFFFF):
        raise ValueError("indices and behind are not negative, behind is below 2**32")
    return index, arrival, newer


cdef class Clock:
    def __init__(self, double rate_hz, double prior_ppm=0.0, double transport_us=0.0):
        if not (isfinite(rate_hz) and rate_hz > 0.0):
            raise ValueError(f"a rate is positive, not {rate_hz}")
        if not (isfinite(prior_ppm) and prior_ppm >= 0.0 and isfinite(transport_us)):
            raise ValueError("prior_ppm is not negative, and both it and transport_us are finite")
        self.rate_hz = rate_hz
        pd_clock_init(&self.clock, rate_hz, prior_ppm, llrint(transport_us * 1e3))

    cdef int _require_lock(self) except -1:
        if not pd_clock_is_locked(&self.clock):
            raise LookupError("the clock is not locked: it has seen too few samples")
        return 0

    def observe(self, uint64_t index, int64_t arrival_ns, uint32_t behind=0):
        return pd_clock_observe(&self.clock, index, arrival_ns, behind)

    def observe_many(self, indices, arrivals_ns, behind=None):
        cdef const int64_t[::1] index, arrival, newer
        cdef int32_t[::1] event
        cdef Py_ssize_t i
        index, arrival, newer = _columns(indices, arrivals_ns, behind)
        events = np.empty(index.shape[0], np.int32)
        event = events
        with nogil:
            for i in range(index.shape[0]):
                event[i] = pd_clock_observe(&self.clock, <uint64_t>index[i], arrival[i],
                                            <uint32_t>newer[i])
        return events

    def observe_trace(self, indices, arrivals_ns, behind=None):
        cdef const int64_t[::1] index, arrival, newer
        cdef double[::1] told
        cdef double period_ns = 1e9 / self.rate_hz
        cdef Py_ssize_t i
        index, arrival, newer = _columns(indices, arrivals_ns, behind)
        trace_ns = np.empty(index.shape[0])
        told = trace_ns
        with nogil:
            for i in range(index.shape[0]):
                pd_clock_observe(&self.clock, <uint64_t>index[i], arrival[i], <uint32_t>newer[i])
                if pd_clock_is_locked(&self.clock):
                    told[i] = pd_clock_time_ns(&self.clock, <double>index[i], arrival[0]) \
                        - <double>(index[i] - index[0]) * period_ns
                else:
                    told[i] = NAN
        return trace_ns

    def time_ns(self, double index):
        self._require_lock()
        # Twice, so that the result is exact to 1 ns however far t is from 0.
        cdef int64_t near_ns = llrint(pd_clock_time_ns(&self.clock, index, 0))
        return near_ns + llrint(pd_clock_time_ns(&self.clock, index, near_ns))

    def index(self, int64_t t_ns):
        self._require_lock()
        return pd_clock_index(&self.clock, t_ns, 0)

    @property
    def locked(self):
        return bool(pd_clock_is_locked(&self.clock))

    def report(self):
        cdef pd_clock_report report
        pd_clock_get_report(&self.clock, &report)
        return ClockReport(
            locked=bool(report.locked),
            rate_hz=report.rate_hz,
            rate_sd_ppm=report.rate_sd_ppm,
            offset_sd_us=report.offset_sd_ns * 1e-3,
            uncertainty_us=report.uncertainty_ns * 1e-3,
            jitter_us=report.jitter_ns * 1e-3,
            clump=report.clump,
            blocks=report.blocks,
            steps=report.steps,
            follows=report.follows,
        )

    def restart(self):
        pd_clock_restart(&self.clock)
