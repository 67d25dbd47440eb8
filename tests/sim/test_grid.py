"""The 128 Hz grid in virtual time: each instant once, and the right values at any rate and step."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import convolve, resample_poly

from phantomd.config import GridConfig
from phantomd.contracts import GRID_NS, DeviceSpec, Flag
from phantomd.core.engine import Engine, GridReader, Source, grid_words
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake
from phantomd.core.ring import Ring
from phantomd.engine.plan import make_source
from phantomd.engine.prototype import design

T0_NS = 10**12
RATES = (125.0, 128.0, 160.0, 250.0, 256.0, 500.0, 512.0, 1000.0)
#: Grid frames that the clock needs before it is exact.
WARM = 128 * 4


class Rig:
    """One device of two channels whose samples arrive when they are taken."""

    def __init__(
        self, rate_hz: float, ppm: float = 0.0, settings: GridConfig | None = None
    ) -> None:
        self.rate_hz = rate_hz
        self.period_ns = 1e9 / rate_hz / (1 + ppm * 1e-6)
        ring = Ring(NATIVE_HEAD_WORDS + 2, 8192)
        self.intake = Intake(ring, rate_hz, 2)
        self.engine = Engine(T0_NS)
        self.grid = Ring(grid_words(2), 1 << 13)
        spec = DeviceSpec("test", "test:", "test", rate_hz, ("A", "B"))
        self.source: Source = make_source(
            spec, self.intake, self.grid, self.engine.events, 0, settings or GridConfig()
        )
        self.engine.set_plan([self.source])
        self.reader = GridReader(self.grid, deadline_ns=7_800_000)

    def taken_ns(self, n: int) -> NDArray[np.int64]:
        return np.asarray(T0_NS + np.rint(np.arange(n) * self.period_ns).astype(np.int64))

    def play(self, values: NDArray[np.float64], ticks_ns: NDArray[np.int64]) -> None:
        """Every sample in time, and a step at each of ``ticks_ns``."""
        n = len(values)
        arrivals = self.taken_ns(n)
        until = np.searchsorted(arrivals, ticks_ns, side="right")
        begin = 0
        for tick_ns, end in zip(ticks_ns.tolist(), until.tolist(), strict=True):
            for i in range(begin, end):
                self.intake.indexed(i, int(arrivals[i]), values[i])
            begin = max(begin, end)
            self.engine.step(tick_ns)

    def frames(self) -> NDArray[np.void]:
        return self.reader.frames(0, self.grid.next)


def ticks(seconds: float, every_ns: int = 2_000_000) -> NDArray[np.int64]:
    return T0_NS + np.arange(0, round(seconds * 1e9), every_ns, dtype=np.int64)


def tones(t_s: NDArray[np.floating]) -> NDArray[np.float64]:
    """µV [n, 2]: what an EEG channel may hold, below 40 Hz, on an electrode's offset."""
    a = 20 * np.sin(2 * np.pi * 10.1 * t_s) + 5 * np.sin(2 * np.pi * 33.3 * t_s + 1) - 30_000
    b = 50 * np.cos(2 * np.pi * 2.3 * t_s + 2) + 60_000
    return np.stack([a, b], axis=1)


def whole(frames: NDArray[np.void]) -> NDArray[np.bool_]:
    return np.asarray((frames["flags"] & int(Flag.MISSING)) == 0)


