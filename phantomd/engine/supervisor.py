"""Each device is a small state machine: absent, opening, streaming, stalled, lost.

A configured device that is missing is looked for again, with growing pauses; one that goes away is
taken up again under the same identity. One line when it goes, one when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from phantomd.contracts import GRID_HZ, DeviceInfo, DeviceSpec, DeviceState, Event, Level, Marker
from phantomd.core.intake import Pump
from phantomd.devices.base import Address, Device, InChild, SaysMarkers
from phantomd.devices.registry import check, node_of, opener, same
from phantomd.engine.beside import beside
from phantomd.engine.engine import Engine, Slot
from phantomd.engine.prototype import design
from phantomd.errors import DeviceBusy, DeviceError, DeviceMissing, PhantomError, UnknownDevice

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.25
LAST_PAUSE_S = 5.0
#: A device of bytes that says nothing for so long is opened anew: a board that was switched off and
#: on again streams only when it is told to.
SILENCE_S = 10.0
#: How often it is looked whether a missing device's node is there again.
NODE_S = 0.2
#: What stopping may take for ports that don't come free.
CLOSE_S = 0.5


@dataclass(slots=True, eq=False)
class Supervised:
    """A device that somebody asked for, present or not."""

    device_id: str
    address: Address
    #: Its slot, from the beginning to the end: the first one configured is on 7069, there or not.
    number: int
    state: DeviceState = "absent"
    device: Device | None = None
    slot: Slot | None = None
    #: Of its slot; its own where it has markers and no samples.
    pump: Pump | None = None
    spec: DeviceSpec | None = None
    lost_before: int = 0
    opened_ns: int = 0
    error: DeviceError | None = None
    #: Why there will be no more of it (the end of a recording); "": there may be.
    ended: str = ""
    task: asyncio.Task[None] | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Opens, watches and closes devices. Belongs to the event loop; drivers open beside it."""

    def __init__(
        self,
        engine: Engine,
        labels: tuple[str, ...],
        emit: Callable[[Event], None],
        layout_changed: Callable[[Slot], None],
        put_marker: Callable[[Marker], None] = lambda _: None,
    ) -> None:
        self._put_marker = put_marker
        self._engine = engine
        self._labels = labels
        self._emit = emit
        self._layout_changed = layout_changed
        self._devices: dict[str, Supervised] = {}
        #: Slots that are somebody's until it is given back.
        self._places: set[int] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._jitter = random.Random()
        self._notify_fd = -1

    def start(self) -> None:
        self._notify_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._notify_fd, self._pump_ended)

    async def stop(self) -> None:
        """Closes every device; the intake journal has all that they sent."""
        for device_id in list(self._devices):
            self._close(self._devices.pop(device_id))
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=CLOSE_S)
            if late:
                log.warning("%d devices did not close within %g s", len(late), CLOSE_S)
        asyncio.get_running_loop().remove_reader(self._notify_fd)
        os.close(self._notify_fd)

    # -- what control asks -------------------------------------------------------------------------

    def watch(self, text: str) -> str:
        """A configured device: opened as soon as it is there, again and again. Returns its id;
        raises BadAddress."""
        return self._new(check(text, self._labels), None).device_id

    async def open(self, text: str) -> str:
        """A device that somebody wants now: failing is an error. Returns its id."""
        address = check(text, self._labels)
        for other in self._devices.values():
            if same(address, other.address):
                raise DeviceBusy(
                    f"{text} is open already, as {other.device_id}",
                    hint=f"close it first: phantomctl device close {other.device_id}",
                )
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever asked may be gone when it fails: then nobody is told.
        first.add_done_callback(lambda done: done.cancelled() or done.exception())
        one = self._new(address, first)
        await asyncio.shield(first)
        return one.device_id

    async def close(self, device_id: str) -> None:
        """Raises UnknownDevice."""
        one = self._find(device_id)
        del self._devices[device_id]
        await asyncio.shield(self._close(one))

    def fault(
        self, device_id: str, kind: str, duration_s: float | None, args: dict[str, Any]
    ) -> None:
        """Raises UnknownDevice, DeviceMissing, UnsupportedFault."""
        one = self._find(device_id)
        if one.device is None:
            raise DeviceMissing(f"{device_id} is {one.state}", hint="it must be streaming")
        one.device.fault(kind, duration_s, args)

    def infos(self) -> list[DeviceInfo]:
        return [_info(one) for one in self._devices.values()]

    def mark(self, device_id: str | None, state: DeviceState) -> None:
        """The tick saw its first sample, saw it fall silent, or come back."""
        one = self._devices.get(device_id or "")
        if one is not None and one.device is not None:
            one.state = state

    # -- inside ------------------------------------------------------------------------------------

    def _new(self, address: Address, first: asyncio.Future[None] | None) -> Supervised:
        number = 0
        while f"{address.kind}-{number}" in self._devices:
            number += 1
        place = next(place for place in itertools.count() if place not in self._places)
        self._places.add(place)
        one = Supervised(f"{address.kind}-{number}", address, place)
        self._devices[one.device_id] = one
        one.task = asyncio.get_running_loop().create_task(self._live(one, first))
        one.task.add_done_callback(lambda _: self._places.discard(place))
        if first is not None:
            one.task.add_done_callback(lambda _: _not_opened(one, first))
        return one

    def _find(self, device_id: str) -> Supervised:
        try:
            return self._devices[device_id]
        except KeyError:
            known = ", ".join(self._devices) or "none is open"
            raise UnknownDevice(f"no device {device_id!r}", hint=f"open: {known}") from None

    def _close(self, one: Supervised) -> asyncio.Task[None]:
        """Ends whatever it is doing. A task of its own: it goes on when nobody waits any more."""

        async def end() -> None:
            assert one.task is not None
            one.task.cancel()
            await asyncio.wait({one.task})

        task = asyncio.get_running_loop().create_task(end())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _live(self, one: Supervised, first: asyncio.Future[None] | None) -> None:
        """A device's life. ``first``: what became of the first attempt, for one who waits for it;
        a failure then is the end."""
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                try:
                    await self._open(one)
                except DeviceError as error:
                    if first is not None and not first.done():
                        self._devices.pop(one.device_id, None)
                        first.set_exception(error)
                        return
                    self._failed(one, error)
                else:
                    if first is not None and not first.done():
                        first.set_result(None)
                    reason = await self._until_lost(one)
                    if one.device is not None and one.device.driver.ended:
                        await self._end(one, reason)
                    await self._release(one, "lost")
                    self._say(one, "alert", f"lost ({reason}); taken up again when it is back")
                    if time.monotonic_ns() - one.opened_ns > LAST_PAUSE_S * 1e9:
                        pause_s = FIRST_PAUSE_S
                await self._pause(one, pause_s * self._jitter.uniform(0.75, 1.25))
                pause_s = min(2 * pause_s, LAST_PAUSE_S)
        finally:
            was_open = one.device is not None
            await self._release(one, "absent")
            if was_open:
                self._say(one, "info", "closed")

    async def _pause(self, one: Supervised, pause_s: float) -> None:
        """At most that long, and no longer than until its node is there: nothing is as sure a sign
        that a device is back."""
        node = node_of(one.address)
        was_there = node is None or node.exists()
        until_s = time.monotonic() + pause_s
        while (left_s := until_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, NODE_S))
            if node is not None and not was_there and node.exists():
                return

    async def _end(self, one: Supervised, reason: str) -> None:
        """It has no more samples, as it should: it stays, absent, until somebody closes it."""
        hold_s = self._engine.settings.hold_ms * 1e-3 + 2 / GRID_HZ
        await asyncio.sleep(hold_s)  # its last frames are due only then
        one.ended = reason
        await self._release(one, "absent")
        self._say(one, "info", reason)
        await asyncio.Event().wait()

    async def _open(self, one: Supervised) -> None:
        if one.state == "absent":
            one.state = "opening"
        opening = beside(opener(one.address), one.address, self._labels)
        try:
            one.device = await asyncio.shield(opening)
            await self._attach(one, one.device)
        except asyncio.CancelledError:
            # Nobody wants it any more, but the thread can't be stopped: close what it brings.
            if one.device is None:
                opening.add_done_callback(_close_late)
            raise
        except Exception as error:
            await self._release(one, "lost" if one.state == "lost" else "absent")
            if isinstance(error, DeviceError):
                raise
            raise _unforeseen(one, error) from error

    async def _attach(self, one: Supervised, device: Device) -> None:
        spec = msgspec.structs.replace(device.spec, device_id=one.device_id)
        one.gone.clear()
        if spec.rate_hz == 0:
            one.pump = Pump(device.driver, device.fd, notify_fd=self._notify_fd, priority=0)
            one.spec, one.state, one.error = spec, "streaming", None
            one.opened_ns = time.monotonic_ns()
            self._hear_markers(device)
            await beside(device.start)
            self._say(one, "info", "open: markers")
            return
        # Kept by design(): the loop, and the tick's change of plan, need not wait for a new rate.
        await beside(design, spec.rate_hz, self._engine.settings.phase)
        one.slot = self._engine.attach(device, spec, self._notify_fd, one.number)
        one.pump = one.slot.pump
        one.spec, one.state, one.error = spec, "opening", None
        one.opened_ns = time.monotonic_ns()
        self._layout_changed(one.slot)
        self._hear_markers(device)
        await beside(device.start)
        self._say(one, "info", f"open: {spec.rate_hz:g} Hz, {len(spec.labels)} channels")

    async def _until_lost(self, one: Supervised) -> str:
        """Waits until the pump has ended or, where bytes come, nothing came for too long."""
        assert one.device is not None and one.pump is not None
        device = one.device
        silence_s = SILENCE_S if device.fd >= 0 else None
        if isinstance(device, InChild):
            silence_s = device.silence_s if one.slot is not None else None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1 * (silence_s or SILENCE_S)):
                    await one.gone.wait()
                if isinstance(device, InChild):
                    return await beside(device.why_ended, one.pump.end_error)
                return device.driver.fault or os.strerror(one.pump.end_error)
            heard_ns = max(one.opened_ns, device.driver.heard_ns or 0)
            if silence_s is not None and time.monotonic_ns() - heard_ns > silence_s * 1e9:
                return f"silent for {silence_s:g} s"

    async def _release(self, one: Supervised, state: DeviceState) -> None:
        """Takes the device out of its slot and gives it back. Once begun, it is done to its end."""
        one.state = state
        device, slot, pump = one.device, one.slot, one.pump
        one.device = one.slot = one.pump = None
        if device is not None:
            one.lost_before += device.driver.intake.counters()["lost"]
            giving = asyncio.get_running_loop().create_task(self._give_back(device, slot, pump))
            self._closing.add(giving)
            giving.add_done_callback(self._closing.discard)
            await asyncio.shield(giving)

    def _hear_markers(self, device: Device) -> None:
        if not isinstance(device, SaysMarkers) or (fd := device.marker_fd) < 0:
            return
        loop = asyncio.get_running_loop()

        def hear() -> None:
            for marker in device.take_markers():
                self._put_marker(marker)
            if device.marker_fd < 0:
                loop.remove_reader(fd)

        loop.add_reader(fd, hear)

    async def _give_back(self, device: Device, slot: Slot | None, pump: Pump | None) -> None:
        if isinstance(device, SaysMarkers) and device.marker_fd >= 0:
            asyncio.get_running_loop().remove_reader(device.marker_fd)
        if pump is not None:
            await beside(pump.stop)
        if slot is not None:
            self._engine.detach(slot)
        await beside(device.close)

    def _failed(self, one: Supervised, error: DeviceError) -> None:
        """Told once, however often it is tried; that a lost device is missing is known already."""
        known = one.error.code if one.error is not None else None
        one.error = error
        if error.code == known or (one.state == "lost" and isinstance(error, DeviceMissing)):
            return
        self._say(one, "warning", f"{error.message}; looking for it", hint=error.hint)

    def _pump_ended(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._notify_fd)
        for one in self._devices.values():
            if one.pump is not None and one.pump.end_error:
                one.gone.set()

    def _say(self, one: Supervised, level: Level, message: str, **fields: Any) -> None:
        text = f"{one.device_id} ({one.address}): {message}"
        log.log(logging.INFO if level == "info" else logging.WARNING, "%s", text)
        self._emit(Event("device", level, text, one.device_id, one.state, fields))


