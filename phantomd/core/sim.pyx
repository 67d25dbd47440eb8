"""The simulator's driver and its truth. See sim.pyi."""

from cython cimport no_gc_clear
from libc.errno cimport EINVAL
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

import numpy as np

from phantomd.core.intake cimport Driver, Intake, PD_NO_TIME

KINDS = (
    "drop", "burst", "gap", "wrap", "unplug", "duplicate", "stall", "clump", "drift", "rate",
    "reset", "flatline", "saturate", "eyes", "pop", "blink", "emg",
)
JITTER_LAWS = ("exponential", "gamma", "spikes")
CAUSES = ("scheduled", "asked", "chaos", "nature")
PARTS = ("background", "alpha", "ssvep", "line", "blink", "emg", "pop", "offset", "noise")
MAX_CHANNELS = PD_SIM_MAX_CHANNELS
MAX_TARGETS = PD_SIM_MAX_SSVEP
MAX_WINDOWS = PD_SIM_MAX_WINDOWS
MAX_SCHEDULE = PD_SIM_MAX_SCHEDULE
FOREVER = PD_SIM_FOREVER
RAIL_UV = PD_SIM_RAIL_UV
COUNT_UV = PD_SIM_RAIL_UV / PD_SIM_FULL_SCALE

cdef enum:
    QUEUE_BYTES = 65536

_WHAT = {1: "began", 2: "done", 3: "refused"}


cdef object _take_log(pd_sim *sim):
    cdef pd_sim_record record
    records = []
    while pd_sim_take_log(sim, &record):
        records.append({
            "what": _WHAT[record.what],
            "cause": CAUSES[record.cause],
            "kind": KINDS[record.fault.kind],
            "id": record.id,
            "start": record.fault.start,
            "n": record.fault.n,
            "channels": record.fault.channels,
            "value": record.fault.value,
            "did": record.did,
        })
    return records


cdef pd_sim_fault _fault(object kind, uint64_t start, uint64_t n, uint32_t channels,
                         double value) except *:
    return pd_sim_fault(kind=KINDS.index(kind), channels=channels, start=start, n=n, value=value)


cdef int _fill_signal(pd_sim_signal_config *signal, object config) except -1:
    cdef uint32_t c, t, w
    if len(config.sites) > PD_SIM_MAX_CHANNELS or len(config.targets) > PD_SIM_MAX_SSVEP:
        raise ValueError("too many channels or targets")
    signal.seed = config.seed
    signal.rate_hz = config.rate_hz
    signal.n_channels = len(config.sites)
    signal.quantise = config.quantise
    signal.background_uv = config.background_uv
    signal.background_exponent = config.background_exponent
    signal.background_shared = config.background_shared
    signal.alpha_hz = config.alpha_hz
    signal.alpha_uv = config.alpha_uv
    signal.alpha_closed_gain = config.alpha_closed_gain
    signal.eyes_closed = config.eyes_closed
    signal.ssvep_uv = config.ssvep_uv
    signal.ssvep_harmonics = config.ssvep_harmonics
    signal.ssvep_period_s = config.ssvep_period_s
    signal.line_hz = config.line_hz
    signal.line_uv = config.line_uv
    signal.blink_per_min = config.blink_per_min
    signal.emg_per_min = config.emg_per_min
    signal.pop_per_min = config.pop_per_min
    signal.emg_uv = config.emg_uv
    signal.offset_uv = config.offset_uv
    signal.drift_uv = config.drift_uv
    signal.noise_uv = config.noise_uv
    for c, site in enumerate(config.sites):
        for axis in range(3):
            signal.position[c][axis] = site.position[axis]
        signal.alpha_weight[c] = site.alpha
        signal.ssvep_weight[c] = site.ssvep
        signal.blink_weight[c] = site.blink
        signal.emg_weight[c] = site.emg
    signal.n_targets = len(config.targets)
    for t, target in enumerate(config.targets):
        if len(target.windows_s) > PD_SIM_MAX_WINDOWS:
            raise ValueError("too many windows")
        signal.target[t].hz = target.hz
        signal.target[t].n_windows = len(target.windows_s)
        for w, (on_s, off_s) in enumerate(target.windows_s):
            signal.target[t].on_s[w] = on_s
            signal.target[t].off_s[w] = off_s
    return 0


