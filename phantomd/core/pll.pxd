from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "pd_pll.h" nogil:
    struct pd_pll_config:
        double rate_hz, ref_hz, span_hz, window_s, false_alarm
        double mains_hz[2]
        uint32_t n_channels

    struct pd_pll_report:
        double phase_rad, ref_phase_rad, phase_error_rad, phase_error_mean, phase_error_var, plv
        double sd_rad, frequency_hz, amplitude_uv, snr_db, subharmonic
        int32_t defined, locked, state

    struct pd_pll:
        uint64_t count
        double rate_hz, ref_hz, low_hz, high_hz
        uint32_t n_channels, samples, hop
        size_t bytes

    size_t pd_pll_bytes(const pd_pll_config *config) noexcept
    int pd_pll_init(pd_pll *pll, const pd_pll_config *config) noexcept
    void pd_pll_reset(pd_pll *pll) noexcept
    int pd_pll_restore(pd_pll *pll, const void *saved, size_t bytes) noexcept
    void pd_pll_set_phase(pd_pll *pll, double turns) noexcept
    void pd_pll_tie(pd_pll *pll, uint64_t index, int64_t t_ns) noexcept
    double pd_pll_reference(const pd_pll *pll, uint64_t index) noexcept
    void pd_pll_push(pd_pll *pll, const double *x, size_t stride, uint32_t n) noexcept
    void pd_pll_read(pd_pll *pll, uint32_t channel, pd_pll_report *report) noexcept


cdef class PhaseTracker:
    cdef pd_pll *pll
    cdef void run(self, const double *x, uint32_t n, double *out) noexcept nogil
