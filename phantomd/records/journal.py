"""Intake journal: all that a daemon took in, written on demand, so that the same comes out again.

It can begin in the middle of a run: intake, driver and tick each put their plain state first. The
records and the file are laid out in csrc/pd_journal.h; ``replay`` reads them.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from phantomd import __version__
from phantomd.config import Config
from phantomd.contracts import DeviceSpec, Event, Marker
from phantomd.core.analysis import read_signal
from phantomd.core.journal import JournalWriter, Tap, tap_engine, tap_intake
from phantomd.core.ring import Ring
from phantomd.engine.beside import beside
from phantomd.engine.engine import Engine
from phantomd.errors import JournalError
from phantomd.formats.journal import Kind
from phantomd.oracle.baseline import Baseline

_BEGIN_S = 2.0
#: Samples of a record of the history: 64 values each, they fit one.
_HISTORY_SAMPLES = 1024
_POLL_S = 0.005


class Meta(msgspec.Struct, frozen=True):
    """The first thing in a journal."""

    daemon: str
    unix_ns: int
    config: Config
    #: The oracle's baseline: covariance by rows, and the labels that it is of.
    baseline: tuple[tuple[tuple[float, ...], ...], tuple[str, ...]] | None = None


class PlanSlot(msgspec.Struct, frozen=True):
    number: int
    labels: tuple[str, ...]
    spec: DeviceSpec | None
    #: Where the source took another's place: the native index from which it learnt.
    warm_first: int | None = None
    #: The same of the analysis behind it, and channels that it does without: they were found bad.
    learnt_first: int | None = None
    left_out: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """What the tick worked on from this serial number on."""

    serial: int
    config: Config
    slots: tuple[PlanSlot, ...]


class History(msgspec.Struct, frozen=True):
    """The signal ring of a slot when the journal began: int64 ``index``, ``t_ns``, uint32
    ``flags``, float64 ``values`` [n, values]. An analysis that comes may have learnt from it."""

    index: bytes
    t_ns: bytes
    flags: bytes
    values: bytes


class Note(msgspec.Struct, frozen=True):
    """A line on ``events``, or a marker, that did not come from the tick, and the tick's event that
    it stood before."""

    next_event: int
    event: Event | None = None
    marker: Marker | None = None


def _history(signal: Ring) -> list[bytes]:
    """Records of all that is in the ring."""
    found = read_signal(signal, signal.oldest, signal.next)
    parts = (
        History(*(array[first : first + _HISTORY_SAMPLES].tobytes() for array in found))
        for first in range(0, len(found[0]), _HISTORY_SAMPLES)
    )
    return [msgspec.msgpack.encode(part) for part in parts]


def _plain(
    baseline: Baseline | None,
) -> tuple[tuple[tuple[float, ...], ...], tuple[str, ...]] | None:
    if baseline is None:
        return None
    return tuple(tuple(map(float, row)) for row in baseline.covariance), baseline.labels


class JournalSession:
    """One journal being written. Belongs to the event loop."""

    def __init__(
        self, path: Path, fd: int, engine: Engine, config: Config, baseline: Baseline | None
    ) -> None:
        self.path = path
        self._fd = fd
        self._engine = engine
        history = sum(
            8 * slot.signal.words * slot.signal.n_slots for slot in engine.slots if slot.signal
        )
        self._own = Tap(1 << max(20, (2 * history + (1 << 16)).bit_length()))
        self._taps: dict[int, Tap] = {}
        self._tapped: dict[int, object] = {}
        # Its first records are the sources' states: room for those, and for a second of ticks.
        states = sum(slot.source.state_bytes for slot in engine.slots)
        self._tick = Tap(1 << max(21, (2 * states + (1 << 16)).bit_length()))
        self._writer = JournalWriter(fd)
        for tap in (self._own, self._tick):
            self._writer.add(tap)
        self._put(
            Kind.META, Meta(f"phantomd/{__version__}", time.time_ns(), config, _plain(baseline))
        )

    @classmethod
    def open(
        cls, path: Path, engine: Engine, config: Config, baseline: Baseline | None = None
    ) -> JournalSession:
        """A new file, readable by its owner alone. Raises JournalError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(
                f"{path}: {error.strerror}",
                hint="name a new file in a directory that can be written",
            ) from error
        return cls(path, fd, engine, config, baseline)

    async def begin(self) -> None:
        """Devices first, each with its state; then, once the tick has taken all that came before,
        the tick. Raises JournalError when the engine stands still."""
        self._engine.observer = self._plan_comes
        self._plan_comes(self._engine.plan_serial)
        open_slots = [slot for slot in self._engine.slots if slot.device is not None]
        seen = {slot.number: slot.device.driver.intake.next for slot in open_slots if slot.device}
        await self._until(
            lambda: all(
                slot.source.taken >= seen[slot.number] for slot in open_slots if slot.device
            )
        )
        tap_engine(self._engine.core, self._tick)
        steps = self._engine.core.steps
        await self._until(
            lambda: not self._engine.core.running or self._engine.core.steps > steps + 1
        )
        for slot in open_slots:
            if slot.signal is not None:
                for part in await beside(_history, slot.signal):
                    self._own.put(Kind.HISTORY, slot.number, 0, part)

    async def end(self) -> dict[str, Any]:
        """Lets the producers go, writes what is queued, closes. Raises JournalError."""
        self._engine.observer = None
        tap_engine(self._engine.core, None)
        for slot in self._engine.slots:
            if slot.device is not None:
                tap_intake(slot.device.driver.intake, None, slot.number)
        steps = self._engine.core.steps
        rounds = {slot.number: slot.pump.rounds for slot in self._engine.slots if slot.pump}
        await self._until(
            lambda: (
                (not self._engine.core.running or self._engine.core.steps > steps + 1)
                and all(
                    slot.pump is None
                    or slot.pump.end_error != 0
                    or slot.pump.rounds > rounds.get(slot.number, 0) + 1
                    for slot in self._engine.slots
                )
            )
        )
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._finish)
        except OSError as error:
            raise JournalError(
                f"{self.path}: {error.strerror}", hint="the journal is cut short: free some disk"
            ) from error
        return self.status()

    def note(self, t_ns: int, event: Event) -> None:
        """A line on ``events`` that was not the tick's."""
        self._put(Kind.CONTROL, Note(self._engine.next_event, event), t_ns)

    def keep_marker(self, t_ns: int, marker: Marker) -> None:
        self._put(Kind.CONTROL, Note(self._engine.next_event, marker=marker), t_ns)

    def status(self) -> dict[str, Any]:
        taps = (self._own, self._tick, *self._taps.values())
        return {
            "path": str(self.path),
            "bytes": self._writer.bytes_written,
            "dropped": sum(tap.dropped for tap in taps),
            "error": os.strerror(self._writer.error) if self._writer.error else None,
        }

    # -- inside ------------------------------------------------------------------------------------

    def _finish(self) -> None:
        try:
            self._writer.stop()
            os.fsync(self._fd)
        finally:
            os.close(self._fd)

    def _plan_comes(self, serial: int) -> None:
        slots = self._engine.slots
        for slot in slots:
            if slot.device is None:
                continue
            intake = slot.device.driver.intake
            if self._tapped.get(slot.number) is not intake:
                if slot.number not in self._taps:
                    self._taps[slot.number] = Tap()
                    self._writer.add(self._taps[slot.number])
                tap_intake(intake, self._taps[slot.number], slot.number)
                self._tapped[slot.number] = intake
                if slot.pump is None:  # away: nothing else would tell how far it had come
                    slot.device.driver.begin_journal(time.monotonic_ns())
        plan = Plan(
            serial,
            self._engine.config,
            tuple(
                PlanSlot(
                    slot.number,
                    slot.labels,
                    slot.spec,
                    slot.warm_first,
                    slot.learnt_first,
                    tuple(sorted(slot.left_out)),
                )
                for slot in slots
            ),
        )
        self._put(Kind.PLAN, plan)

    def _put(self, kind: Kind, record: msgspec.Struct, t_ns: int = 0) -> None:
        self._own.put(kind, 0, t_ns, msgspec.msgpack.encode(record))

    async def _until(self, condition: Any) -> None:
        deadline_s = time.monotonic() + _BEGIN_S
        while not condition():
            if time.monotonic() > deadline_s:
                raise JournalError(
                    "the engine stands still", hint="the ledger (phantomctl ledger) says since when"
                )
            await asyncio.sleep(_POLL_S)
