"""Sessions of the gauntlet and their port. See gauntlet.pyi."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cython cimport no_gc_clear
from libc.errno cimport EMSGSIZE, ENOSPC
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import os

import numpy as np

from phantomd.core.hist cimport Histogram
from phantomd.core.ring cimport Ring, pd_ring_next, pd_ring_oldest, pd_ring_read

MAX_UNITS = PD_BINS_MAX_UNITS
NO_TRIAL = PD_BINS_NONE
NOBODY = PD_NOBODY
NEVER = PD_SESSION_NEVER
TRIAL = np.dtype([("id", "<i8"), ("start", "<u4"), ("stop", "<u4"), ("target_id", "<i4"),
                  ("target_x", "<f4"), ("target_y", "<f4"), ("reserved", "<u4")])
RECORD = np.dtype([("seq", "<u8"), ("t_ns", "<i8"), ("bin", "<u4"), ("flags", "<u4"),
                   ("vx", "<f4"), ("vy", "<f4"), ("x", "<f4"), ("y", "<f4"), ("loop_ns", "<i8")])
STATES = ("running", "paused", "ended")
WHAT = ("", "desync", "in-time", "drop", "back", "jitter", "steady", "ended", "decoder",
        "decoder-left", "cut")
REFUSALS = ("", "decoder-taken", "never-sent", "too-old", "answered-twice", "bad-answer",
            "rate-limited")
WHY = ("", "no-velocity", "wrong-type", "not-finite", "two-meanings")
LEFT = ("gone", "ended", "bad-frame", "too-big", "deaf")
TELLS = ("", "left", "attach", "refused", "session", "done", "half")
COMMANDS = {"add": 1, "remove": 2, "join": 3, "move": 4, "reply": 5, "end": 6, "end-all": 7,
            "broadcast": 8, "pause": 9, "resume": 10, "seek": 11, "stress": 12, "ticket": 13}
QUEUE_BYTES = 1 << 20

cdef size_t HEAD_BYTES = (sizeof(pd_session) + 63) & ~<size_t>63
cdef pd_slab slab                   # all sessions; the GIL guards it
memset(&slab, 0, sizeof(slab))


def live_words(int n_units):
    return PD_SESSION_LIVE_WORDS(n_units)


def parse_answer(const uint8_t[::1] data):
    cdef pd_answer answer
    cdef int64_t took
    cdef const uint8_t *at = &data[0] if data.shape[0] else NULL
    with nogil:
        took = pd_answer_parse(at, data.shape[0], &answer)
    if took < 0:
        return ("too-big" if took == -EMSGSIZE else "bad-frame"), 0, {}
    if took == 0:
        return "more", 0, {}
    if answer.kind == PD_ANSWER_INVALID:
        return WHY[answer.why], took, {}
    if answer.kind == PD_ANSWER_ATTACH:
        return "attach", took, {"code": answer.code[:answer.code_bytes]}
    fields = {"vx": answer.vx, "vy": answer.vy}
    if answer.has_seq:
        fields["seq"] = answer.seq
    if answer.has_position:
        fields.update(x=answer.x, y=answer.y)
    return "velocity", took, fields


cdef class Bins:
    def __cinit__(self, counts, const float[:, ::1] kinematics, const uint32_t[::1] trial_of,
                  trials, int64_t bin_ns):
        cdef const uint8_t[:, ::1] narrow
        cdef const uint16_t[:, ::1] wide
        cdef const uint8_t[::1] raw
        cdef Py_ssize_t n_bins, n_units
        n_bins, n_units = counts.shape
        if trials.dtype != TRIAL:
            raise ValueError("trials have the dtype TRIAL")
        if not (n_bins and 0 < n_units <= PD_BINS_MAX_UNITS):
            raise ValueError(f"{n_bins} bins of {n_units} units: at least one bin, "
                             f"at most {PD_BINS_MAX_UNITS} units")
        if kinematics.shape[0] != n_bins or kinematics.shape[1] != 4 \
                or trial_of.shape[0] != n_bins:
            raise ValueError(f"kinematics are [{n_bins}, 4] and trial_of [{n_bins}]")
        known = np.asarray(trial_of)
        if ((known >= len(trials)) & (known != PD_BINS_NONE)).any():
            raise ValueError("trial_of names trials that there are not")
        if counts.dtype == np.uint8:
            narrow = counts
            self.bins.counts = &narrow[0, 0]
        elif counts.dtype == np.uint16:
            wide = counts
            self.bins.counts = &wide[0, 0]
            self.bins.wide = 1
        else:
            raise ValueError(f"counts are uint8 or uint16, not {counts.dtype}")
        if len(trials):
            trials = np.ascontiguousarray(trials)
            raw = trials.view(np.uint8)
            self.bins.trials = <const pd_bins_trial *>&raw[0]
        self.bins.kinematics = &kinematics[0, 0]
        self.bins.trial_of = &trial_of[0]
        self.bins.n_bins = n_bins
        self.bins.n_units = n_units
        self.bins.n_trials = len(trials)
        self.bins.bin_ns = bin_ns
        self.arrays = (counts, known, np.asarray(kinematics), trials)
        pd_packet_shape_init(&self.shape, n_units, bin_ns)

    @property
    def n_bins(self):
        return self.bins.n_bins

    @property
    def n_units(self):
        return self.bins.n_units

    @property
    def bin_ns(self):
        return self.bins.bin_ns


@no_gc_clear                        # the port's thread may be using it until the last owner goes
cdef class Stress:
    def __cinit__(self, config, uint32_t n_units, const uint16_t[::1] source=None):
        cdef pd_stress_config filled
        cdef const uint16_t *turned = NULL
        if source is not None and source.shape[0] != n_units:
            raise ValueError(f"{source.shape[0]} sources for {n_units} units")
        if source is not None:
            turned = &source[0]
        memset(&filled, 0, sizeof(filled))
        filled.seed = config.seed
        filled.noise_std = config.noise_std
        filled.drift_amplitude = config.drift_amplitude
        filled.drift_period_s = config.drift_period_s
        filled.dropout = config.dropout
        filled.gain_std = config.gain_std
        filled.shift = config.shift
        filled.latency_ms = config.latency_ms
        filled.jitter_ms = config.jitter_ms
        filled.loss = config.loss
        filled.duplicate = config.duplicate
        filled.reorder = config.reorder
        filled.disconnects_per_min = config.disconnects_per_min
        self.stress = <pd_stress *>calloc(1, sizeof(pd_stress))
        if self.stress == NULL:
            raise MemoryError
        if pd_stress_init(self.stress, &filled, n_units, turned):
            raise ValueError("a session can't have this stress")

    def __dealloc__(self):
        free(self.stress)

    def counts(self, uint64_t number, double t_s, const uint16_t[::1] counts):
        out = np.array(counts)
        cdef uint16_t[::1] view = out
        with nogil:
            pd_stress_counts(self.stress, number, t_s, &view[0])
        return out


@no_gc_clear                        # the port's thread may be using it until the last owner goes
cdef class Session:
    def __cinit__(self, Bins bins not None, const uint32_t[:, ::1] spans=None, *, bint loop=True,
                  int64_t phase_ns=0, uint32_t record_slots=2048, Ring live=None):
        cdef pd_session_config config
        cdef size_t need
        cdef uint32_t i
        memset(&config, 0, sizeof(config))
        if spans is not None:
            self.spans = <pd_bins_span *>calloc(spans.shape[0], sizeof(pd_bins_span))
            if self.spans == NULL:
                raise MemoryError
            for i in range(spans.shape[0]):
                self.spans[i].start = spans[i, 0]
                self.spans[i].stop = spans[i, 1]
            config.n_spans = spans.shape[0]
        if live is not None:
            if live.ring.words < PD_SESSION_LIVE_WORDS(bins.bins.n_units):
                raise ValueError(f"a live ring of {bins.bins.n_units} units has at least "
                                 f"{PD_SESSION_LIVE_WORDS(bins.bins.n_units)} words a frame")
            config.live = &live.ring
        self.bins = bins
        self.live = live
        config.bins = &bins.bins
        config.shape = &bins.shape
        config.spans = self.spans
        config.loop = loop
        config.phase_ns = phase_ns
        config.record_slots = record_slots
        need = pd_session_bytes(&config)
        if need == 0:
            raise ValueError("a session plays at least one bin of the dataset, "
                             "in bins of 1 ms to 10 s")
        self.session = <pd_session *>pd_slab_take(&slab, HEAD_BYTES + need)
        # calloc: a page that was never used takes no memory.
        self.line = calloc(1, pd_session_line_bytes(&config))
        if self.session == NULL or self.line == NULL:
            raise MemoryError
        if pd_session_init(self.session, &config, <uint8_t *>self.session + HEAD_BYTES, need,
                           self.line):
            raise ValueError("a session can't have this configuration")

    def __dealloc__(self):
        pd_slab_give(&slab, self.session)
        free(self.line)
        free(self.spans)

    def counts(self):
        cdef pd_session_counts *c = &self.session.counts
        return {"packets": c.packets, "answered": c.answered, "missed": c.missed,
                "invalid": c.invalid, "desyncs": c.desyncs, "lost": c.lost, "dropped": c.dropped}

    @property
    def state(self):
        return STATES[self.session.counts.state]

    @property
    def bin(self):
        return self.session.counts.bin

    @property
    def subscribers(self):
        return self.session.counts.subscribers

    @property
    def decoder(self):
        cdef uint32_t decoder = self.session.counts.decoder
        return None if decoder == PD_NOBODY else decoder

    @property
    def loop(self):
        return Histogram.view(&self.session.loop, self)

    def records(self, uint64_t first=0):
        cdef uint64_t index, oldest = pd_ring_oldest(&self.session.records)
        cdef uint64_t next = pd_ring_next(&self.session.records)
        cdef uint64_t n = 0
        if first < oldest:
            first = oldest
        out = np.zeros(next - first if next > first else 0, RECORD)
        if first >= next:
            return out
        cdef uint64_t[:, ::1] view = out.view(np.uint64).reshape(-1, PD_SESSION_RECORD_WORDS)
        with nogil:
            index = first
            while index < next:
                # One that was overwritten meanwhile is left out: `seq` says so.
                if pd_ring_read(&self.session.records, index, &view[n, 0]) == 0:
                    n += 1
                index += 1
        return out[:n]

    # -- on a virtual clock ------------------------------------------------------------------------

    @property
    def seq(self):
        return self.session.seq

    @property
    def next_ns(self):
        return pd_session_next(self.session)

    def subscribe(self, uint32_t n, int64_t now_ns):
        pd_session_subscribers(self.session, n, now_ns)

    def pause(self):
        pd_session_pause(self.session)

    def resume(self, int64_t now_ns):
        pd_session_resume(self.session, now_ns)

    def seek(self, uint32_t bin, int64_t now_ns):
        pd_session_seek(self.session, bin, now_ns)

    def set_stress(self, Stress stress):
        self.stress = stress
        pd_session_set_stress(self.session, NULL if stress is None else stress.stress)

    def step(self, int64_t now_ns, int64_t wall_offset_ns=0):
        cdef uint64_t head = self.session.head, seq = 0
        cdef const uint8_t *data = NULL
        cdef uint32_t size
        with nogil:
            pd_session_step(self.session, now_ns, wall_offset_ns)
        out = []
        while head < self.session.head:
            size = pd_session_message(self.session, head, &data, &seq)
            out.append(PyBytes_FromStringAndSize(<const char *>data, size))
            head += 1
        return out

    def answer(self, uint32_t connection, const uint8_t[::1] message, int64_t now_ns):
        cdef pd_answer answer
        cdef uint64_t seq = 0
        cdef int refusal
        if pd_answer_parse(&message[0], message.shape[0], &answer) <= 0:
            raise ValueError("no whole answer")
        refusal = pd_session_answer(self.session, connection, &answer, now_ns, &seq)
        return REFUSALS[refusal], seq

    def take_events(self):
        events = [(WHAT[self.session.events[i].what], self.session.events[i].seq,
                   self.session.events[i].value) for i in range(self.session.n_events)]
        self.session.n_events = 0
        return events

    def play(self, uint64_t n_packets, int64_t loop_ns):
        cdef pd_answer answer
        cdef uint64_t seq = 0, end = self.session.seq + n_packets
        cdef int64_t t_ns
        memset(&answer, 0, sizeof(answer))
        answer.kind = PD_ANSWER_VELOCITY
        answer.has_seq = 1
        with nogil:
            while self.session.seq < end:
                t_ns = pd_session_next(self.session)
                if t_ns == PD_SESSION_NEVER:
                    break
                answer.seq = self.session.seq
                pd_session_step(self.session, t_ns, 0)
                if self.session.seq > answer.seq:
                    answer.vx = <double>(answer.seq % 7) - 3.0
                    pd_session_answer(self.session, 0, &answer, t_ns + loop_ns, &seq)
                self.session.n_events = 0
        return self.session.seq


@no_gc_clear                        # its thread may be running until it goes
cdef class Port:
    def __cinit__(self, uint32_t max_sessions, uint32_t max_connections, int notify_fd=-1):
        cdef int rc
        if not (max_sessions and max_connections):
            raise ValueError("a port has room for a session and a connection")
        self.port = <pd_port *>calloc(1, sizeof(pd_port))
        self.connections_bytes = max_connections * sizeof(pd_connection)
        self.connections = <pd_connection *>pd_slab_map(self.connections_bytes)
        self.sessions = <pd_port_session *>calloc(max_sessions, sizeof(pd_port_session))
        self.heap = <pd_port_due *>calloc(max_sessions, sizeof(pd_port_due))
        self.queues = <uint8_t *>calloc(2, 1 << 20)
        self.event = <uint8_t *>calloc(1, sizeof(pd_port_event) + PD_PORT_OUT_BYTES)
        if (self.port == NULL or self.connections == NULL or self.sessions == NULL
                or self.heap == NULL or self.queues == NULL or self.event == NULL):
            raise MemoryError
        pd_spsc_init(&self.commands, self.queues, 1 << 20)
        pd_spsc_init(&self.events, self.queues + (1 << 20), 1 << 20)
        rc = pd_port_init(self.port, self.connections, max_connections, self.sessions, self.heap,
                          max_sessions, &self.commands, &self.events, notify_fd)
        if rc:
            raise OSError(-rc, os.strerror(-rc))

    def __dealloc__(self):
        if self.running:
            with nogil:
                pd_port_stop(self.port)
        if self.port != NULL:
            pd_port_close(self.port)
        free(self.port)
        pd_slab_unmap(self.connections, self.connections_bytes)
        free(self.sessions)
        free(self.heap)
        free(self.queues)
        free(self.event)

    def order(self, what, *, uint32_t session=0, uint32_t connection=0, int64_t value=0,
              bytes message=b"", pointer=None):
        cdef pd_port_command command
        cdef Session given
        cdef Stress stress
        memset(&command, 0, sizeof(command))
        command.what = COMMANDS[what]
        command.session = session
        command.connection = connection
        command.value = value
        command.bytes = len(message)
        if command.what == PD_DO_ADD:
            given = pointer
            command.pointer = given.session
        elif command.what == PD_DO_STRESS and pointer is not None:
            stress = pointer
            command.pointer = stress.stress
        cdef int rc = pd_port_order(self.port, &command, <const char *>message)
        if rc == -ENOSPC:
            return False
        if rc:
            raise OSError(-rc, os.strerror(-rc))
        return True

    def take_events(self, uint32_t most=4096):
        cdef pd_port_event event
        out = []
        while len(out) < most and pd_spsc_take(
                &self.events, self.event, sizeof(pd_port_event) + PD_PORT_OUT_BYTES) > 0:
            memcpy(&event, self.event, sizeof(event))
            out.append((TELLS[event.what], event.connection,
                        None if event.session == PD_NOBODY else event.session, event.code,
                        event.why, event.count, event.seq, event.value,
                        PyBytes_FromStringAndSize(<char *>self.event + sizeof(event),
                                                  event.bytes)))
        return out

    def step(self, int64_t now_ns, int64_t wall_offset_ns=0):
        cdef int64_t next_ns
        if self.running:
            raise RuntimeError("the port's thread is running")
        with nogil:
            next_ns = pd_port_step(self.port, now_ns, wall_offset_ns)
        return next_ns

    def start(self, int priority=0, int cpu=-1):
        cdef int rc = pd_port_start(self.port, priority, cpu)
        if rc:
            raise OSError(-rc, os.strerror(-rc))
        self.running = True

    def stop(self):
        if self.running:
            with nogil:
                pd_port_stop(self.port)
            self.running = False

    @property
    def promote_error(self):
        return self.port.promote_error

    @property
    def published(self):
        return self.port.published

    @property
    def dropped(self):
        return self.port.dropped

    @property
    def untold(self):
        return self.port.post.untold

    @property
    def n_connections(self):
        return self.port.n_connections

    @property
    def lateness(self):
        return Histogram.view(&self.port.lateness, self)

    @property
    def loops(self):
        return Histogram.view(&self.port.loops, self)
