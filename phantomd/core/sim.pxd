from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from phantomd.core.intake cimport Driver, pd_intake


cdef extern from "pd_sim_signal.h" nogil:
    enum:
        PD_SIM_MAX_CHANNELS
        PD_SIM_MAX_SSVEP
        PD_SIM_MAX_WINDOWS
        PD_SIM_PARTS
    const double PD_SIM_RAIL_UV
    const double PD_SIM_FULL_SCALE
    struct pd_sim_target:
        double hz
        uint32_t n_windows
        double on_s[8]
        double off_s[8]
    struct pd_sim_signal_config:
        uint64_t seed
        double rate_hz
        uint32_t n_channels
        uint32_t quantise
        double background_uv
        double background_exponent
        double background_shared
        double alpha_hz
        double alpha_uv
        double alpha_closed_gain
        uint32_t eyes_closed
        uint32_t n_targets
        pd_sim_target target[8]
        double ssvep_uv
        uint32_t ssvep_harmonics
        double ssvep_period_s
        double line_hz
        double line_uv
        double blink_per_min
        double emg_per_min
        double pop_per_min
        double emg_uv
        double offset_uv
        double drift_uv
        double noise_uv
        double position[32][3]
        double alpha_weight[32]
        double ssvep_weight[32]
        double blink_weight[32]
        double emg_weight[32]
    struct pd_sim_truth:
        double part[9][32]
        double alpha_turns
        double alpha_amplitude
    struct pd_sim_signal_state:
        uint64_t n


cdef extern from "pd_sim.h" nogil:
    enum:
        PD_SIM_MAX_SCHEDULE
    const uint64_t PD_SIM_FOREVER
    struct pd_sim_fault:
        uint32_t kind
        uint32_t channels
        uint64_t start
        uint64_t n
        double value
    struct pd_sim_record:
        pd_sim_fault fault
        uint64_t id
        uint64_t did
        uint32_t cause
        uint32_t what
    struct pd_sim_config:
        pd_sim_signal_config signal
        uint32_t modulus
        uint32_t jitter_law
        uint32_t stamps
        uint32_t n_schedule
        double delay_ns
        double jitter_ns
        double ppm
        double clump_ns
        double drop
        double duplicate
        double chaos_per_min
        pd_sim_fault schedule[32]
    struct pd_spsc:
        uint64_t dropped
    struct pd_sim_state:
        pd_sim_signal_state signal
        uint64_t dropped
        uint64_t duplicated
        int64_t start_ns
    struct pd_sim:
        pd_spsc log
        uint32_t log_nature
        pd_sim_state state
    int pd_sim_init(pd_sim *sim, const pd_sim_config *config, pd_intake *intake, int64_t start_ns,
                    void *asked, void *log, uint32_t queue_bytes)
    int64_t pd_sim_advance(void *sim, int64_t now_ns)
    int pd_sim_ask(pd_sim *sim, const pd_sim_fault *fault)
    int pd_sim_take_log(pd_sim *sim, pd_sim_record *record)
    void pd_sim_truth_next "pd_sim_truth"(pd_sim *sim, double *values, pd_sim_truth *truth)
    int pd_sim_repeat(pd_sim *sim, const pd_sim_record *record)


cdef class SimDriver(Driver):
    cdef pd_sim *sim


cdef class SimTruth:
    cdef pd_sim *sim
    cdef readonly uint32_t n_channels
