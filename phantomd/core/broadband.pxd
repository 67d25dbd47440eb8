from libc.stdint cimport int16_t, int64_t, uint32_t, uint64_t

from phantomd.core.intake cimport Driver
from phantomd.core.ring cimport Ring, pd_ring
from phantomd.core.spike cimport SpikeDetector, pd_spike


cdef extern from "pd_broadband.h" nogil:
    enum:
        PD_BROADBAND_LATE
        PD_BROADBAND_WRAPPED
        PD_BROADBAND_HEAD_WORDS

    struct pd_broadband_source:
        const float *f32
        const int16_t *i16
        uint64_t n_samples
        uint32_t n_channels
        int loop
        double rate_hz
        int64_t late_ns

    struct pd_broadband:
        int64_t start_ns
        uint64_t bins, late, spikes
        int ended

    uint32_t pd_broadband_words(uint32_t n_channels) noexcept
    int pd_broadband_init(pd_broadband *device, const pd_broadband_source *source, pd_spike *spike,
                          pd_ring *ring, uint64_t *record) noexcept
    int64_t pd_broadband_advance(void *device, int64_t now_ns) noexcept


cdef class BroadbandDriver(Driver):
    cdef pd_broadband device
    cdef readonly Ring ring
    cdef readonly SpikeDetector detector
    cdef object samples, record         # what the device points to
