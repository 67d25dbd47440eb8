"""The engine as Python sees it: plans, devices in and out, the reader of the grid, the events.

What a frame holds is tested in tests/sim/test_grid.py and tests/c/test_source.c.
"""

from __future__ import annotations

import errno
import gc
import os
import select
from collections.abc import Iterator

import numpy as np
import pytest
from boards import PERIOD_NS, T0_NS, Board, S, run
from numpy.typing import NDArray

from phantomd.config import Config, GridConfig
from phantomd.contracts import GRID_NS, MONTAGE, DeviceSpec, Event, Flag
from phantomd.core import engine as core
from phantomd.core.hist import Histogram
from phantomd.core.intake import NATIVE_HEAD_WORDS, Intake
from phantomd.core.ring import Ring
from phantomd.engine.engine import Engine
from phantomd.engine.events import TickEvent, describe, marker_of
from phantomd.engine.plan import make_idle, make_source
from phantomd.engine.publish import Publisher
from phantomd.errors import DeviceError

WIRE = np.dtype(
    [("index", "u8"), ("t_ns", "i8"), ("flags", "u4"), ("age_us", "u4"), ("values", "f4", (8,))]
)


def virtual() -> Engine:
    return Engine(Config(), T0_NS, virtual=True)


def frames_of(engine: Engine) -> NDArray[np.void]:
    grid = engine.slots[0].grid
    return core.GridReader(grid, deadline_ns=0).frames(0, grid.next)


def kinds(engine: Engine) -> list[TickEvent]:
    events, lost = engine.take_events()
    assert lost == 0
    return [TickEvent(event[1]) for event in events]


# -- devices in and out ----------------------------------------------------------------------------


def test_without_a_device_the_grid_goes_on_missing() -> None:
    engine = virtual()
    engine.step(T0_NS + S)
    frames = frames_of(engine)
    assert len(frames) > 110
    assert (frames["flags"] == int(Flag.MISSING)).all()
    assert engine.slots[0].labels == MONTAGE


def test_a_device_with_the_montage_keeps_epoch_and_grid() -> None:
    engine, board = virtual(), Board()
    engine.step(T0_NS + S)
    epoch, grid = engine.slots[0].epoch, engine.slots[0].grid
    slot = engine.attach(board)
    run(engine, board, 1.0, 4.0)
    assert slot.number == 0 and slot.epoch == epoch and slot.grid is grid
    frames = frames_of(engine)
    assert (frames["index"] == np.arange(len(frames))).all()
    assert (frames["t_ns"] == T0_NS + np.arange(len(frames)) * GRID_NS).all()
    assert (frames["flags"][-128:] == 0).all()


def test_other_channels_are_another_epoch_whose_index_goes_on() -> None:
    engine = virtual()
    engine.step(T0_NS + S)
    epoch, next_index = engine.slots[0].epoch, engine.slots[0].grid.next
    slot = engine.attach(Board(labels=tuple("ABCDEFGH")))
    assert slot.epoch != epoch
    assert slot.grid.next == next_index
    engine.step(T0_NS + 2 * S)
    frame = core.GridReader(slot.grid, deadline_ns=0).frames(next_index, next_index + 1)[0]
    assert frame["t_ns"] == T0_NS + next_index * GRID_NS


def test_a_device_that_is_taken_out_leaves_the_grid_going() -> None:
    engine, board = virtual(), Board()
    slot = engine.attach(board)
    run(engine, board, 0.0, 3.0)
    engine.detach(slot)
    engine.step(T0_NS + 5 * S)
    frames = frames_of(engine)
    assert (frames["t_ns"] == T0_NS + np.arange(len(frames)) * GRID_NS).all()
    assert (frames["flags"][-128:] == int(Flag.MISSING)).all()
    assert slot.device is None


def test_a_second_device_has_a_grid_of_its_own() -> None:
    engine, first, second = virtual(), Board(), Board(name="other")
    engine.attach(first)
    slot = engine.attach(second)
    assert slot.number == 1
    for now_ns in range(T0_NS, T0_NS + 3 * S, PERIOD_NS):
        first.send(now_ns)
        second.send(now_ns)
        engine.step(now_ns)
    both = [core.GridReader(s.grid, deadline_ns=0).frames(0, s.grid.next) for s in engine.slots]
    assert both[0]["values"][-1, 0] == pytest.approx(both[1]["values"][-1, 0], abs=1e-9)


def test_too_many_devices_are_refused_with_what_to_do() -> None:
    engine = virtual()
    for number in range(core.MAX_SOURCES):
        engine.attach(Board(name=str(number)))
    with pytest.raises(DeviceError, match="8 devices are open") as caught:
        engine.attach(Board(name="more"))
    assert "close one" in str(caught.value.hint)