cdef pd_sim *_make(object config, pd_intake *intake, object start_ns) except NULL:
    """The simulator and, behind it in the same block, its two queues."""
    cdef pd_sim_config *filled = <pd_sim_config *>calloc(1, sizeof(pd_sim_config))
    cdef uint8_t *block = <uint8_t *>calloc(1, sizeof(pd_sim) + 2 * QUEUE_BYTES)
    cdef uint8_t *queues = block + sizeof(pd_sim)
    cdef uint32_t i
    cdef int rc = 0
    try:
        if filled == NULL or block == NULL:
            raise MemoryError
        _fill_signal(&filled.signal, config)
        filled.modulus = config.modulus
        filled.jitter_law = JITTER_LAWS.index(config.jitter_law)
        filled.stamps = config.stamps
        filled.delay_ns = config.delay_ms * 1e6
        filled.jitter_ns = config.jitter_ms * 1e6
        filled.clump_ns = config.clump_ms * 1e6
        filled.ppm = config.ppm
        filled.drop = config.drop
        filled.duplicate = config.duplicate
        filled.chaos_per_min = config.chaos_per_min
        if len(config.schedule) > PD_SIM_MAX_SCHEDULE:
            raise ValueError("too many scheduled faults")
        filled.n_schedule = len(config.schedule)
        for i, fault in enumerate(config.schedule):
            filled.schedule[i] = _fault(fault.kind, fault.start, fault.n, fault.channels,
                                        fault.value)
        rc = pd_sim_init(<pd_sim *>block, filled, intake,
                         PD_NO_TIME if start_ns is None else <int64_t>start_ns,
                         queues, queues + QUEUE_BYTES, QUEUE_BYTES)
        if rc:
            raise ValueError("a simulator can't have this configuration")
    except BaseException:
        free(block)
        raise
    finally:
        free(filled)
    return <pd_sim *>block


@no_gc_clear                        # its pump may be running until it goes
cdef class SimDriver(Driver):
    def __cinit__(self, Intake intake not None, config, *, start_ns=None):
        self.intake = intake
        self.sim = _make(config, &intake.intake, start_ns)
        self.driver.self = self.sim
        self.driver.intake = &intake.intake
        self.driver.advance = pd_sim_advance
        self.driver.state = &self.sim.state
        self.driver.state_bytes = sizeof(pd_sim_state)

    def __dealloc__(self):
        free(self.sim)

    def ask(self, kind, uint64_t n, uint32_t channels=0, double value=0.0):
        cdef pd_sim_fault fault = _fault(kind, 0, n, channels, value)
        cdef int rc = pd_sim_ask(self.sim, &fault)
        if rc == -EINVAL:
            raise ValueError(f"{kind} can't have n={n}, channels={channels:#x}, value={value}")
        return rc == 0

    def take_log(self):
        return _take_log(self.sim)

    @property
    def log_dropped(self):
        return self.sim.log.dropped

    @property
    def start_ns(self):
        cdef int64_t t_ns = self.sim.state.start_ns
        return None if t_ns == PD_NO_TIME else t_ns

    @property
    def dropped(self):
        return self.sim.state.dropped

    @property
    def duplicated(self):
        return self.sim.state.duplicated


cdef class SimTruth:
    def __cinit__(self, config):
        self.sim = _make(config, NULL, None)
        self.sim.log_nature = 1
        self.n_channels = len(config.sites)

    def __dealloc__(self):
        free(self.sim)

    @property
    def next(self):
        return self.sim.state.signal.n

    def repeat(self, record):
        cdef pd_sim_record asked
        asked.fault = _fault(record["kind"], record["start"], record["n"], record["channels"],
                             record["value"])
        asked.id = record["id"]
        asked.did = 0
        asked.cause = CAUSES.index(record["cause"])
        asked.what = 1
        if pd_sim_repeat(self.sim, &asked):
            raise ValueError(f"sample {record['start']} has passed")

    def samples(self, uint32_t n):
        signal = np.empty((n, self.n_channels))
        parts = np.empty((PD_SIM_PARTS, n, self.n_channels))
        alpha = np.empty((2, n))
        cdef double[:, ::1] signal_view = signal
        cdef double[:, :, ::1] parts_view = parts
        cdef double[:, ::1] alpha_view = alpha
        cdef pd_sim_truth truth
        cdef uint32_t i, c, part
        if n:
            with nogil:
                for i in range(n):
                    pd_sim_truth_next(self.sim, &signal_view[i, 0], &truth)
                    for part in range(PD_SIM_PARTS):
                        for c in range(self.n_channels):
                            parts_view[part, i, c] = truth.part[part][c]
                    alpha_view[0, i] = truth.alpha_turns
                    alpha_view[1, i] = truth.alpha_amplitude
        return signal, parts, alpha

    def skip(self, uint64_t n):
        cdef double values[32]
        cdef uint64_t i
        with nogil:
            for i in range(n):
                pd_sim_truth_next(self.sim, values, NULL)

    def take_log(self):
        return _take_log(self.sim)
