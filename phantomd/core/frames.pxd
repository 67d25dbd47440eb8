from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from phantomd.core.hist cimport pd_hist
from phantomd.core.ring cimport pd_ring


cdef extern from "pd_time.h" nogil:
    const int64_t PD_NO_TIME
    int64_t pd_text_lock()

cdef extern from "pd_spsc.h" nogil:
    struct pd_spsc:
        uint64_t dropped
    int pd_spsc_init(pd_spsc *queue, void *buffer, uint32_t n)
    int64_t pd_spsc_take(pd_spsc *queue, void *out, uint32_t room)

cdef extern from "pd_grid.h" nogil:
    uint32_t PD_GRID_WORDS(uint32_t n_channels)

cdef extern from "pd_native.h" nogil:
    enum:
        PD_MAX_VALUES

cdef extern from "pd_frames.h" nogil:
    enum:
        PD_FRAMES_SWITCH
        PD_FRAMES_OUT_BYTES
        PD_FRAMES_REST_BYTES
        PD_FRAMES_STACK
        PD_FRAMES_HISTORY
    uint32_t PD_FRAMES_HEADER_BYTES(uint32_t n_channels)
    struct pd_frames_command:
        uint32_t what, connection, bytes
        int64_t value
        const pd_ring *grid
    struct pd_frames_news:
        uint32_t what, connection, code, bytes
        int64_t value
    struct pd_frames_client:
        uint64_t cursor
    struct pd_frames_config:
        pd_frames_client *clients
        uint8_t *out
        uint8_t *rest
        uint32_t max_clients
        pd_spsc *orders
        pd_spsc *news
        int notify_fd, loop_fd
        int64_t deadline_ns
        pd_hist *lateness
    struct pd_frames:
        int tick_fd
        void *stack
        uint64_t published, dropped
        int64_t newest_ns
        int promote_error
    uint32_t pd_frames_news_bytes(uint32_t max_clients)
    int pd_frames_init(pd_frames *frames, const pd_frames_config *config)
    void pd_frames_close(pd_frames *frames)
    int pd_frames_order(pd_frames *frames, const pd_frames_command *order,
                        const void *message)
    void pd_frames_hold(pd_frames *frames)
    void pd_frames_let_go(pd_frames *frames)
    void pd_frames_loop_from(pd_frames *frames, uint64_t index)
    void pd_frames_step(pd_frames *frames, int64_t now_ns)
    int pd_frames_start(pd_frames *frames, int priority, int cpu)
    void pd_frames_stop(pd_frames *frames)


cdef class Frames:
    cdef pd_frames *frames
    cdef void *memory               # locked: stack, then the structure, then the clients
    cdef size_t memory_bytes
    cdef uint8_t *own               # not locked: what is used when clients come, lag or go
    cdef pd_spsc orders, news
    cdef uint8_t *taken
    cdef list grids                 # those that the thread may still read
    cdef object lateness
    cdef bint running
    cdef int memory_error
