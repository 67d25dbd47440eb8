from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from phantomd.core.hist cimport pd_hist
from phantomd.core.ring cimport pd_ring


cdef extern from "pd_bins.h" nogil:
    enum:
        PD_BINS_MAX_UNITS
    uint32_t PD_BINS_NONE
    struct pd_bins_trial:
        int64_t id
        uint32_t start, stop
        int target_id
        float target_x, target_y
    struct pd_bins:
        uint32_t n_bins, n_units, n_trials, wide
        int64_t bin_ns
        const void *counts
        const float *kinematics
        const uint32_t *trial_of
        const pd_bins_trial *trials
    struct pd_bins_span:
        uint32_t start, stop

cdef extern from "pd_stress.h" nogil:
    struct pd_stress_config:
        uint64_t seed
        double noise_std, drift_amplitude, drift_period_s
        double dropout, gain_std, shift
        double latency_ms, jitter_ms, loss, duplicate, reorder, disconnects_per_min
    struct pd_stress:
        pd_stress_config config
    int pd_stress_init(pd_stress *stress, const pd_stress_config *config, uint32_t n_units,
                       const uint16_t *source)
    void pd_stress_counts(const pd_stress *stress, uint64_t number, double t_s, uint16_t *counts)

cdef extern from "pd_answer.h" nogil:
    enum:
        PD_ANSWER_VELOCITY
        PD_ANSWER_ATTACH
        PD_ANSWER_INVALID
    struct pd_answer:
        uint32_t kind, why, has_seq, has_position
        uint64_t seq
        double vx, vy, x, y
        uint32_t code_bytes
        char code[64]
    int64_t pd_answer_parse(const uint8_t *data, size_t n, pd_answer *answer)

cdef extern from "pd_packet.h" nogil:
    struct pd_packet_shape:
        uint32_t n_units
    void pd_packet_shape_init(pd_packet_shape *shape, uint32_t n_units, int64_t bin_ns)

cdef extern from "pd_session.h" nogil:
    enum:
        PD_SESSION_RECORD_WORDS
    uint32_t PD_NOBODY
    int64_t PD_SESSION_NEVER
    int PD_SESSION_LIVE_WORDS(int n_units)
    struct pd_session_counts:
        uint64_t packets, answered, missed, invalid, desyncs, lost, dropped
        uint32_t state, bin, subscribers, decoder
    struct pd_session_event:
        uint32_t what
        uint64_t seq
        int64_t value
    struct pd_session_config:
        const pd_bins *bins
        const pd_packet_shape *shape
        const pd_bins_span *spans
        uint32_t n_spans, loop
        const pd_ring *live
        int64_t phase_ns
        uint32_t record_slots
    struct pd_session:
        pd_session_counts counts
        pd_hist loop
        pd_ring records
        uint64_t seq, head
        pd_session_event events[8]
        uint32_t n_events
    size_t pd_session_bytes(const pd_session_config *config)
    size_t pd_session_line_bytes(const pd_session_config *config)
    int pd_session_init(pd_session *session, const pd_session_config *config, void *arena,
                        size_t bytes, void *line)
    int64_t pd_session_next(const pd_session *session)
    void pd_session_step(pd_session *session, int64_t now_ns, int64_t wall_offset_ns)
    uint32_t pd_session_message(const pd_session *session, uint64_t index, const uint8_t **data,
                                uint64_t *seq)
    uint64_t pd_session_base(const pd_session *session)
    void pd_session_subscribers(pd_session *session, uint32_t n, int64_t now_ns)
    void pd_session_pause(pd_session *session)
    void pd_session_resume(pd_session *session, int64_t now_ns)
    void pd_session_seek(pd_session *session, uint32_t bin, int64_t now_ns)
    void pd_session_set_stress(pd_session *session, const pd_stress *stress)
    int pd_session_answer(pd_session *session, uint32_t connection, const pd_answer *answer,
                          int64_t now_ns, uint64_t *seq)

cdef extern from "pd_spsc.h" nogil:
    struct pd_spsc:
        uint64_t dropped
    int pd_spsc_init(pd_spsc *queue, void *buffer, uint32_t n)
    int64_t pd_spsc_take(pd_spsc *queue, void *out, uint32_t room)

cdef extern from "pd_peer.h" nogil:
    struct pd_peer:
        int fd

cdef extern from "pd_post.h" nogil:
    struct pd_post:
        uint64_t untold

cdef extern from "pd_slab.h" nogil:
    struct pd_slab:
        pass
    void *pd_slab_take(pd_slab *slab, size_t bytes)
    void pd_slab_give(pd_slab *slab, void *block)
    void *pd_slab_map(size_t bytes)
    void pd_slab_unmap(void *memory, size_t bytes)

cdef extern from "pd_port.h" nogil:
    enum:
        PD_DO_ADD
        PD_DO_STRESS
        PD_PORT_OUT_BYTES
        PD_PORT_COMMAND_BYTES
    struct pd_port_command:
        uint32_t what, session, connection, bytes
        int64_t value
        const void *pointer
    struct pd_port_event:
        uint32_t what, session, connection, code, why, count, bytes
        uint64_t seq
        int64_t value
    struct pd_connection:
        pd_peer peer
    struct pd_port_session:
        pd_session *session
    struct pd_port_due:
        int64_t t_ns
    struct pd_port:
        pd_hist lateness, loops
        pd_post post
        uint64_t published, dropped
        uint32_t n_connections
        int promote_error
    int pd_port_init(pd_port *port, pd_connection *connections, uint32_t max_connections,
                     pd_port_session *sessions, pd_port_due *heap, uint32_t max_sessions,
                     pd_spsc *commands, pd_spsc *events, int notify_fd)
    void pd_port_close(pd_port *port)
    int pd_port_order(pd_port *port, const pd_port_command *command, const void *message)
    int64_t pd_port_step(pd_port *port, int64_t now_ns, int64_t wall_offset_ns)
    int pd_port_start(pd_port *port, int priority, int cpu)
    void pd_port_stop(pd_port *port)


cdef class Bins:
    cdef pd_bins bins
    cdef pd_packet_shape shape
    cdef object arrays              # keeps the memory alive

cdef class Stress:
    cdef pd_stress *stress

cdef class Session:
    cdef pd_session *session        # with its arena behind it
    cdef void *line
    cdef pd_bins_span *spans
    cdef readonly Bins bins
    cdef object live, stress        # kept alive

cdef class Port:
    cdef pd_port *port
    cdef pd_connection *connections
    cdef size_t connections_bytes
    cdef pd_port_session *sessions
    cdef pd_port_due *heap
    cdef pd_spsc commands, events
    cdef uint8_t *queues
    cdef uint8_t *event
    cdef bint running
