from libc.stdint cimport int64_t, uint32_t, uint64_t

from phantomd.core.intake cimport Driver, pd_intake


cdef extern from "pd_play.h" nogil:
    enum:
        PD_PLAY_LOST
        PD_PLAY_RESET
        PD_PLAY_MARKED
    struct pd_play_row:
        int64_t at_ns
        int64_t device_ns
        uint32_t flags
        uint32_t behind
        double *value
    uint32_t PD_PLAY_WORDS(uint32_t n_values)
    struct pd_play_state:
        uint64_t next
    struct pd_play:
        uint64_t filled
        uint64_t end
        uint64_t played
        uint64_t starved
        int64_t start_ns
        pd_play_state state
    int pd_play_init(pd_play *play, pd_intake *intake, uint64_t *rows, uint64_t n_rows,
                     int marker_fd)
    uint64_t pd_play_room(const pd_play *play)
    pd_play_row *pd_play_row_ "pd_play_row"(const pd_play *play, uint64_t k)
    void pd_play_fill(pd_play *play, uint64_t n)
    void pd_play_finish(pd_play *play)
    int64_t pd_play_advance(void *play, int64_t now_ns)


cdef class PlayDriver(Driver):
    cdef pd_play *play
    cdef uint64_t *rows
