"""Channels that are of no use, found in the last ten seconds, each with its reason.

What is judged are segments of one second, by their medians, so that a blink or a burst makes no
channel bad. After the criteria of Bigdely-Shamlo et al. 2015 (PREP): robust z over the channels,
and correlation with neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from phantomd.errors import ConfigError
from phantomd.signal import montage
from phantomd.signal.artifacts import FLAT_UV, LINES_HZ, RAIL_SHARE

Array = npt.NDArray[np.float64]
Spectra = npt.NDArray[np.complex128]
Reason = Literal["missing", "railed", "flat", "noisy", "weak", "apart"]

WINDOW_S = 10.0
SEGMENT_S = 1.0
EEG_HZ = (2.0, 30.0)
HIGH_HZ = (35.0, 100.0)
MAINS_HZ = 3.0  # on either side of a mains frequency, left out
MISSING_SHARE = 0.2
RAILED_SHARE = 0.05
Z = 5.0
#: Of log RMS: channels differ by this factor anyway, by where they are and what they refer to.
LEAST_SPREAD = math.log(1.35)
NEAR = math.cos(math.radians(50.0))  # neighbours are not farther
APART = 0.2  # largest correlation with a neighbour of a channel that sees no brain
TOGETHER = 0.4  # and of the others, for that to mean anything


class BadChannel(msgspec.Struct, frozen=True):
    """``value`` against ``limit``: a share of samples (missing, railed), µV peak to peak (flat),
    robust z of log RMS over the channels (noisy, weak), or the largest correlation with a neighbour
    (apart)."""

    label: str
    reason: Reason
    value: float
    limit: float


class BadChannels:
    """Keeps the newest ten seconds; ``find`` judges them. One owner; nothing in the tick.

    Noisy and weak need at least four channels that are neither missing, railed nor flat; apart
    needs four that have a neighbour within 50 degrees.
    """

    def __init__(
        self,
        labels: Sequence[str],
        rate_hz: float,
        *,
        range_uv: tuple[float, float] | None = None,
        window_s: float = WINDOW_S,
    ) -> None:
        """``range_uv``: what the device can give at most; without it a rail is a value that is the
        channel's largest or smallest in 5 % of the samples. Raises ConfigError for under 64 Hz or
        windows under 10 s."""
        if rate_hz < 64 or window_s < WINDOW_S:
            raise ConfigError(
                f"bad channels from {window_s:g} s at {rate_hz:g} Hz",
                hint="it takes 10 s or more, at 64 Hz or more",
            )
        self.labels = tuple(labels)
        self.rate_hz = rate_hz
        self.range_uv = range_uv
        self._kept = np.full((round(window_s * rate_hz), len(self.labels)), np.nan)
        self._count = 0
        self._near = _near(self.labels)

    @property
    def ready(self) -> bool:
        """Whether the window is full."""
        return self._count >= len(self._kept)

    def push(self, x: npt.ArrayLike) -> None:
        """float64 [n, channels], µV; NaN: missing. Raises ValueError for another shape."""
        new = np.asarray(x, dtype=np.float64)
        if new.ndim != 2 or new.shape[1] != len(self.labels):
            raise ValueError(f"samples of shape {new.shape}, not (n, {len(self.labels)})")
        self._count += len(new)
        new = new[-len(self._kept) :]
        at = (self._count - len(new)) % len(self._kept)
        first = min(len(new), len(self._kept) - at)
        self._kept[at : at + first] = new[:first]
        self._kept[: len(new) - first] = new[first:]

    def find(self) -> tuple[BadChannel, ...] | None:
        """One line a bad channel, in the order of the labels; None before the window is full."""
        return next((found for found in self.look() if found is not None), None)

    def look(self) -> Iterator[tuple[BadChannel, ...] | None]:
        """``find`` in pieces, on the samples that are kept when it begins: None after each of half
        a millisecond or so (eight channels at 250 Hz), then what was found. Ends without a word
        where the window is not full."""
        if not self.ready:
            return
        x = np.roll(self._kept, -(self._count % len(self._kept)), axis=0)
        found: dict[int, BadChannel] = {}

        def tell(which: npt.NDArray[np.bool_], reason: Reason, value: Array, limit: float) -> None:
            for i in np.flatnonzero(which):
                if int(i) not in found:
                    found[int(i)] = BadChannel(self.labels[i], reason, float(value[i]), limit)

        gone = np.isnan(x).mean(axis=0)
        tell(gone > MISSING_SHARE, "missing", gone, MISSING_SHARE)
        yield None
        railed = self._railed(x)
        tell(railed > RAILED_SHARE, "railed", railed, RAILED_SHARE)
        yield None
        segments = self._segments(x)
        ranges = _median(np.ptp(segments, axis=1))
        tell(ranges <= FLAT_UV, "flat", ranges, FLAT_UV)
        yield None
        left = np.array([i not in found for i in range(len(self.labels))], bool)
        spectra, hz = self._spectra(segments)
        yield None
        for edges in (EEG_HZ, HIGH_HZ):
            z = _robust_z(self._log_rms(spectra, hz, edges), left)
            tell(left & (z > Z), "noisy", z, Z)
            if edges == EEG_HZ:
                tell(left & (z < -Z), "weak", z, -Z)
            yield None
        left = np.array([i not in found for i in range(len(self.labels))], bool)
        spectra = spectra[:, (hz >= EEG_HZ[0]) & (hz <= EEG_HZ[1])]
        norms = np.sqrt((abs(spectra) ** 2).sum(axis=1))
        closest = np.full(len(self.labels), np.nan)
        for i in np.flatnonzero(left):
            closest[i] = self._closest(spectra, norms, left, int(i))
            yield None
        judged = ~np.isnan(closest)
        if judged.sum() >= 4 and np.median(closest[judged]) >= TOGETHER:
            tell(judged & (closest < APART), "apart", closest, APART)
        yield tuple(found[i] for i in sorted(found))

    def _railed(self, x: Array) -> Array:
        there = ~np.isnan(x)
        n = np.maximum(1, there.sum(axis=0))
        if self.range_uv is not None:
            low, high = self.range_uv
            margin = RAIL_SHARE * (high - low)
            return np.asarray(((x <= low + margin) | (x >= high - margin)).sum(axis=0) / n)
        filled = np.where(there, x, np.inf)
        low_share = (filled == filled.min(axis=0)).sum(axis=0) / n
        filled = np.where(there, x, -np.inf)
        high_share = (filled == filled.max(axis=0)).sum(axis=0) / n
        still = filled.max(axis=0) == np.where(there, x, np.inf).min(axis=0)
        return np.where(still, 0.0, np.maximum(low_share, high_share))

    def _segments(self, x: Array) -> Array:
        n = round(SEGMENT_S * self.rate_hz)
        return x[len(x) % n :].reshape(-1, n, x.shape[1])

    def _spectra(self, segments: Array) -> tuple[Spectra, Array]:
        """Of each segment and channel, tapered; NaN where a sample is missing."""
        n = segments.shape[1]
        taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
        centred = segments - segments.mean(axis=1, keepdims=True)
        return np.fft.rfft(centred * taper[:, None], axis=1), np.asarray(
            np.fft.rfftfreq(n, 1 / self.rate_hz), np.float64
        )

    def _log_rms(self, spectra: Spectra, hz: Array, edges: tuple[float, float]) -> Array:
        used = (hz >= edges[0]) & (hz <= min(edges[1], 0.45 * self.rate_hz))
        for mains in LINES_HZ:
            for order in (1, 2):
                used &= abs(hz - order * mains) > MAINS_HZ
        power = _median((abs(spectra[:, used]) ** 2).sum(axis=1))
        return np.asarray(0.5 * np.log(np.maximum(power, 1e-12)))

    def _closest(
        self, spectra: Spectra, norms: Array, left: npt.NDArray[np.bool_], i: int
    ) -> float:
        """The largest correlation with a neighbour that is left, or NaN: the size of the median
        over segments, which by chance is near 0, where the median of the sizes is not."""
        near = [j for j in self._near[i] if left[j]]
        if not near:
            return math.nan
        products = (spectra[:, :, [i]].conj() * spectra[:, :, near]).real.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            correlation = abs(_median(products / (norms[:, [i]] * norms[:, near])))
        there = correlation[~np.isnan(correlation)]
        return float(there.max()) if len(there) else math.nan


def _near(labels: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    places = [montage.place(label) for label in labels]

    def within(i: int, j: int) -> bool:
        a, b = places[i], places[j]
        return (
            a is not None
            and b is not None
            and sum(p * q for p, q in zip(a, b, strict=True)) >= NEAR
        )

    return tuple(
        tuple(j for j in near if within(i, j)) for i, near in enumerate(montage.neighbours(labels))
    )


def _median(rows: Array) -> Array:
    """Over the first axis, without NaN; NaN where there is nothing else. As ``np.nanmedian``, in
    a tenth of its time."""
    n = (~np.isnan(rows)).sum(axis=0)
    ordered = np.sort(rows, axis=0)  # NaN come last
    lower = np.take_along_axis(ordered, np.maximum(n - 1, 0)[None] // 2, axis=0)[0]
    upper = np.take_along_axis(ordered, np.minimum(n // 2, len(rows) - 1)[None], axis=0)[0]
    return np.asarray(np.where(n > 0, (lower + upper) / 2, np.nan))


def _robust_z(values: Array, of: npt.NDArray[np.bool_]) -> Array:
    """By median and MAD of the channels `of`; NaN with fewer than four of them."""
    used = values[of & ~np.isnan(values)]
    if len(used) < 4:
        return np.full(len(values), np.nan)
    middle = np.median(used)
    spread = max(LEAST_SPREAD, 1.4826 * float(np.median(abs(used - middle))))
    return np.asarray((values - middle) / spread)
