"""Ridge regression on a bin and those before it: the Wiener filter of the field."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from phantomd.decoders.base import Array, VelocityDecoder, held_back, lagged, r2

#: Of a standardised design; the best on the held-back part of the training bins is taken.
ALPHAS = (1.0, 10.0, 100.0, 1e3, 1e4)


class Ridge(VelocityDecoder):
    """``lags``: bins that are looked at, the newest among them."""

    name = "ridge"
    MODEL = ("weights", "offset")

    def __init__(self, lags: int = 10) -> None:
        super().__init__(lags=lags)
        self.lags = lags
        self.weights: Array = np.zeros((0, 2))
        self.offset: Array = np.zeros(2)

    def _fit(self, z: Array, kinematics: Array, known: npt.NDArray[np.bool_]) -> None:
        design, v = lagged(z, self.lags)[known], kinematics[known, 2:]
        train = held_back(len(v))
        tried = regressions(design[:train], v[:train], ALPHAS)
        scores = [r2(design[train:] @ w + b, v[train:]) for w, b in tried]
        best = ALPHAS[int(np.argmax(scores))]
        ((self.weights, self.offset),) = regressions(design, v, (best,))

    def _begin(self) -> None:
        self._past = np.zeros((self.lags, self.n_units))

    def _decode(self, z: Array) -> Array:
        self._past[1:] = self._past[:-1].copy()
        self._past[0] = np.nan_to_num(z, nan=0.0)
        out: Array = self._past.ravel() @ self.weights + self.offset
        return out


def regressions(design: Array, v: Array, alphas: tuple[float, ...]) -> list[tuple[Array, Array]]:
    """Weights and offset for each strength of the penalty."""
    middle, v_mean = design.mean(axis=0), v.mean(axis=0)
    centred = design - middle
    gram, cross = centred.T @ centred, centred.T @ (v - v_mean)
    out = []
    for alpha in alphas:
        weights = np.linalg.solve(gram + alpha * np.eye(len(gram)), cross)
        out.append((weights, v_mean - middle @ weights))
    return out
