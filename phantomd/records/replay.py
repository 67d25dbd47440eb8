"""Replays an intake journal: the same engine, on a virtual clock, fed with what was taken in then.

What comes out are the bytes of the ports, the same as live but for age and lateness.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from phantomd.config import Config
from phantomd.contracts import DeviceSpec, Event, Marker
from phantomd.core.engine import Engine as CoreEngine
from phantomd.core.engine import GridReader, Source, grid_words
from phantomd.core.intake import NATIVE_HEAD_WORDS, Driver, Intake
from phantomd.core.ring import Ring
from phantomd.devices.registry import replay_driver
from phantomd.engine.engine import Slot
from phantomd.engine.events import describe, marker_of
from phantomd.engine.ledger import EEG_DEADLINE_NS
from phantomd.engine.part import Publish
from phantomd.engine.plan import GRID_SLOTS, make_idle, make_source, signal_ring
from phantomd.errors import JournalError
from phantomd.formats.journal import Kind, Record, records, take_sample
from phantomd.oracle.baseline import Baseline
from phantomd.records.journal import History, Meta, Note, Plan, PlanSlot
from phantomd.records.stages import Stages, make_stages
from phantomd.signal.analysis import make_analysis

#: A replay has no connections that an epoch could tell apart.
_NO_EPOCH = uuid.UUID(int=0)
_RING_SLOTS = 1 << 16


@dataclass(slots=True)
class _Feed:
    """One device of one plan, and what is still to be fed to it."""

    spec: DeviceSpec
    intake: Intake
    driver: Driver | None


@dataclass(slots=True)
class Journal:
    """A journal in memory, taken apart by who told what."""

    meta: Meta
    plans: dict[int, Plan] = field(default_factory=dict)
    notes: deque[Note] = field(default_factory=deque)
    ticks: list[tuple[int, int, np.ndarray]] = field(default_factory=list)
    #: slot to its records in order: states, BYTES, SAMPLE and RESET.
    inputs: dict[int, deque[Record]] = field(default_factory=dict)
    source_states: dict[int, bytes] = field(default_factory=dict)
    history: dict[int, list[History]] = field(default_factory=dict)
    engine_state: bytes = b""
    complete: bool = False


def read(path: Path) -> Journal:
    """Raises JournalError for a file that is none, is cut short, or lost records."""
    journal: Journal | None = None
    for kind, slot, t_ns, body in records(path):
        if kind is Kind.META:
            journal = Journal(msgspec.msgpack.decode(body, type=Meta))
        elif journal is None:
            raise JournalError(f"{path}: it does not begin with its META", hint="it is damaged")
        elif kind is Kind.PLAN:
            plan = msgspec.msgpack.decode(body, type=Plan)
            journal.plans[plan.serial] = plan
        elif kind is Kind.CONTROL:
            journal.notes.append(msgspec.msgpack.decode(body, type=Note))
        elif kind is Kind.TICK:
            words = np.frombuffer(body, np.uint64)
            journal.ticks.append((t_ns, int(words[0]), words[1:]))
        elif kind is Kind.SOURCE_STATE:
            journal.source_states[slot] = journal.source_states.get(slot, b"") + body
        elif kind is Kind.ENGINE_STATE:
            journal.engine_state = body
        elif kind is Kind.HISTORY:
            piece = msgspec.msgpack.decode(body, type=History)
            journal.history.setdefault(slot, []).append(piece)
        elif kind is Kind.DROPPED:
            raise JournalError(
                f"{path}: {int.from_bytes(body, 'little')} records were lost while it was written",
                hint="its disk could not keep up: a replay would differ from what happened",
            )
        elif kind is Kind.END:
            journal.complete = True
        else:
            journal.inputs.setdefault(slot, deque()).append((kind, slot, t_ns, body))
    if journal is None or not journal.ticks:
        raise JournalError(f"{path}: no tick in it", hint="it was stopped before it began")
    return journal


class Replay:
    """Runs a journal. ``frames(data, n)`` gets what went out on 7069, ``emit`` the events, ``mark``
    the markers, ``publish`` the messages of all other streams."""

    def __init__(
        self,
        journal: Journal,
        frames: Callable[[bytes, int], None],
        emit: Callable[[Event], None],
        mark: Callable[[Marker], None] = lambda _: None,
        publish: Publish = lambda stream, t_ns, data, late=False: None,
    ) -> None:
        self._journal = journal
        self._frames = frames
        self._emit = emit
        self._mark = mark
        self._slots: dict[int, Slot] = {}
        self._config = journal.meta.config
        self._stages: Stages | None = None
        self._publish_message = publish
        self._feeds: dict[int, _Feed] = {}
        self._sources: dict[int, Source] = {}
        self._grids: dict[int, Ring] = {}
        self._specs: dict[int, DeviceSpec | None] = {}
        self._plan: Plan | None = None
        self._engine = CoreEngine(0)
        self._engine.restore(journal.engine_state)
        self._reader: GridReader | None = None
        self._next_event = 0

    def run(self) -> int:
        """All of it; returns how many ticks. Raises JournalError where the journal has a hole."""
        for now_ns, serial, seen in self._journal.ticks:
            if self._plan is None or self._plan.serial != serial:
                self._take_plan(serial)
            for number, until in enumerate(seen):
                if number in self._feeds:
                    self._feed(number, int(until))
            self._engine.step(now_ns, np.ascontiguousarray(seen))
            self._publish(now_ns)
        return len(self._journal.ticks)

    # -- inside ------------------------------------------------------------------------------------

    def _take_plan(self, serial: int) -> None:
        plan = self._journal.plans.get(serial)
        if plan is None:
            raise JournalError(f"plan {serial} is not in the journal", hint="it is damaged")
        first = self._plan is None
        old, self._plan = self._plan, plan
        sources, new = [], []
        for slot in plan.slots:
            before = next((s for s in old.slots if s.number == slot.number), None) if old else None
            if old is not None and _stays(before, slot) and old.config.grid == plan.config.grid:
                if before != slot:
                    self._renew(slot, plan.config)
                sources.append(self._sources[slot.number])
                continue
            state = self._journal.source_states.get(slot.number) if first else None
            self._make_grid(slot.number, len(slot.labels), state, before.labels if before else None)
            warm = slot.warm_first if before is not None and before.spec == slot.spec else None
            if warm is None:
                self._make_feed(slot.number, slot.spec)
                new.append(slot.number)
            sources.append(self._make_source(slot, plan, state, warm))
        self._engine.set_plan(sources)
        if self._stages is None:
            self._stages = self._make_stages()
        for number in self._slots:
            self._stages.windows.layout_changed(self._slots[number])
            if number in new and number in self._feeds and not first:
                for part in self._stages.parts:
                    part.layout_changed(self._slots[number])

    def _renew(self, slot: PlanSlot, config: Config) -> None:
        """Only what is behind its source is another, which has learnt what this had."""
        here, feed = self._slots[slot.number], self._feeds[slot.number]
        assert here.signal is not None and slot.learnt_first is not None
        here.config, here.left_out = config, frozenset(slot.left_out)
        made = make_analysis(config, feed.spec, here.signal, None, here.left_out)
        assert made is not None
        made.learn(slot.learnt_first, self._engine.grid_t0_ns)
        here.source.replace(made)

    def _make_stages(self) -> Stages:
        """As the daemon has them, with the baseline of then."""
        made = make_stages(
            self._slots.values,
            lambda: self._slots[0],
            self._config,
            self._publish_message,
            lambda _: None,  # what they tell is a note of the journal
        )
        if self._journal.meta.baseline is not None:
            rows, labels = self._journal.meta.baseline
            made.oracle.take_baseline(Baseline(np.array(rows), labels, 0.0, 0))
        made.oracle.leave_out(self._slots[0].left_out)
        return made

    def _make_grid(
        self, number: int, n_channels: int, state: bytes | None, labels: tuple[str, ...] | None
    ) -> None:
        grid = self._grids.get(number)
        if grid is not None and grid.words == grid_words(n_channels) and labels is not None:
            return
        first = Source.grid_next_of(state) if state else (grid.next if grid else 0)
        self._grids[number] = Ring(grid_words(n_channels), GRID_SLOTS, first=first)
        if number == 0:
            self._reader = GridReader(self._grids[0], deadline_ns=EEG_DEADLINE_NS)

    def _make_feed(self, number: int, spec: DeviceSpec | None) -> None:
        self._specs[number] = spec
        if spec is None:
            self._feeds.pop(number, None)
            return
        queue = self._journal.inputs.setdefault(number, deque())
        n_values = len(spec.labels) + len(spec.aux)
        first, states = 0, []
        while queue and queue[0][0] in (Kind.INTAKE_STATE, Kind.DRIVER_STATE):
            states.append(queue.popleft())
        if states:
            first = Intake.next_of(states[0][3])
        ring = Ring(NATIVE_HEAD_WORDS + n_values, _RING_SLOTS, first=first)
        intake = Intake(ring, spec.rate_hz, n_values, spec.counter_modulus)
        driver = replay_driver(spec, intake)
        for kind, _, _, body in states:
            if kind is Kind.INTAKE_STATE:
                intake.state = body
            elif driver is not None:
                driver.state = body
        self._feeds[number] = _Feed(spec, intake, driver)

    def _make_source(
        self, place: PlanSlot, plan: Plan, state: bytes | None, warm: int | None
    ) -> Source:
        number, n_channels = place.number, len(place.labels)
        left_out = frozenset(place.left_out)
        feed = self._feeds.get(number)
        grid, events = self._grids[number], self._engine.events
        slot = self._slots.get(number)
        signal = None
        if feed is None:
            source = make_idle(n_channels, grid, events, number, plan.config.grid)
        else:
            keeps = slot if warm is not None else None
            signal = keeps.signal if keeps else signal_ring(feed.spec, self._oldest(number, feed))
            assert signal is not None
            config = msgspec.structs.replace(plan.config, grid=self._config.grid)
            same = (
                keeps
                and keeps.left_out == left_out
                and config == msgspec.structs.replace(keeps.config, grid=self._config.grid)
            )
            windows = keeps.windows if keeps and same else None
            source = make_source(
                feed.spec,
                feed.intake,
                grid,
                events,
                number,
                plan.config.grid,
                make_analysis(plan.config, feed.spec, signal, windows, left_out),
            )
            if warm is not None:
                before = self._sources[number]
                source.warm(warm, before.taken, self._engine.grid_t0_ns)
                source.follow(before)
        labels = feed.spec.labels if feed else ()
        self._slots[number] = Slot(
            number,
            labels,
            grid,
            source,
            _NO_EPOCH,
            plan.config,
            spec=feed.spec if feed else None,
            signal=signal,
            left_out=left_out,
        )
        if state is not None:
            source.restore(state)
            if signal is not None and source.analysis is not None:
                self._remember(number, signal, source.analysis.next)
        self._sources[number] = source
        return source

    def _oldest(self, number: int, feed: _Feed) -> int:
        """Where its signal ring begins."""
        history = self._journal.history.get(number)
        first = int(np.frombuffer(history[0].index, np.uint64)[0]) if history else feed.intake.next
        return min(first, feed.intake.next)

    def _remember(self, number: int, signal: Ring, until: int) -> None:
        """What the signal ring held when the journal began."""
        for piece in self._journal.history.get(number, ()):
            index = np.frombuffer(piece.index, np.uint64)
            head = np.zeros((len(index), 2), np.uint64)
            head[:, 0] = np.frombuffer(piece.t_ns, np.uint64)
            head[:, 1] = np.frombuffer(piece.flags, np.uint32)
            values = np.frombuffer(piece.values, np.uint64).reshape(len(index), -1)
            for at, frame in zip(index.tolist(), np.hstack([head, values]), strict=True):
                if at < until:
                    signal.skip(at)
                    signal.push(frame)

    def _feed(self, number: int, until: int) -> None:
        feed = self._feeds[number]
        queue = self._journal.inputs[number]
        while feed.intake.next < until:
            if not queue:
                raise JournalError(
                    f"device {number}: the tick saw {until} samples, {feed.intake.next} are there",
                    hint="the journal is cut short",
                )
            kind, _, t_ns, body = queue.popleft()
            if kind is Kind.BYTES and feed.driver is not None:
                feed.driver.feed(body, t_ns)
            elif kind in (Kind.SAMPLE, Kind.PACKET):
                take_sample(feed.intake, kind, t_ns, body)
            elif kind is Kind.RESET:
                (feed.driver or feed.intake).reset()

    def _publish(self, now_ns: int) -> None:
        assert self._reader is not None
        data, _, n_frames, _ = self._reader.drain(now_ns)
        if n_frames:
            self._frames(data, n_frames)
        first = self._next_event
        events, self._next_event, _ = self._engine.take_events(first)
        for number, raw in enumerate(events):
            self._emit_notes(first + number)
            marker = marker_of(raw, self._specs.get)
            if marker is not None:
                self._mark(marker)
            else:
                self._emit(describe(raw, self._specs.get))
        self._emit_notes(self._next_event)
        assert self._stages is not None
        for part in self._stages.parts:
            part.on_tick(now_ns)

    def _emit_notes(self, next_event: int) -> None:
        """The lines of others that stood before this event of the tick."""
        notes = self._journal.notes
        while notes and notes[0].next_event - self._engine.events_next <= next_event:
            note = notes.popleft()
            if note.event is not None:
                self._emit(note.event)
            if note.marker is not None:
                self._mark(note.marker)


def _stays(before: PlanSlot | None, slot: PlanSlot) -> bool:
    """Whether its source goes on; with another analysis behind it, perhaps."""
    if before is None:
        return False
    return before == msgspec.structs.replace(
        slot, left_out=before.left_out, learnt_first=before.learnt_first
    )
