from libc.stdint cimport uint8_t, uint32_t, uint64_t

from phantomd.core.spectrum cimport pd_welch, pd_welch_config


cdef extern from "pd_connectivity.h" nogil:
    enum:
        PD_MEASURES
        PD_CONNECTIVITY_MAX_CHANNELS
        PD_CONNECTIVITY_MAX_BANDS

    struct pd_band:
        double low_hz, high_hz

    struct pd_connectivity_config:
        pd_welch_config welch
        const pd_band *bands
        uint32_t n_channels, n_bands

    struct pd_connectivity:
        pd_welch welch
        uint32_t n_channels, n_bands, max_segments

    size_t pd_connectivity_bytes(const pd_connectivity_config *config) noexcept
    int pd_connectivity_init(pd_connectivity *plan, const pd_connectivity_config *config,
                             void *memory, size_t bytes) noexcept
    int pd_connectivity_run(pd_connectivity *plan, const double *x, size_t x_stride, uint32_t n,
                            double *out) noexcept
    void pd_connectivity_means(const pd_connectivity *plan, const double *matrices,
                               const uint8_t *use, double *means) noexcept


cdef extern from "pd_synchrony.h" nogil:
    enum:
        PD_SYNCHRONY_MAX_CHANNELS
        PD_SYNCHRONY_MAX_SAMPLES
        PD_SYNCHRONY_MAX_SURROGATES

    struct pd_synchrony_config:
        double rate_hz, low_hz, high_hz
        uint32_t n_samples, n_channels, n_surrogates
        uint32_t filtered
        uint64_t seed

    struct pd_synchrony_result:
        double plv, dispersion, z
        double null_median, null_sd

    struct pd_synchrony:
        uint32_t n_samples, n_channels, n_surrogates, n_bins, possible
        uint32_t *shifts

    size_t pd_synchrony_bytes(const pd_synchrony_config *config) noexcept
    int pd_synchrony_init(pd_synchrony *plan, const pd_synchrony_config *config, void *memory,
                          size_t bytes) noexcept
    void pd_synchrony_run(pd_synchrony *plan, const double *x, size_t x_stride, uint32_t n,
                          const uint8_t *use, double *matrix,
                          pd_synchrony_result *result) noexcept


cdef extern from "pd_time.h" nogil:
    unsigned pd_fp_enter() noexcept
    void pd_fp_leave(unsigned saved) noexcept


cdef class Connectivity:
    cdef pd_connectivity c
    cdef object memory
    cdef bint busy


cdef class PhaseSynchrony:
    cdef pd_synchrony c
    cdef object memory
    cdef double[:, ::1] plv
    cdef bint busy
