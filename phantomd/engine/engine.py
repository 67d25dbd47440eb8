"""The engine: devices in, grid frames and events out, on the real clock or a virtual one.

It owns the native rings' other end, the grid rings and the plan; what is published, and to whom, is
net's business. Slot 0 is the stream on 7069: it goes on, MISSING, while no device is in it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from phantomd.config import Config, GridConfig
from phantomd.contracts import DeviceSpec
from phantomd.core import engine as core
from phantomd.core.analysis import Analysis
from phantomd.core.engine import Source
from phantomd.core.intake import Intake, Pump
from phantomd.core.ring import Ring
from phantomd.devices.base import Device
from phantomd.engine.ledger import EEG_DEADLINE_NS, Ledger
from phantomd.engine.plan import GRID_SLOTS, Kernels, make_idle, make_source, signal_ring
from phantomd.engine.prototype import design
from phantomd.errors import DeviceError

#: How much of the past a new source learns from.
WARM_S = 60.0


@dataclass(slots=True)
class Slot:
    """A place for a device: its grid goes on whoever sits in it."""

    number: int
    labels: tuple[str, ...]
    grid: Ring
    source: core.Source
    epoch: uuid.UUID
    #: What the analysis behind its device was made from.
    config: Config
    device: Device | None = None
    spec: DeviceSpec | None = None
    pump: Pump | None = None
    #: The native index from which the source learnt, where it took another's place.
    warm_first: int | None = None
    #: The device's samples as the analysis sees them (csrc/pd_window.h).
    signal: Ring | None = None
    #: Channels that were found bad: the analysis does without them.
    left_out: frozenset[str] = frozenset()
    #: The native index from which the analysis learnt, where it took another's place.
    learnt_first: int | None = None

    @property
    def windows(self) -> Ring | None:
        """Records of the windows that the tick has closed."""
        return self.source.analysis.windows if self.source.analysis is not None else None


@dataclass(frozen=True, slots=True)
class Renewal:
    """An analysis that has learnt, for the place of the one behind ``source``; None: its source
    has to be made anew."""

    source: core.Source
    analysis: Analysis | None
    left_out: frozenset[str]
    first: int


class Engine:
    """See the module. ``virtual``: no threads; ``step`` drives everything. One owner thread."""

    def __init__(
        self,
        config: Config,
        grid_t0_ns: int,
        *,
        virtual: bool = False,
        kernels: Kernels | None = None,
    ) -> None:
        self._kernels = kernels
        self._config = config
        self._realtime = config.realtime
        self._montage = config.montage.labels
        self._virtual = virtual
        self._core = core.Engine(grid_t0_ns)
        self._next_event = 0
        self._degraded: dict[str, str] = {}
        self._serial = 0
        #: Told of each plan, by its serial number, before any step can use it.
        self.observer: Callable[[int], None] | None = None
        #: Goes around each change of a slot's grid; slot and grid are what they will be at its end.
        self.changing: Callable[[Slot], AbstractContextManager[None]] = lambda _: nullcontext()
        self.ledger = Ledger()
        self.ledger.add("tick", self._core.tick_lateness)
        self.ledger.add("heartbeat", self._core.beat_lateness)
        self.ledger.add("tick-work", self._core.work)
        #: Of the frames of slot 0: who publishes them adds.
        self.eeg_lateness = self.ledger.stage("eeg", EEG_DEADLINE_NS)
        self.slots: list[Slot] = [self._idle_slot(0, self._montage)]
        self._note_lock(self._core.lock_error, "tick-memory")
        self._replan()

    # -- life --------------------------------------------------------------------------------------

    def start(self, notify_fd: int) -> None:
        """Starts the tick thread; it writes the eventfd ``notify_fd`` when there is news."""
        locked = core.lock_text()
        self._note_lock(-locked if locked < 0 else 0, "tick-memory")
        for ring in (self._core.events, *(slot.grid for slot in self.slots)):
            self._note_lock(ring.lock(), "tick-memory")
        self._core.start(
            notify_fd, priority=self._realtime.tick_priority, cpu=self._realtime.tick_cpu
        )

    def stop(self) -> None:
        """Ends the pumps, then the tick thread; what was emitted stays readable."""
        for slot in self.slots:
            if slot.pump is not None:
                slot.pump.stop()
        self._core.stop()

    def degraded(self) -> list[str]:
        """What the system refused, each with what to do about it."""
        notes = dict(self._degraded)
        if self._core.promote_error:
            notes["tick-priority"] = refused(
                f"SCHED_FIFO {self._realtime.tick_priority} for the tick",
                self._core.promote_error,
                "give LimitRTPRIO=99 (systemd) or an rtprio limit; see docs/realtime.md",
            )
        for slot in self.slots:
            if slot.pump is not None and slot.pump.promote_error:
                notes["intake-priority"] = refused(
                    f"SCHED_FIFO {self._realtime.intake_priority} for the intake",
                    slot.pump.promote_error,
                    "give LimitRTPRIO=99 (systemd) or an rtprio limit; see docs/realtime.md",
                )
        return [f"{name}: {text}" for name, text in notes.items()]

    def _note_lock(self, error: int, name: str) -> None:
        if error and not self._virtual:
            self._degraded[name] = refused(
                "locking memory", error, "raise LimitMEMLOCK or `ulimit -l`; see docs/realtime.md"
            )

    # -- devices -----------------------------------------------------------------------------------

    def attach(
        self,
        device: Device,
        spec: DeviceSpec | None = None,
        notify_fd: int = -1,
        number: int | None = None,
    ) -> Slot:
        """Puts an open device into slot ``number`` (None: the first free one) and, live, starts its
        pump. ``spec``: its own, but for the name that it goes by here. Raises DeviceError, OSError.

        The slot keeps its grid index; its epoch changes only when the channels do.
        """
        spec = device.spec if spec is None else spec
        slot = self._free_slot(number, spec.labels)
        if spec.labels != slot.labels:
            with self.changing(slot):
                slot.labels = spec.labels
                slot.epoch = uuid.uuid4()
                slot.grid = self._new_grid(len(spec.labels), slot.grid.next)
        intake = device.driver.intake
        slot.signal = signal_ring(spec, intake.next)
        slot.config, slot.left_out, slot.learnt_first = self._config, frozenset(), None
        slot.source = self._new_source(slot, spec, intake, slot.windows)
        if not self._virtual:
            for part in (intake.ring, slot.grid, slot.signal, slot.windows):
                if part is not None:
                    self._note_lock(part.lock(), "tick-memory")
        slot.device, slot.spec, slot.warm_first = device, spec, None
        self._replan()
        try:
            self._pump(slot, device, notify_fd)
        except OSError:
            self.detach(slot)
            raise
        return slot

    def pause(self, slot: Slot) -> None:
        """The device went away: its pump ends. Its native ring and its source stay, so that it can
        go on where it was; frames go on MISSING."""
        if slot.pump is not None:
            slot.pump.stop()
            slot.pump = None

    def resume(self, slot: Slot, device: Device, notify_fd: int = -1) -> None:
        """It is back, with the intake that it had: index, clock, grid and epoch go on. Nothing of
        the plan changes, nor what the slot takes the device for. Raises OSError."""
        assert slot.device is not None and slot.device.driver.intake is device.driver.intake
        slot.device = device
        device.driver.reset()
        self._pump(slot, device, notify_fd)

    def _pump(self, slot: Slot, device: Device, notify_fd: int) -> None:
        if not self._virtual:
            slot.pump = Pump(
                device.driver,
                device.fd,
                notify_fd=notify_fd,
                priority=self._realtime.intake_priority,
                cpu=self._realtime.intake_cpu,
            )

    def prepare(self, spec: DeviceSpec) -> None:
        """All that is designed for such a device, so that ``attach`` finds it: seconds on a slow
        host the first time, so beside the event loop."""
        design(spec.rate_hz, self.settings.phase)
        if self._kernels is not None:
            self._kernels.prepare(self._config, spec)

    def prepare_all(self, config: Config) -> None:
        """The same for the devices that are here, by another configuration. Raises ConfigError."""
        for slot in self.slots:
            if slot.spec is not None and self._kernels is not None:
                design(slot.spec.rate_hz, config.grid.phase)
                self._kernels.prepare(config, slot.spec)

    def _free_slot(self, number: int | None, labels: tuple[str, ...]) -> Slot:
        if number is None:
            free = (slot.number for slot in self.slots if slot.device is None)
            number = next(free, len(self.slots))
        if number >= core.MAX_SOURCES:
            raise DeviceError(
                f"{core.MAX_SOURCES} devices are open", hint="close one: phantomctl device close"
            )
        while len(self.slots) <= number:
            self.slots.append(self._idle_slot(len(self.slots), labels))
        if self.slots[number].device is not None:
            raise ValueError(f"slot {number} is taken")
        return self.slots[number]

    def detach(self, slot: Slot) -> None:
        """Takes the device out; its grid goes on MISSING. The caller closes the device."""
        if slot.pump is not None:
            slot.pump.stop()
            slot.pump = None
        slot.device = slot.spec = slot.warm_first = slot.signal = slot.learnt_first = None
        slot.left_out = frozenset()
        slot.source = make_idle(
            len(slot.labels), slot.grid, self._core.events, slot.number, self.settings
        )
        self._replan()

    def apply(self, settings: GridConfig) -> None:
        """New settings for the grid. Each source is made anew and warmed from its native ring, so
        that frames go on without a break."""
        self._config = msgspec.structs.replace(self._config, grid=settings)
        for slot in self.slots:
            slot.config = msgspec.structs.replace(slot.config, grid=settings)
            if slot.device is None or slot.spec is None:
                slot.source = make_idle(
                    len(slot.labels), slot.grid, self._core.events, slot.number, settings
                )
            else:
                self._remake(slot, slot.spec, slot.device.driver.intake, slot.windows)
        self._replan()

    def _remake(self, slot: Slot, spec: DeviceSpec, intake: Intake, windows: Ring | None) -> None:
        """Another source in place of the one that is, warmed from the native ring."""
        before = slot.source
        slot.source = self._new_source(slot, spec, intake, windows)
        slot.warm_first = max(0, before.taken - round(WARM_S * spec.rate_hz))
        slot.source.warm(slot.warm_first, before.taken, self._core.grid_t0_ns)
        slot.source.follow(before)
        slot.learnt_first = None

    def renew(self, slot: Slot, config: Config, left_out: frozenset[str]) -> Renewal | None:
        """An analysis of this configuration, without these channels, for the device in the slot;
        None where there is none. Takes long: beside the loop. Raises ConfigError."""
        source, spec = slot.source, slot.spec
        if self._kernels is None or spec is None:
            return None
        made, first = None, 0
        if source.analysis is not None:
            made, first = self._kernels.renew(
                config, spec, source.analysis, left_out, self._core.grid_t0_ns
            )
        if made is not None and not self._virtual:
            self._note_lock(made.windows.lock(), "tick-memory")
        return Renewal(source, made, left_out, first)

    def adopt(self, renewals: Iterable[Renewal], config: Config | None = None) -> bool:
        """These go on in place of those before, from the next tick on: nothing else changes.
        ``config``: for devices that come. False: another source has come meanwhile, and nothing
        changes at all."""
        here = {id(slot.source): slot for slot in self.slots}
        found = [(one, here.get(id(one.source))) for one in renewals]
        pairs = [(one, slot) for one, slot in found if slot is not None]
        if len(pairs) < len(found):
            return False
        if config is not None:
            renewed = {id(slot) for _, slot in pairs}
            if any(slot.spec is not None and id(slot) not in renewed for slot in self.slots):
                return False
            self._config = config
            for slot in self.slots:
                slot.config = config
        for one, slot in pairs:
            slot.left_out = one.left_out
            if one.analysis is not None:
                # The little that has come since, so that the tick has next to nothing to take.
                one.analysis.learn(one.analysis.next, self._core.grid_t0_ns)
                slot.source.replace(one.analysis)
                slot.learnt_first = one.first
            elif slot.spec is not None and slot.device is not None:
                # No channel was or is left to analyse: not what kernels can follow each other in.
                self._remake(slot, slot.spec, slot.device.driver.intake, None)
        self._replan()
        return True

    def spec_of(self, number: int) -> DeviceSpec | None:
        return self.slots[number].spec if number < len(self.slots) else None

    # -- running -----------------------------------------------------------------------------------

    def step(self, now_ns: int, limits: NDArray[np.uint64] | None = None) -> int:
        """Virtual clock: lets devices that go by the clock deliver, then does what the tick does.

        Returns when the next step is due. With ``limits`` (replay) the devices are fed by others.
        """
        if limits is None:
            for slot in self.slots:
                if slot.device is not None and slot.device.driver.by_clock:
                    slot.device.driver.advance(now_ns)
        return self._core.step(now_ns, limits)

    def take_events(self) -> tuple[list[tuple[int, int, int, int, int, int, float]], int]:
        """What the tick told since last time, and how much of that was overwritten before."""
        events, self._next_event, lost = self._core.take_events(self._next_event)
        return events, lost

    def reader(self, slot: Slot) -> core.GridReader:
        """From now on, for one subscriber."""
        lateness = self.eeg_lateness if slot.number == 0 else None
        return core.GridReader(slot.grid, deadline_ns=EEG_DEADLINE_NS, lateness=lateness)

    @property
    def next_event(self) -> int:
        """Index of the tick's next event that ``take_events`` will give."""
        return self._next_event

    @property
    def plan_serial(self) -> int:
        return self._serial

    @property
    def settings(self) -> GridConfig:
        return self._config.grid

    @property
    def config(self) -> Config:
        """What devices that come are analysed by."""
        return self._config

    @property
    def core(self) -> core.Engine:
        return self._core

    # -- inside ------------------------------------------------------------------------------------

    def _idle_slot(self, number: int, labels: tuple[str, ...]) -> Slot:
        first = self.slots[0].grid.next if number else 0
        grid = self._new_grid(len(labels), first)
        source = make_idle(len(labels), grid, self._core.events, number, self.settings)
        return Slot(number, labels, grid, source, uuid.uuid4(), self._config)

    def _new_source(
        self, slot: Slot, spec: DeviceSpec, intake: Intake, windows: Ring | None
    ) -> Source:
        analysis = None
        if self._kernels is not None and slot.signal is not None:
            analysis = self._kernels.make(slot.config, spec, slot.signal, windows, slot.left_out)
        return make_source(
            spec, intake, slot.grid, self._core.events, slot.number, self.settings, analysis
        )

    def _new_grid(self, n_channels: int, first: int) -> Ring:
        return Ring(core.grid_words(n_channels), GRID_SLOTS, first=first)

    def _replan(self) -> None:
        if self.observer is not None:
            self.observer(self._serial + 1)
        self._serial = self._core.set_plan([slot.source for slot in self.slots])


def refused(what: str, error: int, hint: str) -> str:
    return f"{what} was refused ({os.strerror(error)}): {hint}"
