"""Traces of a frame stream, kept by index and drawn in braille: two dots wide and four high a cell.

A column of dots stands for a fixed set of indices, so that a trace that scrolls keeps its shape,
and shows the least and the greatest value among them. Where all are MISSING, nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phantomd.contracts import Flag

if TYPE_CHECKING:
    from phantomd.client import Frame

#: Bits of the dots of a braille cell (Unicode 15, chapter 21.1), by row and column.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint32)
_BLANK = 0x2800


@dataclass(frozen=True)
class Window:
    """Frames from ``first`` on: ``values`` float32 microvolt [n, channels], NaN where there are
    none; ``flags`` uint32 [n]."""

    first: int
    values: NDArray[np.float32]
    flags: NDArray[np.uint32]


class History:
    """The newest ``capacity`` frames. One owner thread."""

    def __init__(self, n_channels: int, capacity: int) -> None:
        self._values = np.full((capacity, n_channels), np.nan, np.float32)
        self._flags = np.full(capacity, int(Flag.MISSING), np.uint32)
        self._capacity = capacity
        self._first: int | None = None
        #: Index after the newest frame.
        self.next = 0
        self.age_us = 0
        self.t_ns: int | None = None

    @property
    def count(self) -> int:
        """Frames since the first, gaps included."""
        return 0 if self._first is None else self.next - self._first

    def add(self, frames: Iterable[Frame]) -> None:
        """Indices rise; those that are left out are gaps."""
        for frame in frames:
            if self._first is None:
                self._first = self.next = frame.index
            gap = min(frame.index - self.next, self._capacity)
            if gap > 0:
                rows = np.arange(frame.index - gap, frame.index) % self._capacity
                self._values[rows] = np.nan
                self._flags[rows] = Flag.MISSING
            row = frame.index % self._capacity
            self._values[row] = frame.values
            self._flags[row] = frame.flags
            self.next = frame.index + 1
            self.age_us = frame.age_us
            self.t_ns = frame.t_ns

    def window(self, first: int, stop: int) -> Window:
        """Frames ``first`` to ``stop``; NaN and no flags where there were none, or no longer."""
        values = np.full((stop - first, self._values.shape[1]), np.nan, np.float32)
        flags = np.zeros(stop - first, np.uint32)
        oldest = max(self.next - self._capacity, self.next if self._first is None else self._first)
        low, high = max(first, oldest), min(stop, self.next)
        if low < high:
            rows = np.arange(low, high) % self._capacity
            values[low - first : high - first] = self._values[rows]
            flags[low - first : high - first] = self._flags[rows]
        return Window(first, values, flags)


def columns(history: History, n_columns: int, frames_a_column: int) -> Window:
    """The newest whole columns of dots, aligned to multiples of ``frames_a_column``."""
    last = history.next // frames_a_column
    first = (last - n_columns) * frames_a_column
    return history.window(first, last * frames_a_column)


def extremes(
    window: Window, frames_a_column: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and greatest value a column, [columns, channels], without each channel's mean."""
    values = window.values
    known = ~np.isnan(values)
    counts = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0, dtype=np.float64) / counts
    shaped = (values - mean.astype(np.float32)).reshape(-1, frames_a_column, values.shape[1])
    return np.fmin.reduce(shaped, axis=1), np.fmax.reduce(shaped, axis=1)


def rms(window: Window) -> list[float | None]:
    """Of each channel, without its mean; None where nothing is known."""
    out: list[float | None] = []
    for channel in window.values.T:
        known = channel[~np.isnan(channel)].astype(np.float64)
        out.append(float(known.std()) if known.size else None)
    return out


def plot(
    low: NDArray[np.float32], high: NDArray[np.float32], rows: int, half_range: float
) -> list[str]:
    """A trace in ``rows`` lines of braille, two columns a character: ``-half_range`` is the lowest
    dot, ``half_range`` the highest, and what lies beyond is drawn on the edge."""
    n_dots = 4 * rows
    valid = ~np.isnan(low)
    top = _dot(np.where(valid, high, 0.0), n_dots, half_range)
    bottom = _dot(np.where(valid, low, 0.0), n_dots, half_range)
    joined = valid[1:] & valid[:-1]
    top[1:], bottom[1:] = (
        np.where(joined, np.minimum(top[1:], bottom[:-1] + 1), top[1:]),
        np.where(joined, np.maximum(bottom[1:], top[:-1] - 1), bottom[1:]),
    )
    dots = np.arange(n_dots)[:, np.newaxis]
    lit = (dots >= top) & (dots <= bottom) & valid
    cells = lit.reshape(rows, 4, -1, 2)
    codes = np.einsum("rych,yh->rc", cells.transpose(0, 1, 2, 3), _DOTS) + _BLANK
    lines = (row.astype("<u4").tobytes().decode("utf-32-le") for row in codes)
    return [line.replace(chr(_BLANK), " ") for line in lines]


def _dot(values: NDArray[np.float32], n_dots: int, half_range: float) -> NDArray[np.int64]:
    """The row of dots, from the top, in which a value lies."""
    level = (1.0 - values / half_range) * (n_dots - 1) / 2
    return np.clip(np.rint(level), 0, n_dots - 1).astype(np.int64)
