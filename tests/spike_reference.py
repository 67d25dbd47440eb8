"""The spike path in plain NumPy float32, after the text of csrc/pd_spike.h, for its tests.

``step_by_step`` goes sample by sample and knows missing samples; ``at_once`` knows none, and is
fast enough for minutes of recording: its filter is scipy.signal.sosfilt in float32.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import sosfilt, sosfilt_zi

F = np.float32
Array = npt.NDArray[np.float32]
WINDOW, TRACK = 101, 32
MISSING, SETTLING, UNARMED = 1, 2, 4


@dataclass(frozen=True)
class Setting:
    sos: npt.NDArray[np.float64]
    rate_hz: float
    settle: int
    bin_samples: float
    refractory: int
    reference: str = "average"
    reference_on: str = "band"
    threshold: float = 4.5
    polarity: str = "negative"

    @property
    def every(self) -> int:
        return max(1, int(self.rate_hz / 3000 + 0.5))


@dataclass
class Result:
    y: Array
    counts: list[npt.NDArray[np.uint16]]
    flags: list[npt.NDArray[np.uint8]]
    events: list[tuple[int, int, float]]
    noise: Array


def common(row: Array, use: npt.NDArray[np.bool_], kind: str) -> np.float32 | None:
    """The reference of one sample; None when nobody is there."""
    if kind == "none":
        return F(0)
    if not use.any():
        return None
    if kind == "median":
        return F(np.median(row[use]))
    masked = np.zeros(-(-len(row) // 32) * 32, F)
    masked[: len(row)] = np.where(use, row, F(0))
    sums = np.zeros(32, F)
    for part in masked.reshape(-1, 32):
        sums = sums + part
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    return F(sums[0] / F(use.sum()))


def limits(noise: Array, setting: Setting) -> tuple[Array, Array]:
    at = np.where(noise > 0, F(setting.threshold) * noise, F(np.inf)).astype(F)
    low = at if setting.polarity in ("negative", "both") else np.full_like(at, np.inf)
    high = at if setting.polarity in ("positive", "both") else np.full_like(at, np.inf)
    return -low, high


class Noise:
    def __init__(self, channels: int) -> None:
        self.value = np.full(channels, np.nan, F)
        self.windows = np.zeros(channels, int)

    def take(self, window: Array, last: Array, counts: npt.NDArray[np.bool_]) -> Array:
        """Returns which channels got their first estimate, or lost it."""
        median = np.median(window, axis=0).astype(F)
        flat = counts & ~((median > abs(last) * F(2.0**-20)) & (median > F(1e-30)))
        fresh = counts & ~flat
        changed = flat | (fresh & (self.windows == 0))
        self.value[flat] = np.nan
        self.windows[flat] = 0
        self.value[fresh & (self.windows == 0)] = 0
        self.windows[fresh] = np.minimum(self.windows[fresh] + 1, TRACK)
        w = (median / F(0.6745))[fresh]
        n = self.windows[fresh].astype(F)
        self.value[fresh] = self.value[fresh] + (w - self.value[fresh]) / n
        return changed


def step_by_step(s: Setting, x: Array, good: npt.NDArray[np.bool_]) -> Result:
    n, channels = x.shape
    sos = s.sos.astype(F)
    zi = sosfilt_zi(s.sos).astype(F)
    z = np.zeros((len(sos), 2, channels), F)
    last = np.zeros(channels, F)
    lost = np.zeros(channels, int)
    starts = np.ones(channels, bool)
    quiet = np.full(channels, s.settle)
    ready = np.zeros(channels, int)
    outside = np.zeros(channels, bool)
    counts = np.zeros(channels, np.uint16)
    flags = np.zeros(channels, np.uint8)
    noise = Noise(channels)
    low, high = limits(noise.value, s)
    window: list[Array] = []
    noise_next = window_start = s.settle
    bin_start = 0
    result = Result(np.empty_like(x), [], [], [], noise.value)
    for index in range(n):
        v = x[index].copy()
        with np.errstate(invalid="ignore"):
            missing = ~(abs(v) <= F(1e9))
            if s.reference_on == "raw":
                r = common(v, good & ~missing, s.reference)
                missing |= r is None
                v = v - (F(0) if r is None else r)
        begun = starts & ~missing
        for i in range(len(sos)):
            for k in range(2):
                z[i, k, begun] = zi[i, k] * v[begun]
        starts &= ~begun
        v = np.where(missing, last, v).astype(F)
        last = v.copy()
        lost = np.where(missing, lost + 1, 0)
        starts |= lost > s.settle
        for i, (b0, b1, b2, _, a1, a2) in enumerate(sos):
            y = b0 * v + z[i, 0]
            z[i, 0] = b1 * v - a1 * y + z[i, 1]
            z[i, 1] = b2 * v - a2 * y
            v = y
        if s.reference_on == "band":
            r = common(v, good & ~missing, s.reference)
            missing |= r is None
            v = v - (F(0) if r is None else r)
        quiet[missing] = index + 1 + s.settle
        flags[missing] |= MISSING
        result.y[index] = np.where(missing, F(np.nan), v)
        now = (v < low) | (v > high)
        for c in np.flatnonzero(now & ~outside):
            if index >= ready[c] and index >= quiet[c]:
                ready[c] = index + s.refractory
                counts[c] += 1
                result.events.append((index, int(c), float(v[c])))
        outside = now
        if index == noise_next:
            window.append(abs(v))
            noise_next += s.every
            if len(window) == WINDOW:
                changed = noise.take(np.array(window), last, quiet <= window_start)
                flags[changed] |= UNARMED
                low, high = limits(noise.value, s)
                window, window_start = [], noise_next
        if index + 1 == int(np.floor((len(result.counts) + 1) * s.bin_samples)):
            flags[quiet > bin_start] |= SETTLING
            flags[~(noise.value > 0)] |= UNARMED
            result.counts.append(counts.copy())
            result.flags.append(flags.copy())
            counts[:], flags[:] = 0, 0
            bin_start = index + 1
    return result


def at_once(s: Setting, x: Array, dtype: type = np.float32) -> tuple[Array, list[tuple[int, int]]]:
    """No sample missing, all channels good, reference on the band. In float64 the same, with
    nothing rounded to float32 on the way."""
    x = x.astype(dtype)
    zi = (sosfilt_zi(s.sos).astype(dtype)[:, :, None] * x[0]).astype(dtype)
    y, _ = sosfilt(s.sos.astype(dtype), x, axis=0, zi=zi)
    if s.reference == "median":
        y = y - np.median(y, axis=1, keepdims=True).astype(dtype)
    elif s.reference == "average":
        width = -(-x.shape[1] // 32) * 32
        sums = np.zeros((len(y), 32), dtype)
        padded = np.pad(y, ((0, 0), (0, width - x.shape[1])))
        for c in range(0, width, 32):
            sums = sums + padded[:, c : c + 32]
        while sums.shape[1] > 1:
            half = sums.shape[1] // 2
            sums = sums[:, :half] + sums[:, half:]
        y = y - sums / dtype(x.shape[1])
    length = WINDOW * s.every
    events = []
    noise = np.zeros(x.shape[1], dtype)
    end = s.settle + (WINDOW - 1) * s.every + 1
    outside = np.zeros(x.shape[1], bool)
    ready = np.zeros(x.shape[1], int)
    windows = 0
    while end < len(y):
        window = abs(y[end - 1 - (WINDOW - 1) * s.every : end : s.every])
        windows = min(windows + 1, TRACK)
        estimate = np.median(window, axis=0).astype(dtype) / dtype(0.6745)
        noise = noise + (estimate - noise) / dtype(windows)
        stop = min(end + length, len(y))
        low, high = dtype(s.threshold) * noise, dtype(s.threshold) * noise
        part = y[end:stop]
        now = np.zeros(part.shape, bool)
        if s.polarity in ("negative", "both"):
            now |= part < -low
        if s.polarity in ("positive", "both"):
            now |= part > high
        edges = now & ~np.concatenate([outside[None], now[:-1]])
        for row, c in np.argwhere(edges):
            if end + row >= ready[c]:
                ready[c] = end + row + s.refractory
                events.append((int(end + row), int(c)))
        outside = now[-1]
        end = stop
    return y, events