def test_the_observer_hears_of_a_plan_before_it_is_used() -> None:
    engine = virtual()
    heard: list[tuple[int, int]] = []
    engine.observer = lambda serial: heard.append((serial, engine.plan_serial))
    engine.attach(Board())
    assert heard == [(engine.plan_serial, engine.plan_serial - 1)]


# -- new settings while it runs --------------------------------------------------------------------


def test_new_settings_break_no_frame() -> None:
    """A twin that keeps its settings has the same values."""
    engine, twin = virtual(), virtual()
    for one in (engine, twin):
        board = Board()
        one.attach(board)
        run(one, board, 0.0, 3.0)
        if one is engine:
            one.apply(GridConfig(hold_ms=20.0, lost_after_ms=200.0))
        run(one, board, 3.0, 6.0)
    a, b = frames_of(engine), frames_of(twin)
    assert a.tobytes() == b.tobytes()


def test_a_loss_that_the_old_plan_had_not_seen_is_told_by_the_new_one() -> None:
    engine, board = virtual(), Board()
    engine.attach(board)
    run(engine, board, 0.0, 3.0)
    engine.take_events()
    board.send(T0_NS + 3 * S + 100_000_000, lost=(755, 756))
    engine.apply(GridConfig(hold_ms=30.0))
    run(engine, board, 3.1, 4.0)
    assert kinds(engine).count(TickEvent.GAP) == 1


def test_a_loss_that_the_old_plan_told_is_not_told_again() -> None:
    engine, board = virtual(), Board()
    engine.attach(board)
    run(engine, board, 0.0, 3.0, lost=(600, 601))
    engine.apply(GridConfig(hold_ms=30.0))
    run(engine, board, 3.0, 4.0)
    assert kinds(engine).count(TickEvent.GAP) == 1


def test_a_grid_that_begins_later_than_it_was_made_has_no_late_frames() -> None:
    """A daemon takes its time from its making to its first step."""
    engine = core.Engine(T0_NS)
    grid = Ring(core.grid_words(8), 64)
    engine.set_plan([make_idle(8, grid, engine.events, 0, GridConfig(hold_ms=0.0))])
    engine.begin(T0_NS + S)
    at_ns = T0_NS + S
    while grid.next < 3:
        at_ns = engine.step(at_ns)
    frames = core.GridReader(grid, deadline_ns=0).frames(0, 3)
    assert engine.grid_t0_ns == T0_NS + S
    assert [int(t_ns) for t_ns in frames["t_ns"]] == [T0_NS + S + k * GRID_NS for k in range(3)]
    assert engine.beats_skipped == 0
    with pytest.raises(RuntimeError, match="begun"):
        engine.begin(T0_NS)


# -- the reader ------------------------------------------------------------------------------------


def grid_with(n: int, slots: int = 64) -> tuple[core.Engine, Ring]:
    engine = core.Engine(T0_NS)
    grid = Ring(core.grid_words(8), slots)
    engine.set_plan([make_idle(8, grid, engine.events, 0, GridConfig(hold_ms=0.0))])
    due_ns = _due_ns(engine, grid)
    engine.step(due_ns + (n - 1) * GRID_NS)
    return engine, grid


def _due_ns(engine: core.Engine, grid: Ring) -> int:
    """When frame 0 is due."""
    at_ns = T0_NS
    while grid.next == 0:
        due_ns = at_ns
        at_ns = engine.step(at_ns)
    return due_ns


def test_a_reader_begins_with_what_is_new() -> None:
    engine, grid = grid_with(10)
    reader = core.GridReader(grid, deadline_ns=7_800_000)
    assert reader.drain(T0_NS + S) == (b"", 10, 0, None)
    engine.step(T0_NS + 2 * S)
    data, first, n, t_ns = reader.drain(T0_NS + 2 * S)
    frames = np.frombuffer(data, WIRE)
    assert (first, n) == (grid.next - 64, 64)
    assert t_ns == T0_NS + (grid.next - 1) * GRID_NS == frames["t_ns"][-1]
    assert (frames["index"] == np.arange(first, first + 64)).all()


def test_frames_that_were_overwritten_are_counted_and_leave_a_jump() -> None:
    engine, grid = grid_with(10)
    reader = core.GridReader(grid, deadline_ns=0)
    engine.step(T0_NS + 3 * S)
    _, first, _, _ = reader.drain(T0_NS)
    assert reader.overrun == first - 10 == grid.next - 64 - 10


