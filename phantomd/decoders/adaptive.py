"""Recursive least squares: a linear decoder that goes on learning while it is used.

Each unit is seen through traces that fade at several speeds, so that history costs little. After
each answer the packet's teaching moves the weights (Haykin 2002, chapter 10). ``teacher``:
``kinematics`` learns from the arm's true velocity, which the gauntlet's packets carry;
``target`` knows only where the target is, as in a person who can't move: the velocity that was
meant is the decoded speed, turned from the cursor towards the target (Gilja et al. 2012).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from phantomd.decoders.base import Array, Teaching, VelocityDecoder, held_back, r2
from phantomd.decoders.linear import ALPHAS, regressions
from phantomd.errors import DecoderError

#: Bins in which a trace fades to 1/e; 0 is the bin itself.
TRACES = (0.0, 2.0, 6.0)
#: Nearer than this part of its way, the cursor is at the target, and nothing can be said.
_AT_TARGET = 1e-6
#: Directions that nothing excites would grow without end under forgetting.
_LARGEST = 10.0


class AdaptiveLinear(VelocityDecoder):
    """``memory_s``: in which what was learned fades to 1/e."""

    name = "rls"
    MODEL = ("weights", "inverse", "first_inverse")
    learns = True

    def __init__(self, memory_s: float = 120.0, teacher: str = "kinematics") -> None:
        if teacher not in ("kinematics", "target"):
            raise DecoderError(f"teacher {teacher!r}", hint="kinematics or target")
        super().__init__(memory_s=memory_s, teacher=teacher)
        self.memory_s = memory_s
        self.teacher = teacher
        self.weights: Array = np.zeros((0, 2))
        self.inverse: Array = np.zeros((0, 0))
        self.first_inverse: Array = np.zeros((0, 0))

    def _fit(self, z: Array, kinematics: Array, known: npt.NDArray[np.bool_]) -> None:
        design = self._traced(z)[known]
        v = kinematics[known, 2:]
        train = held_back(len(v))
        tried = regressions(design[:train, 1:], v[:train], ALPHAS)
        scores = [r2(design[train:, 1:] @ w + b, v[train:]) for w, b in tried]
        alpha = ALPHAS[int(np.argmax(scores))]
        ((weights, offset),) = regressions(design[:, 1:], v, (alpha,))
        self.weights = np.concatenate([offset[None], weights])
        # As sure of the weights as a memory full of bins makes one.
        memory = min(self._memory_bins(), float(len(v)))
        gram = (design.T @ design + alpha * np.eye(design.shape[1])) * (memory / len(v))
        self.first_inverse = np.asarray(np.linalg.inv(gram), np.float64)
        self.inverse = self.first_inverse.copy()

    def _memory_bins(self) -> float:
        return max(self.memory_s / self.bin_s, 2.0)

    def _traced(self, z: Array) -> Array:
        """[bin, 1 + unit·trace]; the first column is 1."""
        self._clear(z.shape[1])
        out = np.empty((len(z), 1 + z.shape[1] * len(TRACES)))
        for i, row in enumerate(z):
            out[i] = self._advance(row)
        return out

    def _clear(self, n_units: int) -> None:
        keep = [np.exp(-1 / tau) if tau else 0.0 for tau in TRACES]
        self._keep = np.array(keep)[:, None]
        self._traces = np.zeros((len(TRACES), n_units))
        self._features: Array = np.zeros(0)
        self._said = np.zeros(2)

    def _advance(self, z: Array) -> Array:
        self._traces = self._keep * self._traces + (1 - self._keep) * np.nan_to_num(z, nan=0.0)
        return np.concatenate([[1.0], self._traces.ravel()])

    def _begin(self) -> None:
        self._clear(self.n_units)

    def _decode(self, z: Array) -> Array:
        self._features = self._advance(z)
        self._said = self._features @ self.weights
        return self._said

    def learn(self, teaching: Teaching) -> None:
        meant = self._meant(teaching)
        if meant is None or not len(self._features):
            return
        x = self._features
        px = self.inverse @ x
        sure = float(x @ px)
        if not (np.isfinite(sure) and sure >= 0.0):  # rounding has eaten its definiteness
            self.inverse = self.first_inverse.copy()
            return
        forget = 1.0 - 1.0 / self._memory_bins()
        gain = px / (forget + sure)
        self.weights = self.weights + np.outer(gain, meant - x @ self.weights)
        self.inverse = self.inverse - np.outer(gain, px)
        if np.trace(self.inverse) < _LARGEST * np.trace(self.first_inverse):
            self.inverse = self.inverse / forget

    def _meant(self, t: Teaching) -> Array | None:
        if self.teacher == "kinematics":
            meant = np.array([t.vx, t.vy])
            return meant if np.isfinite(meant).all() else None
        way = np.array([t.target_x - t.cursor_x, t.target_y - t.cursor_y])
        far = float(np.hypot(*way))
        if not np.isfinite(far) or far < _AT_TARGET:
            return None
        speed = float(np.hypot(*self._said))
        return np.asarray(way / far * speed, np.float64)
