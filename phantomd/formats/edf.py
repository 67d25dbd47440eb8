"""EDF, EDF+ and BDF. Kemp 1992; Kemp and Olivan 2003; BioSemi's 24-bit variant.

Rules where the format leaves a choice:

- Rate: the highest one of the EEG channels. Slower EEG channels are interpolated linearly between
  their samples; auxiliary channels of another rate are held, a faster one is picked from.
- EEG channels are those in volts whose names do not say otherwise (ECG, EOG, Status, …).
- EDF+D: a record's place is its time-keeping annotation; between records there may be gaps.
- A channel called Status or Trigger has whole numbers of 17 bits, as MNE reads it: of a BDF the
  digits, of an EDF the scaled value, cut off. Where the low 16 change to another value than 0 there
  is a marker.
"""

from __future__ import annotations

import calendar
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomd.errors import DamagedRecording, TruncatedRecording, UnsupportedRecording
from phantomd.formats.base import (
    MOST_CHANNELS,
    Channel,
    Marker,
    Recording,
    Segment,
    checked_rate,
    timeline,
    uv_per,
)

HEAD_BYTES = 256
_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
_STIM = re.compile(r"^(status|trigger)$", re.I)
_OTHER = re.compile(
    r"stim|trig|^(dig|ecg|ekg|eog|emg|erg|resp|temp|sao2|pulse|nasal|gsr|dc)\b", re.I
)
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
_TAL = re.compile(
    rb"([+-]\d{1,12}(?:\.\d{0,12})?)(?:\x15(\d{1,12}(?:\.\d{0,12})?))?\x14([^\x00]*)\x00"
)
_STIM_BITS = 0x1FFFF
_CODE_BITS = 0xFFFF
#: Records a look at a channel: bounds memory, whatever the file's length.
_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class _Signal:
    channel: Channel
    stim: bool
    spr: int  # samples a record
    at: int  # its first sample in a record
    scale: float  # of the channel's unit, a digit
    offset: float


class _File:
    """The mapped records and how to take one signal out of them."""

    def __init__(
        self, path: Path, width: int, n_records: int, record_samples: int, head_bytes: int
    ) -> None:
        self.width = width
        self.n_records = n_records
        self.record_bytes = record_samples * width
        if n_records and record_samples:
            data = np.memmap(path, np.uint8, "r", head_bytes, (n_records, self.record_bytes))
            self._records: NDArray[np.uint8] = data
        else:
            self._records = np.zeros((0, 0), np.uint8)

    def raw(self, at: int, n: int, first: int, until: int) -> NDArray[np.uint8]:
        """Bytes of ``n`` samples from ``at`` on, of the records [first, until)."""
        return self._records[first:until, at * self.width : (at + n) * self.width]

    def digits(self, at: int, n: int, first: int, until: int) -> NDArray[np.int32]:
        """int32[(until − first)·n]: signed."""
        raw = np.ascontiguousarray(self.raw(at, n, first, until)).reshape(-1)
        if self.width == 2:
            return raw.view("<i2").astype(np.int32)
        three = raw.reshape(-1, 3).astype(np.int32)
        return three[:, 0] | three[:, 1] << 8 | (three[:, 2] ^ 0x80) - 0x80 << 16


