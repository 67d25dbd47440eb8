"""One bin through each reference decoder: 142 units, as the loop's 25 ms hold it. The peer in the
same run is scikit-learn's Ridge, asked for one prediction of ten lags."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benches.cases import Case
from phantomd.decoders.base import VelocityDecoder, lagged
from phantomd.decoders.linear import Ridge
from phantomd.decoders.recurrent import Recurrent
from phantomd.decoders.registry import DECODERS, make

UNITS = 142
A_BIN = Case("spike decoders", f"one bin of {UNITS} units to a velocity")


@cache
def made() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    v = rng.standard_normal((1500, 2))
    counts = rng.poisson(np.exp(0.2 * v @ rng.standard_normal((2, UNITS)) - 1)).astype(float)
    return counts, np.column_stack([np.cumsum(v, axis=0) * 0.025, v])


@cache
def fitted(name: str) -> VelocityDecoder:
    decoder = make(name)
    if isinstance(decoder, Recurrent):
        decoder = Recurrent(epochs=1)  # its speed is not what it has learned
    return decoder.fit(*made(), 0.025)


@pytest.mark.parametrize("name", DECODERS)
def test_one_bin(benchmark: Any, name: str) -> None:
    A_BIN.ours(benchmark, f"`{name}`")
    decoder = fitted(name)
    row = made()[0][700]
    velocity = benchmark(decoder.decode, row)
    assert np.isfinite(velocity).all()


def test_scikit_learn_ridge(benchmark: Any) -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    A_BIN.peer(benchmark, "scikit-learn", "`Ridge.predict`, its ten lags ready")
    counts, kinematics = made()
    decoder = fitted("ridge")
    assert isinstance(decoder, Ridge)
    design = lagged((counts - decoder.mean) / decoder.scale, decoder.lags)
    model = linear.Ridge(alpha=100.0).fit(design, kinematics[:, 2:])
    assert np.isfinite(benchmark(model.predict, design[700:701])).all()
