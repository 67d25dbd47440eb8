"""CCA beside NumPy: what 40 targets x 5 harmonics x 9 channels x 250 samples cost.

pytest benches/bench_cca.py. "a tick" is six new samples and the correlations of the newest 250,
with buffers bound once; "from nothing" gets all 250 at once. NumPy has its references ready, as
orthonormal bases, and one batched SVD, or batched eigenvalues of the whitened products, for all
targets. Set OPENBLAS_NUM_THREADS=1, as the daemon does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benches.cases import Case
from phantomd.core.cca import CanonicalCorrelation, FilterBankCCA

Array = npt.NDArray[np.float64]

RATE_HZ = 250.0
FORTY = np.linspace(8.0, 15.8, 40)
FORTY_TARGETS = Case(
    "CCA",
    "40 targets × 5 harmonics × 9 channels × 250 samples",
    "CCA, a tick: 40 targets × 5 harmonics × 9 channels × 250 samples",
)
SEVERAL = Case("CCA", "a tick of several windows or bands, 40 targets")
BY_LENGTH = Case("CCA", "a tick of one window, by its length, 40 targets")
TICK = 6


def noise(n: int, channels: int = 9) -> Array:
    return np.random.default_rng(0).standard_normal((n, channels)) * 30.0


class Batched:
    """The peer: all targets in one product and one batched decomposition."""

    def __init__(self, targets_hz: Array, window: int, harmonics: int = 5) -> None:
        turns = np.arange(window)[:, None] * np.arange(1, harmonics + 1) / RATE_HZ
        angles = 2 * np.pi * targets_hz[:, None, None] * turns
        waves = np.concatenate((np.sin(angles), np.cos(angles)), axis=2)
        bases = np.linalg.qr(waves - waves.mean(axis=1, keepdims=True))[0]
        self.shape = (len(targets_hz), 2 * harmonics, -1)
        self.bases = np.ascontiguousarray(bases.transpose(0, 2, 1).reshape(-1, window))

    def by_svd(self, x: Array) -> Array:
        basis = np.linalg.qr(x - x.mean(axis=0))[0]
        products = (self.bases @ basis).reshape(self.shape)
        return np.asarray(np.linalg.svd(products, compute_uv=False)[:, 0])

    def by_eigenvalues(self, x: Array) -> Array:
        x = x - x.mean(axis=0)
        whitening = np.linalg.inv(np.linalg.cholesky(x.T @ x)).T
        products = (self.bases @ x @ whitening).reshape(self.shape)
        squares = products.transpose(0, 2, 1) @ products
        return np.asarray(np.sqrt(np.linalg.eigvalsh(squares)[:, -1]))


def test_a_tick(benchmark: Any) -> None:
    FORTY_TARGETS.ours(benchmark, "a tick: six new samples in, `bind(x, out)`")
    cca = CanonicalCorrelation(FORTY, [250], rate_hz=RATE_HZ, channels=9)
    x = noise(1000)
    cca.push(x)
    buffer, out = x[:TICK].copy(), np.empty((1, 40))
    benchmark(cca.bind(buffer, out))
    cca.push(x[:250])
    assert abs(cca.correlations()[0] - Batched(FORTY, 250).by_svd(x[:250])).max() < 1e-9


def test_from_nothing(benchmark: Any) -> None:
    FORTY_TARGETS.ours(benchmark, "`reset()`, all 250 at once")
    cca = CanonicalCorrelation(FORTY, [250], rate_hz=RATE_HZ, channels=9)
    x, out = noise(250), np.empty((1, 40))
    go = cca.bind(x, out)

    def trial() -> None:
        cca.reset()
        go()

    benchmark(trial)
    assert abs(out[0] - Batched(FORTY, 250).by_svd(x)).max() < 1e-9


@pytest.mark.parametrize("way", ["svd", "eigenvalues"])
def test_batched_numpy(benchmark: Any, way: str) -> None:
    FORTY_TARGETS.peer(benchmark, "NumPy", f"batched, by {way}; references ready")
    peer, x = Batched(FORTY, 250), noise(250)
    benchmark(getattr(peer, f"by_{way}"), x)


def test_scikit_learn(benchmark: Any) -> None:
    reason = "scikit-learn is not installed: a peer less"
    module = pytest.importorskip("sklearn.cross_decomposition", reason=reason)
    FORTY_TARGETS.peer(benchmark, "scikit-learn", "`CCA(1)` a target, `corrcoef` of its scores")
    x = noise(250)
    angles = 2 * np.pi * np.arange(250)[:, None] * np.arange(1, 6) / RATE_HZ
    waves = [np.hstack((np.sin(f * angles), np.cos(f * angles))) for f in FORTY]

    def correlations() -> Array:
        found = []
        for y in waves:
            a, b = module.CCA(n_components=1, max_iter=2000).fit_transform(x, y)
            found.append(np.corrcoef(a[:, 0], b[:, 0])[0, 1])
        return np.array(found)

    # It iterates until its weights move by 1e-6, some of them not at all far enough.
    expected = Batched(FORTY, 250).by_svd(x)
    assert abs(np.median(correlations() - expected)) < 1e-3
    benchmark.pedantic(correlations, rounds=5)


def test_six_windows_a_tick(benchmark: Any) -> None:
    """0.25 to 8 s at once."""
    SEVERAL.ours(benchmark, "six windows, 0.25 to 8 s")
    windows = [63, 125, 250, 500, 1000, 2000]
    cca = CanonicalCorrelation(FORTY, windows, rate_hz=RATE_HZ, channels=9)
    cca.push(noise(2500))
    benchmark(cca.bind(noise(TICK), np.empty((6, 40))))


def test_five_bands_a_tick(benchmark: Any) -> None:
    """Filter-bank CCA of one window, samples already filtered."""
    SEVERAL.ours(benchmark, "five bands, `FilterBankCCA.push`, `scores`")
    bank = FilterBankCCA(FORTY, [250], bands=5, rate_hz=RATE_HZ, channels=9)
    bank.push(np.stack([noise(500)] * 5))
    x = np.stack([noise(TICK)] * 5)

    def tick() -> None:
        bank.push(x)
        bank.scores()

    benchmark(tick)


@pytest.mark.parametrize("seconds", [0.25, 1.0, 8.0])
def test_window(benchmark: Any, seconds: float) -> None:
    BY_LENGTH.ours(benchmark, f"{seconds:g} s")
    window = round(seconds * RATE_HZ)
    cca = CanonicalCorrelation(FORTY, [window], rate_hz=RATE_HZ, channels=9)
    cca.push(noise(2500))
    benchmark(cca.bind(noise(TICK), np.empty((1, 40))))
