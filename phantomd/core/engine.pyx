"""The tick engine, its sources, and the reader of the grid. See engine.pyi."""

from libc.errno cimport EAGAIN
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import os

import numpy as np

from cython cimport no_gc_clear
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from phantomd.core.analysis cimport Analysis
from phantomd.core.block cimport munmap, pages
from phantomd.core.hist cimport Histogram, pd_hist_add
from phantomd.core.intake cimport Intake
from phantomd.core.ring cimport Ring, pd_ring_next, pd_ring_oldest, pd_ring_read

EVENT_WORDS = PD_EVENT_WORDS
MAX_SOURCES = PD_MAX_SOURCES
MAX_VALUES = PD_MAX_VALUES


def grid_words(uint32_t n_channels):
    return PD_GRID_WORDS(n_channels)


def now_ns():
    return pd_time_now()


def wall_offset_ns():
    return pd_time_wall_offset()


def lock_text():
    return pd_text_lock()


@no_gc_clear                        # a thread may be using its memory until the last owner goes
cdef class Source:
    def __cinit__(self, Intake intake, Ring grid not None, Ring events not None, *,
                  uint32_t n_channels, uint32_t slot=0, uint32_t flags=0,
                  const double[:, ::1] table=None, int32_t ahead=0, int64_t hold_ns=0,
                  int64_t bridge_ns=0, int64_t lost_after_ns=0, int64_t delay_ns=0,
                  int64_t transport_ns=0, double prior_ppm=0.0,
                  Analysis analysis=None):
        cdef pd_source_config config
        memset(&config, 0, sizeof(config))
        config.n_channels = n_channels
        config.n_values = n_channels
        config.slot = slot
        config.flags = flags
        config.hold_ns = hold_ns
        config.bridge_ns = bridge_ns
        config.lost_after_ns = lost_after_ns
        config.delay_ns = delay_ns
        config.transport_ns = transport_ns
        config.prior_ppm = prior_ppm
        if intake is not None:
            if table is None or table.shape[0] < 2:
                raise ValueError("a source with a device needs a resampler's table")
            config.rate_hz = intake.rate_hz
            config.n_values = intake.n_values
            config.resample.table = &table[0, 0]
            config.resample.phases = table.shape[0] - 1
            config.resample.taps = table.shape[1]
            config.resample.ahead = ahead
        self.intake = intake
        self.grid = grid
        self.events = events
        self.table = np.asarray(table) if table is not None else None
        self.arena_bytes = pd_source_arena_bytes(&config)
        if self.arena_bytes == 0:
            raise ValueError(f"no source has {n_channels} channels of {config.n_values} values "
                             f"at {config.rate_hz} Hz")
        self.arena = pages(self.arena_bytes, &self.lock_error)
        if self.arena == NULL:
            raise MemoryError
        if pd_source_init(&self.source, &config, self.arena, self.arena_bytes,
                          &intake.ring.ring if intake is not None else NULL, &grid.ring,
                          &events.ring):
            raise ValueError("the rings don't fit this source: "
                             f"{grid.words} words a grid frame, {events.words} an event")

        if analysis is not None:
            if intake is None or analysis.analysis.config.n_values != config.n_values:
                raise ValueError("this analysis is of another device")
            self.analysis = analysis
            self.source.analysis = &analysis.analysis

    def __dealloc__(self):
        if self.arena != NULL:
            munmap(self.arena, self.arena_bytes)

    @property
    def slot(self):
        return self.source.config.slot

    @property
    def n_channels(self):
        return self.source.config.n_channels

    @property
    def taken(self):
        return self.source.taken

    @property
    def grid_next(self):
        return self.source.state.grid_next

    def follow(self, Source before not None):
        self.before = before
        self.source.before = &before.source

    def replace(self, Analysis analysis not None):
        if self.intake is None or analysis.analysis.config.n_values != self.source.config.n_values:
            raise ValueError("this analysis is of another device")
        if self.analysis is not None and analysis.signal is not self.analysis.signal:
            raise ValueError("this analysis has another signal")
        if self.analysis is None:
            self.replaced = []
        elif self.source.analysis == &self.analysis.analysis:
            self.replaced = [self.analysis]
        else:                           # no step has been since the last one came
            self.replaced.append(self.analysis)
        self.analysis = analysis

    @property
    def state_bytes(self):
        return self.arena_bytes + (self.analysis.arena_bytes if self.analysis is not None else 0)

    def warm(self, uint64_t first, uint64_t until, int64_t grid_t0_ns):
        if self.intake is None:
            raise ValueError("a source without a device has nothing to learn from")
        with nogil:
            pd_source_warm(&self.source, first, until, grid_t0_ns)

    def report(self):
        cdef pd_clock_report report
        if pd_source_get_report(&self.source, &report):
            return None
        return report

    @staticmethod
    def grid_next_of(bytes arena):
        if <size_t>len(arena) < sizeof(pd_source_state):
            raise ValueError("this state is of another build")
        return (<pd_source_state *>(<char *>arena)).grid_next

    def restore(self, bytes arena):
        if <size_t>len(arena) != self.state_bytes:
            raise ValueError("this state is of another build or configuration")
        memcpy(self.arena, <const char *>arena, self.arena_bytes)
        if self.analysis is not None:
            self.analysis.restore(arena[self.arena_bytes:])
        self.source.taken = self.source.state.next


