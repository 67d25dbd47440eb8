from libc.stdint cimport uint32_t


cdef extern from "pd_sos.h" nogil:
    enum:
        PD_SOS_MAX_BAND_SECTIONS

    struct pd_sos_section:
        double b0, b1, b2, a1, a2
        double level0, level1

    struct pd_sos_band:
        uint32_t first, n_sections
        uint32_t settle

    struct pd_sos:
        const pd_sos_band *bands
        const pd_sos_section *sections
        uint32_t n_bands, n_sections, n_channels

    int pd_sos_design(pd_sos_section *sections, uint32_t n_sections, double tolerance,
                      uint32_t *settle) noexcept
    size_t pd_sos_state_bytes(uint32_t n_sections, uint32_t n_channels) noexcept
    int pd_sos_init(pd_sos *sos, const pd_sos_band *bands, uint32_t n_bands,
                    const pd_sos_section *sections, uint32_t n_channels, double rate_hz,
                    void *state, size_t state_bytes) noexcept
    void pd_sos_reset(pd_sos *sos) noexcept
    void pd_sos_seed(pd_sos *sos, const double *first) noexcept
    void pd_sos_run(pd_sos *sos, const double *x, size_t x_stride, uint32_t n, double *y,
                    size_t y_stride, uint32_t *fed) noexcept
    uint32_t pd_sos_fed(const pd_sos *sos, uint32_t channel) noexcept
    bint pd_sos_defined(const pd_sos *sos, uint32_t band, uint32_t channel,
                        uint32_t window) noexcept
    void pd_sos_final(const pd_sos *sos, uint32_t channel, double *z) noexcept


cdef extern from "pd_time.h" nogil:
    unsigned pd_fp_enter() noexcept
    void pd_fp_leave(unsigned saved) noexcept


cdef class FilterBank:
    cdef pd_sos c
    cdef object designs                 # the memory behind c.bands, c.sections, c.state
    cdef readonly object state
    cdef bint busy
    cdef int check_free(self) except -1
    cdef int check_buffers(self, const double[:, ::1] x, double[:, :, ::1] y) except -1
    cdef int go(self, const double *x, Py_ssize_t n, double *y, uint32_t *fed) except -1


cdef class BoundBank:
    cdef FilterBank bank
    cdef const double[:, ::1] x
    cdef double[:, :, ::1] y
