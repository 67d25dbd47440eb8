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
import pytest
from numpy.typing import NDArray
from sim.test_cyton_faults import (
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
GRID = GridConfig()
CHUNK = 31_250  # packets between two changes of the clumps


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


def sweep(n_packets: int, ppm: float, seed: int) -> tuple[TickingRig, Truth, Tally]:
    rng = np.random.default_rng(seed)
    rig, truth, tally = TickingRig(), Truth(), Tally()
    t_ns = arrived_ns = float(T0_NS)
    for number, first in enumerate(range(0, n_packets, CHUNK)):
        period_ns = PERIOD_NS * (1 + ppm * 1e-6)
        clump_ms = (0, 16, 0, 64)[number % 4]
        counts = counts_of(first, CHUNK, n_packets)
        counters = np.arange(first, first + CHUNK).astype(np.uint8)
        rows = np.frombuffer(encode(counters, counts), np.uint8).reshape(CHUNK, 33).copy()
        kind = choose(rng, CHUNK)
        data, ends = spoil(rng, rows, kind)
        taken_ns = t_ns + period_ns * np.arange(CHUNK, dtype=np.float64)
        arrived_ns = feed(rng, rig, data, ends, taken_ns, clump_ms, arrived_ns)
        check(rig, first, kind, counts, tally)
        truth.kind.append(kind)
        truth.taken_ns.append(taken_ns)
        truth.clump_ms.append(np.full(CHUNK, clump_ms))
        t_ns = float(taken_ns[-1]) + period_ns
    rig.collect()
    return rig, truth, tally


def runs_of(lost: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(first, length) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], lost, [False])).astype(np.int8)))
    return np.stack([edges[::2], edges[1::2] - edges[::2]], axis=1)


def under(
    marked: NDArray[np.bool_], position: NDArray[np.float64], margin: int = 0
) -> NDArray[np.bool_]:
    """Whether a marked sample lies under the filter at a position, or within ``margin`` of it."""
    total = np.concatenate(([0], np.cumsum(marked)))
    end = np.floor(position).astype(np.int64) + PROTOTYPE.ahead + 1
    newest = np.clip(end + margin, 0, len(marked))
    oldest = np.clip(end - PROTOTYPE.taps - margin, 0, len(marked))
    return np.asarray(total[newest] > total[oldest])


