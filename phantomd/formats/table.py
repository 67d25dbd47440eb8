"""Text tables: OpenBCI's layouts, and CSV with a line of names.

CSV: the first column may be a time in seconds (``timestamps``, ``time``, ``t``); further ones are
channels in µV, but for those that are called marker, trigger, status or stim, where a change to
another value than 0 is a marker, and those called aux. An empty or non-finite value is not there.

Rate: the mean one by the time column; where that is within 0.5 % of a rate that amplifiers have, it
is that one. A step of more than 50 ms and three samples is a gap: shorter ones are how Bluetooth
hands packets over, and stamps that step back by less are its jitter.
"""

from __future__ import annotations

import itertools
import re
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phantomd.errors import DamagedRecording, UnknownRecording
from phantomd.formats.base import (
    MOST_CHANNELS,
    Channel,
    Marker,
    Recording,
    Segment,
    checked_rate,
    timeline,
)
from phantomd.formats.openbci import read_openbci

_TIME = re.compile(r"^(timestamps?|time|t|seconds|lsl_?time.*)(\s*[\[(]?s[\])]?)?$", re.I)
_STIM = re.compile(r"marker|trigger|status|stim", re.I)
_AUX = re.compile(r"\baux\b|accel|gyro|battery", re.I)
_RATES = (64, 100, 125, 128, 160, 200, 220, 250, 256, 300, 400, 500, 512, 600, 1000, 1024, 1200)
_RATES_MORE = (2000, 2048, 2400, 4096, 5000, 8192, 10000)
_NEAR = 0.005
_GAP_S = 0.05
_GAP_SAMPLES = 3.0
_LINE_BYTES = 1 << 20


def read_openbci_text(path: Path, *, truncated: bool = False) -> Recording:
    """``truncated`` is of no concern here: lines that are cut short are skipped and told."""
    text = read_openbci(path)
    index = np.arange(len(text.index)) + np.cumsum(text.gaps())
    cuts = np.flatnonzero(np.diff(index, prepend=index[0] - 1) > 1)
    begins = [0, *(int(cut) for cut in cuts if cut)]
    ends = [*begins[1:], len(index)]
    segments = tuple(
        Segment(begin, end - begin, int(index[begin]))
        for begin, end in zip(begins, ends, strict=True)
    )
    names = [f"EXG {k}" for k in range(text.uv.shape[1])]
    channels = [Channel(name) for name in names]
    values = text.uv
    if text.accel_g is not None:
        channels += [Channel(f"accel_{axis}_g", "g", "aux") for axis in "xyz"]
        values = np.hstack((values, text.accel_g))
    notes = [f"lines that were cut short: {text.n_skipped}"] if text.n_skipped else []
    return Recording(
        path=path,
        format="OpenBCI",
        channels=tuple(channels),
        rate_hz=checked_rate(path, text.rate_hz),
        segments=segments,
        rows=Table(values),
        meta={"layout": text.layout, "unnamed": True},
        notes=tuple(notes),
    )


def read_csv(path: Path, *, truncated: bool = False) -> Recording:
    """Raises RecordingError, naming the line, and OSError. A last line that is cut short is left
    out and told."""
    names, data, whole = _load(path)
    time_s = None
    if _TIME.match(names[0]):
        time_s, data, names = data[:, 0], data[:, 1:], names[1:]
    if time_s is None:
        raise UnknownRecording(
            f"{path}: its first column, {names[0]!r}, is no time",
            hint="a CSV begins with a line of names, the first of them timestamps or time, in s",
        )
    if len(time_s) < 2 or not names:
        raise DamagedRecording(f"{path} has no samples", hint="it needs two lines of numbers")
    if not np.isfinite(time_s).all() or np.any(np.diff(time_s) < -_GAP_S):
        raise DamagedRecording(f"{path}: its times step back", hint="sort it by time")
    rate_hz = checked_rate(path, _rate(time_s))
    steps = np.diff(time_s)
    cuts = np.flatnonzero(steps > max(_GAP_S, _GAP_SAMPLES / rate_hz)) + 1
    if len(cuts):
        rate_hz = checked_rate(path, _rate_of_parts(time_s, cuts))
    begins = [0, *cuts.tolist()]
    ends = [*begins[1:], len(time_s)]
    segments = timeline(
        path,
        begins,
        [end - begin for begin, end in zip(begins, ends, strict=True)],
        _starts(time_s, begins, rate_hz),
        rate_hz,
    )
    channels = tuple(_channel(name) for name in names)
    stim = [k for k, name in enumerate(names) if _STIM.search(name)]
    notes = [] if whole else ["its last line is cut short"]
    return Recording(
        path=path,
        format="CSV",
        channels=channels,
        rate_hz=rate_hz,
        segments=segments,
        rows=Table(data),
        find_markers=lambda: _markers(data, stim, channels, segments, rate_hz),
        start_unix_s=float(time_s[0]) if time_s[0] > 1e9 else None,
        meta={"assumed": "µV"},
        notes=tuple(notes),
    )


