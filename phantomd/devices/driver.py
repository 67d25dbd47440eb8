"""The contract of a driver that runs in a process of its own: BrainFlow, LSL, anybody's.

    class Driver:
        def __init__(self, options: dict[str, str]) -> None: ...  # what is behind the address's ?
        def describe(self) -> Spec: ...                           # find it, say what it is
        def blocks(self) -> Iterator[Samples]: ...                # what comes
        def close(self) -> None: ...                              # optional

``blocks`` yields an array [n][values] (channels, then aux), a pair of that and the device's own
stamps in ns, a Block, a Marker, or None: "nothing yet, but I get on". It must yield at least every
``hang_s``. When it raises, or returns, the device is gone; it is opened anew after a pause.
A PhantomError's message and hint reach the user. What goes to stdout and stderr is logged.

This module is all that a driver needs; docs/devices.md has one in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeAlias

import msgspec
from msgspec import Meta
from numpy.typing import ArrayLike

from phantomd.contracts import StreamKind
from phantomd.errors import BadAddress, DeviceBusy, DeviceError, DeviceMissing, DeviceNotAllowed

__all__ = [
    "BadAddress",
    "Block",
    "DeviceBusy",
    "DeviceError",
    "DeviceMissing",
    "DeviceNotAllowed",
    "Driver",
    "Marker",
    "Samples",
    "Spec",
]

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What the device is. EEG is in µV; aux values are recorded beside it, in their own units.

    ``rate_hz`` 0: only markers come. ``counter_modulus``: the range of the packet counter that
    Block.counters carries, 0 without. ``transport_us``: constant delay inside the device.
    ``stream``: what the channels are. ``hang_s``: how long ``blocks`` may take to yield before the
    process is killed. ``silence_s``: how long no sample may come before the device is opened anew;
    None: this driver sees to that.
    """

    rate_hz: Annotated[float, Meta(ge=0, le=100_000)]
    channels: Annotated[tuple[Name, ...], Meta(max_length=64)]
    aux: Annotated[tuple[Name, ...], Meta(max_length=63)] = ()
    counter_modulus: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0
    transport_us: Annotated[float, Meta(ge=0, le=10_000_000)] = 0.0
    stream: StreamKind = "eeg"
    simulated: bool = False
    hang_s: Seconds = 2.0
    silence_s: Seconds | None = 10.0
    info: dict[str, Any] = {}


@dataclass(slots=True)
class Block:
    """Samples that came together, [n][values].

    ``device_ns`` [n]: the device's own stamps, of any epoch. ``arrival_ns`` [n]: CLOCK_MONOTONIC at
    which each was received, where the driver knows better than "now". ``counters`` [n]: the packet
    counter, if Spec has its modulus. ``lost``: how many were lost right before these, where there
    is no counter. ``restart``: the device began anew before these.
    """

    values: ArrayLike
    device_ns: ArrayLike | None = None
    arrival_ns: ArrayLike | None = None
    counters: ArrayLike | None = None
    lost: int = 0
    restart: bool = False


@dataclass(slots=True)
class Marker:
    """Something that happened at ``t_ns`` of CLOCK_MONOTONIC; None: now."""

    label: str
    t_ns: int | None = None
    payload: dict[str, Any] | None = None


Samples: TypeAlias = ArrayLike | tuple[ArrayLike, ArrayLike | None] | Block | Marker | None


class Driver(Protocol):
    def __init__(self, options: dict[str, str]) -> None: ...
    def describe(self) -> Spec: ...
    def blocks(self) -> Iterator[Samples]: ...


# -- between daemon and child: one record a packet of a socket pair --------------------------------


class Job(msgspec.Struct, frozen=True, tag="job"):
    """``driver``: ``package.module:Class`` or ``/path/file.py:Class``."""

    driver: str
    options: dict[str, str]


class Start(msgspec.Struct, frozen=True, tag="start"):
    """``memory_bytes`` of shared memory come with it, as a descriptor; 0: none, markers only."""

    memory_bytes: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    pass


class Described(msgspec.Struct, frozen=True, tag="described"):
    spec: Spec


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    code: str
    message: str
    hint: str = ""


class Marked(msgspec.Struct, frozen=True, tag="marked"):
    label: Annotated[str, Meta(max_length=1024)]
    t_ns: Annotated[int, Meta(ge=0, lt=1 << 62)]
    payload: dict[str, Any] | None = None


ToChild: TypeAlias = Job | Start | Stop
FromChild: TypeAlias = Described | Failed | Marked
#: A packet of the socket pair is at most this long.
PACKET_BYTES = 64 * 1024
