"""The spike path beside its peers: 25 ms of 1024 channels at 30 kHz, all of it.

The peers do a part of the work: SciPy's float32 ``sosfilt`` is the band-pass alone, and NumPy's
whole path is what a lab's script does with a block (it keeps no state but the filter's, and takes
the noise of the block). ``test_*_gaps`` has ten dead channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import butter, sosfilt, sosfilt_zi

from benches.cases import Case
from phantomd.core.spike import SpikeDetector

Array = npt.NDArray[np.float32]

RATE_HZ = 30_000.0
CHANNELS = 1024
BLOCK = 750
SOS = np.asarray(butter(2, (300.0, 6000.0), "bandpass", fs=RATE_HZ, output="sos"))
BROADBAND = Case(
    "broadband",
    f"a block of 25 ms: {CHANNELS} channels × {BLOCK} samples, float32",
    "broadband, a block of 25 ms: 1,024 channels × 30 kHz, all of it",
)


def blocks(channels: int, count: int = 4) -> list[Array]:
    """Noise, something in common, offsets, and ten spikes a second and channel; µV."""
    rng = np.random.default_rng(0)
    x = 8 * rng.standard_normal((count * BLOCK, channels), dtype=np.float32)
    x += 20 * rng.standard_normal((len(x), 1), dtype=np.float32)
    x += rng.uniform(-3000, 3000, channels).astype(np.float32)
    for c in range(channels):
        x[rng.integers(0, len(x), max(1, len(x) // 3000)), c] -= 150
    return [np.ascontiguousarray(part) for part in np.split(x, count)]


def warm(detector: SpikeDetector, parts: list[npt.NDArray[Any]]) -> SpikeDetector:
    """Half a second: every channel has its noise."""
    for i in range(20):
        detector.process(parts[i % len(parts)])
    assert (detector.noise > 0).any()
    return detector


def rounds(benchmark: Any, detector: SpikeDetector, parts: list[npt.NDArray[Any]]) -> None:
    warm(detector, parts)
    at = 0

    def run() -> None:
        nonlocal at
        detector.process(parts[at % len(parts)])
        at += 1

    benchmark.pedantic(run, rounds=200)


@pytest.mark.parametrize("reference", ["average", "median", "none"])
def test_all_of_it(benchmark: Any, reference: str) -> None:
    BROADBAND.ours(benchmark, f"reference {reference}")
    detector = SpikeDetector(SOS, CHANNELS, RATE_HZ, reference=reference)
    rounds(benchmark, detector, list(blocks(CHANNELS)))


def test_all_of_it_int16(benchmark: Any) -> None:
    BROADBAND.ours(benchmark, "reference average, int16 in")
    parts = [(part / 0.195).astype(np.int16) for part in blocks(CHANNELS)]
    rounds(benchmark, SpikeDetector(SOS, CHANNELS, RATE_HZ, scale=0.195), parts)


@pytest.mark.parametrize("reference", ["average", "median"])
def test_all_of_it_gaps(benchmark: Any, reference: str) -> None:
    BROADBAND.ours(benchmark, f"reference {reference}, ten dead channels")
    parts = blocks(CHANNELS)
    for part in parts:
        part[:, ::103] = np.nan
    rounds(benchmark, SpikeDetector(SOS, CHANNELS, RATE_HZ, reference=reference), list(parts))


def test_scipy_band_pass_alone(benchmark: Any) -> None:
    BROADBAND.peer(benchmark, "SciPy", "`sosfilt` alone: only the band-pass")
    x = blocks(CHANNELS)[0]
    sos = SOS.astype(np.float32)
    zi = (sosfilt_zi(SOS)[:, :, None] * x[0]).astype(np.float32)
    benchmark.pedantic(lambda: sosfilt(sos, x, axis=0, zi=zi), rounds=20)


@pytest.mark.parametrize("reference", ["average", "median"])
def test_numpy_path(benchmark: Any, reference: str) -> None:
    BROADBAND.peer(benchmark, "NumPy", f"`sosfilt`, {reference}, noise, crossings")
    x = blocks(CHANNELS)[0]
    sos = SOS.astype(np.float32)
    zi = (sosfilt_zi(SOS)[:, :, None] * x[0]).astype(np.float32)
    middle = np.mean if reference == "average" else np.median

    def run() -> npt.NDArray[np.int64]:
        y, _ = sosfilt(sos, x, axis=0, zi=zi)
        y -= middle(y, axis=1, keepdims=True)
        noise = np.median(abs(y[::10]), axis=0) / np.float32(0.6745)
        below = y < np.float32(-4.5) * noise
        return np.asarray((below[1:] & ~below[:-1]).sum(axis=0))

    benchmark.pedantic(run, rounds=10)