# The garbage collector must not take the plan from a thread that still ticks: __dealloc__ ends it.
@no_gc_clear
cdef class Engine:
    def __cinit__(self, int64_t grid_t0_ns, *, uint32_t n_events=4096):
        self.retired = []
        self.memory_bytes = (sizeof(pd_engine) + 4095) // 4096 * 4096 + PD_TICK_STACK
        self.memory = pages(self.memory_bytes, &self.lock_error)
        if self.memory == NULL:
            raise MemoryError
        self.engine = <pd_engine *>(<char *>self.memory + PD_TICK_STACK)
        self.events = Ring(PD_EVENT_WORDS, n_events)
        if pd_engine_init(self.engine, &self.events.ring, grid_t0_ns):
            raise ValueError("the event ring doesn't fit")
        self.engine.stack = self.memory

    def __dealloc__(self):
        if self.memory == NULL:
            return
        if self.threaded:
            with nogil:
                pd_engine_stop(self.engine)
        free(pd_engine_swap(self.engine, NULL))
        for _, address, _ in self.retired:
            free(<void *><size_t>address)
        munmap(self.memory, self.memory_bytes)

    def set_plan(self, sources):
        if len(sources) > PD_MAX_SOURCES:
            raise ValueError(f"a plan has at most {PD_MAX_SOURCES} sources, not {len(sources)}")
        cdef pd_plan *plan = <pd_plan *>calloc(1, sizeof(pd_plan))
        if plan == NULL:
            raise MemoryError
        self.serial += 1
        plan.serial = self.serial
        cdef Source source
        for source in sources:
            plan.source[plan.n_sources] = &source.source
            if source.analysis is not None:
                plan.analysis[plan.n_sources] = &source.analysis.analysis
            plan.n_sources += 1
        cdef pd_plan *old = pd_engine_swap(self.engine, plan)
        if old != NULL:
            self.retired.append((self.engine.steps, <size_t>old, self.plan))
        self.plan = tuple(sources), tuple([source.analysis for source in sources])
        self._retire(False)
        return self.serial

    cdef int _retire(self, bint wait) except -1:
        """Frees plans that no step can still be using."""
        keep = []
        for steps, address, sources in self.retired:
            if self.threaded and self.engine.running and self.engine.steps <= steps + 1:
                keep.append((steps, address, sources))
            else:
                free(<void *><size_t>address)
        self.retired = keep
        return 0

    @property
    def retired_plans(self):
        self._retire(False)
        return len(self.retired)

    @property
    def sources(self):
        return self.plan[0] if self.plan else ()

    def step(self, int64_t now_ns, const uint64_t[::1] limits=None):
        if self.threaded:
            raise RuntimeError("the tick thread is running: it takes the steps")
        cdef int64_t wake_ns
        cdef int news
        cdef const uint64_t *until = NULL
        if limits is not None:
            if limits.shape[0] != len(self.sources):
                raise ValueError("a limit for each source of the plan")
            until = &limits[0]
        with nogil:
            wake_ns = pd_engine_step(self.engine, now_ns, until, &news)
        return wake_ns

    def begin(self, int64_t grid_t0_ns):
        if self.threaded or self.engine.steps:
            raise RuntimeError("the grid has begun already")
        pd_engine_begin(self.engine, grid_t0_ns)

    def start(self, int notify_fd, *, int priority=70, int cpu=-1):
        if self.threaded:
            raise RuntimeError("the tick thread is running already")
        cdef int rc = pd_engine_start(self.engine, notify_fd, priority, cpu)
        if rc:
            raise OSError(-rc, os.strerror(-rc))
        self.threaded = True

    def stop(self):
        if self.threaded:
            with nogil:
                pd_engine_stop(self.engine)
            self.threaded = False
            self._retire(False)

    @property
    def running(self):
        return self.threaded and self.engine.running != 0

    @property
    def promote_error(self):
        return self.engine.promote_error

    @property
    def steps(self):
        return self.engine.steps

    @property
    def beats(self):
        return self.engine.state.beats

    @property
    def beats_skipped(self):
        return self.engine.state.beats_skipped

    @property
    def events_next(self):
        return self.engine.state.events_next

    @property
    def grid_t0_ns(self):
        return self.engine.state.grid_t0_ns

    @property
    def tick_lateness(self):
        return Histogram.view(&self.engine.tick, self)

    @property
    def beat_lateness(self):
        return Histogram.view(&self.engine.beat, self)

    @property
    def work(self):
        return Histogram.view(&self.engine.work, self)

    def restore(self, bytes state):
        if len(state) != sizeof(pd_engine_state):
            raise ValueError("this state is of another build")
        memcpy(&self.engine.state, <const char *>state, sizeof(pd_engine_state))

    def take_events(self, uint64_t next):
        """Events from ring index ``next`` on, and the index after them."""
        cdef uint64_t until = pd_ring_next(&self.events.ring)
        cdef pd_event event
        cdef uint64_t oldest = pd_ring_oldest(&self.events.ring)
        cdef uint64_t lost = oldest - next if next < oldest else 0
        out = []
        next = next + lost
        while next < until:
            if pd_ring_read(&self.events.ring, next, <uint64_t *>&event) == 0:
                out.append((event.t_ns, event.kind, event.source, event.a, event.b, event.c, event.x))
            else:
                lost += 1
            next += 1
        return out, next, lost


