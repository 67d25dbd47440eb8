"""Welch spectra beside their peers: the oracle's window, and ten seconds at once.

The oracle's window is 8 channels × 128 samples at 128 Hz in segments of 64, ten times a second.
Each case checks its output against ``scipy.signal.welch``, but for BrainFlow's, which has a window
of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import welch

from phantomd.core.spectrum import Spectrogram, Welch

Array = npt.NDArray[np.float64]

RATE_HZ = 128.0
CHANNELS = 8
BANDS = [(13.0, 30.0), (8.0, 12.0)]
WINDOW_GROUP = "spectrum: the oracle's window, 8 channels x 128 samples, segments of 64"
FOCUS_GROUP = "spectrum: beta and alpha power of the oracle's window"
LONG_GROUP = "spectrum: ten seconds of 64 channels at 250 Hz, segments of 250"


def signal(n: int, channels: int = CHANNELS) -> Array:
    return np.random.default_rng(0).standard_normal((n, channels))


def check(psd: Array, x: Array, rate_hz: float, nperseg: int) -> None:
    _, r = welch(x, rate_hz, nperseg=nperseg, axis=0)
    assert abs(psd - r).max() <= 1e-12 * r.max()


@pytest.mark.benchmark(group=WINDOW_GROUP)
def test_window(benchmark: Any) -> None:
    x = signal(128)
    plan = Welch(CHANNELS, RATE_HZ, nperseg=64)
    out = plan.psd(x)
    check(out, x, RATE_HZ, 64)
    benchmark(plan.psd, x, out)


@pytest.mark.benchmark(group=WINDOW_GROUP)
def test_window_of_scipy(benchmark: Any) -> None:
    x = np.ascontiguousarray(signal(128).T)
    benchmark(welch, x, RATE_HZ, nperseg=64)


@pytest.mark.benchmark(group=WINDOW_GROUP)
def test_window_of_mne(benchmark: Any) -> None:
    reason = "MNE is not installed: a peer less"
    module = pytest.importorskip("mne.time_frequency", reason=reason)
    x = np.ascontiguousarray(signal(128).T)
    options = {"n_fft": 64, "n_overlap": 32, "window": "hann", "verbose": "error"}
    psd, _ = module.psd_array_welch(x, RATE_HZ, **options)
    check(psd.T, signal(128), RATE_HZ, 64)
    benchmark(lambda: module.psd_array_welch(x, RATE_HZ, **options))


@pytest.mark.benchmark(group=WINDOW_GROUP)
def test_window_of_brainflow(benchmark: Any) -> None:
    reason = "BrainFlow is not installed: a peer less"
    module = pytest.importorskip("brainflow.data_filter", reason=reason)
    x = np.ascontiguousarray(signal(128).T)
    window = module.WindowOperations.HANNING.value
    psd = module.DataFilter.get_psd_welch
    benchmark(lambda: [psd(row, 64, 32, int(RATE_HZ), window) for row in x])


@pytest.mark.benchmark(group=FOCUS_GROUP)
def test_bands(benchmark: Any) -> None:
    x = signal(128)
    plan = Welch(CHANNELS, RATE_HZ, nperseg=64)
    out = plan.psd(x)

    def bands() -> Array:
        plan.psd(x, out)
        return plan.band_power(BANDS)

    benchmark(bands)


@pytest.mark.benchmark(group=FOCUS_GROUP)
def test_bands_as_the_specification_has_them(benchmark: Any) -> None:
    """A welch a channel and band."""
    rows = np.ascontiguousarray(signal(128).T)

    def band_power(s: Array, low: float, high: float) -> float:
        f, psd = welch(s, fs=RATE_HZ, nperseg=64)
        inside = np.logical_and(f >= low, f <= high)
        return float(np.trapezoid(psd[inside], f[inside]))

    benchmark(lambda: [[band_power(s, low, high) for s in rows] for low, high in BANDS])


@pytest.mark.benchmark(group=LONG_GROUP)
def test_ten_seconds(benchmark: Any) -> None:
    x = signal(2500, 64)
    plan = Welch(64, 250.0, nperseg=250)
    out = plan.psd(x)
    check(out, x, 250.0, 250)
    benchmark(plan.psd, x, out)


@pytest.mark.benchmark(group=LONG_GROUP)
def test_ten_seconds_of_the_median(benchmark: Any) -> None:
    x = signal(2500, 64)
    plan = Welch(64, 250.0, nperseg=250, average="median")
    benchmark(plan.psd, x, plan.psd(x))


@pytest.mark.benchmark(group=LONG_GROUP)
def test_ten_seconds_of_scipy(benchmark: Any) -> None:
    benchmark(welch, np.ascontiguousarray(signal(2500, 64).T), 250.0, nperseg=250)


@pytest.mark.benchmark(group="spectrum: a row of a spectrogram, 8 channels, segments of 256")
def test_row(benchmark: Any) -> None:
    rows = Spectrogram(CHANNELS, 250.0, nperseg=256, hop=32)
    x = signal(32)
    rows.push(signal(256))
    benchmark(rows.push, x)


@pytest.mark.benchmark(group="spectrum: a plan made")
def test_made(benchmark: Any) -> None:
    benchmark(Welch, CHANNELS, RATE_HZ, nperseg=64)