class Table:
    """``Recording.rows`` of what is in memory already."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._values = values

    def __call__(self, first: int, n: int) -> NDArray[np.float64]:
        return self._values[first : first + n]


def _load(path: Path) -> tuple[list[str], NDArray[np.float64], bool]:
    """Names, numbers, and whether the last line is whole."""
    with path.open("rb") as file:
        line = file.readline(_LINE_BYTES)
        names = [name.strip().strip('"') for name in line.decode("utf-8-sig", "replace").split(",")]
        if len(names) < 2 or len(names) > MOST_CHANNELS or _is_number(names[-1]):
            raise UnknownRecording(
                f"{path} does not begin with a line of names", hint="timestamps,Fp1,Fp2,…"
            )
        numbers = array("d")
        number = 1
        whole = True
        while line := file.readline(_LINE_BYTES):
            number += 1
            if not whole:
                raise DamagedRecording(
                    f"{path}: line {number - 1} has another number of fields than the first",
                    hint="each line has one value a column",
                )
            fields = line.rstrip(b"\r\n").split(b",")
            if len(fields) != len(names):
                whole = not line.strip()
                continue
            try:
                numbers.extend([float(field) if field.strip() else np.nan for field in fields])
            except ValueError:
                raise DamagedRecording(
                    f"{path}: line {number} has text where a number belongs",
                    hint="values are numbers with a decimal point",
                ) from None
    data = np.frombuffer(numbers, np.float64).reshape(-1, len(names))
    return names, data, whole


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+0-9.eE]+", text))


def _rate(time_s: NDArray[np.float64]) -> float:
    spent_s = float(time_s[-1] - time_s[0])
    return _known((len(time_s) - 1) / spent_s if spent_s > 0 else 0.0)


def _rate_of_parts(time_s: NDArray[np.float64], cuts: NDArray[np.int64]) -> float:
    """Without the time that the gaps took."""
    steps = np.diff(time_s)
    spent_s = float(steps.sum() - steps[cuts - 1].sum())
    return _known((len(steps) - len(cuts)) / spent_s if spent_s > 0 else 0.0)


def _known(rate_hz: float) -> float:
    for known in (*_RATES, *_RATES_MORE):
        if abs(rate_hz - known) <= _NEAR * known:
            return float(known)
    return rate_hz


def _starts(time_s: NDArray[np.float64], begins: list[int], rate_hz: float) -> list[float]:
    """When each part begins: by its time column, and never inside the part before it."""
    starts = [0.0]
    for before, row in itertools.pairwise(begins):
        end_s = starts[-1] + (row - before) / rate_hz
        step_s = float(time_s[row] - time_s[row - 1]) - 1 / rate_hz
        starts.append(end_s + max(0.0, step_s))
    return starts


def _channel(name: str) -> Channel:
    if _STIM.search(name):
        return Channel(name, "count", "aux")
    return Channel(name, "µV", "aux" if _AUX.search(name) else "eeg")


def _markers(
    data: NDArray[np.float64],
    stim: Sequence[int],
    channels: Sequence[Channel],
    segments: Sequence[Segment],
    rate_hz: float,
) -> list[Marker]:
    out = []
    for k in stim:
        values = np.nan_to_num(data[:, k])
        changes = np.flatnonzero(np.diff(values, prepend=0.0))
        for row in changes[values[changes] != 0].tolist():
            inside = [segment for segment in segments if segment.row <= row]
            index = row + inside[-1].index - inside[-1].row
            out.append(
                Marker(index, index / rate_hz, f"{values[row]:g}", 0.0, {"from": channels[k].label})
            )
    return out
