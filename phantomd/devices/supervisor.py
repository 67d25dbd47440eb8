"""Each device is a small state machine: absent, opening, streaming, stalled, lost.

A configured device that is missing is looked for again, with growing pauses; one that goes away is
taken up again under the same identity. One line when it goes, one when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from phantomd.contracts import DeviceInfo, DeviceSpec, DeviceState, Event
from phantomd.devices.base import Address, Device
from phantomd.devices.registry import opener
from phantomd.engine.engine import Engine, Slot
from phantomd.errors import DeviceBusy, DeviceError, UnknownDevice

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.25
LAST_PAUSE_S = 5.0


@dataclass(slots=True, eq=False)
class Supervised:
    """A device that somebody asked for, present or not."""

    device_id: str
    address: Address
    state: DeviceState = "absent"
    keep: bool = True
    device: Device | None = None
    slot: Slot | None = None
    spec: DeviceSpec | None = None
    lost_before: int = 0
    said: str = ""
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
    ) -> None:
        self._engine = engine
        self._labels = labels
        self._emit = emit
        self._layout_changed = layout_changed
        self._devices: dict[str, Supervised] = {}
        self._jitter = random.Random()
        self._notify_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._notify_fd, self._pump_ended)

    async def stop(self) -> None:
        """Closes every device; the intake journal has all that they sent."""
        for one in list(self._devices.values()):
            await self.close(one.device_id)
        asyncio.get_running_loop().remove_reader(self._notify_fd)
        os.close(self._notify_fd)

    # -- what control asks -------------------------------------------------------------------------

    def watch(self, text: str) -> str:
        """A configured device: opened as soon as it is there, again and again. Returns its id."""
        one = self._new(Address.parse(text))
        one.task = asyncio.get_running_loop().create_task(self._keep_open(one))
        return one.device_id

    async def open(self, text: str) -> str:
        """A device that somebody wants now: failing is an error. Returns its id."""
        address = Address.parse(text)
        for other in self._devices.values():
            if other.address.kind == address.kind and other.address.where == address.where != "":
                raise DeviceBusy(
                    f"{text} is open already, as {other.device_id}",
                    hint=f"close it first: phantomctl device close {other.device_id}",
                )
        opener(address)
        one = self._new(address)
        try:
            await self._open(one)
        except BaseException:
            del self._devices[one.device_id]
            raise
        one.task = asyncio.get_running_loop().create_task(self._keep_open(one))
        return one.device_id

    async def close(self, device_id: str) -> None:
        """Raises UnknownDevice."""
        one = self._find(device_id)
        one.keep = False
        if one.task is not None:
            one.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await one.task
        was_open = one.device is not None
        await self._release(one, "absent")
        del self._devices[device_id]
        if was_open:
            self._say(one, "info", "closed")

    def fault(
        self, device_id: str, kind: str, duration_s: float | None, args: dict[str, Any]
    ) -> None:
        one = self._find(device_id)
        if one.device is None:
            raise UnknownDevice(f"{device_id} is {one.state}", hint="it must be streaming")
        one.device.fault(kind, duration_s, args)

    def infos(self) -> list[DeviceInfo]:
        return [self._info(one) for one in self._devices.values()]

    def mark(self, device_id: str | None, state: DeviceState) -> None:
        """The tick saw it fall silent, or come back."""
        one = self._devices.get(device_id or "")
        if one is not None and one.device is not None:
            one.state = state

    # -- inside ------------------------------------------------------------------------------------

    def _new(self, address: Address) -> Supervised:
        number = 0
        while f"{address.kind}-{number}" in self._devices:
            number += 1
        one = Supervised(f"{address.kind}-{number}", address)
        self._devices[one.device_id] = one
        return one

    def _find(self, device_id: str) -> Supervised:
        try:
            return self._devices[device_id]
        except KeyError:
            known = ", ".join(self._devices) or "none is open"
            raise UnknownDevice(f"no device {device_id!r}", hint=f"open: {known}") from None

    async def _keep_open(self, one: Supervised) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            if one.device is None:
                try:
                    await self._open(one)
                    pause_s = FIRST_PAUSE_S
                except DeviceError as error:
                    self._failed(one, error)
                    await asyncio.sleep(pause_s * self._jitter.uniform(0.75, 1.25))
                    pause_s = min(2 * pause_s, LAST_PAUSE_S)
                    continue
            await one.gone.wait()
            assert one.slot is not None and one.slot.pump is not None
            reason = os.strerror(one.slot.pump.end_error)
            await self._release(one, "lost")
            self._say(one, "alert", f"lost ({reason}); it is taken up again when it is back")

    async def _open(self, one: Supervised) -> None:
        if one.state != "lost":
            one.state = "opening"
        opening = asyncio.get_running_loop().run_in_executor(
            None, opener(one.address), one.address, self._labels
        )
        try:
            device = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # Nobody wants it any more, but the thread can't be stopped: close what it brings.
            opening.add_done_callback(_close_late)
            raise
        except DeviceError:
            one.state = "absent"
            raise
        spec = msgspec.structs.replace(device.spec, device_id=one.device_id)
        try:
            self._attach(one, device, spec)
        except BaseException:
            await self._release(one, "absent")
            device.close()
            raise
        self._say(one, "info", f"open: {spec.rate_hz:g} Hz, {len(spec.labels)} channels")

    def _attach(self, one: Supervised, device: Device, spec: DeviceSpec) -> None:
        one.gone.clear()
        slot = self._engine.attach(device, spec, self._notify_fd)
        one.device, one.slot, one.spec = device, slot, spec
        one.state, one.said = "streaming", ""
        self._layout_changed(slot)
        device.start()

    async def _release(self, one: Supervised, state: DeviceState) -> None:
        device, slot, one.device = one.device, one.slot, None
        one.state = state
        if device is None:
            return
        assert slot is not None
        one.lost_before += device.driver.intake.counters()["lost"]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, _stop_pump, slot)
        self._engine.detach(slot)
        await loop.run_in_executor(None, device.close)

    def _failed(self, one: Supervised, error: DeviceError) -> None:
        if str(error) != one.said:
            one.said = str(error)
            log.warning("%s: %s", one.device_id, error)
            self._say(one, "warning", f"{error.message}; looking for it", hint=error.hint)

    def _pump_ended(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._notify_fd)
        for one in self._devices.values():
            if one.slot is not None and one.slot.pump is not None and one.slot.pump.end_error:
                one.gone.set()

    def _say(self, one: Supervised, level: Any, message: str, **fields: Any) -> None:
        text = f"{one.device_id} ({one.address}): {message}"
        log.log(logging.INFO if level == "info" else logging.WARNING, "%s", text)
        self._emit(Event("device", level, text, one.device_id, one.state, fields))

    def _info(self, one: Supervised) -> DeviceInfo:
        lost = one.lost_before
        detail: dict[str, Any] = {}
        rate_hz = 0.0
        channels: list[str] = []
        if one.spec is not None:
            rate_hz, channels = one.spec.rate_hz, list(one.spec.labels)
            detail = {**one.spec.info, "aux": list(one.spec.aux)}
        if one.device is not None and one.slot is not None:
            counters = one.device.driver.intake.counters()
            lost += counters["lost"]
            detail |= {"intake": counters, "clock": one.slot.source.report()}
        elif one.said:
            detail["error"] = one.said
        return DeviceInfo(
            one.device_id, str(one.address), one.address.kind, one.state, rate_hz, channels, lost,
            detail,
        )


def _stop_pump(slot: Slot) -> None:
    if slot.pump is not None:
        slot.pump.stop()


def _close_late(opening: asyncio.Future[Device]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
