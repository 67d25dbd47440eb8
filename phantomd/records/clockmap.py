"""The ``.clock`` beside a recording: what a BrainVision triplet can't hold.

A file of MessagePack maps, one after the other, each with its ``kind``; a record that is cut short
is the last one, and is left out. Arrays are little-endian bytes. docs/recording.md has the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import msgspec

from phantomd.config import Config
from phantomd.contracts import DeviceSpec
from phantomd.errors import DamagedRecording, UnknownRecording
from phantomd.oracle.baseline import Baseline

VERSION = 1
ENDING = ".clock"
#: Of a frame's ``native``: the frame has no values.
NO_POSITION = -(2**63)
#: One record is a tenth of a second.
_LARGEST = 1 << 26


class Head(msgspec.Struct, frozen=True, tag="recording", tag_field="kind"):
    """First in the file. Row 0 of the data is native sample ``first``."""

    version: int
    daemon: str
    unix_ns: int
    wall_offset_ns: int
    device: DeviceSpec
    config: Config
    first: int
    #: First index of the segment that was under way: blocks of the artifact scores count from it.
    begun: int
    grid_t0_ns: int
    #: A grid frame's due time, less its own instant.
    due_after_ns: int


class Samples(msgspec.Struct, frozen=True, tag="samples", tag_field="kind"):
    """Of samples ``first`` on: int64 ``t_ns`` (-2^63: none), uint8 ``flags`` (csrc/pd_window.h)."""

    first: int
    t_ns: bytes
    flags: bytes


class Gap(msgspec.Struct, frozen=True, tag="gap", tag_field="kind"):
    """Samples that never arrived. ``values``: float64 [count, channels] that bridge them; b"": none
    do."""

    first: int
    count: int
    values: bytes = b""


class Frames(msgspec.Struct, frozen=True, tag="frames", tag_field="kind"):
    """Of grid frames ``first`` on: uint32 ``flags``, int64 ``native`` and float64 ``fraction``: the
    place of each among the samples."""

    first: int
    flags: bytes
    native: bytes
    fraction: bytes


class Tie(msgspec.Struct, frozen=True, tag="clock", tag_field="kind"):
    """Each second: sample ``index`` was taken at ``t_ns``; grid frame ``grid_index`` lies at
    ``grid_native + grid_fraction`` (the grid's phase), None: nowhere."""

    index: int
    t_ns: int | None
    grid_index: int | None
    grid_native: int | None
    grid_fraction: float | None


class Closed(msgspec.Struct, frozen=True, tag="window", tag_field="kind", omit_defaults=True):
    """A window as the tick closed it (csrc/pd_window.h). ``left_out``: channels that were found
    bad, which the analysis did without."""

    index: int
    closed_ns: int
    first: int
    until: int
    flags: int
    left_out: tuple[str, ...] = ()


class Turn(msgspec.Struct, frozen=True, tag="turn", tag_field="kind"):
    """The loop had heard of windows up to this one (None: none) before the oracle made its instants
    (tenths of a second of the grid) up to, but not, ``until``."""

    window: int | None
    until: int


class OracleState(msgspec.Struct, frozen=True, tag="oracle", tag_field="kind"):
    """Instant ``next`` is the first whose window lies inside the recording; the session's score
    begins with it. What the oracle knew then."""

    next: int
    last_good_ns: int | None
    timed_out: bool
    #: Ends of the newest windows, and whether each has an artifact.
    verdicts: tuple[tuple[int, bool], ...]


class Rest(msgspec.Struct, frozen=True, tag="baseline", tag_field="kind"):
    """The baseline from instant ``next`` on: float64 [channels, channels]; b"": none."""

    next: int
    covariance: bytes
    labels: tuple[str, ...]
    seconds: float = 0.0
    unix_ns: int = 0


class LeftOut(msgspec.Struct, frozen=True, tag="bad", tag_field="kind"):
    """Channels that the oracle did without at instant ``next``; from there on the windows say
    it."""

    next: int
    labels: tuple[str, ...]


class Note(msgspec.Struct, frozen=True, tag="marker", tag_field="kind"):
    """``row``: of the data, where it was put."""

    row: int
    t_ns: int
    source: str
    label: str
    payload: dict[str, Any] | None


class End(msgspec.Struct, frozen=True, tag="end", tag_field="kind"):
    """Closed in good order. ``inexact``: samples that the file holds rounded."""

    reason: str
    samples: int
    inexact: int


Entry = (
    Head | Samples | Gap | Frames | Tie | Closed | Turn | OracleState | Rest | LeftOut | Note | End
)


def encode(entry: Entry) -> bytes:
    return msgspec.msgpack.encode(entry)


def rest_of(baseline: Baseline | None, instant: int) -> Rest:
    if baseline is None:
        return Rest(instant, b"", ())
    covariance = baseline.covariance.astype("<f8").tobytes()
    return Rest(instant, covariance, baseline.labels, baseline.seconds, baseline.unix_ns)


def entries(path: Path) -> Iterator[Entry]:
    """Each record that is whole. Raises RecordingError, OSError."""
    unpacker = msgpack.Unpacker(strict_map_key=True, max_buffer_size=_LARGEST)
    with path.open("rb") as file:
        begun = False
        while block := file.read(1 << 20):
            unpacker.feed(block)
            try:
                for record in unpacker:
                    entry = msgspec.convert(record, Entry)
                    if not begun and not isinstance(entry, Head):
                        raise UnknownRecording(f"{path} is no clock of a recording", hint=_HINT)
                    if isinstance(entry, Head) and entry.version != VERSION:
                        raise UnknownRecording(
                            f"{path}: version {entry.version}", hint="a newer phantomd reads it"
                        )
                    begun = True
                    yield entry
            except (ValueError, msgpack.UnpackException, msgspec.ValidationError) as error:
                kind = DamagedRecording if begun else UnknownRecording
                raise kind(f"{path}: {error}", hint=_HINT) from error
    if not begun:
        raise DamagedRecording(f"{path} is empty", hint="its recording never began")


_HINT = "the .clock that was written beside the .eeg, as it was written"
