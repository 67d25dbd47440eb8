"""BrainVision: .vhdr, .vmrk and the data file. Brain Products, core data format 1.0.

INT_16, INT_32 and IEEE_FLOAT_32, multiplexed and vectorized, resolution and unit a channel. A "New
Segment" marker with a date begins a part of the recording: where its date is later than the rows
before it account for, there was a pause, and the timeline has a gap.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phantomd.errors import (
    DamagedRecording,
    RecordingError,
    TruncatedRecording,
    UnsupportedRecording,
)
from phantomd.formats.base import (
    HIGHEST_HZ,
    MOST_CHANNELS,
    Channel,
    Marker,
    Recording,
    Segment,
    checked_rate,
    timeline,
    uv_per,
)

#: Texts larger than this are no headers.
_TEXT_BYTES = 1 << 26
_FORMATS = {"INT_16": "i2", "INT_32": "i4", "IEEE_FLOAT_32": "f4"}
_SECTION = re.compile(r"^\[(.+)\]\s*$")
_DATE = re.compile(r"^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d{6})$")
_HINT = "its header is damaged, or it is another kind of file"

Sections = dict[str, dict[str, str]]


def read_brainvision(path: Path, *, truncated: bool = False) -> Recording:
    """``path``: the .vhdr, or one of the other two beside it. ``truncated``: reads what rows are
    whole of a data file that is cut short. Raises RecordingError and OSError."""
    if path.suffix.lower() in (".eeg", ".vmrk", ".dat"):
        path = path.with_suffix(".vhdr")
    head = _sections(path, "header")
    common = head.get("common infos", {})
    if common.get("dataformat", "BINARY").upper() != "BINARY":
        raise UnsupportedRecording(
            f"{path}: DataFormat={common['dataformat']}", hint="export it as BINARY"
        )
    binary = head.get("binary infos", {})
    name = binary.get("binaryformat", "INT_16").upper()
    if name not in _FORMATS:
        raise UnsupportedRecording(
            f"{path}: BinaryFormat={name}", hint=f"export it as {', '.join(_FORMATS)}"
        )
    big = binary.get("usebigendianorder", "NO").upper() == "YES"
    dtype = np.dtype((">" if big else "<") + _FORMATS[name])
    n_channels = _integer(path, common.get("numberofchannels"), "NumberOfChannels")
    if not 1 <= n_channels <= MOST_CHANNELS:
        raise DamagedRecording(f"{path}: {n_channels} channels", hint=_HINT)
    interval_us = _number(path, common.get("samplinginterval"), "SamplingInterval")
    if not interval_us >= 1e6 / HIGHEST_HZ:
        raise DamagedRecording(f"{path}: a sampling interval of {interval_us:g} µs", hint=_HINT)
    rate_hz = checked_rate(path, 1e6 / interval_us)
    channels, scale = _channels(path, head.get("channel infos", {}), n_channels)
    data_path = _beside(path, common.get("datafile", ""), "DataFile")
    notes: list[str] = []
    size = data_path.stat().st_size
    n_rows, rest = divmod(size, n_channels * dtype.itemsize)
    announced = common.get("datapoints")
    if announced is not None and announced != "0":
        n_announced = _integer(path, announced, "DataPoints")
        if n_announced > n_rows:
            rest = 1
        n_rows = min(n_rows, max(0, n_announced))
    if rest:
        if not truncated:
            raise TruncatedRecording(
                f"{data_path} is cut short, after {n_rows} samples",
                hint="copy it again; truncated=play plays what is whole",
            )
        notes.append(f"cut short: {n_rows} samples are there")
    orientation = common.get("dataorientation", "MULTIPLEXED").upper()
    if orientation not in ("MULTIPLEXED", "VECTORIZED"):
        raise UnsupportedRecording(
            f"{path}: DataOrientation={orientation}", hint="export it as MULTIPLEXED"
        )
    if rest and orientation == "VECTORIZED":
        raise TruncatedRecording(
            f"{data_path} is cut short, and is channel after channel", hint="copy it again"
        )
    rows = _rows(data_path, dtype, n_rows, n_channels, orientation == "VECTORIZED", scale)
    marks = _marks(path, common.get("markerfile"), notes)
    segments = _segments(path, marks, n_rows, rate_hz)
    dates = [date for _, _, _, _, date in marks if date is not None]
    return Recording(
        path=path,
        format="BrainVision",
        channels=channels,
        rate_hz=rate_hz,
        segments=segments,
        rows=rows,
        find_markers=lambda: _markers(marks, segments, rate_hz),
        start_unix_s=dates[0] if dates else None,
        meta={"binary": name, "orientation": orientation},
        notes=tuple(notes),
    )


class _rows:
    """``Recording.rows`` over the mapped data file."""

    def __init__(
        self,
        path: Path,
        dtype: np.dtype[np.generic],
        n_rows: int,
        n_channels: int,
        vectorized: bool,
        scale: NDArray[np.float64],
    ) -> None:
        shape = (n_channels, n_rows) if vectorized else (n_rows, n_channels)
        data = np.memmap(path, dtype, "r", 0, shape) if n_rows else np.zeros(shape, dtype)
        self._data: NDArray[np.generic] = data.T if vectorized else data
        self._scale = scale

    def __call__(self, first: int, n: int) -> NDArray[np.float64]:
        out = self._data[first : first + n].astype(np.float64, order="C")
        out *= self._scale
        return out


def _sections(path: Path, what: str) -> Sections:
    """Keys in lower case: programs disagree on their case, values don't."""
    with path.open("rb") as file:
        data = file.read(_TEXT_BYTES)
    first = data[:64].lstrip(b"\xef\xbb\xbf")
    if not re.match(rb"Brain ?Vision (V-Amp )?Data Exchange", first, re.I):
        raise DamagedRecording(f"{path} is no BrainVision {what}", hint=_HINT)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    out: Sections = {}
    section: dict[str, str] | None = None
    for line in text.splitlines():
        if found := _SECTION.match(line):
            name = found[1].lower()
            section = None if name == "comment" else out.setdefault(name, {})
            continue
        if section is None or line.startswith(";") or "=" not in line:
            continue
        key, _, value = line.partition("=")
        section[key.strip().lower()] = value.strip()
    return out


