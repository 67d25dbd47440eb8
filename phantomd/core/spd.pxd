from libc.stdint cimport uint32_t


cdef extern from "pd_spd.h" nogil:
    enum:
        PD_SPD_MAX
        PD_SPD_SQRT, PD_SPD_INVSQRT, PD_SPD_LOG, PD_SPD_EXP
        PD_SPD_SAMPLE, PD_SPD_LEDOIT_WOLF, PD_SPD_OAS, PD_SPD_FIXED

    size_t pd_spd_work(uint32_t n) noexcept
    int pd_spd_eigen(const double *a, uint32_t n, double *values, double *vectors,
                     double *work) noexcept
    int pd_spd_apply(int f, const double *a, uint32_t n, double *out, double *work) noexcept
    int pd_spd_distance(const double *a, const double *b, uint32_t n, double *distance,
                        double *work) noexcept
    int pd_spd_mean(const double *x, uint32_t m, uint32_t n, const double *weights,
                    double tolerance, uint32_t most, double *mean, uint32_t *iterations,
                    double *criterion, double *work) noexcept
    int pd_spd_tangent(const double *x, const double *r, uint32_t n, double *t,
                       double *work) noexcept
    int pd_spd_untangent(const double *t, const double *r, uint32_t n, double *x,
                         double *work) noexcept
    int pd_spd_covariance(int kind, const double *x, size_t stride, uint32_t rows, uint32_t n,
                          double *shrinkage, double *out, double *work) noexcept


cdef class Spd:
    cdef readonly uint32_t n
    cdef readonly str reason
    cdef readonly uint32_t iterations
    cdef readonly double criterion, shrinkage
    cdef double[::1] work
    cdef bint busy
    cdef int begin(self) except -1
    cdef object end(self, int rc, result)
    cdef const double[:, ::1] square(self, a)
    cdef object apply(self, int f, a)
