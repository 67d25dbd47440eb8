"""The kernels behind a source, and readers of its signal and windows. See analysis.pyi."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np

from cython cimport no_gc_clear

from phantomd.core.artifact cimport configure
from phantomd.core.block cimport munmap, pages
from phantomd.core.cca cimport pd_cca_bytes
from phantomd.core.pll cimport pd_pll_bytes
from phantomd.core.ring cimport Ring, pd_ring_next, pd_ring_oldest, pd_ring_read
from phantomd.core.sos cimport pd_sos_band, pd_sos_section

from phantomd.core.artifact import KINDS
from phantomd.core.sos import design

MAX_CCA = PD_ANALYSIS_MAX_CCA
MAX_STEPS = PD_ANALYSIS_MAX_STEPS
PHASES = PD_ANALYSIS_PHASES
SCORES = PD_ANALYSIS_SCORES

#: Windows that a ring keeps: 16 s of quarter seconds.
WINDOWS = 64

cdef int64_t NO_TIME = <int64_t>(<uint64_t>1 << 63)


# What the .pyi calls a record.
WindowRecord = tuple


def signal_words(uint32_t n_values):
    return PD_SIGNAL_WORDS(n_values)


cdef const void *at(array) except NULL:
    cdef const unsigned char[::1] view = array.view(np.uint8).reshape(-1)
    return &view[0]


@no_gc_clear                        # the tick may be using its memory until the last owner goes
cdef class Analysis:
    def __cinit__(self, *, double rate_hz, uint32_t n_values, uint32_t n_channels, picks,
                  reference=(), int64_t step_ns, uint32_t n_steps, int64_t wait_ns, power_bands=(),
                  cca_bands=(), targets_hz=(), cca_windows=(), uint32_t harmonics=5,
                  uint32_t hop=0, double tolerance=1e-3, artifact=None, rejects=(), double ref_hz=0.0, double span_hz=1.0,
                  double phase_s=1.0, mains_hz=(0.0, 0.0), Ring signal not None, Ring windows=None,
                  uint64_t next=0):
        cdef pd_analysis_config config
        memset(&config, 0, sizeof(config))
        if not 1 <= len(picks) <= PD_MAX_VALUES or len(reference) > PD_MAX_VALUES:
            raise ValueError(f"{len(picks)} channels to analyse, {len(reference)} to refer to")
        config.rate_hz = rate_hz
        config.n_values = n_values
        config.n_channels = n_channels
        config.n_picks = len(picks)
        config.n_reference = len(reference)
        for i, channel in enumerate(picks):
            config.pick[i] = channel
        for i, channel in enumerate(reference):
            config.reference[i] = channel
        config.step_ns = step_ns
        config.n_steps = n_steps
        config.wait_ns = wait_ns
        designs = [*power_bands, *cca_bands]
        bands, sections = design(designs, tolerance)
        hz = np.ascontiguousarray(targets_hz, np.float64)
        samples = np.ascontiguousarray(cca_windows, np.uint32)
        self.designs = bands, sections, hz, samples
        if designs:
            config.bands = <const pd_sos_band *>at(bands)
            config.sections = <const pd_sos_section *>at(sections)
        config.n_power = len(power_bands)
        config.n_cca = len(cca_bands)
        config.n_sections = len(sections) // sizeof(pd_sos_section)
        if cca_bands:
            if hz.size == 0 or samples.size == 0:
                raise ValueError("CCA needs targets and windows")
            config.cca.rate_hz = rate_hz
            config.cca.targets_hz = <const double *>at(hz)
            config.cca.windows = <const uint32_t *>at(samples)
            config.cca.n_targets = hz.size
            config.cca.n_windows = samples.size
            config.cca.n_channels = config.n_picks
            config.cca.n_harmonics = harmonics
            config.cca.hop = hop
            if pd_cca_bytes(&config.cca) == 0:
                raise ValueError(f"no CCA of {len(picks)} channels, {harmonics} harmonics, targets "
                                 f"{hz.tolist()} Hz at {rate_hz} Hz, windows of {samples.tolist()} "
                                 f"samples and a hop of {hop}")
        roles = np.zeros(max(1, n_channels), np.uint8)
        self.designs = *self.designs, roles
        if artifact is not None:
            configure(artifact, &config.artifact, <uint8_t *>at(roles))
            for kind in rejects:
                config.rejects |= 1 << KINDS.index(kind)
        if ref_hz > 0:
            config.pll.rate_hz = rate_hz
            config.pll.ref_hz = ref_hz
            config.pll.span_hz = span_hz
            config.pll.window_s = phase_s
            config.pll.mains_hz[0], config.pll.mains_hz[1] = mains_hz
            config.pll.n_channels = config.n_picks
            if pd_pll_bytes(&config.pll) == 0:
                raise ValueError(f"no phase at {ref_hz} ± {span_hz} Hz within {phase_s} s at "
                                 f"{rate_hz} Hz")
        self.arena_bytes = pd_analysis_arena_bytes(&config)
        if self.arena_bytes == 0:
            raise ValueError(f"no analysis of {len(picks)} of {n_channels} channels at {rate_hz} Hz "
                             f"in {n_steps} steps of {step_ns} ns")
        cdef size_t scratch_bytes = pd_analysis_scratch_bytes(&config)
        self.memory_bytes = self.arena_bytes + scratch_bytes
        self.memory = pages(self.memory_bytes, &self.lock_error)
        if self.memory == NULL:
            raise MemoryError
        self.n_values = n_values
        self.n_window_values = pd_analysis_values(&config)
        self.signal = signal
        cdef uint32_t words = PD_WINDOW_WORDS(self.n_window_values)
        self.windows = windows if windows is not None and windows.words == words else Ring(words, WINDOWS)
        if pd_analysis_init(&self.analysis, &config, self.memory, self.arena_bytes,
                            <char *>self.memory + self.arena_bytes, scratch_bytes,
                            &self.signal.ring, &self.windows.ring, next):
            raise ValueError(f"the signal's ring has {signal.words} words, not "
                             f"{PD_SIGNAL_WORDS(n_values)}")

    def __dealloc__(self):
        if self.memory != NULL:
            munmap(self.memory, self.memory_bytes)

    @property
    def state_bytes(self):
        return self.arena_bytes

    @property
    def begun(self):
        return self.analysis.state.begun

    def begin(self, int64_t t_ns, int64_t grid_t0_ns):
        pd_analysis_begin(&self.analysis, t_ns, grid_t0_ns)

    def learn(self, uint64_t first, int64_t grid_t0_ns):
        cdef uint64_t until = pd_ring_next(&self.signal.ring)
        with nogil:
            pd_analysis_learn(&self.analysis, first, until, grid_t0_ns)

    def succeed(self, Analysis before not None, int64_t grid_t0_ns):
        if before.signal is not self.signal:
            raise ValueError("the other analysis has another signal")
        with nogil:
            pd_analysis_succeed(&self.analysis, &before.analysis, grid_t0_ns)

    @property
    def next(self):
        return self.analysis.state.next

    def take(self, uint64_t first, const int64_t[::1] t_ns, const uint32_t[::1] flags,
             const double[:, ::1] values):
        cdef Py_ssize_t n = t_ns.shape[0], i
        if flags.shape[0] != n or values.shape[0] != n or <uint32_t>values.shape[1] != self.n_values:
            raise ValueError(f"samples of {self.n_values} values, and a time and flags for each")
        with nogil:
            for i in range(n):
                pd_analysis_take(&self.analysis, first + <uint64_t>i, t_ns[i], flags[i], t_ns[i],
                                 &values[i, 0])

    def close(self, int64_t now_ns, int64_t grid_t0_ns, uint32_t flags, bint relocked):
        if relocked:
            pd_analysis_relocked(&self.analysis)
        pd_analysis_close(&self.analysis, now_ns, grid_t0_ns, flags)

    def restore(self, bytes arena):
        if <size_t>len(arena) != self.arena_bytes:
            raise ValueError("this state is of another build or configuration")
        memcpy(self.memory, <const char *>arena, self.arena_bytes)


def take_windows(Ring windows not None, uint64_t next):
    """Records from ring index ``next`` on, the index after them, and how many were overwritten."""
    cdef uint64_t until = pd_ring_next(&windows.ring), oldest = pd_ring_oldest(&windows.ring)
    cdef uint64_t lost = oldest - next if next < oldest else 0
    memory = np.empty(windows.ring.words, np.uint64)
    cdef uint64_t[::1] words = memory
    cdef pd_window *window = <pd_window *>&words[0]
    cdef size_t head = PD_WINDOW_WORDS(0)
    out = []
    next = next + lost
    while next < until:
        if pd_ring_read(&windows.ring, next, &words[0]) == 0:
            out.append((window.index, window.start_ns, window.end_ns, window.closed_ns,
                        None if window.arrival_ns == NO_TIME else window.arrival_ns,
                        window.first, window.until, window.flags, window.lost, window.bridged,
                        memory[head:].view(np.float64).copy()))
        else:
            lost += 1
        next += 1
    return out, next, lost


def read_signal(Ring signal not None, uint64_t first, uint64_t until):
    """Samples [first, until) that are there: index, t_ns, flags, values."""
    cdef uint32_t n_values = signal.ring.words - PD_SIGNAL_WORDS(0), i
    if n_values > PD_MAX_VALUES:
        raise ValueError("this is no signal ring")
    first = max(first, pd_ring_oldest(&signal.ring))
    until = max(first, min(until, pd_ring_next(&signal.ring)))
    cdef uint64_t n = until - first, row = 0, at_index = first
    index = np.empty(n, np.uint64)
    t_ns = np.empty(n, np.int64)
    flags = np.empty(n, np.uint32)
    values = np.empty((n, n_values))
    cdef uint64_t[::1] index_ = index
    cdef int64_t[::1] t_ = t_ns
    cdef uint32_t[::1] flags_ = flags
    cdef double[:, ::1] values_ = values
    cdef uint64_t[::1] frame = np.empty(signal.ring.words, np.uint64)
    cdef pd_signal *sample = <pd_signal *>&frame[0]
    with nogil:
        while at_index < until:
            if pd_ring_read(&signal.ring, at_index, &frame[0]) == 0:
                index_[row] = at_index
                t_[row] = sample.t_ns
                flags_[row] = sample.flags
                for i in range(n_values):
                    values_[row, i] = sample.value[i]
                row += 1
            at_index += 1
    return index[:row], t_ns[:row], flags[:row], values[:row]
