"""The contract of a recording: what every reader gives, whatever the file.

A file has rows; a recording has a timeline. Sample i of the timeline is i/rate_hz seconds after the
first one, and where the file has a gap (a pause, lost packets) the timeline has samples that are
not there: NaN. Markers and gaps are told on the timeline.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from phantomd.errors import DamagedRecording

Rows = Callable[[int, int], NDArray[np.float64]]
Kind = Literal["eeg", "aux"]

#: Rates and lengths beyond which a header is not believed.
HIGHEST_HZ = 1e6
MOST_CHANNELS = 4096
#: Samples of a timeline: a year at 100 kHz.
LONGEST = 1 << 42

#: µV a unit. Codepages mangle µ: the micro sign, the Greek letter, and UTF-8 read as Latin-1.
_MICRO = ("u", "µ", "μ", "Âµ", "Î¼", "\ufffd")
_VOLTS = {
    "V": 1e6,
    "mV": 1e3,
    "nV": 1e-3,
    "volt": 1e6,
    "volts": 1e6,
    "millivolts": 1e3,
    "microvolt": 1.0,
    "microvolts": 1.0,
    **{f"{micro}V": 1.0 for micro in _MICRO},
}


def uv_per(unit: str) -> float | None:
    """µV in one of this unit; None where it is no voltage."""
    scale = _VOLTS.get(unit)
    return _VOLTS.get(unit.lower()) if scale is None else scale


class Channel(msgspec.Struct, frozen=True):
    """``unit`` is µV wherever the file has volts of any kind, else as the file has it.

    ``kind``: "eeg" for what belongs on the grid, "aux" for triggers, temperatures, accelerometers.
    """

    label: str
    unit: str = "µV"
    kind: Kind = "eeg"


class Marker(msgspec.Struct, frozen=True):
    """At sample ``index`` of the timeline, the nearest; ``time_s`` is exact. ``payload``: what more
    the file says of it."""

    index: int
    time_s: float
    label: str
    duration_s: float = 0.0
    payload: dict[str, Any] = {}


class Gap(msgspec.Struct, frozen=True):
    first: int
    count: int


class Segment(msgspec.Struct, frozen=True):
    """``n`` rows of the file from ``row`` on are the timeline's samples from ``index`` on."""

    row: int
    n: int
    index: int


@dataclass(frozen=True, eq=False)
class Recording:
    """An open recording.

    ``rows(first, n)`` gives float64[n, channels] of the file, lazily where the format allows.
    ``find_markers`` may have to look through the file: ``markers`` calls it once. ``notes``: what a
    user should know of how the file was read.
    """

    path: Path
    format: str
    channels: tuple[Channel, ...]
    rate_hz: float
    segments: tuple[Segment, ...]
    rows: Rows
    find_markers: Callable[[], Sequence[Marker]] = tuple
    start_unix_s: float | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(channel.label for channel in self.channels)

    @property
    def n_rows(self) -> int:
        return sum(segment.n for segment in self.segments)

    @property
    def n_samples(self) -> int:
        """Of the timeline, gaps included."""
        return self.segments[-1].index + self.segments[-1].n if self.segments else 0

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.rate_hz

    @cached_property
    def markers(self) -> tuple[Marker, ...]:
        """By time."""
        return tuple(sorted(self.find_markers(), key=lambda marker: marker.time_s))

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        found = []
        for before, after in zip(self.segments, self.segments[1:], strict=False):
            end = before.index + before.n
            if after.index > end:
                found.append(Gap(end, after.index - end))
        return tuple(found)

    @cached_property
    def _starts(self) -> list[int]:
        return [segment.index for segment in self.segments]

    def read(self, first: int, n: int) -> NDArray[np.float64]:
        """Samples [first, first + n) of the timeline: float64[n, channels], NaN where there are
        none. IndexError outside of it."""
        if first < 0 or n < 0 or first + n > self.n_samples:
            raise IndexError(f"samples {first} to {first + n} of {self.n_samples}")
        out = np.full((n, len(self.channels)), np.nan)
        at = max(0, bisect_right(self._starts, first) - 1)
        while at < len(self.segments) and self.segments[at].index < first + n:
            segment = self.segments[at]
            begin = max(first, segment.index)
            end = min(first + n, segment.index + segment.n)
            if end > begin:
                row = segment.row + begin - segment.index
                out[begin - first : end - first] = self.rows(row, end - begin)
            at += 1
        return out


def checked_rate(path: Path, rate_hz: float) -> float:
    """Raises DamagedRecording for a rate that can't be."""
    if not (math.isfinite(rate_hz) and 0 < rate_hz <= HIGHEST_HZ):
        raise DamagedRecording(
            f"{path}: a rate of {rate_hz:g} Hz", hint="its header is damaged; record it anew"
        )
    return rate_hz


def timeline(
    path: Path,
    rows: Sequence[int],
    counts: Sequence[int],
    starts_s: Sequence[float],
    rate_hz: float,
) -> tuple[Segment, ...]:
    """Segments of so many rows that begin at these times. Where times step back or overlap by less
    than a sample they are joined. Raises DamagedRecording where they step back further."""
    out: list[Segment] = []
    for row, n, start_s in zip(rows, counts, starts_s, strict=True):
        if n == 0:
            continue
        place = (start_s - starts_s[0]) * rate_hz
        if not (math.isfinite(place) and -1.0 < place < LONGEST):
            raise DamagedRecording(
                f"{path}: a part of it begins at {start_s:g} s", hint="its times are damaged"
            )
        index = max(0, round(place))
        if out:
            last = out[-1]
            end = last.index + last.n
            if index < end - 1:
                raise DamagedRecording(
                    f"{path}: its times step back, at {start_s:g} s",
                    hint="it was written by two programs, or its clock was set meanwhile",
                )
            if index <= end and row == last.row + last.n:
                out[-1] = Segment(last.row, last.n + n, last.index)
                continue
            index = max(index, end)
        out.append(Segment(row, n, index))
    return tuple(out)


def marker_at(time_s: float, label: str, rate_hz: float, duration_s: float = 0.0) -> Marker:
    """A marker at this time after the timeline's first sample."""
    return Marker(round(time_s * rate_hz), time_s, label, duration_s)