def beside(marked: NDArray[np.bool_], position: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a marked sample lies within half a grid period."""
    reach = 0.5 * GRID_NS / PERIOD_NS
    total = np.concatenate(([0], np.cumsum(marked)))
    newest = np.clip(np.floor(position + reach).astype(np.int64) + 1, 0, len(marked))
    oldest = np.clip(np.ceil(position - reach).astype(np.int64), 0, len(marked))
    return np.asarray(total[newest] > total[oldest])


def bridged(x: NDArray[np.floating], runs: NDArray[np.int64]) -> NDArray[np.float64]:
    """x with straight lines across the short losses."""
    line: NDArray[np.float64] = x.astype(np.float64)
    for first, n in runs[runs[:, 1] <= BRIDGE].tolist():
        w = np.arange(1, n + 1)[:, None] / (n + 1)
        line[first : first + n] = x[first - 1] + w * (x[first + n] - x[first - 1])
    return line


def positions(
    signal: NDArray[np.floating], ramp_uv: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Where the ramp has these values after resampling: Newton, from where it has them before."""
    slope_uv = RAMP * UV_PER_COUNT
    resampler = Resampler(PROTOTYPE.table, PROTOTYPE.ahead)
    position: NDArray[np.float64] = ramp_uv / slope_uv + n // 2
    for _ in range(4):
        position -= (resampler.at_many(signal[:, :1], position)[:, 0] - ramp_uv) / slope_uv
    return position


@pytest.mark.parametrize("ppm", [-200.0, 0.0, 200.0])
def test_a_million_packets_in_three_parts_come_out_right_on_the_grid(ppm: float) -> None:
    n = 11 * CHUNK
    rig, truth, tally = sweep(n, ppm, seed=3)
    assert tally.lost > 20_000
    kind = np.concatenate(truth.kind)
    taken_ns = np.concatenate(truth.taken_ns)
    clump_ms = np.concatenate(truth.clump_ms)
    lost = ~np.isin(kind, [OK, DUP, GARBAGE, PAYLOAD])
    runs = runs_of(lost)
    frames, values = np.concatenate(rig.out.frames), np.concatenate(rig.out.values)

    # Each lost sample once in a gap event; each was once LOST in the ring (check).
    gaps = [(e[3], e[4]) for e in rig.out.events if e[1] == TickEvent.GAP]
    assert (np.array(gaps) == runs).all()
    assert int(runs[:, 1].sum()) == tally.lost == rig.intake.counters()["lost"]
    assert TickEvent.OVERRUN not in {e[1] for e in rig.out.events}

    # Each instant once.
    assert (frames["index"] == np.arange(len(frames))).all()
    assert (frames["t_ns"] == T0_NS + np.arange(len(frames)) * GRID_NS).all()
    assert len(frames) >= (taken_ns[-1] - T0_NS - 0.3e9) // GRID_NS

    flags = frames["flags"]
    missing = (flags & MISSING) > 0
    assert (np.isnan(frames["values"]).all(axis=1) == missing).all()
    assert (frames["values"][~missing] == values[~missing].astype(np.float32)).all()
    due_us = round(PROTOTYPE.delay_s * 1e6) + round(GRID.hold_ms * 1e3)
    assert (((flags & LATE) > 0) == (frames["age_us"] > due_us + 7_800)).all()

    # Damaged payloads are the radio's lie, not ours: what lies under them is left out.
    true_position = np.interp(frames["t_ns"], taken_ns, np.arange(n))
    honest = ~under(kind == PAYLOAD, true_position, margin=4)
    inside = (true_position > 2 * PROTOTYPE.taps) & (true_position < n - 2 * PROTOTYPE.taps)
    computed = np.isfinite(values[:, 0]) & honest & inside
    signal = bridged(counts_of(0, n, n)[:, :3] * UV_PER_COUNT, runs)
    position = positions(signal, values[computed, 0], n)

    # Nothing invented: every value is the resampler's, at the position that the ramp tells.
    expected = Resampler(PROTOTYPE.table, PROTOTYPE.ahead).at_many(signal, position)
    assert np.abs(expected - values[computed, :3]).max() <= 1e-6

    # The flags, from the positions and the losses.
    long = np.zeros(n, bool)
    for first, count in runs[runs[:, 1] > BRIDGE].tolist():
        long[first : first + count] = True
    assert not under(long, position).any()
    assert (under(lost, position) == ((flags[computed] & BRIDGED) > 0)).all()
    assert (beside(lost, position) == missing[computed]).all()
    not_computed = ~np.isfinite(values[:, 0]) & (true_position > 250) & inside
    assert under(long, true_position[not_computed], margin=2).all()

    # More than a filter's length from a fault all is well.
    clean = ~under(lost, true_position, margin=2) & (true_position > 250) & inside
    assert clean.sum() > 100_000
    assert np.isin(flags[clean], (0, LATE)).all()
    smooth = clump_ms[np.clip(true_position.astype(np.int64), 0, n - 1)] == 0
    assert (flags[clean & smooth & _settled(true_position, clump_ms)] == 0).all()

    # In time, within 1 ms, a second after whatever happened to packets and ten after the last
    # clump; until then, and of clumps, within a native period more.
    error_ms = np.abs(position - true_position[computed]) * PERIOD_NS / 1e6
    calm = _settled(true_position[computed], clump_ms, after=2_500) & smooth[computed]
    assert error_ms[calm].max() < 1.0
    assert error_ms.max() < 1.0 + PERIOD_NS / 1e6 * 1.1


def _settled(
    position: NDArray[np.float64], clump_ms: NDArray[np.int64], after: int = 250
) -> NDArray[np.bool_]:
    """So many packets since the radio's clumps changed, and no sample beyond the next change."""
    newest = len(clump_ms) - 1
    past, ahead = (
        clump_ms[np.clip(position.astype(np.int64) + far, 0, newest)]
        for far in (-after, PROTOTYPE.ahead + 2)
    )
    return np.asarray(past == ahead)


def test_memory_is_flat() -> None:
    rng = np.random.default_rng(1)
    rig = TickingRig()
    resident = []
    t_ns = float(T0_NS)
    for first in range(0, 120_000, 12_000):
        counters = np.arange(first, first + 12_000).astype(np.uint8)
        data = encode(counters, counts_of(first, 12_000, 120_000))
        kind = np.zeros(12_000, np.int64)
        kind[6_000:6_500] = DROP
        rows = np.frombuffer(data, np.uint8).reshape(-1, 33).copy()
        spoilt, ends = spoil(rng, rows, kind)
        taken_ns = t_ns + PERIOD_NS * np.arange(12_000, dtype=np.float64)
        feed(rng, rig, spoilt, ends, taken_ns, 0, t_ns)
        t_ns = float(taken_ns[-1]) + PERIOD_NS
        rig.collect()
        rig.out = Grid()
        gc.collect()
        resident.append(resident_bytes())
    # Seven minutes after the first tenth.
    assert resident[-1] - resident[2] < 1 << 20
