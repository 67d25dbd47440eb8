"""Welch spectra beside their peers: the oracle's window, and ten seconds at once.

The oracle's window is 8 channels × 128 samples at 128 Hz in segments of 64, ten times a second.
Each case checks its output against ``scipy.signal.welch``, but for BrainFlow's, which has a window
of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import welch

from benches.cases import Case
from phantomd.core.spectrum import Spectrogram, Welch

Array = npt.NDArray[np.float64]

RATE_HZ = 128.0
CHANNELS = 8
BANDS = [(13.0, 30.0), (8.0, 12.0)]
A_WINDOW = Case(
    "spectrum",
    "Welch, the oracle's window: 8 channels × 128 samples, segments of 64",
    "Welch spectrum: 8 channels × 128 samples, segments of 64",
)
FOCUS = Case("spectrum", "beta and alpha power of the oracle's window")
TEN_SECONDS = Case("spectrum", "Welch, ten seconds of 64 channels at 250 Hz, segments of 250")
A_ROW = Case("spectrum", "a row of a spectrogram: 8 channels, segments of 256, 32 new samples")
MADE = Case("spectrum", "a plan made")


def signal(n: int, channels: int = CHANNELS) -> Array:
    return np.random.default_rng(0).standard_normal((n, channels))


def check(psd: Array, x: Array, rate_hz: float, nperseg: int) -> None:
    _, r = welch(x, rate_hz, nperseg=nperseg, axis=0)
    assert abs(psd - r).max() <= 1e-12 * r.max()


def test_window(benchmark: Any) -> None:
    A_WINDOW.ours(benchmark, "`psd(x, out)`")
    x = signal(128)
    plan = Welch(CHANNELS, RATE_HZ, nperseg=64)
    out = plan.psd(x)
    check(out, x, RATE_HZ, 64)
    benchmark(plan.psd, x, out)


def test_window_of_scipy(benchmark: Any) -> None:
    A_WINDOW.peer(benchmark, "SciPy", "`welch`")
    x = np.ascontiguousarray(signal(128).T)
    benchmark(welch, x, RATE_HZ, nperseg=64)


def test_window_of_mne(benchmark: Any) -> None:
    A_WINDOW.peer(benchmark, "MNE", "`psd_array_welch`")
    reason = "MNE is not installed: a peer less"
    module = pytest.importorskip("mne.time_frequency", reason=reason)
    x = np.ascontiguousarray(signal(128).T)
    options = {"n_fft": 64, "n_overlap": 32, "window": "hann", "verbose": "error"}
    psd, _ = module.psd_array_welch(x, RATE_HZ, **options)
    check(psd.T, signal(128), RATE_HZ, 64)
    benchmark(lambda: module.psd_array_welch(x, RATE_HZ, **options))


def test_window_of_brainflow(benchmark: Any) -> None:
    A_WINDOW.peer(benchmark, "BrainFlow", "`get_psd_welch` a channel; its own Hann window")
    reason = "BrainFlow is not installed: a peer less"
    module = pytest.importorskip("brainflow.data_filter", reason=reason)
    x = np.ascontiguousarray(signal(128).T)
    window = module.WindowOperations.HANNING.value
    psd = module.DataFilter.get_psd_welch
    benchmark(lambda: [psd(row, 64, 32, int(RATE_HZ), window) for row in x])


def ezmsg_spectrogram(x: Array, rate_hz: float, nperseg: int, hop: int) -> Callable[[], Array]:
    """Its stream of messages; each has all spectra of segments that its samples complete."""
    reason = "ezmsg-sigproc is not installed: a peer less"
    pytest.importorskip("ezmsg.sigproc", reason=reason)
    from ezmsg.sigproc.spectrogram import SpectrogramSettings, SpectrogramTransformer
    from ezmsg.sigproc.spectrum import SpectralTransform, WindowFunction
    from ezmsg.util.messages.axisarray import AxisArray

    axes = {"time": AxisArray.TimeAxis(fs=rate_hz)}
    message = AxisArray(x, dims=["time", "ch"], axes=axes)
    transform = SpectrogramTransformer(
        SpectrogramSettings(
            window_dur=nperseg / rate_hz,
            window_shift=hop / rate_hz,
            window=WindowFunction.HANNING,
            transform=SpectralTransform.RAW_COMPLEX,
        )
    )
    return lambda: np.asarray(transform(message).data)


def test_window_of_ezmsg_sigproc(benchmark: Any) -> None:
    how = "`SpectrogramTransformer`, squares, their mean; detrends nothing"
    A_WINDOW.peer(benchmark, "ezmsg-sigproc", how)
    spectra = ezmsg_spectrogram(signal(128), RATE_HZ, 64, 32)
    spectra()
    assert spectra().shape == (4, 33, CHANNELS)
    benchmark(lambda: (abs(spectra()) ** 2).mean(axis=0))


def test_bands(benchmark: Any) -> None:
    FOCUS.ours(benchmark, "`psd(x, out)`, `band_power(bands)`")
    x = signal(128)
    plan = Welch(CHANNELS, RATE_HZ, nperseg=64)
    out = plan.psd(x)

    def bands() -> Array:
        plan.psd(x, out)
        return plan.band_power(BANDS)

    benchmark(bands)


def test_bands_as_the_specification_has_them(benchmark: Any) -> None:
    """A welch a channel and band."""
    FOCUS.peer(benchmark, "SciPy", "`welch` and `np.trapezoid` a channel and band")
    rows = np.ascontiguousarray(signal(128).T)

    def band_power(s: Array, low: float, high: float) -> float:
        f, psd = welch(s, fs=RATE_HZ, nperseg=64)
        inside = np.logical_and(f >= low, f <= high)
        return float(np.trapezoid(psd[inside], f[inside]))

    benchmark(lambda: [[band_power(s, low, high) for s in rows] for low, high in BANDS])


def test_bands_of_brainflow(benchmark: Any) -> None:
    reason = "BrainFlow is not installed: a peer less"
    module = pytest.importorskip("brainflow.data_filter", reason=reason)
    FOCUS.peer(benchmark, "BrainFlow", "`get_psd_welch` a channel, `get_band_power` a band")
    x = np.ascontiguousarray(signal(128).T)
    window = module.WindowOperations.HANNING.value
    psd, power = module.DataFilter.get_psd_welch, module.DataFilter.get_band_power

    def bands() -> list[list[float]]:
        spectra = [psd(row, 64, 32, int(RATE_HZ), window) for row in x]
        return [[power(spectrum, low, high) for spectrum in spectra] for low, high in BANDS]

    benchmark(bands)


def test_ten_seconds(benchmark: Any) -> None:
    TEN_SECONDS.ours(benchmark, "`psd(x, out)`")
    x = signal(2500, 64)
    plan = Welch(64, 250.0, nperseg=250)
    out = plan.psd(x)
    check(out, x, 250.0, 250)
    benchmark(plan.psd, x, out)


def test_ten_seconds_of_the_median(benchmark: Any) -> None:
    TEN_SECONDS.ours(benchmark, "the same, median of the segments")
    x = signal(2500, 64)
    plan = Welch(64, 250.0, nperseg=250, average="median")
    benchmark(plan.psd, x, plan.psd(x))


def test_ten_seconds_of_scipy(benchmark: Any) -> None:
    TEN_SECONDS.peer(benchmark, "SciPy", "`welch`")
    benchmark(welch, np.ascontiguousarray(signal(2500, 64).T), 250.0, nperseg=250)


def test_row(benchmark: Any) -> None:
    A_ROW.ours(benchmark, "`push(x)`")
    rows = Spectrogram(CHANNELS, 250.0, nperseg=256, hop=32)
    x = signal(32)
    rows.push(signal(256))
    benchmark(rows.push, x)


def test_row_of_ezmsg_sigproc(benchmark: Any) -> None:
    A_ROW.peer(benchmark, "ezmsg-sigproc", "`SpectrogramTransformer`")
    spectra = ezmsg_spectrogram(signal(32), 250.0, 256, 32)
    for _ in range(8):
        spectra()
    assert spectra().shape == (1, 129, CHANNELS)
    benchmark(spectra)


def test_made(benchmark: Any) -> None:
    MADE.ours(benchmark, "`Welch(8, 128, nperseg=64)`")
    benchmark(Welch, CHANNELS, RATE_HZ, nperseg=64)
