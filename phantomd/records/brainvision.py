"""Writes a BrainVision triplet as the data come: ``.eeg``, ``.vhdr``, ``.vmrk``, and ``.clock``.

Whatever instant the writer dies at, all that is there is valid: the header appears whole, with the
first rows; rows, markers and records only ever follow. One thread owns it; what it does may block.

Values are IEEE_FLOAT_32. Samples that are counts stand as counts, which float32 holds to 24 bits,
with the µV of one as the channel's resolution: count times resolution is the double that was
analysed. All other devices' samples are float32-exact from the intake on (csrc/pd_native.h).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: A marker's line lies within one page of the file: a page is written whole or not at all.
_PAGE = 4096
_TEXT = 400
_ROWS_AT_ONCE = 4096
_STIMULUS = re.compile(r"^S *\d{1,3}$")
_RESPONSE = re.compile(r"^R *\d{1,3}$")


class Channel(msgspec.Struct, frozen=True):
    """``resolution``: of what stands in the file, in ``unit``."""

    label: str
    unit: str = "µV"
    resolution: float = 1.0


class Triplet:
    """``path`` names the .eeg; none of the files may exist. Raises OSError."""

    def __init__(
        self, path: Path, channels: Sequence[Channel], rate_hz: float, unix_ns: int, clock: bytes
    ) -> None:
        self.path = path
        #: Rows of the data file.
        self.rows = 0
        #: Values that the file can hold only rounded.
        self.inexact = 0
        self._channels = tuple(channels)
        self._rate_hz = rate_hz
        self._headed = False
        self._resolution = np.array([channel.resolution for channel in channels])
        self._counts = self._resolution != 1.0
        self._marks = 0
        self._mark_bytes = 0
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._eeg = _create(path)
        self._files = [self._eeg]
        try:
            self._vmrk = self._open(path.with_suffix(".vmrk"))
            self._clock = self._open(path.with_suffix(".clock"))
            self.note(clock)
            self._write_marks(_marker_head(path))
            date = time.strftime("%Y%m%d%H%M%S", time.gmtime(unix_ns // 10**9))
            self._mark("New Segment", "", 0, 1, f",{date}{unix_ns // 1000 % 10**6:06d}")
        except BaseException:
            self.close()
            raise

    def append(self, values: Floats, lost: npt.NDArray[np.bool_]) -> None:
        """Rows [n, channels]; those of ``lost`` samples need not be exact, NaN may be."""
        with np.errstate(invalid="ignore", over="ignore"):
            stored = values / self._resolution
            stored = np.where(self._counts, np.rint(stored), stored).astype("<f4")
            again = stored.astype(np.float64) * self._resolution
        differs = (again != values) & ~np.isnan(values)
        self.inexact += int(np.count_nonzero(differs[~lost]))
        # A bridge between two counts is none: it stands rounded, to a count.
        _write(self._eeg, stored.tobytes())
        self.rows += len(values)
        self._head()

    def append_lost(self, n: int) -> None:
        """Rows of NaN."""
        width = len(self._resolution)
        while n > 0:
            some = min(n, _ROWS_AT_ONCE)
            _write(self._eeg, np.full((some, width), np.nan, "<f4").tobytes())
            self.rows += some
            n -= some

    def mark(self, label: str, row: int) -> None:
        """What somebody said happened. ``S 1``: a stimulus, ``R 1``: a response, as the recorders
        of the format write them; else a comment."""
        kind = "Comment"
        if _STIMULUS.match(label):
            kind = "Stimulus"
        elif _RESPONSE.match(label):
            kind = "Response"
        self._mark(kind, label, row, 1)

    def mark_segment(self, row: int) -> None:
        """The device began anew. Without a date: the rows go on at the rate all the while."""
        self._mark("New Segment", "", row, 1)

    def mark_lost(self, row: int, n: int, bridged: bool) -> None:
        self._mark("Bad Interval", "bridged" if bridged else "lost", row, n)

    def note(self, record: bytes) -> None:
        """A record of the .clock."""
        _write(self._clock, record)

    def cut(self) -> None:
        """After a write that failed: whole rows only. Raises OSError."""
        os.ftruncate(self._eeg, self.rows * 4 * len(self._resolution))

    def sync(self) -> None:
        """On the disk. Raises OSError."""
        self._head()
        for fd in self._files:
            os.fsync(fd)

    def _head(self) -> None:
        """Once there is a row: MNE refuses a header without any."""
        if not self._headed:
            self._headed = True
            _write_header(self.path, self._channels, self._rate_hz)

    def close(self) -> None:
        while self._files:
            os.close(self._files.pop())

    def _open(self, path: Path) -> int:
        fd = _create(path)
        self._files.append(fd)
        return fd

    def _mark(self, kind: str, text: str, row: int, n: int, date: str = "") -> None:
        text = re.sub(r"[\x00-\x1f\x7f]", " ", text)
        text = text.encode()[:_TEXT].decode(errors="ignore").replace(",", "\\1")
        self._marks += 1
        self._write_marks(f"Mk{self._marks}={kind},{text},{row + 1},{n},0{date}\r\n".encode())

    def _write_marks(self, line: bytes) -> None:
        left = _PAGE - self._mark_bytes % _PAGE
        if len(line) > left:
            _write(self._vmrk, b"\n" * left)
            self._mark_bytes += left
        _write(self._vmrk, line)
        self._mark_bytes += len(line)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _marker_head(path: Path) -> bytes:
    return (
        "Brain Vision Data Exchange Marker File, Version 1.0\r\n\r\n[Common Infos]\r\n"
        f"Codepage=UTF-8\r\nDataFile={path.name}\r\n\r\n[Marker Infos]\r\n"
        "; Mk<number>=<type>,<description>,<position>,<samples>,<channel>,<date>\r\n"
    ).encode()


def _write_header(path: Path, channels: Sequence[Channel], rate_hz: float) -> None:
    """Whole or not at all."""
    lines = [
        "Brain Vision Data Exchange Header File Version 1.0",
        "",
        "[Common Infos]",
        "Codepage=UTF-8",
        f"DataFile={path.name}",
        f"MarkerFile={path.with_suffix('.vmrk').name}",
        "DataFormat=BINARY",
        "DataOrientation=MULTIPLEXED",
        f"NumberOfChannels={len(channels)}",
        "; in microseconds",
        f"SamplingInterval={1e6 / rate_hz!r}",
        "",
        "[Binary Infos]",
        "BinaryFormat=IEEE_FLOAT_32",
        "",
        "[Channel Infos]",
        "; Ch<number>=<name>,<reference>,<resolution>,<unit>",
    ]
    for number, channel in enumerate(channels, 1):
        label = channel.label.replace(",", "\\1")
        lines.append(f"Ch{number}={label},,{channel.resolution!r},{channel.unit}")
    temporary = path.with_suffix(".vhdr.new")
    fd = _create(temporary)
    try:
        _write(fd, "".join(line + "\r\n" for line in lines).encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.rename(path.with_suffix(".vhdr"))