cdef class GridReader:
    def __cinit__(self, Ring grid not None, *, int64_t deadline_ns, Histogram lateness=None):
        self.grid = grid
        self.n_channels = grid.ring.words - (PD_GRID_WORDS(1) - 1)
        if self.n_channels > PD_MAX_VALUES:
            raise ValueError("this is no grid ring")
        self.frame = np.empty(grid.ring.words, np.uint64)
        self.next = pd_ring_next(&grid.ring)
        self.deadline_ns = deadline_ns
        self.owner = lateness
        if lateness is not None:
            self.hist = lateness.hist

    def seek(self, uint64_t index):
        self.next = index

    def drain(self, int64_t now_ns, int most=4096):
        """Encodes what is new: (bytes, index of the first frame, frames, newest t_ns or None)."""
        cdef uint64_t until = pd_ring_next(&self.grid.ring)
        cdef uint64_t oldest = pd_ring_oldest(&self.grid.ring)
        cdef size_t frame_bytes = PD_FRAME_BYTES(self.n_channels)
        cdef pd_grid *frame = <pd_grid *>&self.frame[0]
        if self.next < oldest:
            self.overrun += oldest - self.next
            self.next = oldest
        cdef uint64_t first = self.next
        if first >= until:
            return b"", first, 0, None
        if until - first > <uint64_t>most:
            until = first + most
        cdef uint64_t n = until - first
        out = PyBytes_FromStringAndSize(NULL, n * frame_bytes)
        cdef uint8_t *at = <uint8_t *>PyBytes_AS_STRING(out)
        cdef int64_t t_ns = 0
        while self.next < until:
            if pd_ring_read(&self.grid.ring, self.next, &self.frame[0]):
                # Overtaken by the tick in the middle: hand out what there is, the jump shows.
                n = self.next - first
                break
            pd_grid_encode(frame, self.next, self.n_channels, now_ns, self.deadline_ns, at)
            if self.hist != NULL:
                pd_hist_add(self.hist, now_ns - frame.due_ns)
            t_ns = frame.t_ns
            at += frame_bytes
            self.next += 1
        if n == 0:
            return b"", first, 0, None
        return (out if n * frame_bytes == <size_t>len(out) else out[: n * frame_bytes]), first, n, t_ns

    def frames(self, uint64_t first, uint64_t until):
        """What is still there of [first, until). See the .pyi."""
        first = max(first, pd_ring_oldest(&self.grid.ring))
        until = max(first, min(until, pd_ring_next(&self.grid.ring)))
        out = np.zeros(until - first, np.dtype([("index", "u8"), ("t_ns", "i8"), ("due_ns", "i8"),
                                               ("flags", "u4"), ("native", "i8"),
                                               ("fraction", "f8"), ("values", "f8", (self.n_channels,))]))
        cdef pd_grid *frame = <pd_grid *>&self.frame[0]
        cdef double[:, ::1] values = np.zeros((until - first, self.n_channels))
        cdef uint64_t i
        cdef uint32_t ch
        index, t_ns, due_ns, flags, native, fraction = (
            np.zeros(until - first, kind) for kind in ("u8", "i8", "i8", "u4", "i8", "f8"))
        cdef int64_t[::1] native_ = native
        cdef double[::1] fraction_ = fraction
        cdef uint64_t[::1] index_ = index
        cdef int64_t[::1] t_ = t_ns
        cdef int64_t[::1] due_ = due_ns
        cdef uint32_t[::1] flags_ = flags
        for i in range(until - first):
            if pd_ring_read(&self.grid.ring, first + i, &self.frame[0]):
                raise LookupError(f"frame {first + i} is gone")
            index_[i] = first + i
            t_[i] = frame.t_ns
            due_[i] = frame.due_ns
            flags_[i] = frame.flags
            native_[i] = frame.native
            fraction_[i] = frame.fraction
            for ch in range(self.n_channels):
                values[i, ch] = frame.value[ch]
        out["index"], out["t_ns"], out["due_ns"], out["flags"] = index, t_ns, due_ns, flags
        out["native"], out["fraction"], out["values"] = native, fraction, values
        return out
