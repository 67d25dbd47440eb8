"""A million Cyton packets through a bad radio, all the way: bytes in, frames of 7069 out.

The radio is that of ``test_cyton_faults``, which checks the native ring. Here the engine ticks
between the reads, and the grid, the events and the bytes of the port are held against the truth.
Channel 1 is a ramp, so that a frame's value says which native position it was computed at; channel
2 a slow sine, which must then be the sine at that position.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from test_cyton_faults import (
    DROP,
    DUP,
    GARBAGE,
    OK,
    PAYLOAD,
    PERIOD_NS,
    Rig,
    Tally,
    check,
    choose,
    feed,
    spoil,
)

from phantomd.config import GridConfig
from phantomd.contracts import GRID_NS, DeviceSpec, Flag
from phantomd.core.cyton import UV_PER_COUNT, encode
from phantomd.core.engine import Engine, GridReader, grid_words
from phantomd.core.resample import Resampler
from phantomd.core.ring import Ring
from phantomd.engine.events import TickEvent
from phantomd.engine.plan import make_source
from phantomd.engine.prototype import design

T0_NS = 10**12
LABELS = tuple(f"EEG{i}" for i in range(1, 9))
BRIDGE = 5  # samples in 20 ms
MISSING, BRIDGED, LATE = int(Flag.MISSING), int(Flag.BRIDGED), int(Flag.LATE)
RAMP = 8  # counts a sample
SINE = 1 << 20  # counts
SINE_HZ = 0.5
WIRE = np.dtype(
    [("index", "u8"), ("t_ns", "i8"), ("flags", "u4"), ("age_us", "u4"), ("values", "f4", (8,))]
)
PROTOTYPE = design(250.0)
REACH = PROTOTYPE.taps
GRID = GridConfig()


@dataclass
class Grid:
    """What came out: each frame of 7069, and its value as the DSP reads it."""

    frames: list[NDArray[np.void]] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)
    events: list[tuple[int, int, int, int, int, int, float]] = field(default_factory=list)


class TickingRig(Rig):
    """The radio's rig, with a tick between the reads. It stands where ``feed`` expects a driver."""

    def __init__(self) -> None:
        super().__init__()
        self._cyton = self.driver
        self.driver = self  # type: ignore[assignment]
        self.engine = Engine(T0_NS)
        self.grid = Ring(grid_words(8), 1 << 15)
        spec = DeviceSpec("cyton", "cyton:", "cyton", 250.0, LABELS)
        self.engine.set_plan(
            [make_source(spec, self.intake, self.grid, self.engine.events, 0, GRID)]
        )
        self.reader = GridReader(self.grid, deadline_ns=7_800_000)
        self.out = Grid()
        self._wake_ns = T0_NS
        self._publish_ns = T0_NS
        self._next_event = 0
        self._pieces: list[bytes] = []

    def feed(self, data: memoryview, arrival_ns: int) -> None:
        while self._wake_ns < arrival_ns:
            now_ns = self._wake_ns
            self._wake_ns = self.engine.step(now_ns)
            data_out, _, n, _ = self.reader.drain(now_ns)
            if n:
                self._pieces.append(data_out)
            if now_ns >= self._publish_ns:
                self.collect()
                self._publish_ns = now_ns + 10**9
        self._cyton.feed(data, arrival_ns)

    def collect(self) -> None:
        if self._pieces:
            frames = np.frombuffer(b"".join(self._pieces), WIRE)
            self._pieces.clear()
            first = int(frames["index"][0])
            self.out.frames.append(frames)
            self.out.values.append(self.reader.frames(first, first + len(frames))["values"])
        events, self._next_event, lost = self.engine.take_events(self._next_event)
        assert lost == 0
        self.out.events += events


def counts_of(first: int, n: int, total: int) -> NDArray[np.int32]:
    index = np.arange(first, first + n)
    counts = np.zeros((n, 8), np.int32)
    counts[:, 0] = (index - total // 2) * RAMP
    counts[:, 1] = np.rint(SINE * np.sin(2 * np.pi * SINE_HZ * index / 250.0))
    counts[:, 2] = SINE
    return counts


@dataclass
class Truth:
    kind: list[NDArray[np.int64]] = field(default_factory=list)
    taken_ns: list[NDArray[np.float64]] = field(default_factory=list)
    clump_ms: list[NDArray[np.int64]] = field(default_factory=list)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def sweep(n_packets: int, chunk: int, seed: int) -> tuple[TickingRig, Truth, Tally]:
    rng = np.random.default_rng(seed)
    rig, truth, tally = TickingRig(), Truth(), Tally()
    t_ns = arrived_ns = float(T0_NS)
    for number, first in enumerate(range(0, n_packets, chunk)):
        period_ns = PERIOD_NS * (1 + (-200e-6, 0.0, 200e-6)[number // 4 % 3])
        clump_ms = (0, 16, 0, 64)[number % 4]
        counts = counts_of(first, chunk, n_packets)
        counters = np.arange(first, first + chunk).astype(np.uint8)
        rows = np.frombuffer(encode(counters, counts), np.uint8).reshape(chunk, 33).copy()
        kind = choose(rng, chunk)
        data, ends = spoil(rng, rows, kind)
        taken_ns = t_ns + period_ns * np.arange(chunk, dtype=np.float64)
        arrived_ns = feed(rng, rig, data, ends, taken_ns, clump_ms, arrived_ns)
        check(rig, first, kind, counts, tally)
        truth.kind.append(kind)
        truth.taken_ns.append(taken_ns)
        truth.clump_ms.append(np.full(chunk, clump_ms))
        t_ns = float(taken_ns[-1]) + period_ns
    rig.collect()
    return rig, truth, tally


def runs_of(lost: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(first, length) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], lost, [False])).astype(np.int8)))
    return np.stack([edges[::2], edges[1::2] - edges[::2]], axis=1)


def near(marked: NDArray[np.bool_], position: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a marked sample lies under the filter at this position."""
    total = np.concatenate(([0], np.cumsum(marked)))
    newest = np.clip(np.floor(position).astype(np.int64) + PROTOTYPE.ahead + 1, 0, len(marked))
    oldest = np.clip(newest - REACH - 1, 0, len(marked))
    return total[newest] > total[oldest]
