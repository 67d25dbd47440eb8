"""The phase of a rhythm. See pll.pyi."""

from collections import namedtuple

from libc.math cimport fmod
from libc.stdlib cimport free
from libc.string cimport memcpy

import numpy as np

from phantomd.core.block cimport block, check_restored

STATES = ("defined", "filling", "missing", "flat", "outside", "noise")
FIELDS = ("phase_rad", "ref_phase_rad", "phase_error_rad", "phase_error_mean", "phase_error_var",
          "plv", "sd_rad", "frequency_hz", "amplitude_uv", "snr_db", "subharmonic", "locked")

cdef enum:
    NUMBERS = 11
    COLUMNS = 12

PhaseReport = namedtuple("PhaseReport", ("defined", "state", "locked", *FIELDS[:NUMBERS]))


cdef class PhaseTracker:

    def __cinit__(self, ref_hz, *, double rate_hz, uint32_t channels, double span_hz=1.0,
                  double window_s=1.0, mains_hz=(50.0, 60.0), double false_alarm=0.008):
        mains = tuple(mains_hz)
        if len(mains) > 2 or not (span_hz > 0 and window_s > 0 and false_alarm > 0):
            raise ValueError("at most two frequencies of mains; span, window and false alarm "
                             "are above 0")
        cdef pd_pll_config config
        config.rate_hz = rate_hz
        config.ref_hz = ref_hz
        config.span_hz = span_hz
        config.window_s = window_s
        config.false_alarm = false_alarm
        config.mains_hz[0] = mains[0] if len(mains) > 0 else 0
        config.mains_hz[1] = mains[1] if len(mains) > 1 else 0
        config.n_channels = channels
        cdef size_t size = pd_pll_bytes(&config)
        if size == 0:
            raise ValueError(
                f"no phase of {ref_hz:g} ± {span_hz:g} Hz at {rate_hz:g} Hz in windows of "
                f"{window_s:g} s ({channels} channels, false alarm {false_alarm:g}): the reference "
                "has 0.75 turns a window at least and lies under 0.4 of the rate, a window has "
                "32 to 16384 samples, span x window is at most 4, false alarm 1e-6 to 0.1"
            )
        self.pll = <pd_pll *>block(size, "phases")
        with nogil:
            pd_pll_init(self.pll, &config)

    def __dealloc__(self):
        free(self.pll)

    @property
    def channels(self):
        return self.pll.n_channels

    @property
    def ref_hz(self):
        return self.pll.ref_hz

    @property
    def rate_hz(self):
        return self.pll.rate_hz

    @property
    def window(self):
        return self.pll.samples

    @property
    def hop(self):
        return self.pll.hop

    @property
    def range_hz(self):
        return (self.pll.low_hz, self.pll.high_hz)

    @property
    def count(self):
        return self.pll.count

    @property
    def nbytes(self):
        return self.pll.bytes

    cdef void run(self, const double *x, uint32_t n, double *out) noexcept nogil:
        cdef pd_pll_report report
        cdef uint32_t channel
        if n:
            pd_pll_push(self.pll, x, self.pll.n_channels, n)
        if out == NULL:
            return
        for channel in range(self.pll.n_channels):
            pd_pll_read(self.pll, channel, &report)
            memcpy(out, &report.phase_rad, NUMBERS * sizeof(double))
            out[NUMBERS] = report.locked
            out += COLUMNS

    def push(self, x):
        cdef const double[:, ::1] view = np.ascontiguousarray(x, dtype=np.float64)
        if view.shape[1] != self.pll.n_channels:
            raise ValueError(f"samples of {view.shape[1]} channels, not {self.pll.n_channels}")
        if view.shape[0]:
            with nogil:
                self.run(&view[0, 0], <uint32_t>view.shape[0], NULL)

    def read(self):
        out = np.empty((self.pll.n_channels, COLUMNS))
        cdef double[:, ::1] view = out
        with nogil:
            self.run(NULL, 0, &view[0, 0])
        return out

    def report(self, uint32_t channel):
        cdef pd_pll_report report
        if channel >= self.pll.n_channels:
            raise ValueError(f"channel {channel} of {self.pll.n_channels}")
        with nogil:
            pd_pll_read(self.pll, channel, &report)
        return PhaseReport(
            bool(report.defined), STATES[report.state], bool(report.locked), report.phase_rad,
            report.ref_phase_rad, report.phase_error_rad, report.phase_error_mean,
            report.phase_error_var, report.plv, report.sd_rad, report.frequency_hz,
            report.amplitude_uv, report.snr_db, report.subharmonic
        )

    def bind(self, x, out):
        return Bound(self, x, out)

    def set_phase(self, double turns):
        pd_pll_set_phase(self.pll, fmod(turns, 1.0))

    def tie(self, uint64_t index, int64_t t_ns):
        pd_pll_tie(self.pll, index, t_ns)

    def reference(self, uint64_t index):
        return pd_pll_reference(self.pll, index)

    def reset(self):
        pd_pll_reset(self.pll)

    def save(self):
        return (<char *>self.pll)[:self.pll.bytes]

    def restore(self, bytes saved):
        check_restored(pd_pll_restore(self.pll, <const char *>saved, <size_t>len(saved)), saved)


cdef class Bound:
    cdef PhaseTracker of
    cdef const double[:, ::1] x
    cdef double[:, ::1] out

    def __cinit__(self, PhaseTracker of, const double[:, ::1] x, double[:, ::1] out):
        if x.shape[1] != of.pll.n_channels or x.shape[0] == 0:
            raise ValueError(f"samples of {x.shape[0]} x {x.shape[1]}, not of "
                             f"{of.pll.n_channels} channels")
        if out.shape[0] != of.pll.n_channels or out.shape[1] != COLUMNS:
            raise ValueError(f"out is {out.shape[0]} x {out.shape[1]}, not "
                             f"{of.pll.n_channels} channels x {COLUMNS}")
        self.of = of
        self.x = x
        self.out = out

    def __call__(self):
        with nogil:
            self.of.run(&self.x[0, 0], <uint32_t>self.x.shape[0], &self.out[0, 0])