def test_a_reader_takes_no_more_than_it_asked_for() -> None:
    _, grid = grid_with(10)
    reader = core.GridReader(grid, deadline_ns=0)
    reader.seek(2)
    assert reader.drain(T0_NS, 3)[1:3] == (2, 3)
    assert reader.drain(T0_NS, 100)[1:3] == (5, 5)
    assert reader.next == 10


def test_a_reader_ahead_of_the_grid_waits() -> None:
    _, grid = grid_with(10)
    reader = core.GridReader(grid, deadline_ns=0)
    reader.seek(1000)
    assert reader.drain(T0_NS) == (b"", 1000, 0, None)


def test_frames_published_after_their_deadline_are_late_and_counted() -> None:
    _, grid = grid_with(1)
    lateness = Histogram(7_800_000)
    reader = core.GridReader(grid, deadline_ns=7_800_000, lateness=lateness)
    due_ns = int(reader.frames(0, 1)[0]["due_ns"])
    flags = []
    for late_ns in (0, 7_800_000, 7_800_001):
        reader.seek(0)
        flags.append(np.frombuffer(reader.drain(due_ns + late_ns)[0], WIRE)["flags"][0])
    missing = int(Flag.MISSING)
    assert flags == [missing, missing, missing | int(Flag.LATE)]
    assert (lateness.count, lateness.missed, lateness.max_ns) == (3, 1, 7_800_001)


def test_a_ring_that_is_no_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="no grid ring"):
        core.GridReader(Ring(core.grid_words(core.MAX_VALUES) + 1, 4), deadline_ns=0)


def test_events_that_were_overwritten_are_counted() -> None:
    engine = core.Engine(T0_NS, n_events=8)
    ring = Ring(NATIVE_HEAD_WORDS + 1, 256)
    intake = Intake(ring, 250.0, 1)
    grid = Ring(core.grid_words(1), 64)
    spec = DeviceSpec("test", "test:", "test", 250.0, ("A",))
    engine.set_plan([make_source(spec, intake, grid, engine.events, 0, GridConfig())])
    for n in range(0, 60, 2):
        intake.indexed(n, T0_NS + n * PERIOD_NS, np.zeros(1))
    engine.step(T0_NS + S)
    events, next_event, lost = engine.take_events(0)
    assert next_event == engine.events.next >= 30
    assert (len(events), lost) == (8, next_event - 8)
    assert engine.take_events(next_event) == ([], next_event, 0)


# -- sources and plans -----------------------------------------------------------------------------


def test_sources_that_cannot_be_are_refused() -> None:
    events = core.Engine(T0_NS).events
    grid = Ring(core.grid_words(1), 64)
    intake = Intake(Ring(NATIVE_HEAD_WORDS + 1, 64), 250.0, 1)
    table = np.ones((3, 2)) / 2
    with pytest.raises(ValueError, match="resampler's table"):
        core.Source(intake, grid, events, n_channels=1)
    with pytest.raises(ValueError, match="channels"):
        core.Source(intake, grid, events, n_channels=2, table=table)
    with pytest.raises(ValueError, match="rings don't fit"):
        core.Source(None, grid, events, n_channels=2)
    with pytest.raises(ValueError, match="rings don't fit"):
        core.Source(None, grid, Ring(1, 64), n_channels=1)
    with pytest.raises(ValueError, match="nothing to learn"):
        core.Source(None, grid, events, n_channels=1).warm(0, 0, 0)


def test_a_state_of_another_build_is_refused() -> None:
    engine = core.Engine(T0_NS)
    source = make_idle(1, Ring(core.grid_words(1), 64), engine.events, 0, GridConfig())
    with pytest.raises(ValueError, match="another build"):
        source.restore(b"short")
    with pytest.raises(ValueError, match="another build"):
        engine.restore(b"short")
    with pytest.raises(ValueError, match="another build"):
        core.Source.grid_next_of(b"short")


def test_a_plan_has_room_for_so_many_sources() -> None:
    engine = core.Engine(T0_NS)
    sources = [
        make_idle(1, Ring(core.grid_words(1), 64), engine.events, number, GridConfig())
        for number in range(core.MAX_SOURCES + 1)
    ]
    with pytest.raises(ValueError, match="at most 8"):
        engine.set_plan(sources)
    assert engine.sources == ()


# -- the thread ------------------------------------------------------------------------------------


def wait_for_news(fd: int) -> None:
    assert select.select([fd], [], [], 30)[0]
    os.eventfd_read(fd)


