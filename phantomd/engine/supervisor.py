"""Each device is a small state machine: absent, opening, streaming, stalled, lost.

One that is missing or goes away is taken up as soon as its node is there (devices/nearby.py), else
at bounded, jittered intervals; it goes on under the same identity, in the same native ring. One
line when it goes, one when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from phantomd.contracts import GRID_HZ, DeviceInfo, DeviceSpec, DeviceState, Event, Level, Marker
from phantomd.core.intake import Pump
from phantomd.devices.base import (
    Address,
    Device,
    InChild,
    MakesSpikes,
    Resumes,
    SaysMarkers,
)
from phantomd.devices.nearby import Nearby
from phantomd.devices.registry import check, node_of, opener, retry_s, same, waiter
from phantomd.engine.beside import beside
from phantomd.engine.engine import Engine, Slot
from phantomd.engine.health import Health
from phantomd.engine.impedance import measure
from phantomd.engine.supervised import Supervised, not_opened, unforeseen
from phantomd.errors import (
    DeviceBusy,
    DeviceError,
    DeviceMissing,
    DeviceNotAllowed,
    UnknownDevice,
)

log = logging.getLogger(__name__)

#: The first pause between two attempts; each is twice the one before, up to the kind's ``retry_s``.
FIRST_PAUSE_S = 0.25
#: Where inotify tells of the node, this is only in case it does not.
WOKEN_PAUSE_S = 10.0
#: udev makes a node, then gives it to its group.
SETTLE_S = 0.02
#: A device of bytes that says nothing for so long is opened anew: a board that was switched off and
#: on again streams only when it is told to.
SILENCE_S = 2.0
#: How often an open device is looked at.
LOOK_S = 0.5
#: Below the intake's threads: a block of 1,024 channels takes a millisecond, a byte must not wait.
SPIKES_PRIORITY = 50
#: What stopping may take for ports that don't come free.
CLOSE_S = 0.5
#: A device that was well for so long is looked for at once when it goes.
WELL_S = 5.0


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
        #: What others know of a device, by its id, for its row.
        self.more: Callable[[str], Mapping[str, Any]] = lambda _: {}
        #: Told of a device that makes spikes, by its id, and of its end (None).
        self.spikes: Callable[[str, MakesSpikes | None], None] = lambda _id, _device: None
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
        return [one.info(self.more(one.device_id)) for one in self._devices.values()]

    def mark(self, device_id: str | None, state: DeviceState) -> None:
        """The tick saw its first sample, saw it fall silent, or come back."""
        one = self._devices.get(device_id or "")
        if one is None or one.device is None:
            return
        one.state = state
        if state == "streaming" and one.lost_ns is not None:
            away_s = (time.monotonic_ns() - one.lost_ns) * 1e-9
            one.lost_ns = None
            # Behind what the tick told in this turn, where a replay puts it, too.
            asyncio.get_running_loop().call_soon(
                self._say, one, "info", f"back after {away_s:.1f} s"
            )

    async def impedance(
        self, device_id: str, channels: list[str] | None
    ) -> dict[str, float | None]:
        """kΩ by channel, None where it can't be told. Raises UnknownDevice, DeviceError."""
        one = self._find(device_id)
        if one.device is None or one.slot is None or one.state != "streaming":
            raise DeviceMissing(f"{device_id} is {one.state}", hint="it must be streaming")
        async with one.measuring:
            self._say(one, "info", "its impedance is measured: the signal holds the test current")
            try:
                return await measure(one.device, one.device.spec, channels)
            finally:
                self._say(one, "info", "its impedance was measured")

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
            one.task.add_done_callback(lambda _: not_opened(one, first))
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
        with contextlib.ExitStack() as watching:
            near, node = None, node_of(one.address)
            if node is not None:
                near = watching.enter_context(Nearby(str(node.absolute()), one.stir))
            try:
                while True:
                    one.stir.clear()
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
                        await self._lose(one, reason)
                        if time.monotonic_ns() - one.opened_ns > WELL_S * 1e9:
                            pause_s = FIRST_PAUSE_S
                    pause_s = await self._pause(one, near, pause_s)
            finally:
                was_open = one.device is not None
                await self._release(one)
                if was_open:
                    self._say(one, "info", "closed")

    async def _pause(self, one: Supervised, near: Nearby | None, pause_s: float) -> float:
        """Until it is worth another attempt; returns how long the next pause is to be."""
        told = isinstance(one.error, DeviceMissing | DeviceNotAllowed)
        node = node_of(one.address)
        here = isinstance(one.error, DeviceMissing) and node is not None and node.exists()
        woken = near is not None and near.armed and told and not here
        most_s = WOKEN_PAUSE_S if woken else retry_s(one.address)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s * self._jitter.uniform(0.75, 1.0)):
                await one.stir.wait()
        if one.stir.is_set():
            await asyncio.sleep(SETTLE_S)
            return FIRST_PAUSE_S
        return min(2 * pause_s, most_s)

    async def _end(self, one: Supervised, reason: str) -> None:
        """It has no more samples, as it should: it stays, absent, until somebody closes it."""
        hold_s = self._engine.settings.hold_ms * 1e-3 + 2 / GRID_HZ
        await asyncio.sleep(hold_s)  # its last frames are due only then
        one.ended = reason
        await self._release(one)
        self._say(one, "info", reason)
        await asyncio.Event().wait()

    async def _open(self, one: Supervised) -> None:
        if one.state == "absent":
            one.state = "opening"
        give_up = threading.Event()
        wait = waiter(one.address) if isinstance(one.error, DeviceMissing) else None
        if wait is not None:  # it was not there, which has been told
            opening = beside(wait, one.address, self._labels, give_up)
        else:
            opening = beside(opener(one.address), one.address, self._labels)
        try:
            one.device = await asyncio.shield(opening)
            await self._attach(one, one.device)
        except asyncio.CancelledError:
            # Nobody wants it any more, but the thread can't be stopped: close what it brings.
            give_up.set()
            if one.device is None:
                opening.add_done_callback(_close_late)
            raise
        except Exception as error:
            if one.lost_ns is None:
                await self._release(one)
            else:
                await self._set_aside(one)
            if isinstance(error, DeviceError):
                raise
            raise unforeseen(one, error) from error

    async def _attach(self, one: Supervised, device: Device) -> None:
        spec = msgspec.structs.replace(device.spec, device_id=one.device_id)
        one.error = None
        if spec.rate_hz == 0:
            if one.slot is not None:
                self._forget(one)
            await self._attach_markers(one, device, spec)
            return
        if isinstance(device, MakesSpikes):
            self._attach_spikes(one, device, spec)
            return
        # Designs are kept: the loop, and the tick's change of plan, need not wait for a new rate.
        await beside(self._engine.prepare, spec)
        again = self._resume(one, device)
        if not again:
            if one.slot is not None:
                self._forget(one)
            one.slot = self._engine.attach(device, spec, self._notify_fd, one.number)
        assert one.slot is not None
        one.pump = one.slot.pump
        one.spec, one.state = spec, "opening"
        one.health = Health(spec.rate_hz)
        one.opened_ns = time.monotonic_ns()
        node = node_of(one.address)
        one.node = None if node is None else node.resolve()
        if not again:
            self._layout_changed(one.slot)
        self._hear_markers(device)
        await beside(device.start)
        if one.lost_ns is None:
            self._say(one, "info", f"open: {spec.rate_hz:g} Hz, {len(spec.labels)} channels")

    async def _attach_markers(self, one: Supervised, device: Device, spec: DeviceSpec) -> None:
        """It has no samples, and no slot."""
        one.pump = Pump(device.driver, device.fd, notify_fd=self._notify_fd, priority=0)
        one.spec, one.state = spec, "streaming"
        one.opened_ns = time.monotonic_ns()
        self._hear_markers(device)
        await beside(device.start)
        again, one.lost_ns = one.lost_ns is not None, None
        self._say(one, "info", "back: markers" if again else "open: markers")

    def _attach_spikes(self, one: Supervised, device: MakesSpikes, spec: DeviceSpec) -> None:
        """It has bins, and no slot."""
        assert one.device is not None
        one.pump = Pump(
            one.device.driver, one.device.fd, notify_fd=self._notify_fd, priority=SPIKES_PRIORITY
        )
        one.spec, one.state, one.lost_ns = spec, "streaming", None
        one.opened_ns = time.monotonic_ns()
        self.spikes(one.device_id, device)
        self._say(one, "info", f"open: {len(spec.labels)} channels, bins of {device.bin_ms:g} ms")

    def _resume(self, one: Supervised, device: Device) -> bool:
        """Whether it goes on where it was when it went away."""
        if one.slot is None or one.slot.device is None or not isinstance(device, Resumes):
            return False
        if not device.resume(one.slot.device):
            return False
        self._engine.resume(one.slot, device, self._notify_fd)
        return True

    async def _until_lost(self, one: Supervised) -> str:
        """Waits until the pump has ended, the node is gone or, where bytes come, nothing came for
        too long; names what else is wrong on the way. Returns why."""
        assert one.device is not None and one.pump is not None
        device, pump = one.device, one.pump
        silence_s = SILENCE_S if device.fd >= 0 else None
        if isinstance(device, InChild):
            silence_s = device.silence_s if one.slot is not None else None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_S, 0.1 * (silence_s or SILENCE_S))):
                    await one.stir.wait()
            one.stir.clear()
            if pump.end_error:
                if isinstance(device, InChild):
                    return await beside(device.why_ended, pump.end_error)
                return device.driver.fault or os.strerror(pump.end_error)
            if one.node_is_gone:
                return f"{one.node} is gone"
            now_ns = time.monotonic_ns()
            if one.slot is not None and one.address.kind != "replay":  # its speed is asked for
                self._look(one, now_ns)
            if silence_s is None:
                continue
            heard_ns = max(one.opened_ns, device.driver.heard_ns or 0)
            if now_ns - heard_ns > silence_s * 1e9:
                return f"silent for {silence_s:g} s"

    def _look(self, one: Supervised, now_ns: int) -> None:
        assert one.device is not None and one.slot is not None and one.health is not None
        counters = one.device.driver.intake.counters()
        report = one.slot.source.report() if one.state == "streaming" else None
        for finding in one.health.look(now_ns, counters, report):
            fields = {"trouble": finding.trouble, **finding.fields}
            if finding.hint:
                fields["hint"] = finding.hint
            self._say(one, "warning" if finding.begins else "info", finding.message, **fields)

    async def _lose(self, one: Supervised, reason: str) -> None:
        """It went away: told once, however often it is lost again before it has sent a sample."""
        told = one.lost_ns is not None
        if not told:
            one.lost_ns = time.monotonic_ns()
        await self._set_aside(one)
        if not told:
            self._say(one, "alert", f"lost ({reason}); taken up again when it is back")

    async def _set_aside(self, one: Supervised) -> None:
        """Gives the device back. Its slot waits for it, if it can go on there. Once begun, it is
        done to its end."""
        one.state = "lost"
        again = isinstance(one.device, Resumes)
        await self._give(one)
        if not again and one.slot is not None and not isinstance(one.slot.device, Resumes):
            self._forget(one)

    async def _release(self, one: Supervised) -> None:
        """Gives the device back, and its slot. Once begun, it is done to its end."""
        one.state = "absent"
        await self._give(one)
        self._forget(one)

    async def _give(self, one: Supervised) -> None:
        device, pump = one.device, one.pump
        one.device = one.pump = None
        if isinstance(device, MakesSpikes):
            self.spikes(one.device_id, None)
        if device is not None:
            giving = asyncio.get_running_loop().create_task(self._give_back(device, one.slot, pump))
            self._closing.add(giving)
            giving.add_done_callback(self._closing.discard)
            await asyncio.shield(giving)

    def _forget(self, one: Supervised) -> None:
        """Takes the device out of its slot for good: what comes next begins anew."""
        slot, one.slot = one.slot, None
        if slot is not None and slot.device is not None:
            one.lost_before += slot.device.driver.intake.counters()["lost"]
            self._engine.detach(slot)

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
            self._engine.pause(slot)
        await beside(device.close)

    def _failed(self, one: Supervised, error: DeviceError) -> None:
        """Told once, however often it is tried; that a lost device is missing is known already."""
        known = one.error.code if one.error is not None else None
        one.error = error
        if error.code == known or one.lost_ns is not None:
            return
        self._say(one, "warning", f"{error.message}; looking for it", hint=error.hint)

    def _pump_ended(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._notify_fd)
        for one in self._devices.values():
            if one.pump is not None and one.pump.end_error:
                one.stir.set()

    def _say(self, one: Supervised, level: Level, message: str, **fields: Any) -> None:
        text = f"{one.device_id} ({one.address}): {message}"
        log.log(logging.INFO if level == "info" else logging.WARNING, "%s", text)
        self._emit(Event("device", level, text, one.device_id, one.state, fields))


def _close_late(opening: asyncio.Future[Device]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        beside(opening.result().close)
