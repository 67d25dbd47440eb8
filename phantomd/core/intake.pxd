from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from phantomd.core.ring cimport Ring, pd_ring


cdef extern from "pd_intake.h" nogil:
    struct pd_spsc:
        pass
    struct pd_intake_counts:
        uint64_t accepted
        uint64_t lost
        uint64_t duplicates
        uint64_t strays
        uint64_t resets
        uint64_t junk_bytes
        int64_t last_arrival_ns
    struct pd_intake_state:
        uint64_t next
    struct pd_intake:
        pd_ring *ring
        uint32_t n_values
        uint32_t slot
        pd_spsc *tap
        pd_spsc *tap_begun
        pd_intake_state state
    int pd_intake_init(pd_intake *intake, pd_ring *ring, pd_intake_counts *counts, double rate_hz,
                       uint32_t modulus, uint32_t n_values)
    int pd_intake_counted(pd_intake *intake, uint32_t counter, uint32_t behind, int64_t arrival_ns,
                          int64_t device_ns, const double *values)
    int pd_intake_indexed(pd_intake *intake, uint64_t index, uint32_t behind, int64_t arrival_ns,
                          int64_t device_ns, const double *values)
    void pd_intake_junk(pd_intake *intake, uint32_t n)
    void pd_intake_mark(pd_intake *intake, uint32_t marker)
    void pd_intake_reset(pd_intake *intake)
    enum:
        PD_MAX_VALUES
    const int64_t PD_NO_TIME


cdef extern from "pd_pump.h" nogil:
    const int64_t PD_DRIVER_ENDED
    struct pd_driver:
        void *self
        pd_intake *intake
        void (*feed)(void *self, const uint8_t *data, size_t n, int64_t arrival_ns)
        int64_t (*advance)(void *self, int64_t now_ns)
        int (*woken)(void *self, int64_t now_ns)
        void (*reset)(void *self)
        void *state
        uint32_t state_bytes
    void pd_driver_feed(pd_driver *driver, const uint8_t *data, size_t n, int64_t arrival_ns)
    int64_t pd_driver_advance(pd_driver *driver, int64_t now_ns)
    int pd_driver_woken(pd_driver *driver, int64_t now_ns)
    void pd_driver_begin_journal(pd_driver *driver, int64_t t_ns)
    void pd_driver_reset(pd_driver *driver)
    struct pd_pump:
        int promote_error
        int end_error
        uint64_t bytes
        uint64_t rounds
    int pd_pump_start(pd_pump *pump, pd_driver *driver, int fd, int notify_fd, int priority,
                      int cpu)
    void pd_pump_stop(pd_pump *pump)


cdef class Intake:
    cdef pd_intake intake
    cdef pd_intake_counts counts
    cdef readonly Ring ring
    cdef readonly double rate_hz
    cdef readonly uint32_t modulus
    cdef readonly uint32_t n_values
    cdef int _check(self, const double[::1] values) except -1


cdef class Driver:
    """Base of the C drivers: a subclass fills in ``driver`` and keeps what it points to alive."""
    cdef pd_driver driver
    cdef readonly Intake intake


cdef class Pump:
    cdef pd_pump *pump
    cdef readonly Driver driver
    cdef bint running
