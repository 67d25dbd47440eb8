"""SPD matrices beside pyRiemann and SciPy: the oracle's distance, tangent vectors, a mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.linalg import eigvalsh

from benches.cases import OURS, Case
from phantomd.core.spd import Spd

Array = npt.NDArray[np.float64]

SIZES = (8, 32, 64)
MATRICES = 40
MEAN = Case("SPD matrices", f"mean of {MATRICES}, 8 × 8")
COVARIANCE = Case("SPD matrices", "Ledoit-Wolf covariance of 250 × 8")


def random_spd(n: int, seed: int) -> Array:
    rng = np.random.default_rng([n, seed])
    x = rng.standard_normal((4 * n, n)) * rng.uniform(0.3, 3, n)
    return np.asarray(x.T @ x / len(x))


def pyriemann(name: str) -> Any:
    return pytest.importorskip(f"pyriemann.geometry.{name}", reason="no pyRiemann: a peer less")


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("who", [OURS, "pyRiemann", "SciPy"])
def test_distance(benchmark: Any, n: int, who: str) -> None:
    readme = "Fisher-Rao distance, 8 × 8" if n == 8 else ""
    hows = {OURS: "`Spd.distance`", "pyRiemann": "`distance_riemann`"}
    how = hows.get(who, "`eigvalsh(a, b)`, norm of its logarithms")
    Case("SPD matrices", f"distance, {n} × {n}", readme).peer(benchmark, who, how)
    a, b = random_spd(n, 1), random_spd(n, 2)
    ours = Spd(n).distance
    calls: dict[str, Callable[[], Any]] = {
        OURS: lambda: ours(a, b),
        "SciPy": lambda: np.sqrt((np.log(eigvalsh(a, b)) ** 2).sum()),
    }
    if who == "pyRiemann":
        theirs = pyriemann("distance").distance_riemann
        calls[who] = lambda: theirs(a, b)
    assert abs(calls[who]() / ours(a, b) - 1) <= 1e-10
    benchmark(calls[who])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("who", [OURS, "pyRiemann"])
def test_tangent(benchmark: Any, n: int, who: str) -> None:
    how = "`Spd.tangent`" if who == OURS else "`tangent_space`"
    Case("SPD matrices", f"tangent vector, {n} × {n}").peer(benchmark, who, how)
    a, b = random_spd(n, 1), random_spd(n, 2)
    ours = Spd(n).tangent
    call = ours if who == OURS else pyriemann("tangentspace").tangent_space
    assert abs(call(a, b) - ours(a, b)).max() <= 1e-10
    benchmark(call, a, b)


@pytest.mark.parametrize("who", [OURS, "pyRiemann"])
def test_mean(benchmark: Any, who: str) -> None:
    MEAN.peer(benchmark, who, "`Spd.mean`" if who == OURS else "`mean_riemann`")
    x = np.array([random_spd(8, seed) for seed in range(MATRICES)])
    ours = Spd(8).mean
    call = ours if who == OURS else pyriemann("mean").mean_riemann
    assert abs(call(x) - ours(x)).max() <= 1e-10
    benchmark(call, x)


@pytest.mark.parametrize("who", [OURS, "scikit-learn"])
def test_covariance(benchmark: Any, who: str) -> None:
    COVARIANCE.peer(benchmark, who, "`Spd.covariance`" if who == OURS else "`ledoit_wolf`")
    x = np.random.default_rng(0).standard_normal((250, 8))
    ours = Spd(8).covariance
    if who == OURS:
        benchmark(ours, x, kind="ledoit-wolf")
        return
    reason = "scikit-learn is not installed: a peer less"
    module = pytest.importorskip("sklearn.covariance", reason=reason)
    assert abs(module.ledoit_wolf(x)[0] - ours(x, kind="ledoit-wolf")).max() <= 1e-10
    benchmark(module.ledoit_wolf, x)
