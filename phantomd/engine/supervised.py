"""A device that somebody asked for, and its row of ``status``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phantomd.contracts import DeviceInfo, DeviceSpec, DeviceState
from phantomd.core.intake import Pump
from phantomd.devices.base import Address, Device, InChild, MakesSpikes
from phantomd.engine.engine import Slot
from phantomd.engine.health import Health
from phantomd.errors import DeviceError, DeviceMissing, PhantomError

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Supervised:
    """A device that somebody asked for, present or not."""

    device_id: str
    address: Address
    #: Its slot, from the beginning to the end: the first one configured is on 7069, there or not.
    number: int
    state: DeviceState = "absent"
    #: While it is open.
    device: Device | None = None
    #: From its first opening on: when it goes away, its ring and clock wait here for it.
    slot: Slot | None = None
    #: Of its slot; its own where it has markers and no samples.
    pump: Pump | None = None
    spec: DeviceSpec | None = None
    health: Health | None = None
    #: Lost in rings that are gone, because it came back in another form.
    lost_before: int = 0
    opened_ns: int = 0
    #: When it went away; None once it is back and has sent a sample.
    lost_ns: int | None = None
    #: The device node that it was opened at.
    node: Path | None = None
    error: DeviceError | None = None
    #: Why there will be no more of it (the end of a recording); "": there may be.
    ended: str = ""
    task: asyncio.Task[None] | None = None
    #: Something happened to it, or to the way to its node.
    stir: asyncio.Event = field(default_factory=asyncio.Event)
    #: One measurement at a time.
    measuring: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def node_is_gone(self) -> bool:
        return self.node is not None and not self.node.exists()

    def info(self, more: Mapping[str, Any]) -> DeviceInfo:
        """A row of ``status`` and ``device.list``. ``more``: what else is known while it is
        open."""
        lost = self.lost_before
        detail: dict[str, Any] = {}
        rate_hz = 0.0
        channels: list[str] = []
        if self.spec is not None:
            rate_hz, channels = self.spec.rate_hz, list(self.spec.labels)
            detail = {**self.spec.info, "aux": list(self.spec.aux)}
        if isinstance(self.device, InChild):
            detail["child"] = self.device.report()
        if isinstance(self.device, MakesSpikes):
            detail["spikes"] = self.device.counters()
        if self.slot is not None and self.slot.device is not None:
            counters = self.slot.device.driver.intake.counters()
            lost += counters["lost"]
            detail |= {"intake": counters}
            if self.device is not None:
                detail["clock"] = self.slot.source.report()
        if self.device is not None and self.health is not None:
            detail["troubles"] = self.health.troubles
            detail |= more
        if self.device is None and self.ended:
            detail["ended"] = self.ended
        elif self.device is None and self.error is not None:
            detail["error"] = str(self.error)
        return DeviceInfo(
            self.device_id,
            str(self.address),
            self.address.kind,
            self.state,
            rate_hz,
            channels,
            lost,
            detail,
        )


def unforeseen(one: Supervised, error: Exception) -> DeviceError:
    """What a driver should not raise, or the engine may."""
    if isinstance(error, PhantomError):
        return DeviceError(f"{one.address}: {error.message}", hint=error.hint)
    log.error("%s: opening it failed", one.device_id, exc_info=error)
    return DeviceError(f"{one.address} can't be opened: {error!r}", hint="the log has the details")


def not_opened(one: Supervised, first: asyncio.Future[None]) -> None:
    """Somebody closed it, or the daemon stopped, before it was open."""
    if not first.done():
        first.set_exception(
            DeviceMissing(f"{one.device_id} was closed while it was opening", hint="open it again")
        )
