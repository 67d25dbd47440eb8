"""Spikes of a broadband array. See spike.pyi."""

from libc.errno cimport EDOM, ERANGE
from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t

from typing import Any, NamedTuple

import numpy as np

from phantomd.core.block cimport aligned
from phantomd.core.sos cimport pd_fp_enter, pd_fp_leave, pd_sos_section

EVENT = np.dtype([("index", "<i8"), ("channel", "<u4"), ("value", "<f4")])
MISSING, SETTLING, UNARMED = 1, 2, 4
_REFERENCES = {"none": PD_SPIKE_NO_REFERENCE, "average": PD_SPIKE_AVERAGE,
               "median": PD_SPIKE_MEDIAN}
_STAGES = {"band": PD_SPIKE_ON_BAND, "raw": PD_SPIKE_ON_RAW}
_POLARITIES = {"negative": PD_SPIKE_NEGATIVE, "positive": PD_SPIKE_POSITIVE,
               "both": PD_SPIKE_BOTH}


class Spikes(NamedTuple):
    """What one block gave. See spike.pyi."""

    first_bin: int
    counts: Any
    flags: Any
    events: Any
    overflow: int


def _choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}, not {value!r}")
    return choices[value]


cdef object _good(good, n_channels):
    chosen = np.ones(n_channels, np.uint8) if good is None else \
        np.ascontiguousarray(np.asarray(good, dtype=np.bool_), dtype=np.uint8)
    if chosen.shape != (n_channels,):
        raise ValueError(f"good has shape {chosen.shape}, not ({n_channels},)")
    return chosen


