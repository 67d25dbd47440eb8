from libc.stdint cimport int32_t, uint32_t


cdef extern from "pd_resample.h" nogil:
    enum:
        PD_RESAMPLE_MAX_TAPS

    struct pd_resample:
        const double *table
        uint32_t phases, taps
        int32_t ahead

    void pd_resample_at(const pd_resample *resample, const double *rows, uint32_t stride,
                        uint32_t n_channels, double fraction, double *out) noexcept


cdef class Resampler:
    cdef pd_resample c
    cdef const double[:, ::1] rows
    cdef Py_ssize_t first(self, double position) noexcept nogil
    cdef bint reads(self, double position, Py_ssize_t n) noexcept nogil
