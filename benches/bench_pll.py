"""The phase tracker beside its peers: what 8 channels cost a tick, at the newest second of 250 Hz.

pytest benches/bench_pll.py. "a tick" is two new samples and a report of every channel, with buffers
bound once. The peers get the window as it is, 250 x 8, and give the phase at its end: no frequency,
no lock, nothing that says whether there is a rhythm at all. Their accuracy is in
benches/pll_accuracy.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import hilbert

from benches.cases import Case
from benches.pll_accuracy import by_echt, by_filtered_hilbert
from phantomd.core.pll import FIELDS, PhaseTracker

Array = npt.NDArray[np.float64]

RATE_HZ = 250.0
A_TICK = Case(
    "phase tracker",
    "a tick of 8 channels, newest second of 250 Hz",
    "phase tracker, a tick: 8 channels, the newest second",
)
BY_WINDOW = Case("phase tracker", "a tick of 8 channels, by rate and window")
BY_CHANNELS = Case("phase tracker", "a tick, newest second of 250 Hz, by channels")


def signal(n: int, channels: int = 8, rate_hz: float = RATE_HZ) -> Array:
    rng = np.random.default_rng(0)
    wave = 5 * np.cos(2 * np.pi * 10.2 * np.arange(n) / rate_hz)
    noise = 5 * rng.standard_normal((n, channels)) + rng.uniform(-62e3, 62e3, channels)
    return np.asarray(wave[:, None] + noise)


def tick(benchmark: Any, tracker: PhaseTracker, x: Array, samples: int) -> Array:
    tracker.push(x)
    out = np.empty((tracker.channels, len(FIELDS)))
    benchmark(tracker.bind(x[:samples].copy(), out))
    tracker.push(x)
    read = tracker.read()
    assert np.isfinite(read[:, 0]).all()
    return read


def test_a_tick(benchmark: Any) -> None:
    A_TICK.ours(benchmark, "two new samples in, `bind(x, out)`")
    x = signal(600)
    tick(benchmark, PhaseTracker(10.0, rate_hz=RATE_HZ, channels=8), x, 2)


def test_a_tick_with_a_lost_packet(benchmark: Any) -> None:
    """Ten samples of all channels are missing from every window."""
    A_TICK.ours(benchmark, "the same, ten samples missing")
    tracker = PhaseTracker(10.0, rate_hz=RATE_HZ, channels=8)
    x = signal(600)
    x[400:410] = np.nan
    tracker.push(x)
    saved, buffer, out = tracker.save(), x[:2].copy(), np.empty((8, len(FIELDS)))
    step = tracker.bind(buffer, out)

    def again() -> tuple[tuple[Any, ...], dict[str, Any]]:
        tracker.restore(saved)
        return (), {}

    benchmark.pedantic(step, setup=again, rounds=2000)
    assert np.isfinite(out[:, 0]).all()


def test_hilbert(benchmark: Any) -> None:
    A_TICK.peer(benchmark, "SciPy", "`hilbert`, no band-pass")
    x = signal(250)
    benchmark(lambda: np.angle(hilbert(x, axis=0)[-1]))


def test_band_passed_hilbert(benchmark: Any) -> None:
    A_TICK.peer(benchmark, "SciPy", "band-pass and `hilbert`")
    benchmark(by_filtered_hilbert, signal(250), 10.0, RATE_HZ)


def test_echt(benchmark: Any) -> None:
    A_TICK.peer(benchmark, "NumPy", "ecHT reference")
    benchmark(by_echt, signal(250), 10.0, RATE_HZ)


@pytest.mark.parametrize(
    ("rate_hz", "seconds"), [(125, 1), (250, 1), (250, 4), (500, 1), (1000, 1)]
)
def test_window(benchmark: Any, rate_hz: int, seconds: int) -> None:
    BY_WINDOW.ours(benchmark, f"{rate_hz} Hz, {seconds} s")
    tracker = PhaseTracker(10.0, rate_hz=rate_hz, channels=8, window_s=seconds)
    x = signal((seconds + 1) * rate_hz, rate_hz=rate_hz)
    tick(benchmark, tracker, x, max(1, rate_hz // 128))


@pytest.mark.parametrize("channels", [1, 8, 64])
def test_channels(benchmark: Any, channels: int) -> None:
    BY_CHANNELS.ours(benchmark, f"{channels} channel{'s' * (channels > 1)}")
    tracker = PhaseTracker(10.0, rate_hz=RATE_HZ, channels=channels)
    tick(benchmark, tracker, signal(600, channels), 2)
