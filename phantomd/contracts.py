"""Every record that crosses a boundary: WIRE.md in types.

Times are int64 nanoseconds of the host's CLOCK_MONOTONIC, named ``*_ns``. Units are in the names.
"""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

PROTOCOL = 1
GRID_HZ = 128
GRID_NS = 7_812_500
BEAT_NS = 25_000_000
MONTAGE = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4")

#: Offset of each stream's port from the base port (7068).
PORTS: dict[str, int] = {
    "control": 0,
    "eeg": 1,
    "focus": 2,
    "trit": 3,
    "spikes": 4,
    "features": 5,
    "state": 6,
    "intents": 7,
    "markers": 8,
    "actions": 9,
    "events": 10,
    "metrics": 11,
    "aux": 12,
}
BASE_PORT = 7068
#: Lines of JSON; of the others ``eeg`` is frames, ``metrics`` HTTP, the rest MessagePack.
JSON_STREAMS = frozenset({"focus", "trit", "events"})


class Flag(enum.IntFlag):
    """Flags of a frame on 7069."""

    MISSING = 1
    LATE = 2
    ARTIFACT = 4
    DISCONTINUITY = 8
    SIMULATED = 16
    BRIDGED = 32


# -- 7069 ------------------------------------------------------------------------------------------

EEG_MAGIC = b"PHANTOM1"
_EEG_FIXED = struct.Struct("<8sIIHHIdqQ16s")
LABEL_BYTES = 16


class EegHeader(msgspec.Struct, frozen=True):
    """What a subscriber of 7069 gets first. ``frame_bytes`` is 24 + 4 a channel."""

    labels: tuple[str, ...]
    rate_hz: float
    wall_offset_ns: int
    first_index: int
    epoch: bytes

    @property
    def frame_bytes(self) -> int:
        return 24 + 4 * len(self.labels)

    def encode(self) -> bytes:
        names = b"".join(_label(name) for name in self.labels)
        fixed = _EEG_FIXED.pack(
            EEG_MAGIC,
            _EEG_FIXED.size + len(names),
            self.frame_bytes,
            len(self.labels),
            1,
            0,
            self.rate_hz,
            self.wall_offset_ns,
            self.first_index,
            self.epoch,
        )
        return fixed + names

    @classmethod
    def size(cls, start: bytes) -> int:
        """Bytes of the whole header, from its first twelve. Raises ValueError on another magic."""
        magic, size = struct.unpack_from("<8sI", start)
        if magic != EEG_MAGIC or not _EEG_FIXED.size <= size <= 1 << 20:
            raise ValueError(f"not an eeg header: {start[:12]!r}")
        return int(size)

    @classmethod
    def decode(cls, data: bytes) -> EegHeader:
        _, size, frame_bytes, n, sample_format, _, rate, wall, first, epoch = (
            _EEG_FIXED.unpack_from(data)
        )
        if (
            sample_format != 1
            or frame_bytes < 24 + 4 * n
            or size < _EEG_FIXED.size + LABEL_BYTES * n
        ):
            raise ValueError("an eeg header that contradicts itself")
        at = _EEG_FIXED.size
        labels = tuple(
            data[at + LABEL_BYTES * i : at + LABEL_BYTES * (i + 1)].rstrip(b"\0").decode()
            for i in range(n)
        )
        return cls(labels, rate, wall, first, epoch)


def _label(name: str) -> bytes:
    """A label in 16 bytes, cut between characters, NUL padded."""
    return name.encode()[:LABEL_BYTES].decode(errors="ignore").encode().ljust(LABEL_BYTES, b"\0")


# -- devices ---------------------------------------------------------------------------------------

StreamKind = Literal["eeg", "meg", "emg", "eog", "eye", "aux"]
DeviceState = Literal["absent", "opening", "streaming", "stalled", "lost"]


class DeviceSpec(msgspec.Struct, frozen=True):
    """What a device is, once it is open.

    ``aux`` are values recorded beside the EEG (accelerometer, digital inputs); they are not on
    7069. ``counter_modulus`` is the range of the packet counter, 0 where samples bring their index.
    """

    device_id: str
    address: str
    kind: str
    rate_hz: float
    labels: tuple[str, ...]
    aux: tuple[str, ...] = ()
    counter_modulus: int = 0
    simulated: bool = False
    transport_us: float = 0.0
    #: µV of one count, a channel each, where samples are counts; (): they are float32-exact.
    resolution: tuple[float, ...] = ()
    #: What its channels are (spec: NeuroStreamKind).
    stream: StreamKind = "eeg"
    info: dict[str, Any] = {}


