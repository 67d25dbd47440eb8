"""Connectivity beside its peers: gamma synchrony of a window, and all measures of all pairs.

The window is 8 channels × 1 s at 250 Hz, every quarter of a second. NumPy's version has the same
arithmetic (checked), with one transform a channel for all shifts; the loop is surrogate by
surrogate, as it is usually written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import detrend, hilbert

from benches.cases import Case
from phantomd.core.connectivity import MEASURES, Connectivity, PhaseSynchrony

Array = npt.NDArray[np.float64]
Phasors = npt.NDArray[np.complex128]

RATE_HZ = 250.0
N = 250
CHANNELS = 8
LOW, HIGH = 30.0, 90.0
BELOW = np.tril_indices(CHANNELS, -1)
BANDS = [(4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 90.0)]
GAMMA = Case(
    "connectivity",
    "gamma synchrony: 8 channels × 250 samples, 28 pairs × 40 surrogates",
    "gamma synchrony: 8 channels × 250 samples, 28 pairs × 40 surrogates",
)
ALL_PAIRS = Case(
    "connectivity",
    "six measures: 8 channels, 4 bands, 2 s at 250 Hz in 7 segments",
    "PLV, PLI, wPLI, coherence, imaginary: 28 pairs, 4 bands, 7 segments of 125",
)
BY_CHANNELS = Case("connectivity", "gamma synchrony of 250 samples, by channels")


def signal(n: int = N, channels: int = CHANNELS) -> Array:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, channels)) + 0.5 * rng.standard_normal((n, 1))


def phases(x: Array) -> Phasors:
    z = np.fft.rfft(detrend(x, axis=0, type="linear"), axis=0)
    f = np.fft.rfftfreq(len(x), 1 / RATE_HZ)
    z[(f < LOW) | (f > HIGH)] = 0
    a = hilbert(np.fft.irfft(z, n=len(x), axis=0), axis=0)
    return np.asarray(a / abs(a))


def whole_bins(u: Phasors) -> Phasors:
    """Turned back by what each channel's frequency is off a whole bin."""
    n, c = len(u), np.arange(u.shape[1])
    z = np.fft.fft(u, axis=0)
    k = abs(z).argmax(axis=0)
    below, here, above = z[(k - 1) % n, c], z[k, c], z[(k + 1) % n, c]
    rest = np.clip(np.real((below - above) / (2 * here - below - above)), -0.5, 0.5)
    return np.asarray(u * np.exp(-2j * np.pi * rest * np.arange(n)[:, None] / n))


def z_of(plv: Array, values: Array) -> float:
    """From PLV [pairs] and of surrogates [surrogates, pairs]."""
    mad = np.median(abs(values - np.median(values, axis=0)))
    sd = max(1.4826022185056018 * mad, np.sqrt((1 - np.pi / 4) / 61)) / np.sqrt(len(plv))
    return float((plv.mean() - np.median(values.mean(axis=1))) / sd)


def z_by_transforms(x: Array, shifts: npt.NDArray[np.int64]) -> float:
    u = phases(x)
    i, j = BELOW
    transforms = np.fft.fft(whole_bins(u), axis=0)
    cross = np.roll(transforms, -3, axis=0)[:, i] * transforms[:, j].conj()
    at = (shifts[:, i] - shifts[:, j]) % len(u)
    values = abs(np.fft.ifft(cross, axis=0))[at, np.arange(len(i))] / len(u)
    return z_of((abs(u.T @ u.conj()) / len(u))[BELOW], values)


def z_by_loop(x: Array, shifts: npt.NDArray[np.int64]) -> float:
    u = phases(x)
    whole = whole_bins(u)
    turned = whole * np.exp(-2j * np.pi * 3 * np.arange(len(u)) / len(u))[:, None]
    values = []
    for s in shifts:
        moved = np.stack([np.roll(turned[:, c], -s[c]) for c in range(CHANNELS)])
        still = np.stack([np.roll(whole[:, c], -s[c]) for c in range(CHANNELS)])
        values.append((abs(moved @ still.conj().T) / len(u))[BELOW])
    return z_of((abs(u.T @ u.conj()) / len(u))[BELOW], np.array(values))


def test_gamma(benchmark: Any) -> None:
    GAMMA.ours(benchmark, "`PhaseSynchrony.run(x)`")
    x = signal()
    plan = PhaseSynchrony(CHANNELS, RATE_HZ, n_samples=N, band_hz=(LOW, HIGH))
    z = plan.run(x).z
    assert abs(z_by_transforms(x, plan.shifts) - z) <= 1e-9
    assert abs(z_by_loop(x, plan.shifts) - z) <= 1e-9
    benchmark(plan.run, x)


def test_gamma_of_numpy_by_transforms(benchmark: Any) -> None:
    GAMMA.peer(benchmark, "NumPy", "a transform a pair for all shifts")
    plan = PhaseSynchrony(CHANNELS, RATE_HZ, n_samples=N, band_hz=(LOW, HIGH))
    benchmark(z_by_transforms, signal(), plan.shifts)


def test_gamma_of_numpy_by_loop(benchmark: Any) -> None:
    GAMMA.peer(benchmark, "NumPy", "surrogate by surrogate")
    plan = PhaseSynchrony(CHANNELS, RATE_HZ, n_samples=N, band_hz=(LOW, HIGH))
    benchmark(z_by_loop, signal(), plan.shifts)


def test_measures(benchmark: Any) -> None:
    ALL_PAIRS.ours(benchmark, "`Connectivity.matrices(x, out)`")
    x = signal(2 * N)
    plan = Connectivity(CHANNELS, RATE_HZ, BANDS, nperseg=125, noverlap=62)
    benchmark(plan.matrices, x, plan.matrices(x))


def test_measures_of_mne(benchmark: Any) -> None:
    ALL_PAIRS.peer(benchmark, "MNE-Connectivity", "`spectral_connectivity_epochs`")
    reason = "MNE-Connectivity is not installed: a peer less"
    module = pytest.importorskip("mne_connectivity", reason=reason)
    x = signal(2 * N)
    epochs = np.array([x[s : s + 125].T for s in range(0, 2 * N - 124, 63)])

    def measure() -> list[Any]:
        told: list[Any] = module.spectral_connectivity_epochs(
            epochs,
            method=list(MEASURES),
            mode="fourier",
            sfreq=RATE_HZ,
            fmin=[low for low, _ in BANDS],
            fmax=[high for _, high in BANDS],
            faverage=True,
            verbose="ERROR",
        )
        return told

    ours = Connectivity(CHANNELS, RATE_HZ, BANDS, nperseg=125, noverlap=62).matrices(x)
    for mine, theirs in zip(ours, measure(), strict=True):
        dense = np.moveaxis(theirs.get_data(output="dense"), -1, 0)
        assert abs(mine[:, *BELOW] - dense[:, *BELOW]).max() <= 1e-12
    benchmark.pedantic(measure, rounds=10)


@pytest.mark.parametrize("channels", [2, 4, 8, 16, 32, 64])
def test_gamma_by_channels(benchmark: Any, channels: int) -> None:
    BY_CHANNELS.ours(benchmark, f"{channels} channels")
    plan = PhaseSynchrony(channels, RATE_HZ, n_samples=N)
    benchmark(plan.run, signal(N, channels))
