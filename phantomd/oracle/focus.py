"""Focus of a one-second window, 0 to 1, by three metrics (specs: neurofeedback oracle).

Windows are float64 [128 samples, channels] of µV at 128 Hz, without artifacts.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from phantomd.contracts import GRID_HZ
from phantomd.core.spd import Spd
from phantomd.core.spectrum import Welch
from phantomd.oracle.cells import Content, Nothing, Value

Array = npt.NDArray[np.float64]
Method = Literal["band_ratio", "fisher_rao", "session"]
METHODS: tuple[Method, ...] = ("band_ratio", "fisher_rao", "session")

WINDOW = GRID_HZ
BETA_HZ = (13.0, 30.0)
ALPHA_HZ = (8.0, 12.0)
#: Of valid focus, before a session has a score.
SESSION_FIRST_S = 10.0


class Metric(Protocol):
    """A metric may remember windows; it is given each valid one once, in order."""

    def __call__(self, window: Array) -> Content: ...


class BandRatio:
    """1 / (1 + exp(-2 (r - 1))), r the mean over channels of β/α, each the area under Welch's
    density (segments of 64, as ``scipy.signal.welch``). Channels without alpha power are left out;
    ``nothing`` where none has any."""

    def __init__(self, n_channels: int) -> None:
        self._welch = Welch(n_channels, float(GRID_HZ), nperseg=64)

    def __call__(self, window: Array) -> Content:
        self._welch.psd(window)
        beta, alpha = self._welch.band_power((BETA_HZ, ALPHA_HZ))
        has_alpha = alpha > 0
        if not has_alpha.any():
            return Nothing("no-signal")
        return Value(sigmoid(2.0, float((beta[has_alpha] / alpha[has_alpha]).mean()), 1.0))


class FisherRao:
    """1 / (1 + exp(-0.5 (d - 2))), d the affine-invariant distance of the window's covariance from
    the baseline's. ``nothing`` without a baseline, or where a covariance is singular."""

    def __init__(self, baseline: Array | None) -> None:
        self._baseline = baseline
        self._spd = None if baseline is None else Spd(len(baseline))

    def __call__(self, window: Array) -> Content:
        if self._baseline is None or self._spd is None:
            return Nothing("warming-up")
        d = self._spd.distance(self._spd.covariance(window), self._baseline)
        return Value(sigmoid(0.5, d, 2.0)) if math.isfinite(d) else Nothing("no-signal")


class Session:
    """Running mean of a valid focus since the start or ``reset``; ``nothing`` for the first ten
    seconds of it."""

    def __init__(self, per_s: float) -> None:
        self._first = round(SESSION_FIRST_S * per_s)
        self.reset()

    def reset(self) -> None:
        self._sum = 0.0
        self._count = 0

    def add(self, focus: Content) -> Content:
        if isinstance(focus, Value):
            self._sum += focus.value
            self._count += 1
        return self.score()

    def score(self) -> Content:
        if self._count < self._first:
            return Nothing("warming-up")
        return Value(self._sum / self._count)


def sigmoid(slope: float, x: float, middle: float) -> float:
    return float(1.0 / (1.0 + np.exp(-slope * (x - middle))))
