"""Windows of a recording with their artifact scores, and how well values tell two kinds apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from benches.artifact_data import Array, Labelled, Spans
from phantomd.core.artifact import KINDS, ArtifactDetector
from phantomd.signal import artifacts

Bools = npt.NDArray[np.bool_]

STEP_S = 0.25
STRETCH_S = 4.0
DRAWS = 1000


class Windows:
    """What the detector says of each window: ``values`` and ``scores`` float64[n, kinds], NaN where
    undefined; ``reasons`` of the verdict. Times in seconds."""

    def __init__(
        self,
        labels: Sequence[str],
        rate_hz: float,
        uv: Array,
        *,
        window_s: float = artifacts.WINDOW_S,
        range_uv: tuple[float, float] | None = None,
        lost: Bools | None = None,
    ) -> None:
        detector = ArtifactDetector(
            artifacts.config(labels, rate_hz, window_s=window_s, range_uv=range_uv)
        )
        step = detector.hop * max(1, round(STEP_S * rate_hz / detector.hop))
        ends, values, scores, self.reasons = [], [], [], list[tuple[str, ...]]()
        for first in range(0, len(uv) - step + 1, step):
            part = slice(first, first + step)
            detector.push(uv[part], None if lost is None else lost[part])
            report = detector.read()
            if not report["samples"]:
                continue
            ends.append(report["end"])
            values.append(report["value"])
            scores.append(report["score"])
            self.reasons.append(artifacts.judge(report, labels).reasons)
        self.rate_hz = rate_hz
        self.samples = detector.window
        self.ends = np.array(ends)
        self.end_s = self.ends / rate_hz
        self.start_s = self.end_s - detector.window / rate_hz
        self.values = np.array(values)
        self.scores = np.array(scores)
        self.rejected = np.array([bool(reasons) for reasons in self.reasons])

    def of(self, kind: str) -> Array:
        return np.asarray(self.values[:, KINDS.index(kind)])

    def holds(self, times: Iterable[float], margin_s: float) -> Bools:
        held = np.zeros(len(self.ends), bool)
        for t in times:
            held |= (self.start_s <= t - margin_s) & (self.end_s >= t + margin_s)
        return held

    def touches(self, spans: Spans) -> Bools:
        met = np.zeros(len(self.ends), bool)
        for first, last in spans:
            met |= (self.start_s < last) & (self.end_s > first)
        return met

    def share(self, spans: Spans) -> Array:
        """Seconds of the window within the spans."""
        total = np.zeros(len(self.ends))
        for first, last in spans:
            total += np.maximum(0.0, np.minimum(self.end_s, last) - np.maximum(self.start_s, first))
        return total

    def largest(self, part: Array) -> Array:
        """float64[windows]: f(window of part), for a part [samples] that is given already."""
        return np.array([part[end - self.samples : end].max() for end in self.ends])


def of(recording: Labelled, window_s: float = artifacts.WINDOW_S) -> Windows:
    return Windows(
        recording.labels,
        recording.rate_hz,
        recording.uv,
        window_s=window_s,
        range_uv=recording.range_uv,
    )


# -- comparing -------------------------------------------------------------------------------------


class Sorted:
    """Windows with an artifact and without, in clusters that are drawn together."""

    def __init__(self) -> None:
        self.values: list[Array] = []
        self.positive: list[Bools] = []

    def add(self, values: Array, positive: Bools, negative: Bools, cluster: Array) -> None:
        used = (positive | negative) & ~np.isnan(values)
        for name in np.unique(cluster[used]):
            here = used & (cluster == name)
            self.values.append(values[here])
            self.positive.append(positive[here])

    def all(self) -> tuple[Array, Bools]:
        return np.concatenate(self.values), np.concatenate(self.positive)

    def interval(self) -> tuple[float, float]:
        rng = np.random.default_rng(0)
        n = len(self.values)
        found = []
        for _ in range(DRAWS):
            drawn = rng.integers(0, n, n)
            values = np.concatenate([self.values[i] for i in drawn])
            positive = np.concatenate([self.positive[i] for i in drawn])
            if 0 < positive.sum() < len(positive):
                found.append(auc(values, positive))
        low, high = np.quantile(found, (0.025, 0.975))
        return float(low), float(high)


def auc(values: Array, positive: Bools) -> float:
    """Of Mann and Whitney: ties count half."""
    _, ranks, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    n, m = positive.sum(), (~positive).sum()
    return float((mean_rank[ranks][positive].sum() - n * (n + 1) / 2) / (n * m))


def stretches(windows: Windows) -> Array:
    return np.floor(windows.start_s / STRETCH_S)


def blink_windows(recording: Labelled, windows: Windows) -> tuple[Bools, Bools]:
    positive = windows.holds(recording.blinks, 0.1)
    near = [(t - 0.4, t + 0.4) for t in recording.blinks]
    unclear = windows.touches(recording.unclear)
    return positive & ~unclear, ~windows.touches(near) & ~unclear


def jaw_windows(recording: Labelled, windows: Windows) -> tuple[Bools, Bools]:
    positive = windows.share(recording.jaw) >= 0.3
    unclear = windows.touches(recording.unclear)
    return positive & ~unclear, ~windows.touches(recording.jaw) & ~unclear
