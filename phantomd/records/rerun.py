"""A file through the whole engine in virtual time: what the ports would have said.

A recording is played as a device on a virtual clock, from 1 s on, one step a grid instant; an
intake journal is replayed as it was. The same file and configuration say the same to the bit, but
for what lives on the real clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from phantomd.config import Config
from phantomd.contracts import GRID_HZ, GRID_NS, EegHeader, Event, Marker
from phantomd.devices.base import Address
from phantomd.devices.replay import ReplayDevice
from phantomd.engine.engine import Engine
from phantomd.engine.publish import Publisher
from phantomd.formats.journal import MAGIC
from phantomd.records.replay import Replay, read
from phantomd.records.stages import make_stages
from phantomd.signal.analysis import KERNELS

START_NS = 1_000_000_000
_NO_EPOCH = bytes(16)


class Ports(Protocol):
    """Who is told. ``opened`` comes first, and again when the channels change."""

    def opened(self, header: EegHeader) -> None: ...

    def frames(self, data: bytes, n: int) -> None:
        """As 7069 has them."""

    def say(
        self, stream: str, t_ns: int | None, data: Mapping[str, Any], late: bool = False
    ) -> None:
        """A message's ``data`` of any other stream."""


class Ran(msgspec.Struct, frozen=True):
    """``seconds`` of virtual time, ``spent_s`` of ours."""

    file: str
    kind: str
    seconds: float
    spent_s: float
    device: dict[str, Any]
    intake: dict[str, int] = {}


def is_journal(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def rerun(
    path: Path,
    ports: Ports,
    config: Config,
    options: Mapping[str, str],
    pace: float = 0.0,
) -> Ran:
    """``options``: of the address (devices/replay.py). ``pace``: 1 as long as it took, 2 half of
    it, 0 as fast as possible. Raises DeviceError, JournalError."""
    begun_s = time.monotonic()
    if is_journal(path):
        ran = _journal(path, ports)
    else:
        ran = _recording(path, ports, config, options, pace)
    return msgspec.structs.replace(ran, spent_s=time.monotonic() - begun_s)


def _recording(
    path: Path, ports: Ports, config: Config, options: Mapping[str, str], pace: float
) -> Ran:
    address = Address("replay", str(path), {**options, "speed": "max"})
    device = ReplayDevice(address, config.montage.labels, device_id="replay-0", virtual=True)
    engine = Engine(config, START_NS, virtual=True, kernels=KERNELS)
    slot = engine.attach(device, number=0)
    emit = partial(_emit, ports)
    found: list[frozenset[str]] = []
    publisher = Publisher(engine, emit, frames=ports.frames)
    stages = make_stages(
        lambda: engine.slots,
        lambda: engine.slots[0],
        config,
        ports.say,
        emit,
        state_dir=config.state_dir,
        leave_out=lambda _, labels: found.append(labels),
    )
    start_unix_s = device.spec.info.get("start_unix_s")
    offset_ns = round(start_unix_s * 1e9) - START_NS if start_unix_s is not None else 0
    ports.opened(EegHeader(slot.labels, float(GRID_HZ), offset_ns, slot.grid.next, _NO_EPOCH))
    for note in device.spec.info.get("warnings", ()):
        emit(Event("device", "warning", f"replay-0: {note}", "replay-0", fields={"t_ns": START_NS}))

    def publish(now_ns: int) -> None:
        publisher.publish(now_ns)
        for marker in device.take_markers():
            ports.say("markers", marker.t_ns, marker.data())
        for part in stages.parts:
            part.on_tick(now_ns)
        while found:
            renewal = engine.renew(slot, config, found.pop(0))
            if renewal is not None and engine.adopt([renewal]):
                stages.windows.layout_changed(slot)

    now_ns = START_NS
    wait = _Pace(pace)
    end_ns: int | None = None  # the last frames are due only then
    while end_ns is None or now_ns <= end_ns:
        next_ns = engine.step(now_ns)
        publish(now_ns)
        if end_ns is None and device.driver.ended:
            end_ns = now_ns + round(config.grid.hold_ms * 1e6) + GRID_NS
        now_ns = max(next_ns, now_ns + 1)
        wait.until(now_ns)
    emit(
        Event(
            "device",
            "info",
            f"replay-0: {device.driver.fault}",
            "replay-0",
            "absent",
            fields={"t_ns": now_ns},
        )
    )
    spec = device.spec
    device.close()
    return Ran(
        file=str(path),
        kind=str(spec.info["format"]),
        seconds=(now_ns - START_NS) / 1e9,
        spent_s=0.0,
        device={"rate_hz": spec.rate_hz, "channels": spec.labels, "aux": spec.aux, **spec.info},
        intake=device.driver.intake.counters(),
    )


def _journal(path: Path, ports: Ports) -> Ran:
    journal = read(path)
    first = journal.plans[journal.ticks[0][1]]
    slot = next(slot for slot in first.slots if slot.number == 0)
    opened = False

    def frames(data: bytes, n: int) -> None:
        nonlocal opened
        if not opened:
            opened = True
            index = int.from_bytes(data[:8], "little")
            offset_ns = journal.meta.unix_ns - journal.ticks[0][0]
            ports.opened(EegHeader(slot.labels, float(GRID_HZ), offset_ns, index, _NO_EPOCH))
        ports.frames(data, n)

    def mark(marker: Marker) -> None:
        ports.say("markers", marker.t_ns, marker.data())

    Replay(journal, frames, partial(_emit, ports), mark, ports.say).run()
    return Ran(
        file=str(path),
        kind="journal",
        seconds=(journal.ticks[-1][0] - journal.ticks[0][0]) / 1e9,
        spent_s=0.0,
        device={"of": slot.spec.address if slot.spec else None, "complete": journal.complete},
    )


def _emit(ports: Ports, event: Event) -> None:
    ports.say("events", event.fields.get("t_ns"), event.data())


class _Pace:
    """Virtual time no faster than the real one, times ``pace``; 0: as fast as it goes."""

    def __init__(self, pace: float) -> None:
        self._pace = pace
        self._begun_s = time.monotonic()

    def until(self, now_ns: int) -> None:
        if self._pace:
            due_s = self._begun_s + (now_ns - START_NS) * 1e-9 / self._pace
            time.sleep(max(0.0, due_s - time.monotonic()))
