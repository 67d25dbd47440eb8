from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t


cdef extern from "pd_cca.h" nogil:
    struct pd_cca_config:
        double rate_hz
        const double *targets_hz
        const uint32_t *windows
        uint32_t n_targets, n_windows, n_channels, n_harmonics, hop

    struct pd_cca:
        uint64_t count
        uint32_t n_channels, n_targets, n_windows, hop, rank
        size_t bytes

    enum pd_cca_state:
        PD_CCA_DEFINED
        PD_CCA_FILLING
        PD_CCA_MISSING
        PD_CCA_FLAT

    size_t pd_cca_bytes(const pd_cca_config *config) noexcept
    int pd_cca_init(pd_cca *cca, const pd_cca_config *config) noexcept
    void pd_cca_reset(pd_cca *cca) noexcept
    int pd_cca_restore(pd_cca *cca, const void *saved, size_t bytes) noexcept
    void pd_cca_push(pd_cca *cca, const double *x, size_t stride, uint32_t n) noexcept
    pd_cca_state pd_cca_correlate(pd_cca *cca, uint32_t window, double *rho) noexcept
    uint32_t pd_cca_harmonics(const pd_cca *cca, uint32_t target) noexcept
    uint32_t pd_cca_references(const pd_cca *cca, uint32_t window, uint32_t target) noexcept
    double pd_cca_band_weight(uint32_t band) noexcept
    void pd_cca_score(const double *rho, const double *weights, uint32_t n_bands,
                      uint32_t n_targets, double *score) noexcept


cdef class CanonicalCorrelation:
    cdef pd_cca *cca
    cdef readonly tuple targets_hz, windows
    cdef uint32_t state[16]
    cdef uint32_t rank[16]
    cdef void run(self, const double *x, uint32_t n, double *rho) noexcept nogil


cdef class FilterBankCCA:
    cdef readonly tuple bands
    cdef double[::1] weight
    cdef double[:, :, ::1] rho
    cdef void score_window(self, uint32_t window, double *out) noexcept nogil
