from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "pd_clock.h" nogil:
    enum:
        PD_CLOCK_NONE
        PD_CLOCK_LOCKED
        PD_CLOCK_RELOCKED
        PD_CLOCK_FOLLOWED
    struct pd_clock:
        pass
    struct pd_clock_report:
        double rate_hz
        double rate_sd_ppm
        double offset_sd_ns
        double uncertainty_ns
        double jitter_ns
        double clump
        uint64_t blocks
        uint64_t steps
        uint64_t follows
        int32_t locked
    void pd_clock_init(pd_clock *clock, double rate_hz, double prior_ppm, int64_t transport_ns)
    void pd_clock_restart(pd_clock *clock)
    int pd_clock_observe(pd_clock *clock, uint64_t index, int64_t arrival_ns, uint32_t behind)
    int pd_clock_is_locked(const pd_clock *clock)
    double pd_clock_time_ns(const pd_clock *clock, double index, int64_t base_ns)
    double pd_clock_index(const pd_clock *clock, int64_t t_ns, uint64_t base_index)
    void pd_clock_get_report(const pd_clock *clock, pd_clock_report *report)


cdef class Clock:
    cdef pd_clock clock
    cdef readonly double rate_hz
    cdef int _require_lock(self) except -1