def read_edf(path: Path, *, truncated: bool = False) -> Recording:
    """``truncated``: reads what records are whole of a file that is cut short.

    Raises RecordingError (one of its kinds) and OSError.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if len(head) < HEAD_BYTES:
            raise _cut(path, "inside its header")
        width = 3 if head[:8] == b"\xffBIOSEMI" else 2
        if width == 2 and head[:8].strip() != b"0":
            raise DamagedRecording(f"{path} is no EDF: its version is {head[:8]!r}", hint=_HINT)
        n_signals = _integer(path, head[252:256], "number of signals")
        if not 1 <= n_signals <= MOST_CHANNELS:
            raise DamagedRecording(f"{path}: {n_signals} signals", hint=_HINT)
        body = file.read(n_signals * HEAD_BYTES)
    if len(body) < n_signals * HEAD_BYTES:
        raise _cut(path, "inside its header")
    head_bytes = HEAD_BYTES * (1 + n_signals)
    if _integer(path, head[184:192], "header size") != head_bytes:
        raise DamagedRecording(
            f"{path}: {n_signals} signals need a header of {head_bytes} bytes", hint=_HINT
        )
    kind = head[192:236].decode("latin-1").strip()
    record_s = _number(path, head[244:252], "record duration")
    signals, taken = _signals(path, body, n_signals, width)
    annotations = [each for each in taken if each[0] in _ANNOTATIONS]
    record_samples = taken[-1][1] + taken[-1][2]
    record_bytes = record_samples * width
    announced = _integer(path, head[236:244], "number of records")
    there = (size - head_bytes) // record_bytes if record_bytes else 0
    notes: list[str] = []
    if announced < 0:
        announced = there
        notes.append("the header does not say how long it is: it was not closed in good order")
    elif there < announced:
        if not truncated:
            raise _cut(path, f"after {there} of {announced} records")
        notes.append(f"cut short: {there} of {announced} records are there")
        announced = there
    file_ = _File(path, width, announced, record_samples, head_bytes)
    if not signals:
        raise UnsupportedRecording(
            f"{path} has annotations only", hint="name the file with the signals"
        )
    if not record_s > 0:
        raise DamagedRecording(f"{path}: records of {record_s:g} s", hint=_HINT)
    spr = max(
        [each.spr for each in signals if each.channel.kind == "eeg"]
        or [each.spr for each in signals]
    )
    rate_hz = checked_rate(path, spr / record_s)
    uneven = sorted({each.channel.label for each in signals if each.spr != spr})
    if uneven:
        notes.append(f"of another rate than {rate_hz:g} Hz: {', '.join(uneven)}")
    tals = _Annotations(path, file_, annotations)
    gappy = kind[:5] in ("EDF+D", "BDF+D") and bool(annotations)
    onsets = _onsets(tals, file_.n_records) if gappy else None
    if onsets is not None:
        each = range(file_.n_records)
        segments = timeline(
            path, [k * spr for k in each], [spr] * len(each), [onsets[k] for k in each], rate_hz
        )
    else:
        n = file_.n_records * spr
        segments = (Segment(0, n, 0),) if n else ()
    reader = _Rows(file_, signals, spr, joined=onsets is None)
    stim = next((each for each in signals if each.stim), None)

    def markers() -> Sequence[Marker]:
        found = tals.markers(rate_hz)
        return (
            found if found or stim is None else _stim_markers(file_, stim, spr, segments, rate_hz)
        )

    return Recording(
        path=path,
        format=("BDF" if width == 3 else "EDF") + ("+" if kind[3:4] == "+" else ""),
        channels=tuple(each.channel for each in signals),
        rate_hz=rate_hz,
        segments=segments,
        rows=reader,
        find_markers=markers,
        start_unix_s=_start(head),
        meta=_meta(head, kind, record_s),
        notes=tuple(notes),
    )


def _signals(
    path: Path, body: bytes, n: int, width: int
) -> tuple[list[_Signal], list[tuple[str, int, int]]]:
    """The channels, and (label, first sample, samples) of everything in a record."""
    columns: list[list[bytes]] = []
    at = 0
    for size in _FIELDS:
        columns.append([body[at + k * size : at + (k + 1) * size] for k in range(n)])
        at += n * size
    labels, _, units, p_min, p_max, d_min, d_max, _, spr, _ = columns
    signals: list[_Signal] = []
    taken: list[tuple[str, int, int]] = []
    place = 0
    for k in range(n):
        label = labels[k].decode("latin-1").strip(" \0")
        samples = _integer(path, spr[k], f"samples a record of {label}")
        if not 0 <= samples <= 1 << 24:
            raise DamagedRecording(f"{path}: {label} has {samples} samples a record", hint=_HINT)
        taken.append((label, place, samples))
        if label not in _ANNOTATIONS and samples:
            unit = units[k].decode("latin-1").strip(" \0")
            low, high = _number(path, d_min[k], label), _number(path, d_max[k], label)
            least, most = _number(path, p_min[k], label), _number(path, p_max[k], label)
            # A range of nothing is an unused input: its digits are its values (as MNE has it).
            scale = ((most - least) or 1.0) / ((high - low) or 1.0)
            factor = uv_per(unit)
            stim = bool(_STIM.match(label))
            if stim:
                channel = Channel(label, "count", "aux")
                factor = 1.0
                if width == 3:
                    least, low, scale = 0.0, 0.0, 1.0
            elif factor is None:
                channel = Channel(label, unit, "aux")
            else:
                channel = Channel(label, "µV", "aux" if _OTHER.search(label) else "eeg")
            factor = 1.0 if factor is None else factor
            offset = least - low * scale
            signals.append(_Signal(channel, stim, samples, place, scale * factor, offset * factor))
        place += samples
    return signals, taken


class _Rows:
    """``Recording.rows``."""

    def __init__(self, file: _File, signals: Sequence[_Signal], spr: int, joined: bool) -> None:
        self._file = file
        self._signals = signals
        self._spr = spr
        self._joined = joined  # the records follow each other without gaps

    def __call__(self, first: int, n: int) -> NDArray[np.float64]:
        out = np.empty((n, len(self._signals)))
        done = 0
        step = max(1, _BLOCK_BYTES // max(1, self._file.record_bytes)) * self._spr
        while done < n:
            count = min(n - done, step)
            self._read(first + done, count, out[done : done + count])
            done += count
        return out

    def _read(self, first: int, n: int, out: NDArray[np.float64]) -> None:
        spr = self._spr
        begin, end = first // spr, (first + n - 1) // spr + 1
        for k, signal in enumerate(self._signals):
            scaled = self._scaled(signal, begin, end)
            if signal.spr == spr:
                out[:, k] = scaled[first - begin * spr :][:n]
                continue
            place = (np.arange(first, first + n) - begin * spr) * signal.spr
            whole, part = place // spr, place % spr
            out[:, k] = scaled[whole]
            if signal.channel.kind == "eeg" and signal.spr < spr:
                after = self._after(signal, scaled, whole, begin, end)
                out[:, k] += (after - out[:, k]) * (part / spr)

    def _scaled(self, signal: _Signal, begin: int, end: int) -> NDArray[np.float64]:
        return _scaled(self._file, signal, begin, end)

    def _after(
        self,
        signal: _Signal,
        scaled: NDArray[np.float64],
        whole: NDArray[np.int64],
        begin: int,
        end: int,
    ) -> NDArray[np.float64]:
        """The slow channel's next sample; at the end of what hangs together, the last one again."""
        if not self._joined:
            last = (whole // signal.spr + 1) * signal.spr - 1
            return np.asarray(scaled[np.minimum(whole + 1, last)])
        if end < self._file.n_records:
            scaled = np.append(scaled, self._scaled(signal, end, end + 1)[:1])
        return np.asarray(scaled[np.minimum(whole + 1, len(scaled) - 1)])


def _scaled(file: _File, signal: _Signal, begin: int, end: int) -> NDArray[np.float64]:
    """The signal in the records [begin, end), in its channel's unit."""
    values = file.digits(signal.at, signal.spr, begin, end).astype(np.float64)
    values *= signal.scale
    values += signal.offset
    if signal.stim:
        return np.asarray((values.astype(np.int64) & _STIM_BITS).astype(np.float64))
    return values


class _Annotations:
    """Time-stamped annotation lists of all records."""

    def __init__(self, path: Path, file: _File, where: Sequence[tuple[str, int, int]]) -> None:
        self._path = path
        self._file = file
        self._where = [(at, n) for _, at, n in where if n]

    def lists(self, record: int) -> list[tuple[float, float, list[str]]]:
        """(onset, duration, texts) in seconds from the file's start."""
        out = []
        for at, n in self._where:
            data = self._file.raw(at, n, record, record + 1).tobytes()
            for onset, duration, texts in _TAL.findall(data):
                words = texts.decode("utf-8", "replace").split("\x14")
                out.append((float(onset), float(duration or 0), words))
        return out

    def onset(self, record: int) -> float:
        """Raises DamagedRecording where the record does not say when it began."""
        for onset, _, texts in self.lists(record):
            if texts and texts[0] == "":
                return onset
        raise DamagedRecording(
            f"{self._path}: record {record} does not say when it began",
            hint="EDF+ wants a time-keeping annotation in each record",
        )

    def markers(self, rate_hz: float) -> list[Marker]:
        if not self._where or not self._file.n_records:
            return []
        start_s = 0.0
        with contextlib.suppress(DamagedRecording):
            start_s = self.onset(0)
        out = []
        for record in range(self._file.n_records):
            for onset, duration, texts in self.lists(record):
                for text in texts:
                    if text:
                        time_s = onset - start_s
                        out.append(Marker(round(time_s * rate_hz), time_s, text, duration))
        return out


def _onsets(tals: _Annotations, n_records: int) -> list[float]:
    return [tals.onset(record) for record in range(n_records)]


def _stim_markers(
    file: _File, stim: _Signal, spr: int, segments: Sequence[Segment], rate_hz: float
) -> list[Marker]:
    out = []
    before = 0
    step = max(1, _BLOCK_BYTES // max(1, file.record_bytes))
    for begin in range(0, file.n_records, step):
        end = min(begin + step, file.n_records)
        bits = _scaled(file, stim, begin, end).astype(np.int64) & _CODE_BITS
        changes = np.flatnonzero(np.diff(bits, prepend=before))
        before = int(bits[-1])
        for k in changes[bits[changes] != 0].tolist():
            row = (begin * stim.spr + k) * spr / stim.spr
            time_s = _time_of_row(segments, row, rate_hz)
            out.append(Marker(round(time_s * rate_hz), time_s, str(int(bits[k]))))
    return out


def _time_of_row(segments: Sequence[Segment], row: float, rate_hz: float) -> float:
    inside = [segment for segment in segments if segment.row <= row]
    last = inside[-1] if inside else segments[0]
    return (last.index + row - last.row) / rate_hz


def _start(head: bytes) -> float | None:
    """The date and time of the header, taken as UTC: the format knows no time zone."""
    text = head[168:184].decode("latin-1")
    found = re.fullmatch(r"(\d\d)\.(\d\d)\.(\d\d)(\d\d)[.:](\d\d)[.:](\d\d)", text.strip())
    if not found:
        return None
    day, month, year, hour, minute, second = (int(part) for part in found.groups())
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return None
    full = year + (1900 if year >= 85 else 2000)
    return float(calendar.timegm((full, month, day, hour, minute, second)))


def _meta(head: bytes, kind: str, record_s: float) -> dict[str, Any]:
    return {
        "variant": kind,
        "record_s": record_s,
        "subject": head[8:88].decode("latin-1").strip(" \0"),
        "session": head[88:168].decode("latin-1").strip(" \0"),
    }


def _number(path: Path, text: bytes, what: str) -> float:
    with contextlib.suppress(ValueError):
        value = float(text.decode("ascii", "replace").strip(" \0").replace(",", "."))
        if abs(value) < 1e15:
            return value
    raise DamagedRecording(f"{path}: {what}: {text!r} is no number", hint=_HINT)


def _integer(path: Path, text: bytes, what: str) -> int:
    value = _number(path, text, what)
    if value != int(value):
        raise DamagedRecording(f"{path}: {what}: {value:g} is no whole number", hint=_HINT)
    return int(value)


def _cut(path: Path, where: str) -> TruncatedRecording:
    return TruncatedRecording(
        f"{path} ends {where}",
        hint="copy it again; truncated=play plays what is whole",
    )


_HINT = "its header is damaged, or it is another kind of file"