def _channels(
    path: Path, infos: dict[str, str], n: int
) -> tuple[tuple[Channel, ...], NDArray[np.float64]]:
    channels = []
    scale = np.ones(n)
    for k in range(n):
        fields = [field.replace("\\1", ",") for field in infos.get(f"ch{k + 1}", "").split(",")]
        name, _, resolution, unit = [field.strip() for field in [*fields, "", "", "", ""][:4]]
        unit = unit or "µV"
        per = _number(path, resolution, f"the resolution of {name}") if resolution else 1.0
        factor = uv_per(unit)
        scale[k] = per * (factor or 1.0)
        is_volts = factor is not None
        channels.append(
            Channel(name or f"Ch{k + 1}", "µV" if is_volts else unit, "eeg" if is_volts else "aux")
        )
    return tuple(channels), scale


Mark = tuple[str, str, int, int, float | None]


def _marks(path: Path, name: str | None, notes: list[str]) -> list[Mark]:
    """(type, description, row, rows, date) of each marker, in the file's order."""
    if not name:
        return []
    where = _beside(path, name, "MarkerFile")
    if not where.exists():
        notes.append(f"there is no {where.name}: no markers")
        return []
    out: list[Mark] = []
    for key, value in _sections(where, "marker file").get("marker infos", {}).items():
        if not re.fullmatch(r"mk\d+", key):
            continue
        fields = [field.replace("\\1", ",") for field in value.split(",")]
        if len(fields) < 3:
            raise DamagedRecording(f"{where}: {key}={value}", hint="a marker needs a position")
        position = _integer(where, fields[2], key)
        size = _integer(where, fields[3], key) if len(fields) > 3 and fields[3] else 0
        if not (1 <= position < 1 << 48 and 0 <= size < 1 << 48):
            raise DamagedRecording(f"{where}: {key} is at {position}", hint="positions begin at 1")
        date = _date(fields[5]) if len(fields) > 5 else None
        out.append((fields[0].strip(), fields[1], position - 1, size, date))
    return out


def _date(text: str) -> float | None:
    """Unix seconds of YYYYMMDDhhmmssuuuuuu, taken as UTC: the format knows no time zone."""
    found = _DATE.match(text.strip())
    if not found:
        return None
    year, month, day, hour, minute, second, micro = (int(part) for part in found.groups())
    if not (year >= 1970 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60):
        return None
    return calendar.timegm((year, month, day, hour, minute, second)) + micro * 1e-6


def _segments(
    path: Path, marks: Sequence[Mark], n_rows: int, rate_hz: float
) -> tuple[Segment, ...]:
    """A pause is believed from one and a half samples on."""
    begins = sorted(
        (row, date) for kind, _, row, _, date in marks if kind == "New Segment" and row < n_rows
    )
    rows, starts = [0], [0.0]
    known: tuple[int, float] | None = None  # a row whose date is known, and that date
    shift_s = 0.0
    for row, date in begins:
        if date is None:
            known = None
            continue
        if known is not None and row > rows[-1]:
            late_s = date - known[1] - (row - known[0]) / rate_hz
            if late_s * rate_hz > 1.5:
                shift_s += late_s
                rows.append(row)
                starts.append(row / rate_hz + shift_s)
        known = (row, date)
    counts = [end - row for row, end in zip(rows, [*rows[1:], n_rows], strict=True)]
    return timeline(path, rows, counts, starts, rate_hz)


def _markers(marks: Sequence[Mark], segments: Sequence[Segment], rate_hz: float) -> list[Marker]:
    out = []
    for kind, text, row, size, _ in marks:
        inside = [segment for segment in segments if segment.row <= row]
        shift = inside[-1].index - inside[-1].row if inside else 0
        index = row + shift
        label = f"{kind}/{text}"
        out.append(Marker(index, index / rate_hz, label, size / rate_hz, {"type": kind}))
    return out


def _beside(path: Path, name: str, key: str) -> Path:
    """A file of the same folder: a header does not say where else to read."""
    name = name.replace("$b", path.stem).replace("\\", "/").rpartition("/")[2]
    if not name or name in (".", "..") or "\0" in name:
        raise DamagedRecording(f"{path}: {key} names no file", hint=_HINT)
    return path.with_name(name)


def _number(path: Path, text: str | None, what: str) -> float:
    try:
        value = float(text or "")
        if abs(value) < 1e15:
            return value
    except ValueError:
        pass
    raise _no_number(path, text, what)


def _integer(path: Path, text: str | None, what: str) -> int:
    value = _number(path, text, what)
    if value != int(value):
        raise _no_number(path, text, what)
    return int(value)


def _no_number(path: Path, text: str | None, what: str) -> RecordingError:
    why = "is missing" if text is None else f"{text!r} is no number"
    return DamagedRecording(f"{path}: {what}: {why}", hint=_HINT)
