from libc.stdint cimport int64_t, uint8_t, uint32_t

from phantomd.core.intake cimport Driver, pd_intake


cdef extern from "pd_remote.h" nogil:
    enum:
        PD_REMOTE_HEAD
        PD_REMOTE_MAX_BYTES
    struct pd_remote_state:
        uint32_t n_pending
    struct pd_remote:
        int64_t heard_ns
        uint32_t fault
        pd_remote_state state
    int pd_remote_init(pd_remote *remote, pd_intake *intake, uint32_t frame_bytes, int fd)
    void pd_remote_feed(void *remote, const uint8_t *data, size_t n, int64_t arrival_ns)


cdef class RemoteDriver(Driver):
    cdef pd_remote *remote