@pytest.fixture
def notify_fd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def ticking(notify_fd: int, priority: int = 0) -> tuple[core.Engine, Ring]:
    engine = core.Engine(core.now_ns())
    grid = Ring(core.grid_words(1), 1 << 10)
    engine.set_plan([make_idle(1, grid, engine.events, 0, GridConfig())])
    engine.start(notify_fd, priority=priority)
    return engine, grid


def test_the_thread_takes_the_steps_until_it_is_stopped(notify_fd: int) -> None:
    engine, grid = ticking(notify_fd)
    assert engine.running
    with pytest.raises(RuntimeError, match="takes the steps"):
        engine.step(0)
    with pytest.raises(RuntimeError, match="running already"):
        engine.start(notify_fd)
    wait_for_news(notify_fd)
    engine.stop()
    engine.stop()
    assert not engine.running
    assert grid.next > 0
    engine.step(core.now_ns())


def test_old_plans_are_let_go_while_it_runs(notify_fd: int) -> None:
    engine, grid = ticking(notify_fd)
    gc.freeze()  # or each collection goes through all that other tests have left
    for _ in range(20):
        engine.set_plan([make_idle(1, grid, engine.events, 0, GridConfig())])
        gc.collect()
        wait_for_news(notify_fd)
    gc.unfreeze()
    assert engine.retired_plans <= 4
    engine.stop()
    assert engine.retired_plans == 0


def test_a_refused_priority_is_reported_and_it_ticks(notify_fd: int) -> None:
    engine, _ = ticking(notify_fd, priority=1000)
    wait_for_news(notify_fd)
    assert engine.promote_error == errno.EINVAL
    engine.stop()


def test_an_engine_that_is_dropped_ends_its_thread(notify_fd: int) -> None:
    engine, grid = ticking(notify_fd)
    wait_for_news(notify_fd)
    cycle: list[object] = [engine]
    cycle.append(cycle)
    del engine, cycle
    gc.collect()
    if select.select([notify_fd], [], [], 0)[0]:
        os.eventfd_read(notify_fd)
    before = grid.next
    assert not select.select([notify_fd], [], [], 0.05)[0]
    assert grid.next == before


# -- publishing ------------------------------------------------------------------------------------


def test_the_publisher_hands_on_frames_and_events_in_order() -> None:
    engine, board = virtual(), Board()
    pieces: list[bytes] = []
    events: list[Event] = []
    publisher = Publisher(engine, events.append, frames=lambda data, _n: pieces.append(data))
    assert publisher.newest_ns is None
    engine.attach(board)
    for now_ns in range(T0_NS, T0_NS + 3 * S, PERIOD_NS):
        board.send(now_ns, lost=(500,))
        engine.step(now_ns)
        publisher.publish(now_ns)
    frames = np.frombuffer(b"".join(pieces), WIRE)
    assert (frames["index"] == np.arange(engine.slots[0].grid.next)).all()
    assert publisher.newest_ns == frames["t_ns"][-1]
    gap = next(event for event in events if event.kind == "gap")
    assert gap.message == "cyton: 1 sample lost (0.004 s)"
    assert gap.fields["first_index"] == 500


@pytest.mark.parametrize("known", [True, False])
def test_a_mark_of_the_device_is_a_marker_at_its_samples_time(known: bool) -> None:
    spec = DeviceSpec("cyton", "cyton:", "cyton", 250.0, MONTAGE)
    for value, label in ((ord("M"), "M"), (7, "7"), (0x1234, "4660")):
        marker = marker_of(
            (5, TickEvent.MARKER, 3, 10, value, 99, 0.0), lambda _: spec if known else None
        )
        assert marker is not None and (marker.t_ns, marker.label) == (99, label)
        assert marker.payload == {
            "device_id": "cyton" if known else None,
            "value": value,
            "index": 10,
        }
    assert marker_of((5, TickEvent.GAP, 3, 10, 2, 1, 0.5), lambda _: None) is None


@pytest.mark.parametrize("kind", [kind for kind in TickEvent if kind is not TickEvent.MARKER])
@pytest.mark.parametrize("known", [True, False])
def test_each_event_of_the_tick_has_a_line(kind: TickEvent, known: bool) -> None:
    spec = DeviceSpec("cyton", "cyton:", "cyton", 250.0, MONTAGE)
    event = describe((5, kind, 3, 10, 2, 1, 0.5), lambda _slot: spec if known else None)
    assert event.message
    assert event.kind in ("gap", "device", "clock", "tick")
    assert event.fields["t_ns"] == 5
    if kind is not TickEvent.LATE_TICK:
        assert event.device_id == ("cyton" if known else None)
        assert ("slot 3" in event.message) != known
