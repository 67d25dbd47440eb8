"""A broadband recording played through the spike kernel. See broadband.pyi."""

from cython cimport no_gc_clear
from libc.stdint cimport int16_t, int64_t, uint32_t, uint64_t

import numpy as np

LATE, WRAPPED = PD_BROADBAND_LATE, PD_BROADBAND_WRAPPED
HEAD_WORDS = PD_BROADBAND_HEAD_WORDS


def words(uint32_t n_channels):
    return pd_broadband_words(n_channels)


@no_gc_clear                        # a thread may be using its memory until the last owner goes
cdef class BroadbandDriver(Driver):
    def __cinit__(self, SpikeDetector detector not None, samples, Ring ring not None, *,
                  loop=False, int64_t late_ns=25_000_000):
        cdef const float[:, ::1] f32
        cdef const int16_t[:, ::1] i16
        cdef uint64_t[::1] record
        cdef pd_broadband_source source
        if samples.ndim != 2 or samples.shape[1] != detector.n_channels or samples.shape[0] == 0:
            raise ValueError(f"the recording has shape {samples.shape}, not "
                             f"(n, {detector.n_channels})")
        source.f32 = NULL
        source.i16 = NULL
        if samples.dtype == np.int16:
            i16 = samples
            source.i16 = &i16[0, 0]
        elif samples.dtype == np.float32:
            f32 = samples
            source.f32 = &f32[0, 0]
        else:
            raise ValueError(f"the recording is {samples.dtype}, not int16 or float32")
        source.n_samples = samples.shape[0]
        source.n_channels = detector.n_channels
        source.loop = bool(loop)
        source.rate_hz = detector.rate_hz
        source.late_ns = late_ns
        self.samples = samples
        self.record = np.zeros(pd_broadband_words(detector.n_channels), np.uint64)
        record = self.record
        detector.check_free()
        if pd_broadband_init(&self.device, &source, detector.spike, &ring.ring, &record[0]):
            raise ValueError("the detector has begun, the lateness is negative, or the ring's frames are not of "
                             f"{len(self.record)} words")
        detector.busy = True        # it is the device's from now on
        self.detector = detector
        self.ring = ring
        self.driver.self = &self.device
        self.driver.intake = NULL
        self.driver.advance = pd_broadband_advance

    @property
    def bins(self):
        return self.device.bins

    @property
    def late(self):
        return self.device.late

    @property
    def spikes(self):
        return self.device.spikes

    @property
    def ended(self):
        return bool(self.device.ended)
