"""A recording as a device: ``replay:FILE?speed=1&loop=false&start_s=0&stream=EEG&channels=C3,C4``.

A reader thread brings rows of the file into memory, and a C player (csrc/pd_play.h) makes samples
of them by the clock. What was lost when it was recorded is lost again, markers come as markers, and
the end of the file ends the device. docs/replay.md.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from phantomd.contracts import DeviceSpec, Marker
from phantomd.core.intake import NATIVE_HEAD_WORDS, NEVER, Driver, Intake
from phantomd.core.play import PlayDriver
from phantomd.core.ring import Ring
from phantomd.devices.base import Address, no_faults
from phantomd.devices.played import JournalSource, RecordingSource, Source
from phantomd.errors import BadAddress, DeviceError, DeviceMissing, JournalError, RecordingError
from phantomd.formats.base import Recording
from phantomd.formats.journal import MAGIC
from phantomd.formats.registry import open_recording

MAX_VALUES = 256
LABEL_BYTES = 16
#: The reader brings rows so far ahead of the player, or what RING_BYTES hold.
AHEAD_S = 8.0
RING_BYTES = 64 << 20
BLOCK_ROWS = 2048
RING_S = 60.0
RING_MOST = 1 << 17
FASTEST = 1000.0
#: EDF's labels carry their signal's type, PhysioNet's dots: no part of the electrode's name.
_TYPE = re.compile(r"^(EEG|REF_EEG)\s+", re.I)


class ReplayOptions(msgspec.Struct, frozen=True):
    """What an address says. ``speed`` 0: as fast as possible, in virtual time only."""

    speed: float = 1.0
    loop: bool = False
    start_s: float = 0.0
    stream: str = ""
    channels: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    aux: bool = True
    truncated: bool = False


_HINT = "speed=1, loop=true, start_s=10, stream=EEG, channels=C3,C4, labels=A,B, aux=false"


def options_of(address: Address, labels: tuple[str, ...] = ()) -> ReplayOptions:
    """Raises BadAddress."""
    if not address.where:
        raise BadAddress("a replay's address names its file", hint="replay:recording.edf?speed=1")
    known = ReplayOptions.__struct_fields__
    for key in address.options:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise BadAddress(
                f"a replay has no option {key!r}",
                hint=f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}",
            )
    given = address.options
    speed = 0.0 if given.get("speed") == "max" else _number(given, "speed", 1.0, 0.0, FASTEST)
    return ReplayOptions(
        speed=speed,
        loop=_flag(given, "loop", False),
        start_s=_number(given, "start_s", 0.0, 0.0, 1e9),
        stream=given.get("stream", ""),
        channels=_names(given.get("channels", "")),
        labels=_names(given.get("labels", "")),
        aux=_flag(given, "aux", True),
        truncated=given.get("truncated", "") == "play" or _flag(given, "truncated", False),
    )


def check(address: Address, labels: tuple[str, ...]) -> ReplayOptions:
    """For a daemon, which goes by the real clock. Raises BadAddress."""
    options = options_of(address)
    if options.speed == 0:
        raise BadAddress(
            "as fast as possible needs a clock of its own, and a daemon's is the host's",
            hint=f"`phantomctl replay {address.where} --speed max` runs it in virtual time",
        )
    return options


def open_live(address: Address, labels: tuple[str, ...]) -> ReplayDevice:
    """Raises DeviceError."""
    check(address, labels)
    return ReplayDevice(address, labels)


class ReplayDevice:
    """An open recording. See ``base.Device`` and ``base.SaysMarkers``.

    ``virtual``: no reader thread; stepping the clock reads ahead as far as is needed, and
    ``take_markers`` has the markers of what was played.
    """

    def __init__(
        self,
        address: Address,
        labels: tuple[str, ...],
        *,
        device_id: str = "replay",
        virtual: bool = False,
    ) -> None:
        """``labels``: the montage. Raises BadAddress, DeviceMissing or DeviceError."""
        options = options_of(address, labels)
        path = Path(address.where).expanduser()
        self._marker_fd = -1
        spec, self.source, self.recording = _open(path, options, labels)
        self._spec = msgspec.structs.replace(spec, device_id=device_id, address=str(address))
        n_values = len(spec.labels) + len(spec.aux)
        slots = 1 << math.ceil(math.log2(max(1024.0, min(RING_S * spec.rate_hz, RING_MOST))))
        intake = Intake(Ring(NATIVE_HEAD_WORDS + n_values, slots), spec.rate_hz, n_values)
        row_bytes = 8 * (3 + n_values)
        rows = max(2.0 * BLOCK_ROWS, min(AHEAD_S * spec.rate_hz, RING_BYTES / row_bytes))
        self._marker_fd = -1 if virtual else os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._driver = _Driver(intake, 1 << math.ceil(math.log2(rows)), self._marker_fd)
        self._driver.source = self.source
        self._driver.virtual = virtual
        self._stop = threading.Event()
        self._reader: threading.Thread | None = None
        self._driver.fill()

    @property
    def spec(self) -> DeviceSpec:
        return self._spec

    @property
    def driver(self) -> Driver:
        return self._driver

    @property
    def fd(self) -> int:
        return -1

    @property
    def marker_fd(self) -> int:
        return self._marker_fd

    def take_markers(self) -> list[Marker]:
        if self._marker_fd >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._marker_fd)
        out: list[Marker] = []
        start_ns, played = self._driver.start_ns, self._driver.played
        waiting = self.source.markers
        while start_ns is not None and waiting and waiting[0].row < played:
            marker = waiting.popleft()
            out.append(Marker(start_ns + marker.at_ns, "external", marker.label, marker.payload))
        return out

    def start(self) -> None:
        """From now on a thread reads ahead. What lies in the ring is played already."""
        if self._reader is None and not self._driver.whole:
            self._reader = threading.Thread(target=self._read, name="replay-reader", daemon=True)
            self._reader.start()

    def close(self) -> None:
        self._stop.set()
        if self._reader is not None:
            self._reader.join()
            self._reader = None
        if self._marker_fd >= 0:
            os.close(self._marker_fd)
            self._marker_fd = -1

    def fault(self, kind: str, duration_s: float | None, args: dict[str, Any]) -> None:
        raise no_faults(self._spec)

    def _read(self) -> None:
        pause_s = min(1.0, 0.25 * self._driver.n_rows / self._spec.rate_hz)
        while not self._driver.whole and not self._stop.wait(pause_s):
            self._driver.fill()


class _Driver(PlayDriver):
    """The C player, and its filler: the reader thread, or whoever steps a virtual clock."""

    source: Source
    virtual = False

    def __init__(self, intake: Intake, n_rows: int, marker_fd: int) -> None:
        self.n_rows = n_rows
        #: All rows have been read.
        self.whole = False
        self._fault = ""

    @property
    def fault(self) -> str:
        return self._fault or ("end of recording" if self.ended else "")

    def fill(self) -> None:
        """As many blocks as there is room for. A file that fails under way ends there."""
        while not self.whole and (room := self.room) >= min(BLOCK_ROWS, self.n_rows // 2):
            try:
                block = self.source.next(room)
            except (OSError, RecordingError, JournalError, ValueError) as error:
                self._fault = f"end of recording: it can't be read on: {error}"
                block = None
            if block is None:
                self.whole = True
                self.finish()
                return
            self.put(block.values, block.at_ns, block.flags, block.behind, block.device_ns)

    def advance(self, now_ns: int) -> int:
        if not self.virtual:
            return super().advance(now_ns)
        while True:
            if not self.whole:
                self.fill()
            starved = self.starved
            next_ns = super().advance(now_ns)
            if next_ns == NEVER or self.starved == starved:
                return next_ns


def _open(
    path: Path, options: ReplayOptions, montage: tuple[str, ...]
) -> tuple[DeviceSpec, Source, Recording | None]:
    speed = options.speed or 1.0
    try:
        with path.open("rb") as file:
            is_journal = file.read(len(MAGIC)) == MAGIC
        if is_journal:
            return _open_journal(path, options, speed)
        recording = open_recording(path, stream=options.stream, truncated=options.truncated)
        return _open_recording(recording, options, montage, speed)
    except FileNotFoundError as error:
        raise DeviceMissing(
            f"there is no {error.filename or path}",
            hint="a daemon's own folder is not yours: name the file from / on",
        ) from error
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror or error}", hint="can it be read?") from error
    except (RecordingError, JournalError) as error:
        raise DeviceError(error.message, hint=error.hint) from error


def _open_journal(
    path: Path, options: ReplayOptions, speed: float
) -> tuple[DeviceSpec, Source, None]:
    if options.loop or options.start_s or options.channels or options.labels or options.stream:
        raise BadAddress(
            "an intake journal is played as it is, from its beginning to its end",
            hint="of the options it takes speed= only",
        )
    source = JournalSource(path, speed)
    was = source.spec
    spec = DeviceSpec(
        device_id="replay",
        address="",
        kind="replay",
        rate_hz=was.rate_hz * speed,
        labels=was.labels,
        aux=was.aux,
        simulated=was.simulated,
        transport_us=was.transport_us / speed,
        resolution=was.resolution,
        info={"file": str(path), "format": "journal", "of": was.address, "speed": speed},
    )
    return spec, source, None


def _open_recording(
    recording: Recording, options: ReplayOptions, montage: tuple[str, ...], speed: float
) -> tuple[DeviceSpec, Source, Recording]:
    eeg = _chosen(recording, options.channels)
    if options.labels and len(options.labels) != len(eeg):
        raise BadAddress(
            f"labels= names {len(options.labels)} channels, there are {len(eeg)}",
            hint=f"they are {', '.join(_clean(recording.labels[k]) for k in eeg)}",
        )
    aux = [
        k
        for k, channel in enumerate(recording.channels)
        if options.aux and channel.kind == "aux" and k not in eeg
    ]
    if len(eeg) > MAX_VALUES:
        raise DeviceError(
            f"{recording.path} has {len(eeg)} EEG channels, {MAX_VALUES} can be played",
            hint="choose some: channels=C3,C4",
        )
    warnings = list(recording.notes)
    if len(eeg) + len(aux) > MAX_VALUES:
        warnings.append(f"{len(eeg) + len(aux) - MAX_VALUES} auxiliary channels are left out")
        aux = aux[: MAX_VALUES - len(eeg)]
    names, note = _labels(recording, eeg, options, montage)
    if note:
        warnings.append(note)
    start = round(options.start_s * recording.rate_hz)
    if start >= recording.n_samples:
        raise BadAddress(
            f"start_s={options.start_s:g} is past its end, {recording.duration_s:g} s",
            hint="seconds from its first sample",
        )
    source = RecordingSource(recording, [*eeg, *aux], len(eeg), start, speed, options.loop)
    if source.n_outside:
        warnings.append(f"{source.n_outside} markers lie outside of what is played")
    if speed != 1.0:
        warnings.append(f"{speed:g} times as fast: its frequencies are, too")
    spec = DeviceSpec(
        device_id="replay",
        address="",
        kind="replay",
        rate_hz=recording.rate_hz * speed,
        labels=names,
        aux=_distinct([_clean(recording.labels[k]) for k in aux]),
        info={
            "file": str(recording.path),
            "format": recording.format,
            "duration_s": round(recording.duration_s, 3),
            "gaps": len(recording.gaps),
            "lost_in_file": sum(gap.count for gap in recording.gaps),
            "markers": len(recording.markers),
            "start_unix_s": recording.start_unix_s,
            "speed": speed,
            "warnings": warnings,
        },
    )
    return spec, source, recording


def _chosen(recording: Recording, wanted: Sequence[str]) -> list[int]:
    """Columns of the channels on the grid. Raises BadAddress."""
    if not wanted:
        found = [k for k, channel in enumerate(recording.channels) if channel.kind == "eeg"]
        if not found:
            raise DeviceError(
                f"{recording.path} has no EEG channels",
                hint=f"choose: channels= some of {', '.join(recording.labels[:16])}",
            )
        return found
    out = []
    names = [label.lower() for label in recording.labels]
    clean = [_clean(label).lower() for label in recording.labels]
    for name in wanted:
        key = name.lower()
        if key in names:
            out.append(names.index(key))
        elif key in clean:
            out.append(clean.index(key))
        else:
            near = difflib.get_close_matches(key, clean, 1)
            raise BadAddress(
                f"{recording.path} has no channel {name!r}",
                hint=f"did you mean {near[0]}?" if near else f"it has {', '.join(clean[:64])}",
            )
    if len(set(out)) < len(out):
        raise BadAddress("channels= names a channel twice", hint="name each once")
    return out


def _labels(
    recording: Recording, eeg: Sequence[int], options: ReplayOptions, montage: tuple[str, ...]
) -> tuple[tuple[str, ...], str]:
    """The file's own; the montage's where the file has no names; and what to say of it."""
    if options.labels:
        return _distinct(options.labels), ""
    names = _distinct([_clean(recording.labels[k]) for k in eeg])
    if recording.meta.get("unnamed") and not options.channels and len(montage) == len(eeg):
        return montage, "the file names no electrodes: they are taken to be the montage's"
    if montage and [name.lower() for name in names] != [name.lower() for name in montage]:
        return names, (
            f"its channels are not those of the montage ({', '.join(montage[:8])}"
            f"{', …' if len(montage) > 8 else ''}): the file's are used"
        )
    return names, ""


def _clean(label: str) -> str:
    return _TYPE.sub("", label).rstrip(". ") or label


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """As the header of 7069 can carry them: 16 bytes, each once."""
    out: list[str] = []
    for name in names:
        short = name.encode()[:LABEL_BYTES].decode(errors="ignore") or "?"
        number = 2
        while short in out:
            ending = f"~{number}"
            short = name.encode()[: LABEL_BYTES - len(ending)].decode(errors="ignore") + ending
            number += 1
        out.append(short)
    return tuple(out)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _flag(options: dict[str, str], key: str, default: bool) -> bool:
    text = options.get(key, "true" if default else "false")
    if text not in ("true", "false"):
        raise BadAddress(f"{key}={text}", hint=f"{key} is true or false")
    return text == "true"


def _number(options: dict[str, str], key: str, default: float, least: float, most: float) -> float:
    text = options.get(key)
    with contextlib.suppress(ValueError):
        value = default if text is None else float(text)
        if least <= value <= most:
            return value
    raise BadAddress(f"{key}={text}", hint=f"{key} is a number from {least:g} to {most:g}; {_HINT}")
