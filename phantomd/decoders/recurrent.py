"""A gated recurrent network (Cho et al. 2014), trained here by backpropagation through time.

Sequences begin anywhere in the training bins and at rest; their first bins are run through and not
judged. Units drop out at random while it trains, so that a lost one costs little. Adam (Kingma and
Ba 2015), a falling rate, clipped gradients; the seed decides everything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from phantomd.decoders.base import Array, VelocityDecoder

Single = npt.NDArray[np.float32]

_BATCH = 32
_BINS = 32
_UNJUDGED = 8
_RATE = 4e-3
_CLIP = 1.0
_DROPOUT = 0.2
_DECAY = 1e-3


class Recurrent(VelocityDecoder):
    """``hidden`` cells; ``epochs`` over the training bins; ``seed`` of weights and order."""

    name = "gru"
    MODEL = ("w", "u", "b", "c", "out", "v_scale")

    def __init__(self, hidden: int = 64, epochs: int = 60, seed: int = 7) -> None:
        super().__init__(hidden=hidden, epochs=epochs, seed=seed)
        self.hidden = hidden
        self.epochs = epochs
        self.seed = seed
        for name in self.MODEL:
            setattr(self, name, np.zeros(0))

    w: Array
    """[unit, 3·hidden]: reset, update, candidate."""
    u: Array
    """[hidden, 3·hidden]"""
    b: Array
    c: Array
    """[3·hidden]: of the input and of the recurrence."""
    out: Array
    """[hidden + 1, 2], the last row its offset."""
    v_scale: Array

    def _fit(self, z: Array, kinematics: Array, known: npt.NDArray[np.bool_]) -> None:
        rng = np.random.default_rng(self.seed)
        x = np.nan_to_num(z, nan=0.0).astype(np.float32)
        v = kinematics[:, 2:] - self.v_mean
        self.v_scale = np.maximum(np.sqrt((v[known] ** 2).mean(axis=0)), 1e-12)
        y = np.where(known[:, None], v / self.v_scale, 0.0).astype(np.float32)
        net = _Net(rng, x.shape[1], self.hidden)
        length = min(_BINS + _UNJUDGED, len(x))
        unjudged = min(_UNJUDGED, length // 4)
        batches = max(round(len(x) / (_BATCH * _BINS)), 1)
        total = self.epochs * batches
        for step in range(total):
            starts = rng.integers(0, len(x) - length + 1, _BATCH)
            rows = starts[None, :] + np.arange(length)[:, None]
            alive = rng.random((_BATCH, x.shape[1])) >= _DROPOUT
            judged = known[rows].astype(np.float32)
            judged[:unjudged] = 0
            seen = x[rows] * (alive / (1 - _DROPOUT)).astype(np.float32)
            # Warms up over a twentieth of the steps, and then falls as a cosine.
            warm = min((step + 1) / max(total / 20, 1), 1.0)
            rate = _RATE * warm * 0.5 * (1 + np.cos(np.pi * step / total))
            net.learn(seen, y[rows], judged, rate)
        for name, value in net.parameters.items():
            setattr(self, name, value.astype(np.float64))

    def _begin(self) -> None:
        self._h = np.zeros(len(self.u))

    def _decode(self, z: Array) -> Array:
        n = len(self._h)
        a = np.nan_to_num(z, nan=0.0) @ self.w + self.b
        r = self._h @ self.u + self.c
        reset, update = _logistic(a[:n] + r[:n]), _logistic(a[n : 2 * n] + r[n : 2 * n])
        new = np.tanh(a[2 * n :] + reset * r[2 * n :])
        self._h = (1 - update) * new + update * self._h
        said = self._h @ self.out[:-1] + self.out[-1]
        return np.asarray(said * self.v_scale + self.v_mean, np.float64)


def _logistic(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * x))


class _Net:
    """The network and its training, in single precision."""

    def __init__(self, rng: np.random.Generator, n_units: int, hidden: int) -> None:
        def drawn(n: int, m: int, scale: float) -> Single:
            return (rng.standard_normal((n, m)) * scale).astype(np.float32)

        self.parameters: dict[str, Single] = {
            "w": drawn(n_units, 3 * hidden, 1 / np.sqrt(n_units)),
            "u": np.concatenate(
                [np.linalg.qr(rng.standard_normal((hidden, hidden)))[0] for _ in range(3)], axis=1
            ).astype(np.float32),
            "b": np.zeros(3 * hidden, np.float32),
            "c": np.zeros(3 * hidden, np.float32),
            "out": np.concatenate(
                [drawn(hidden, 2, 1 / np.sqrt(hidden)), np.zeros((1, 2), np.float32)]
            ),
        }
        # Begins by remembering for some bins.
        self.parameters["b"][hidden : 2 * hidden] = 1.0
        self._first = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        self._second = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        self._steps = 0

    def learn(self, x: Single, y: Single, judged: Single, rate: float) -> float:
        """x [bin, sequence, unit], y [bin, sequence, 2], judged [bin, sequence]. One step; the
        loss before it."""
        gradients, loss = self.gradients(x, y, judged)
        size = float(
            np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values()))
        )
        self._steps += 1
        for name, g in gradients.items():
            g = g * np.float32(min(1.0, _CLIP / max(size, 1e-12)))
            first, second = self._first[name], self._second[name]
            first += 0.1 * (g - first)
            second += 0.001 * (g * g - second)
            step = (first / np.float32(1 - 0.9**self._steps)) / (
                np.sqrt(second / np.float32(1 - 0.999**self._steps)) + np.float32(1e-8)
            )
            value = self.parameters[name]
            if value.ndim == 2:
                value *= np.float32(1 - rate * _DECAY)
            value -= np.float32(rate) * step
        return loss

    def gradients(self, x: Single, y: Single, judged: Single) -> tuple[dict[str, Single], float]:
        """Of the mean squared error over what is judged."""
        p = self.parameters
        w, u, b, c, out = (p[name] for name in ("w", "u", "b", "c", "out"))
        n_bins, batch, _ = x.shape
        n = len(u)
        a = x.reshape(n_bins * batch, -1) @ w
        a = a.reshape(n_bins, batch, 3 * n) + b
        h = np.zeros((n_bins + 1, batch, n), x.dtype)
        gates = np.empty((n_bins, batch, 3 * n), x.dtype)
        pulled = np.empty((n_bins, batch, n), x.dtype)
        for t in range(n_bins):
            r = h[t] @ u + c
            gates[t, :, : 2 * n] = _logistic(a[t, :, : 2 * n] + r[:, : 2 * n])
            pulled[t] = r[:, 2 * n :]
            gates[t, :, 2 * n :] = np.tanh(a[t, :, 2 * n :] + gates[t, :, :n] * pulled[t])
            update = gates[t, :, n : 2 * n]
            h[t + 1] = (1 - update) * gates[t, :, 2 * n :] + update * h[t]
        said = h[1:] @ out[:-1] + out[-1]
        error = (said - y) * judged[:, :, None]
        count = max(float(judged.sum()), 1.0)
        loss = float((error.astype(np.float64) ** 2).sum() / count)
        back = error * x.dtype.type(2 / count)
        flat = back.reshape(-1, 2)
        g_out = np.concatenate([h[1:].reshape(-1, n).T @ flat, flat.sum(axis=0)[None]])
        d_in = np.empty_like(gates)
        d_rec = np.empty_like(gates)
        to_h = back @ out[:-1].T
        d_h = np.zeros((batch, n), x.dtype)
        for t in range(n_bins - 1, -1, -1):
            d_h = d_h + to_h[t]
            reset, update, new = (gates[t, :, i * n : (i + 1) * n] for i in range(3))
            d_new = d_h * (1 - update) * (1 - new * new)
            d_update = d_h * (h[t] - new) * update * (1 - update)
            d_reset = d_new * pulled[t] * reset * (1 - reset)
            d_in[t, :, :n] = d_rec[t, :, :n] = d_reset
            d_in[t, :, n : 2 * n] = d_rec[t, :, n : 2 * n] = d_update
            d_in[t, :, 2 * n :] = d_new
            d_rec[t, :, 2 * n :] = d_new * reset
            d_h = d_h * update + d_rec[t] @ u.T
        flat_in, flat_rec = d_in.reshape(-1, 3 * n), d_rec.reshape(-1, 3 * n)
        return {
            "w": x.reshape(n_bins * batch, -1).T @ flat_in,
            "u": h[:-1].reshape(-1, n).T @ flat_rec,
            "b": flat_in.sum(axis=0),
            "c": flat_rec.sum(axis=0),
            "out": g_out,
        }, loss
