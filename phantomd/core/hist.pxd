from libc.stdint cimport int64_t, uint64_t


cdef extern from "pd_hist.h" nogil:
    struct pd_hist:
        int64_t deadline_ns
        uint64_t count
        uint64_t missed
        int64_t max_ns
    void pd_hist_init(pd_hist *hist, int64_t deadline_ns)
    void pd_hist_add(pd_hist *hist, int64_t ns)
    int64_t pd_hist_quantile(const pd_hist *hist, double q)
    void pd_hist_since(const pd_hist *hist, pd_hist *before, pd_hist *since)


cdef class Histogram:
    cdef pd_hist own
    cdef pd_hist *hist
    cdef object owner               # keeps a histogram alive that lies elsewhere

    @staticmethod
    cdef Histogram view(pd_hist *hist, object owner)


cdef class Window:
    cdef Histogram histogram
    cdef pd_hist before
