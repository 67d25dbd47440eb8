"""Kalman filter of the hand's movement, with spikes as its observations (Wu et al. 2006).

The model is linear and does not change, so its gain settles within some bins: the settled one is
computed when it is fitted (Malik et al. 2011), and a decode is two small products.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from phantomd.decoders.base import Array, VelocityDecoder, held_back, r2
from phantomd.errors import DecoderError

#: Bins by which the cortex may be ahead of the hand; chosen on the held-back part.
LEADS = (0, 1, 2, 3)
_SHRINKAGE = 1e-3
_ROUNDS = 50


class Kalman(VelocityDecoder):
    """``state``: ``v`` velocity; ``pv`` position before it; ``pva`` acceleration after it."""

    name = "kalman"
    MODEL = ("step", "gain", "lead")

    def __init__(self, state: str = "v") -> None:
        if state not in ("v", "pv", "pva"):
            raise DecoderError(f"state {state!r}", hint="v, pv or pva")
        super().__init__(state=state)
        self.state = state
        self.step: Array = np.zeros((0, 0))
        self.gain: Array = np.zeros((0, 0))
        self.lead: Array = np.zeros(1)

    def _fit(self, z: Array, kinematics: Array, known: npt.NDArray[np.bool_]) -> None:
        states = self._states(kinematics)
        whole = known & np.isfinite(states).all(axis=1)  # acceleration needs its neighbours
        states = states - states[whole].mean(axis=0)
        train = held_back(len(z))
        scores = []
        for lead in LEADS:
            earlier = _delayed(z, lead)
            self.step, self.gain = _settled(states[:train], earlier[:train], whole[:train])
            decoded = np.array([self._filtered(row) for row in self._from_rest(earlier)])[train:]
            rest = known[train:]
            true = kinematics[train:, 2:][rest]
            scores.append(r2(decoded[rest] + self.v_mean, true) if rest.any() else 0.0)
        lead = LEADS[int(np.argmax(scores))]
        self.lead = np.array([float(lead)])
        self.step, self.gain = _settled(states, _delayed(z, lead), whole)

    def _states(self, kinematics: Array) -> Array:
        parts = [kinematics[:, 2:]]
        if "p" in self.state:
            parts.insert(0, kinematics[:, :2])
        if "a" in self.state:
            parts.append(np.gradient(kinematics[:, 2:], self.bin_s, axis=0))
        return np.concatenate(parts, axis=1)

    def _from_rest(self, z: Array) -> Array:
        self._x = np.zeros(len(self.step))
        return z

    def _begin(self) -> None:
        self._x = np.zeros(len(self.step))
        self._coming = np.full((int(self.lead[0]) + 1, self.n_units), np.nan)

    def _decode(self, z: Array) -> Array:
        self._coming[1:] = self._coming[:-1].copy()
        self._coming[0] = z
        return self._filtered(self._coming[-1]) + self.v_mean

    def _filtered(self, z: Array) -> Array:
        """One bin further. ``step`` is A, ``gain`` [K; H·A] in one piece: what is missing is as it
        was expected to be, and says nothing."""
        n = len(self.step)
        k, expect = self.gain[:n], self.gain[n:].T
        off = np.nan_to_num(z - expect @ self._x, nan=0.0)
        self._x = self.step @ self._x + k @ off
        first = 2 if "p" in self.state else 0
        return self._x[first : first + 2]


def _delayed(z: Array, lead: int) -> Array:
    out = np.full_like(z, np.nan)
    out[lead:] = z[: len(z) - lead]
    return out


def _settled(states: Array, z: Array, known: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """A, and [K; (H·A)ᵀ], for x ← A·x + K·(z − H·A·x)."""
    both = known[1:] & known[:-1]
    before, after = states[:-1][both], states[1:][both]
    move: Array = np.asarray(np.linalg.lstsq(before, after, rcond=None)[0].T, np.float64)
    left = after - before @ move.T
    w: Array = left.T @ left / max(len(left), 1)
    x, seen = states[known], np.nan_to_num(z[known], nan=0.0)
    h: Array = np.asarray(np.linalg.lstsq(x, seen, rcond=None)[0].T, np.float64)
    noise = seen - x @ h.T
    r = noise.T @ noise / max(len(noise), 1)
    r += (_SHRINKAGE * np.trace(r) / len(r) + 1e-12) * np.eye(len(r))
    weighted = np.linalg.solve(r, h)
    # All units together are worth as much as six numbers: the Riccati equation is that small.
    told = h.T @ weighted
    ahead = _riccati(move.T, told, w)
    p = ahead @ np.linalg.inv(np.eye(len(w)) + told @ ahead)
    gain = p @ weighted.T
    return move, np.concatenate([gain, (h @ move).T], axis=0)


def _riccati(a: Array, g: Array, q: Array) -> Array:
    """X = aᵀ·X·(1 + g·X)⁻¹·a + q, by doubling (Chu, Fan and Lin 2005): each round stands for twice
    as many bins as the one before."""
    one, x = np.eye(len(a)), q
    for _ in range(_ROUNDS):
        inner = np.linalg.inv(one + g @ x)
        x, before = x + a.T @ x @ inner @ a, x
        g = g + a @ inner @ g @ a.T
        a = a @ inner @ a
        if np.abs(x - before).max() <= 1e-15 * np.abs(x).max():
            break
    return x