class DeviceInfo(msgspec.Struct, frozen=True):
    """A row of ``status`` and ``device.list``."""

    device_id: str
    address: str
    kind: str
    state: DeviceState
    rate_hz: float
    channels: list[str]
    lost_samples: int
    detail: dict[str, Any] = {}


# -- control ---------------------------------------------------------------------------------------


def control_paths(environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where the control socket may be: what $PHANTOMD_CONTROL names, else the user's own daemon's,
    else the service's. A daemon listens on the first; a client tries them in order."""
    named = environ.get("PHANTOMD_CONTROL")
    if named:
        return (Path(named),)
    service = Path("/run/phantomd/control.sock")
    runtime = environ.get("XDG_RUNTIME_DIR")
    return (Path(runtime) / "phantomd" / "control.sock", service) if runtime else (service,)


class StreamStatus(msgspec.Struct, frozen=True):
    clients: int
    published: int
    dropped: int


class Status(msgspec.Struct, frozen=True):
    ready: bool
    degraded: list[str]
    devices: list[DeviceInfo]
    streams: dict[str, StreamStatus]
    sessions: int
    recording: str | None
    panic: bool
    uptime_s: float
    detail: dict[str, Any] = {}


class Hello(msgspec.Struct, frozen=True):
    daemon: str
    protocol: int
    epoch: str
    t_ns: int | None
    wall_offset_ns: int
    ports: dict[str, int]


class StageStats(msgspec.Struct, frozen=True):
    """A row of the deadline ledger; times are in microseconds."""

    count: int
    missed: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    deadline_us: float


class ErrorBody(msgspec.Struct, frozen=True):
    code: str
    message: str
    hint: str = ""


# -- JSON and MessagePack streams ------------------------------------------------------------------

EventKind = Literal["device", "gap", "tick", "panic", "alert", "session", "clock"]
Level = Literal["info", "warning", "alert"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """``data`` of a line on 7078. ``fields`` are further keys of that kind of event."""

    kind: EventKind
    level: Level
    message: str
    device_id: str | None = None
    state: DeviceState | None = None
    fields: dict[str, Any] = {}

    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = {"kind": self.kind, "level": self.level}
        if self.device_id is not None:
            data["device_id"] = self.device_id
        if self.state is not None:
            data["state"] = self.state
        return {**data, "message": self.message, **self.fields}


MarkerSource = Literal["ui", "protocol", "external"]


class Marker(msgspec.Struct, frozen=True):
    """``data`` of a message on 7076. ``t_ns``: when it happened."""

    t_ns: int
    source: MarkerSource
    label: str
    payload: dict[str, Any] | None = None

    def data(self) -> dict[str, Any]:
        return {"source": self.source, "label": self.label, "payload": self.payload}


class Quality(msgspec.Struct, frozen=True):
    """``snr_db`` is None where nothing is looked for; ``confidence`` 0..1."""

    snr_db: float | None
    dropout_rate: float
    confidence: float


class FeatureWindow(msgspec.Struct, frozen=True):
    """``data`` of a message on 7073. A feature or a score that is undefined is None."""

    device_id: str
    index: int
    start_ns: int
    end_ns: int
    stream: StreamKind
    rate_hz: float
    features: dict[str, float | None]
    artifacts: dict[str, float | None]
    artifact_flags: dict[str, bool | float | None]
    reject: bool
    quality: Quality
    #: When its newest sample came, and when it was closed (that is not on the wire).
    arrival_ns: int | None = None
    closed_ns: int = 0
    #: Rejected for an artifact's score, and not for what is missing; not on the wire.
    has_artifact: bool = False

    def data(self) -> dict[str, Any]:
        return {
            "device_id": self.device_id,
            "window": {
                "index": self.index,
                "start_ns": self.start_ns,
                "end_ns": self.end_ns,
                "stream": self.stream,
                "rate_hz": self.rate_hz,
                "arrival_ns": self.arrival_ns,
            },
            "features": self.features,
            "artifacts": self.artifacts,
            "artifact_flags": self.artifact_flags,
            "reject": self.reject,
            "quality": self.quality,
        }
