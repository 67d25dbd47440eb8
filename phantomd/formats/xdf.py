"""XDF: one stream of the file as a recording, the streams of events as its markers.

The chunks are walked through here first, so that what the file claims is checked before anything
is allocated, and streams can be chosen; pyxdf (an extra) then decodes the chosen ones, puts them on
one clock by the clock offsets, and takes the jitter out of the time stamps, each part by itself.

Rules: the stream is the one asked for by name, type or id, else the first of type EEG, else the
regular numeric one with the most channels. The rate is the nominal one where the time stamps agree
with it to 500 ppm, else the one that they have. Breaks of 0.25 s and four samples are gaps; after a
clock reset the next part begins as pyxdf's synchronisation has it.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import msgspec
import numpy as np

from phantomd.errors import (
    DamagedRecording,
    RecordingError,
    TruncatedRecording,
    UnsupportedRecording,
)
from phantomd.formats.base import (
    MOST_CHANNELS,
    Channel,
    Marker,
    Recording,
    checked_rate,
    marker_at,
    timeline,
    uv_per,
)
from phantomd.formats.table import Table

BREAK_S = 0.25
BREAK_SAMPLES = 4
_PPM = 500e-6
_VALUE_BYTES = {
    "double64": 8,
    "float32": 4,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "string": 1,  # the length of an empty one
}
_HEADER_BYTES = 1 << 24
_MOST_STREAMS = 1024
_HINT = "it is damaged; what wrote it was stopped, or a copy failed"


class Stream(msgspec.Struct):
    """A stream of the file, as its header has it."""

    stream_id: int
    name: str
    type: str
    source_id: str
    n_channels: int
    nominal_hz: float
    format: str
    labels: list[str]
    units: list[str]
    types: list[str]
    n_samples: int = 0

    @property
    def regular(self) -> bool:
        return self.nominal_hz > 0 and self.format != "string"


def streams_of(path: Path, *, truncated: bool = False) -> list[Stream]:
    """All streams of a file, without their samples. Raises RecordingError, OSError."""
    found: dict[int, Stream] = {}
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"XDF:":
            raise DamagedRecording(f"{path} is no XDF", hint=_HINT)
        while (at := file.tell()) < size:
            try:
                length = _length(path, file)
                end = file.tell() + length
                if length < 2 or end > size:
                    raise _cut(path, at)
                tag = struct.unpack("<H", _exactly(path, file, 2))[0]
                if tag in (2, 3, 4, 6):
                    if length < 6:
                        raise DamagedRecording(f"{path}: a chunk of {length} bytes", hint=_HINT)
                    stream_id = struct.unpack("<I", _exactly(path, file, 4))[0]
                    if tag == 2:
                        if stream_id in found or len(found) >= _MOST_STREAMS:
                            raise DamagedRecording(f"{path}: stream {stream_id} twice", hint=_HINT)
                        found[stream_id] = _stream(path, file, stream_id, length - 6)
                    elif stream_id not in found:
                        raise DamagedRecording(
                            f"{path}: samples of stream {stream_id}, which has no header",
                            hint=_HINT,
                        )
                    elif tag == 3:
                        _count(path, file, found[stream_id], end)
                    elif tag == 4 and length != 22:
                        raise DamagedRecording(f"{path}: a damaged clock offset", hint=_HINT)
                    elif tag == 6:
                        _xml(path, file, length - 6)
                elif tag == 1:
                    _xml(path, file, length - 2)
                file.seek(end)
            except TruncatedRecording:
                if truncated and found:
                    break
                raise
    return list(found.values())


def read_xdf(path: Path, *, stream: str = "", truncated: bool = False) -> Recording:
    """``stream``: name, type or id. Raises RecordingError (one of its kinds) and OSError."""
    streams = streams_of(path, truncated=truncated)
    chosen = _choose(path, streams, stream)
    events = [each for each in streams if each is not chosen and not each.regular]
    loaded = _load(path, [chosen, *(each for each in events if each.n_samples)])
    mine = loaded[chosen.stream_id]
    stamps = np.asarray(mine["time_stamps"], np.float64)
    values = np.asarray(mine["time_series"], np.float64)
    if not np.isfinite(stamps).all() or values.shape != (len(stamps), chosen.n_channels):
        raise DamagedRecording(f"{path}: its time stamps are damaged", hint=_HINT)
    notes: list[str] = []
    parts = [(int(a), int(b) + 1) for a, b in mine["info"]["segments"] if b >= a]
    rate_hz = _rate(chosen, stamps, parts)
    if rate_hz != chosen.nominal_hz:
        notes.append(f"its header says {chosen.nominal_hz:g} Hz, its time stamps {rate_hz:.4f} Hz")
    rate_hz = checked_rate(path, rate_hz)
    segments = timeline(
        path,
        [a for a, _ in parts],
        [b - a for a, b in parts],
        [float(stamps[a]) for a, _ in parts],
        rate_hz,
    )
    channels, scale = _channels(chosen)
    start_s = float(stamps[0]) if len(stamps) else 0.0

    def markers() -> Sequence[Marker]:
        out = []
        for each in events:
            data = loaded.get(each.stream_id)
            for stamp, row in zip(
                data["time_stamps"] if data else (),
                data["time_series"] if data else (),
                strict=True,
            ):
                time_s = float(stamp) - start_s
                if abs(time_s) < 1e9:
                    text = ", ".join(str(value) for value in row)
                    marker = marker_at(time_s, text, rate_hz)
                    payload = {"stream": each.name}
                    out.append(msgspec.structs.replace(marker, payload=payload))
        return out

    return Recording(
        path=path,
        format="XDF",
        channels=channels,
        rate_hz=rate_hz,
        segments=segments,
        rows=Table(values * scale),
        find_markers=markers,
        meta={
            "stream": chosen.name,
            "type": chosen.type,
            "source_id": chosen.source_id,
            "streams": [each.name for each in streams],
            "first_stamp_s": start_s,
        },
        notes=tuple(notes),
    )


def _choose(path: Path, streams: Sequence[Stream], wanted: str) -> Stream:
    names = ", ".join(f"{each.name!r} ({each.type}, {each.n_samples})" for each in streams)
    if wanted:
        for key in ("name", "type", "stream_id", "source_id"):
            for each in streams:
                if str(getattr(each, key)).lower() == wanted.lower():
                    if not each.regular:
                        raise UnsupportedRecording(
                            f"{path}: stream {each.name!r} has events, not samples at a rate",
                            hint=f"there are {names}",
                        )
                    return each
        raise RecordingError(f"{path} has no stream {wanted!r}", hint=f"there are {names}")
    regular = [each for each in streams if each.regular and each.n_samples]
    eeg = [each for each in regular if each.type.lower() == "eeg"]
    if not regular:
        raise UnsupportedRecording(
            f"{path} has no stream of samples at a rate",
            hint=f"there are {names}" if streams else "it is empty",
        )
    return eeg[0] if eeg else max(regular, key=lambda each: each.n_channels)


def _load(path: Path, streams: Sequence[Stream]) -> dict[int, dict[str, Any]]:
    try:
        import pyxdf
    except ImportError as error:
        raise UnsupportedRecording(
            f"{path}: reading XDF needs pyxdf", hint="pip install 'phantomd[formats]'"
        ) from error
    logger = logging.getLogger("pyxdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        loaded, _ = pyxdf.load_xdf(
            str(path),
            select_streams=[each.stream_id for each in streams],
            jitter_break_threshold_seconds=BREAK_S,
            jitter_break_threshold_samples=BREAK_SAMPLES,
        )
    except OSError:
        raise
    except Exception as error:  # what pyxdf raises on damage is not documented
        raise DamagedRecording(f"{path} can't be decoded: {error!r}", hint=_HINT) from error
    finally:
        logger.setLevel(level)
    by_id = {int(each["info"]["stream_id"]): each for each in loaded}
    if any(len(by_id[each.stream_id]["time_stamps"]) != each.n_samples for each in streams):
        raise DamagedRecording(f"{path}: chunks of samples are damaged", hint=_HINT)
    return by_id


def _rate(stream: Stream, stamps: Any, parts: Sequence[tuple[int, int]]) -> float:
    """Over the longest part, so that breaks do not count."""
    begin, end = max(parts, key=lambda part: part[1] - part[0], default=(0, 0))
    if end - begin < 2:
        return stream.nominal_hz
    spent_s = float(stamps[end - 1] - stamps[begin])
    measured = (end - begin - 1) / spent_s if spent_s > 0 else 0.0
    near = abs(measured - stream.nominal_hz) <= _PPM * stream.nominal_hz
    return stream.nominal_hz if near else measured


def _channels(stream: Stream) -> tuple[tuple[Channel, ...], Any]:
    channels = []
    scale = np.ones(stream.n_channels)
    aux = stream.type.lower() not in ("eeg", "exg", "meg")
    for k in range(stream.n_channels):
        unit = stream.units[k] if k < len(stream.units) else ""
        kind = stream.types[k].lower() if k < len(stream.types) else ""
        label = stream.labels[k] if k < len(stream.labels) else ""
        factor = uv_per(unit or "µV")
        scale[k] = factor or 1.0
        is_aux = factor is None or (kind not in ("eeg", "exg", "") if kind else aux and bool(unit))
        channels.append(
            Channel(
                label or f"{stream.name} {k}",
                "µV" if factor else unit,
                "aux" if is_aux else "eeg",
            )
        )
    return tuple(channels), scale


# -- chunks ----------------------------------------------------------------------------------------


def _stream(path: Path, file: BinaryIO, stream_id: int, length: int) -> Stream:
    info = _xml(path, file, length)

    def text(name: str) -> str:
        return (info.findtext(name) or "").strip()

    def column(name: str) -> list[str]:
        found = info.findall("desc/channels/channel")
        return [(channel.findtext(name) or "").strip() for channel in found[:MOST_CHANNELS]]

    try:
        n_channels = int(text("channel_count"))
        nominal_hz = float(text("nominal_srate") or 0)
    except ValueError as error:
        raise DamagedRecording(f"{path}: stream {stream_id}: {error}", hint=_HINT) from error
    kind = text("channel_format")
    if kind not in _VALUE_BYTES:
        raise UnsupportedRecording(
            f"{path}: stream {stream_id} has values of the kind {kind!r}", hint=_HINT
        )
    if not 0 < n_channels <= MOST_CHANNELS or not 0 <= nominal_hz < 1e7:
        raise DamagedRecording(
            f"{path}: stream {stream_id} has {n_channels} channels at {nominal_hz:g} Hz", hint=_HINT
        )
    return Stream(
        stream_id,
        text("name"),
        text("type"),
        text("source_id"),
        n_channels,
        nominal_hz,
        kind,
        column("label"),
        column("unit"),
        column("type"),
    )


def _xml(path: Path, file: BinaryIO, length: int) -> ElementTree.Element:
    if length > _HEADER_BYTES:
        raise DamagedRecording(f"{path}: a header of {length} bytes", hint=_HINT)
    data = _exactly(path, file, length)
    if re.search(rb"<!(DOCTYPE|ENTITY)", data, re.I):
        raise DamagedRecording(f"{path}: a header that defines entities", hint=_HINT)
    try:
        return ElementTree.fromstring(data.decode("utf-8", "replace"))
    except (ElementTree.ParseError, ValueError) as error:
        raise DamagedRecording(f"{path}: a header that is no XML: {error}", hint=_HINT) from error


def _count(path: Path, file: BinaryIO, stream: Stream, end: int) -> None:
    """How many samples a chunk has; no more than its bytes can hold."""
    n = _length(path, file)
    least = 1 + stream.n_channels * _VALUE_BYTES[stream.format]
    if n * least > end - file.tell():
        raise DamagedRecording(
            f"{path}: a chunk of {n} samples in {end - file.tell()} bytes", hint=_HINT
        )
    stream.n_samples += n


def _length(path: Path, file: BinaryIO) -> int:
    width = _exactly(path, file, 1)[0]
    if width not in (1, 4, 8):
        raise DamagedRecording(f"{path}: no chunk at byte {file.tell() - 1}", hint=_HINT)
    return int.from_bytes(_exactly(path, file, width), "little")


def _exactly(path: Path, file: BinaryIO, n: int) -> bytes:
    data = file.read(n)
    if len(data) < n:
        raise _cut(path, file.tell())
    return data


def _cut(path: Path, at: int) -> TruncatedRecording:
    return TruncatedRecording(
        f"{path} is cut short, in a chunk at byte {at}",
        hint="copy it again; truncated=play plays what is whole",
    )