def _info(one: Supervised) -> DeviceInfo:
    lost = one.lost_before
    detail: dict[str, Any] = {}
    rate_hz = 0.0
    channels: list[str] = []
    if one.spec is not None:
        rate_hz, channels = one.spec.rate_hz, list(one.spec.labels)
        detail = {**one.spec.info, "aux": list(one.spec.aux)}
    if isinstance(one.device, InChild):
        detail["child"] = one.device.report()
    if one.device is not None and one.slot is not None:
        counters = one.device.driver.intake.counters()
        lost += counters["lost"]
        detail |= {"intake": counters, "clock": one.slot.source.report()}
    elif one.ended:
        detail["ended"] = one.ended
    elif one.error is not None:
        detail["error"] = str(one.error)
    return DeviceInfo(
        one.device_id,
        str(one.address),
        one.address.kind,
        one.state,
        rate_hz,
        channels,
        lost,
        detail,
    )


def _unforeseen(one: Supervised, error: Exception) -> DeviceError:
    """What a driver should not raise, or the engine may."""
    if isinstance(error, PhantomError):
        return DeviceError(f"{one.address}: {error.message}", hint=error.hint)
    log.error("%s: opening it failed", one.device_id, exc_info=error)
    return DeviceError(f"{one.address} can't be opened: {error!r}", hint="the log has the details")


def _not_opened(one: Supervised, first: asyncio.Future[None]) -> None:
    """Somebody closed it, or the daemon stopped, before it was open."""
    if not first.done():
        first.set_exception(
            DeviceMissing(f"{one.device_id} was closed while it was opening", hint="open it again")
        )


def _close_late(opening: asyncio.Future[Device]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        beside(opening.result().close)