@pytest.mark.parametrize("rate_hz", RATES)
def test_values_are_those_of_scipys_resampler(rate_hz: float) -> None:
    """Reference: ``resample_poly`` with the documented prototype as its window."""
    seconds = 8
    rig = Rig(rate_hz)
    n = round(seconds * rate_hz)
    x = np.random.default_rng(1).normal(0, 20, (n, 2)).cumsum(axis=0) * 0.1 + 30_000
    rig.play(x, ticks(seconds))
    ratio = Fraction(128) / Fraction(rate_hz)
    up, down = ratio.numerator, ratio.denominator
    window = design(rate_hz).h(up)
    if ratio == 1:  # of which resample_poly makes a copy
        y = convolve(x - x[0], window[:, None], mode="same")
    else:
        y = resample_poly(x - x[0], up, down, window=window)
    frames = rig.frames()
    sure = np.flatnonzero(whole(frames))
    sure = sure[sure > WARM]
    assert sure.size > 128 * (seconds - 5)
    error = frames["values"][sure] - x[0] - y[sure]
    assert np.abs(error).max() <= 1e-3


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(RATES), st.floats(-200, 200))
def test_values_are_right_at_their_instants_at_any_rate_and_drift(
    rate_hz: float, ppm: float
) -> None:
    seconds = 8.0
    rig = Rig(rate_hz, ppm)
    n = int(seconds * rate_hz)
    rig.play(tones(np.arange(n) * rig.period_ns / 1e9), ticks(seconds, 4_000_000))
    frames = rig.frames()
    sure = whole(frames) & (frames["index"] > WARM)
    assert sure.sum() > 128 * 3
    error = frames["values"][sure] - tones((frames["t_ns"][sure] - T0_NS) / 1e9)
    # The ripple of the passband, 0.1 dB at most, on 25 µV.
    assert np.abs(error).max() <= 0.25


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(RATES),
    st.floats(-200, 200),
    st.lists(st.sampled_from((1, 3, 7, 25, 100, 900)), min_size=1, max_size=8),
)
def test_every_instant_once_whatever_the_steps(
    rate_hz: float, ppm: float, steps_ms: list[int]
) -> None:
    rig = Rig(rate_hz, ppm)
    seconds = 4.0
    steps = np.cumsum(np.fromiter(itertools.islice(itertools.cycle(steps_ms), 4000), np.int64))
    at = T0_NS + steps[steps <= seconds * 1000] * 1_000_000
    if at.size == 0:
        at = np.array([T0_NS + 10**9])
    rig.play(np.zeros((int(seconds * rate_hz), 2)), at)
    frames = rig.frames()
    due_ns = int(at[-1]) - T0_NS - (frames["due_ns"][0] - frames["t_ns"][0] if len(frames) else 0)
    assert len(frames) >= max(0, (due_ns - 100_000_000) // GRID_NS)
    assert (frames["index"] == np.arange(len(frames))).all()
    assert (frames["t_ns"] == T0_NS + np.arange(len(frames)) * GRID_NS).all()


def play_with(ticks_ns: NDArray[np.int64]) -> NDArray[np.void]:
    rig = Rig(250.0, 35.0)
    rig.play(tones(np.arange(3000) * rig.period_ns / 1e9), ticks_ns)
    return rig.frames()


def test_step_sizes_change_no_value() -> None:
    fine = play_with(ticks(11.9, 1_000_000))
    rng = np.random.default_rng(5)
    irregular = T0_NS + np.cumsum(rng.integers(1, 30_000_000, 780))
    asleep = ticks(11.9, 1_000_000)
    asleep = asleep[(asleep < T0_NS + 6 * 10**9) | (asleep >= T0_NS + 9 * 10**9)]
    for other in (play_with(irregular), play_with(asleep)):
        n = min(len(fine), len(other))
        assert n > 1300
        assert (whole(fine)[WARM:n] == whole(other)[WARM:n]).all()
        apart = np.abs(fine["values"][WARM:n] - other["values"][WARM:n])
        # What a later look has taught the clock: picoseconds, at 3 µV/ms.
        assert np.nanmax(apart) <= 1e-6


def test_a_step_three_seconds_late_gives_all_frames_and_skips_heartbeats() -> None:
    rig = Rig(250.0)
    at = ticks(8.0)
    at = at[(at <= T0_NS + 4 * 10**9) | (at >= T0_NS + 7 * 10**9)]
    rig.play(np.zeros((2000, 2)), at)
    frames = rig.frames()
    assert (frames["index"] == np.arange(len(frames))).all()
    assert whole(frames)[WARM // 2 :].all()
    assert rig.engine.beats_skipped == 119
    assert rig.engine.beats + rig.engine.beats_skipped == 319


def test_a_limit_keeps_samples_for_a_later_step() -> None:
    rig = Rig(250.0)
    for i in range(500):
        rig.intake.indexed(i, T0_NS + 4_000_000 * i, np.zeros(2))
    rig.engine.step(T0_NS + 2 * 10**9, np.array([200], np.uint64))
    assert rig.source.taken == 200
    with pytest.raises(ValueError, match="limit"):
        rig.engine.step(T0_NS + 2 * 10**9, np.array([200, 300], np.uint64))


def test_replayed_limits_give_the_same_frames() -> None:
    """All samples there beforehand, and limits where the first run saw them: bit for bit."""
    values = tones(np.arange(2000) / 250)
    first = Rig(250.0)
    at = ticks(8.0, 5_000_000)
    first.play(values, at)
    second = Rig(250.0)
    arrivals = second.taken_ns(2000)
    for i in range(2000):
        second.intake.indexed(i, int(arrivals[i]), values[i])
    for tick_ns in at.tolist():
        limit = np.searchsorted(arrivals, tick_ns, side="right")
        second.engine.step(tick_ns, np.array([limit], np.uint64))
    assert first.frames().tobytes() == second.frames().tobytes()
