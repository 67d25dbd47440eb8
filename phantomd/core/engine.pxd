from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from phantomd.core.analysis cimport Analysis, pd_analysis
from phantomd.core.clock cimport pd_clock_report
from phantomd.core.hist cimport pd_hist
from phantomd.core.intake cimport Intake, pd_spsc
from phantomd.core.ring cimport Ring, pd_ring


cdef extern from "pd_time.h" nogil:
    int64_t pd_time_now()
    int64_t pd_time_wall_offset()
    const int64_t PD_NO_TIME
    int64_t pd_text_lock()


cdef extern from "pd_event.h" nogil:
    enum:
        PD_EVENT_WORDS
    struct pd_event:
        int64_t t_ns
        uint32_t kind
        uint32_t source
        int64_t a
        int64_t b
        int64_t c
        double x


cdef extern from "pd_resample.h" nogil:
    struct pd_resample:
        const double *table
        uint32_t phases
        uint32_t taps
        int32_t ahead


cdef extern from "pd_grid.h" nogil:
    struct pd_grid:
        int64_t t_ns
        int64_t due_ns
        uint32_t flags
        int64_t native
        double fraction
        double *value
    uint32_t PD_GRID_WORDS(uint32_t n_channels)
    uint32_t PD_FRAME_BYTES(uint32_t n_channels)
    void pd_grid_encode(const pd_grid *frame, uint64_t index, uint32_t n_channels, int64_t now_ns,
                        int64_t deadline_ns, uint8_t *out)


cdef extern from "pd_source.h" nogil:
    struct pd_source_config:
        double rate_hz
        double prior_ppm
        int64_t transport_ns
        int64_t hold_ns
        int64_t bridge_ns
        int64_t lost_after_ns
        int64_t delay_ns
        uint32_t n_channels
        uint32_t n_values
        uint32_t slot
        uint32_t flags
        pd_resample resample
    struct pd_source_state:
        uint64_t next
        int64_t silent_since_ns
        uint64_t grid_next
    struct pd_source:
        pd_source_config config
        pd_analysis *analysis
        const pd_source *before
        pd_source_state *state
        uint64_t taken
    size_t pd_source_arena_bytes(const pd_source_config *config)
    int pd_source_init(pd_source *source, const pd_source_config *config, void *arena,
                       size_t arena_bytes, const pd_ring *native, pd_ring *grid, pd_ring *events)
    void pd_source_warm(pd_source *source, uint64_t first, uint64_t until, int64_t grid_t0_ns)
    int pd_source_get_report(const pd_source *source, pd_clock_report *report)
    enum:
        PD_MAX_VALUES


cdef extern from "pd_engine.h" nogil:
    enum:
        PD_MAX_SOURCES
        PD_TICK_STACK
    struct pd_plan:
        uint64_t serial
        uint32_t n_sources
        pd_source **source
        pd_analysis **analysis
    struct pd_engine_state:
        int64_t grid_t0_ns
        uint64_t beats
        uint64_t beats_skipped
        uint64_t events_next
    struct pd_engine:
        pd_engine_state state
        uint64_t steps
        pd_spsc *tap
        pd_hist tick
        pd_hist beat
        pd_hist work
        void *stack
        int running
        int promote_error
    int pd_engine_init(pd_engine *engine, pd_ring *events, int64_t grid_t0_ns)
    void pd_engine_begin(pd_engine *engine, int64_t grid_t0_ns)
    pd_plan *pd_engine_swap(pd_engine *engine, pd_plan *plan)
    int64_t pd_engine_step(pd_engine *engine, int64_t now_ns, const uint64_t *limits, int *news)
    int pd_engine_start(pd_engine *engine, int notify_fd, int priority, int cpu)
    void pd_engine_stop(pd_engine *engine)


cdef class Source:
    cdef pd_source source
    cdef void *arena
    cdef size_t arena_bytes
    cdef readonly Intake intake
    cdef readonly Analysis analysis
    cdef list replaced              # analyses that the tick may still have behind it
    cdef readonly Ring grid
    cdef Ring events
    cdef object table
    cdef Source before
    cdef readonly int lock_error


cdef class Engine:
    cdef pd_engine *engine
    cdef void *memory
    cdef size_t memory_bytes
    cdef readonly Ring events
    cdef tuple plan                 # sources of the current one, and what is behind them
    cdef list retired               # (steps, address, plan) of those before
    cdef uint64_t serial
    cdef bint threaded
    cdef readonly int lock_error
    cdef int _retire(self, bint wait) except -1


cdef class GridReader:
    cdef Ring grid
    cdef readonly uint32_t n_channels
    cdef readonly uint64_t next
    cdef readonly uint64_t overrun
    cdef int64_t deadline_ns
    cdef pd_hist *hist
    cdef object owner
    cdef uint64_t[::1] frame