cdef class SpikeDetector:

    def __cinit__(self, sos, n_channels, rate_hz, *, bin_ms=25.0, reference="average",
                  reference_on="band", good=None, threshold=4.5, polarity="negative",
                  refractory_ms=1.0, scale=1.0):
        design = np.array(sos, dtype=np.float64, ndmin=2)
        if design.ndim != 2 or design.shape[1] != 6 or \
                not 1 <= len(design) <= PD_SPIKE_MAX_SECTIONS:
            raise ValueError(f"the band-pass has shape {design.shape}, not (sections, 6) with 1 to "
                             f"{PD_SPIKE_MAX_SECTIONS} sections")
        if not (design[:, 3] == 1).all():
            raise ValueError("the band-pass is not normalised: a0 must be 1")
        if not 1 <= n_channels <= PD_SPIKE_MAX_CHANNELS:
            raise ValueError(f"{n_channels} channels, not 1 to {PD_SPIKE_MAX_CHANNELS}")
        cdef pd_sos_section sections[PD_SPIKE_MAX_SECTIONS]
        cdef pd_spike_config config
        cdef uint32_t i
        config.n_channels = n_channels
        config.n_sections = len(design)
        for i in range(config.n_sections):
            (sections[i].b0, sections[i].b1, sections[i].b2, _,
             sections[i].a1, sections[i].a2) = design[i]
        config.sections = sections
        config.rate_hz = rate_hz
        if not 0 < rate_hz <= 1e9:
            raise ValueError(f"{rate_hz} Hz is no sampling rate")
        config.bin_samples = bin_ms * rate_hz / 1e3
        refractory = round(refractory_ms * rate_hz / 1e3)
        if not 0 <= refractory < 2**31:
            raise ValueError(f"a refractory time of {refractory_ms} ms")
        config.refractory = max(1, refractory)
        config.threshold = threshold
        config.scale = scale
        config.reference = _choice("reference", reference, _REFERENCES)
        config.reference_on = _choice("reference_on", reference_on, _STAGES)
        config.polarity = _choice("polarity", polarity, _POLARITIES)
        cdef size_t need = pd_spike_bytes(config.n_channels, config.n_sections)
        self.state = aligned(need)
        cdef uint8_t[::1] view = self.state
        cdef const uint8_t[::1] chosen = _good(good, n_channels)
        cdef int rc = pd_spike_init(&view[0], need, &config, &chosen[0])
        if rc == -EDOM:
            raise ValueError("the band-pass is unstable in float32: a pole is not inside the unit "
                             "circle")
        if rc == -ERANGE:
            raise ValueError("the band-pass takes more than four million samples to settle")
        if rc:
            raise ValueError("a coefficient, bin, threshold or scale that is none, zero or too "
                             "large, or a reference without a good channel")
        self.spike = <pd_spike *>&view[0]
        self.n_channels = n_channels
        self.rate_hz = rate_hz
        self.bin_samples = config.bin_samples

    cdef int check_free(self) except -1:
        if self.busy:
            raise RuntimeError("another thread is running this detector")
        return 0

    @property
    def index(self):
        return pd_spike_index(self.spike)

    @property
    def bin(self):
        return pd_spike_bin(self.spike)

    @property
    def settle(self):
        return pd_spike_settle(self.spike)

    @property
    def every(self):
        return pd_spike_every(self.spike)

    @property
    def noise(self):
        return np.array([pd_spike_noise(self.spike, i) for i in range(self.n_channels)],
                        np.float32)

    def set_good(self, good):
        cdef const uint8_t[::1] chosen = _good(good, self.n_channels)
        self.check_free()
        if pd_spike_good(self.spike, &chosen[0]):
            raise ValueError("no good channel is left for the reference")

    def reset(self):
        self.check_free()
        pd_spike_reset(self.spike)

    def process(self, x, *, y=None, uint32_t max_events=65536):
        samples = np.asarray(x)
        if samples.dtype != np.int16:
            samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 2 or samples.shape[1] != self.n_channels:
            raise ValueError(f"x has shape {samples.shape}, not (n, {self.n_channels})")
        if samples.shape[0] > 0xFFFFFFFF:
            raise ValueError("more than 2**32 samples at once")
        samples = np.ascontiguousarray(samples)
        self.check_free()
        self.busy = True
        try:
            return self.go(samples, y, max_events)
        finally:
            self.busy = False

    cdef object go(self, samples, y, uint32_t max_events):
        cdef uint32_t n = samples.shape[0], n_bins = pd_spike_bins(self.spike, samples.shape[0])
        cdef pd_spike_out out
        first_bin = self.bin
        counts = np.zeros((n_bins, self.n_channels), np.uint16)
        flags = np.zeros((n_bins, self.n_channels), np.uint8)
        events = np.empty(max_events, EVENT)
        cdef uint16_t[:, ::1] counts_view = counts
        cdef uint8_t[:, ::1] flags_view = flags
        cdef uint8_t[::1] events_view = events.view(np.uint8)
        cdef float[:, ::1] y_view
        out.counts = &counts_view[0, 0] if n_bins else NULL
        out.flags = &flags_view[0, 0] if n_bins else NULL
        out.max_bins = n_bins
        out.n_bins = out.n_events = 0
        out.overflow = 0
        out.events = <pd_spike_event *>&events_view[0] if max_events else NULL
        out.max_events = max_events
        out.y = NULL
        out.y_stride = self.n_channels
        if y is not None:
            y_view = y
            if y_view.shape[0] != n or y_view.shape[1] != self.n_channels:
                raise ValueError(f"y has shape {np.shape(y)}, not {samples.shape}")
            if np.may_share_memory(y, samples):
                raise ValueError("x and y lie in the same memory")
            out.y = &y_view[0, 0] if n else NULL
        if n:
            self.run(samples, n, &out)
        found = events[:out.n_events]
        return Spikes(first_bin, counts, flags, found.copy(), out.overflow)

    cdef int run(self, samples, uint32_t n, pd_spike_out *out) except -1:
        cdef const int16_t[:, ::1] i16
        cdef const float[:, ::1] f32
        cdef unsigned fp
        if samples.dtype == np.int16:
            i16 = samples
            with nogil:
                fp = pd_fp_enter()
                pd_spike_run_i16(self.spike, &i16[0, 0], self.n_channels, n, out)
                pd_fp_leave(fp)
        else:
            f32 = samples
            with nogil:
                fp = pd_fp_enter()
                pd_spike_run_f32(self.spike, &f32[0, 0], self.n_channels, n, out)
                pd_fp_leave(fp)
        return 0
