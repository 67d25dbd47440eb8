from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

from phantomd.core.artifact cimport pd_artifact_config
from phantomd.core.cca cimport pd_cca_config
from phantomd.core.pll cimport pd_pll_config
from phantomd.core.ring cimport Ring, pd_ring
from phantomd.core.sos cimport pd_sos_band, pd_sos_section


cdef extern from "pd_window.h" nogil:
    struct pd_signal:
        int64_t t_ns
        uint32_t flags
        double *value
    struct pd_window:
        int64_t index
        int64_t start_ns
        int64_t end_ns
        int64_t closed_ns
        int64_t arrival_ns
        uint64_t first
        uint64_t until
        uint32_t flags
        uint32_t lost
        uint32_t bridged
        uint32_t n_values
        double *value
    uint32_t PD_SIGNAL_WORDS(uint32_t n_values)
    uint32_t PD_WINDOW_WORDS(uint32_t n_values)


cdef extern from "pd_native.h" nogil:
    enum:
        PD_MAX_VALUES


cdef extern from "pd_analysis.h" nogil:
    enum:
        PD_ANALYSIS_MAX_CCA
        PD_ANALYSIS_MAX_STEPS
        PD_ANALYSIS_PHASES
        PD_ANALYSIS_SCORES
    struct pd_analysis_config:
        double rate_hz
        uint32_t n_values
        uint32_t n_channels
        uint32_t n_picks
        uint32_t *pick
        uint32_t n_reference
        uint32_t *reference
        int64_t step_ns
        int64_t wait_ns
        uint32_t n_steps
        const pd_sos_band *bands
        const pd_sos_section *sections
        uint32_t n_power
        uint32_t n_cca
        uint32_t n_sections
        pd_cca_config cca
        pd_pll_config pll
        pd_artifact_config artifact
        uint32_t rejects
    struct pd_analysis_state:
        uint64_t begun
        uint64_t next
    struct pd_analysis:
        pd_analysis_config config
        int muted
        pd_analysis_state *state
    uint32_t pd_analysis_values(const pd_analysis_config *config)
    size_t pd_analysis_arena_bytes(const pd_analysis_config *config)
    size_t pd_analysis_scratch_bytes(const pd_analysis_config *config)
    int pd_analysis_init(pd_analysis *analysis, const pd_analysis_config *config, void *arena,
                         size_t arena_bytes, void *scratch, size_t scratch_bytes, pd_ring *signal,
                         pd_ring *windows, uint64_t next)
    void pd_analysis_take(pd_analysis *analysis, uint64_t index, int64_t t_ns, uint32_t flags,
                          int64_t arrival_ns, const double *values)
    void pd_analysis_begin(pd_analysis *analysis, int64_t t_ns, int64_t grid_t0_ns)
    void pd_analysis_close(pd_analysis *analysis, int64_t now_ns, int64_t grid_t0_ns,
                           uint32_t flags)
    void pd_analysis_learn(pd_analysis *analysis, uint64_t first, uint64_t until,
                           int64_t grid_t0_ns)
    void pd_analysis_succeed(pd_analysis *analysis, const pd_analysis *before, int64_t grid_t0_ns)
    void pd_analysis_relocked(pd_analysis *analysis)


cdef class Analysis:
    cdef pd_analysis analysis
    cdef void *memory               # arena, then scratch
    cdef size_t arena_bytes, memory_bytes
    cdef readonly Ring signal, windows
    cdef object designs             # the memory behind bands, sections, targets
    cdef readonly int lock_error
    cdef readonly uint32_t n_values, n_window_values
