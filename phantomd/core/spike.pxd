from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from phantomd.core.sos cimport pd_sos_section


cdef extern from "pd_spike.h" nogil:
    enum:
        PD_SPIKE_MAX_CHANNELS
        PD_SPIKE_MAX_SECTIONS
        PD_SPIKE_NO_REFERENCE, PD_SPIKE_AVERAGE, PD_SPIKE_MEDIAN
        PD_SPIKE_ON_BAND, PD_SPIKE_ON_RAW
        PD_SPIKE_NEGATIVE, PD_SPIKE_POSITIVE, PD_SPIKE_BOTH

    struct pd_spike_config:
        double rate_hz, bin_samples, threshold, scale
        uint32_t refractory
        uint32_t n_channels, n_sections
        uint32_t reference, reference_on, polarity
        const pd_sos_section *sections

    struct pd_spike_event:
        int64_t index
        uint32_t channel
        float value

    struct pd_spike_out:
        uint16_t *counts
        uint8_t *flags
        uint32_t max_bins, n_bins
        pd_spike_event *events
        uint32_t max_events, n_events
        uint64_t overflow
        float *y
        size_t y_stride

    struct pd_spike:
        pass

    size_t pd_spike_bytes(uint32_t n_channels, uint32_t n_sections) noexcept
    int pd_spike_init(void *memory, size_t n, const pd_spike_config *config,
                      const uint8_t *good) noexcept
    void pd_spike_reset(pd_spike *spike) noexcept
    int pd_spike_good(pd_spike *spike, const uint8_t *good) noexcept
    uint32_t pd_spike_bins(const pd_spike *spike, uint32_t n) noexcept
    int pd_spike_run_f32(pd_spike *spike, const float *x, size_t x_stride, uint32_t n,
                         pd_spike_out *out) noexcept
    int pd_spike_run_i16(pd_spike *spike, const int16_t *x, size_t x_stride, uint32_t n,
                         pd_spike_out *out) noexcept
    int64_t pd_spike_index(const pd_spike *spike) noexcept
    int64_t pd_spike_bin(const pd_spike *spike) noexcept
    int64_t pd_spike_bin_end(const pd_spike *spike) noexcept
    uint32_t pd_spike_settle(const pd_spike *spike) noexcept
    uint32_t pd_spike_every(const pd_spike *spike) noexcept
    float pd_spike_noise(const pd_spike *spike, uint32_t channel) noexcept


cdef class SpikeDetector:
    cdef pd_spike *spike                # within state
    cdef readonly object state
    cdef readonly uint32_t n_channels
    cdef readonly double rate_hz, bin_samples
    cdef bint busy
    cdef int check_free(self) except -1
    cdef object go(self, samples, y, uint32_t max_events)
    cdef int run(self, samples, uint32_t n, pd_spike_out *out) except -1
