"""The contract of a device.

A device is opened by its address, says what it is, and from then on its bytes become samples in a
native ring without Python: ``driver`` is the C side (a parser or a generator, and the intake that
it fills). Live, a pump thread of the engine feeds the driver, from ``fd`` when there is one, else
by the driver's own timetable; on a virtual clock the same driver is called directly.

To add one: a file here with a class of this shape, a line in ``registry.py``, a case in
``tests/unit/test_devices.py``, a row in ``docs/devices.md``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import parse_qsl

import msgspec
import numpy as np
from numpy.typing import NDArray

from phantomd.contracts import DeviceSpec, Marker
from phantomd.errors import BadAddress, UnsupportedFault

if TYPE_CHECKING:
    from phantomd.core.intake import Driver
    from phantomd.core.ring import Ring

_KIND = re.compile(r"^[a-z][a-z0-9_-]*$")


class Address(msgspec.Struct, frozen=True):
    """``kind[:where][?key=value&…]``, taken apart."""

    kind: str
    where: str = ""
    options: dict[str, str] = {}

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises BadAddress."""
        head, _, query = text.partition("?")
        kind, _, where = head.partition(":")
        if not _KIND.match(kind):
            raise BadAddress(
                f"{text!r} is no device address",
                hint="an address is kind[:where][?key=value&…], for example cyton:/dev/ttyUSB0",
            )
        pairs = parse_qsl(query, keep_blank_values=True)
        if len({key for key, _ in pairs}) < len(pairs):
            raise BadAddress(f"{text!r} names an option twice", hint="give each option once")
        return cls(kind, where, dict(pairs))

    def __str__(self) -> str:
        query = "&".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.kind}:{self.where}" + (f"?{query}" if query else "")


class Device(Protocol):
    """An open device. Opening and ``close`` may block: they run beside the event loop."""

    @property
    def spec(self) -> DeviceSpec: ...

    @property
    def driver(self) -> Driver: ...

    @property
    def fd(self) -> int:
        """Where the bytes come from; -1 when the driver makes its own."""

    def start(self) -> None:
        """The pump runs: tell the device to stream. Raises DeviceError."""

    def close(self) -> None:
        """Tell the device to stop and give it back. Never raises; the pump has been stopped."""

    def fault(self, kind: str, duration_s: float | None, args: dict[str, Any]) -> None:
        """Play a fault (simulator). Raises UnsupportedFault."""


@runtime_checkable
class SaysMarkers(Protocol):
    """A device that has markers of its own, besides its samples (an LSL marker stream, a file)."""

    @property
    def marker_fd(self) -> int:
        """Readable when there are some; -1 when there never will be."""

    def take_markers(self) -> Sequence[Marker]:
        """Those that came since the last call. Does not block."""


@runtime_checkable
class InChild(Protocol):
    """A device whose driver is a process of its own (child.py).

    Its markers come as SaysMarkers'. At a rate of 0 it has no samples, and no slot in the engine.
    """

    @property
    def silence_s(self) -> float | None:
        """How long no sample may come before it is opened anew; None: its driver sees to that."""

    def report(self) -> dict[str, int]:
        """For ``status``: the process, and what of its samples could not be taken as they came."""

    def why_ended(self, error: int) -> str:
        """Why its pump ended with this errno, for people. May block for a second."""


@runtime_checkable
class MakesSpikes(Protocol):
    """A device whose driver writes bins of spikes into a ring of its own (csrc/pd_broadband.h). It
    has no samples, no intake, and no slot in the engine: gauntlet sessions play it."""

    @property
    def spec(self) -> DeviceSpec: ...

    @property
    def ring(self) -> Ring: ...

    @property
    def bin_ms(self) -> float: ...

    def counters(self) -> dict[str, int]:
        """For ``status``."""


@runtime_checkable
class Resumes(Protocol):
    """A device that can go on where the one before it, which went away, has come to: the same
    native ring and index, the same clock."""

    def resume(self, before: Device) -> bool:
        """Its driver fills the other's intake from here on. Before anything is started, and with no
        pump running. False: it is not of the same form (other channels, rate, gains), and keeps its
        own."""


@runtime_checkable
class MeasuresImpedance(Protocol):
    """A device that can send a known current through its electrodes."""

    def lead_off(self, channels: Sequence[int], on: bool) -> None:
        """Switches the current of these channels. May block; raises DeviceError."""

    def kohm(self, uv: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[n, channels] in µV while the current is on, to float64[channels] in kΩ; NaN where
        the amplifier is at its limit."""

    @property
    def impedance_samples(self) -> int:
        """How many samples ``kohm`` wants: whole periods of the current."""


def no_faults(spec: DeviceSpec) -> UnsupportedFault:
    return UnsupportedFault(
        f"{spec.device_id} is a {spec.kind}: it plays no faults",
        hint="device.fault is for the simulator; `phantomctl emulate cyton --faults …` for bytes",
    )
