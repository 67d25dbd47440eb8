"""Port 7069 with its thread, real sockets, and a grid that the test is the tick of."""

import errno
import itertools
import os
import socket
import struct
import sys
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from served import Host, connect, read, read_all

from phantomd.contracts import GRID_NS, EegHeader, Flag
from phantomd.core.engine import grid_words, now_ns, wall_offset_ns
from phantomd.core.frames import HISTORY, Frames
from phantomd.core.hist import Histogram
from phantomd.core.ring import Ring
from phantomd.errors import PortInUse
from phantomd.net.eeg import EegPort

LABELS = ("C3", "C4")
HEADER_BYTES = 96
FRAME = struct.Struct("<QqII2f")
SLOTS = 4096


@pytest.fixture(params=["uvloop", "asyncio"])
def host(request):
    with Host(request.param) as host:
        yield host


class Served:
    """The port, and what slot 0 is to it."""

    def __init__(self, host: Host, first: int = 10, **more) -> None:
        self.host = host
        grid = Ring(grid_words(2), SLOTS, first=first)
        self.slot = SimpleNamespace(number=0, labels=LABELS, grid=grid, epoch=uuid.uuid4())
        self.lateness = Histogram(7_800_000)
        self.loop_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.port = EegPort(
            "127.0.0.1", 0, lambda: self.slot, lateness=self.lateness, loop_fd=self.loop_fd, **more
        )
        host.start(self.port)

    def push(self, n: int = 1, grid: Ring | None = None, late_ns: int = 0) -> None:
        """As the tick: frames that are due now, and one wake-up."""
        grid = grid or self.slot.grid
        for _ in range(n):
            frame = np.zeros(grid.words, np.uint64)
            due_ns = now_ns() - late_ns
            frame[0] = due_ns - 20_000_000
            frame[1] = due_ns
            frame[5:].view(np.float64)[:] = grid.next + np.arange(grid.words - 5)
            grid.push(frame)
        os.eventfd_write(self.port.tick_fd, 1)

    def status(self):
        return self.host.call(self.port.status)

    def until_dropped(self, n: int, at_once: int = 64) -> None:
        while self.status().dropped < n:
            self.push(at_once)

    def until_published(self) -> None:
        self.host.until(lambda: self.port.core.published == self.slot.grid.next - 10)

    def subscribe(self, count: int = 1, **how) -> list[socket.socket]:
        """Clients that have their header."""
        socks = [connect(self.port.port, **how) for _ in range(count)]
        for sock in socks:
            assert read(sock, HEADER_BYTES).startswith(b"PHANTOM1")
        return socks


@pytest.fixture
def served(host):
    served = Served(host)
    yield served
    host.wait(served.port.close())  # its thread writes the descriptor
    os.close(served.loop_fd)


def indices(data: bytes) -> list[int]:
    assert len(data) % FRAME.size == 0, "a frame is broken"
    return [row[0] for row in FRAME.iter_unpack(data)]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# -- out -------------------------------------------------------------------------------------------


def test_a_client_gets_the_header_and_every_frame_after_it(served):
    served.push(3)
    served.until_published()
    sock = connect(served.port.port)
    header = EegHeader.decode(read(sock, HEADER_BYTES))
    assert header.labels == LABELS and header.rate_hz == 128.0
    assert header.first_index == 13 and header.epoch == served.slot.epoch.bytes
    assert abs(header.wall_offset_ns - wall_offset_ns()) < 10**9
    served.push(2)
    served.push(1, late_ns=8_000_000)
    rows = list(FRAME.iter_unpack(read(sock, 3 * FRAME.size)))
    assert [row[0] for row in rows] == [13, 14, 15]
    assert [row[4:] for row in rows] == [(13, 14), (14, 15), (15, 16)]
    assert rows[2][2] == Flag.LATE and rows[2][3] >= 28_000
    assert all(row[3] >= 20_000 for row in rows)


def test_status_and_ledger_count_what_was_published(served):
    served.subscribe(2)
    served.push(5)
    served.until_published()
    status = served.status()
    assert (status.clients, status.published, status.dropped) == (2, 5, 0)
    assert served.lateness.count == 5
    newest = int(served.slot.grid.read(14)[0])
    assert served.port.newest_ns == newest


def test_the_event_loop_hears_of_the_tick_when_the_frames_are_out(served):
    [sock] = served.subscribe()
    sock.setblocking(False)
    for index in range(10, 30):
        served.push()
        while True:
            try:
                os.eventfd_read(served.loop_fd)
                break
            except BlockingIOError:
                time.sleep(0)
        assert indices(sock.recv(4096)) == [index]


def test_frames_that_the_event_loop_has_no_use_for_do_not_wake_it(served):
    def heard() -> bool:
        served.host.wait(ticket())  # the thread is done with what came before
        try:
            return os.eventfd_read(served.loop_fd) > 0
        except BlockingIOError:
            return False

    async def ticket() -> None:
        await served.port.orders.done()

    served.port.loop_from(12)
    served.push(2)
    assert not heard()
    served.push(1)
    assert heard(), "it waited for frame 12"
    served.port.loop_from(20)
    served.push(1)
    assert not heard()
    os.eventfd_write(served.port.tick_fd, 1 + (1 << 32))
    assert heard(), "a window, or an event"


def test_a_burst_loses_nothing_for_a_reader(served):
    [sock] = served.subscribe()
    served.push(3 * HISTORY)
    assert indices(read(sock, 3 * HISTORY * FRAME.size)) == list(range(10, 10 + 3 * HISTORY))


def test_a_hundred_subscribers_get_the_same(served):
    socks = served.subscribe(100)
    for _ in range(32):
        served.push(4)
    data = {read(sock, 128 * FRAME.size) for sock in socks}
    assert len(data) == 1 and indices(data.pop()) == list(range(10, 138))


# -- slow clients ----------------------------------------------------------------------------------


def test_a_slow_client_loses_its_own_oldest_frames_and_framing_holds(served):
    [slow] = served.subscribe(rcvbuf=4096)
    served.until_dropped(100)
    served.until_published()
    dropped = served.status().dropped
    published = served.port.core.published
    seen = indices(read(slow, (published - dropped) * FRAME.size))
    assert seen[0] == 10 and seen[-1] == 10 + published - 1
    assert sum(b - a - 1 for a, b in itertools.pairwise(seen)) == dropped


def test_readers_miss_nothing_beside_clients_that_do_not_read(served):
    served.subscribe(10, rcvbuf=4096)
    readers = served.subscribe(20)
    expected = 10
    while served.status().dropped < 10 * HISTORY:
        served.push(64)
        for sock in readers:
            seen = indices(read(sock, 64 * FRAME.size))
            assert seen == list(range(expected, expected + 64))
        expected += 64


# -- clients that go -------------------------------------------------------------------------------


def test_a_reset_removes_a_client(served):
    [sock, other] = served.subscribe(2)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    served.host.until(lambda: served.port.status().clients == 1)
    served.push()
    assert indices(read(other, FRAME.size)) == [10]


def test_a_half_closed_client_goes_on_getting_its_data(served):
    [sock] = served.subscribe()
    sock.shutdown(socket.SHUT_WR)
    served.host.until(lambda: bool(served.port._half_closed))
    served.push(2)
    assert indices(read(sock, 2 * FRAME.size)) == [10, 11]


def test_a_half_closed_client_makes_room_for_a_new_one(host):
    served = Served(host, max_clients=1)
    [old] = served.subscribe()
    old.shutdown(socket.SHUT_WR)
    served.host.until(lambda: bool(served.port._half_closed))
    [new] = served.subscribe()
    served.push()
    assert indices(read(new, FRAME.size)) == [10]
    assert read_all(old) == b""


def test_a_client_beyond_the_limit_is_closed(host):
    served = Served(host, max_clients=1)
    [sock] = served.subscribe()
    assert read_all(connect(served.port.port)) == b""
    served.push()
    assert indices(read(sock, FRAME.size)) == [10]


def test_vanishing_and_returning_clients_leave_no_descriptors_behind(served):
    before = descriptors()
    for _ in range(50):
        for sock in served.subscribe(2):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
    served.host.until(lambda: served.port.status().clients == 0)
    assert descriptors() <= before + 1


# -- what clients send -----------------------------------------------------------------------------

HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("start", [HTTP, b"POST / HTTP/1.1\r\n\r\n", b"PHANTOM2", b"PO"])
def test_what_can_not_begin_a_frame_stream_closes_that_connection_alone(served, start):
    [other] = served.subscribe()
    sock = connect(served.port.port)
    sock.sendall(start)
    assert len(read_all(sock)) == HEADER_BYTES
    served.push()
    assert indices(read(other, FRAME.size)) == [10]


def test_what_could_begin_one_is_thrown_away_and_changes_nothing(served):
    [sock] = served.subscribe()
    for part in (b"PHAN", b"TOM1", os.urandom(100_000)):
        sock.sendall(part)
    served.push()
    assert indices(read(sock, FRAME.size)) == [10]


# -- another grid ----------------------------------------------------------------------------------


def change(served: Served, n_channels: int) -> None:
    def act() -> None:
        with served.port.changing(served.slot):
            served.slot.labels = tuple(f"E{i}" for i in range(n_channels))
            served.slot.epoch = uuid.uuid4()
            first = served.slot.grid.next
            served.slot.grid = Ring(grid_words(n_channels), SLOTS, first=first)

    served.host.call(act)


def test_another_grid_ends_connections_after_what_was_published_and_the_index_goes_on(served):
    [old] = served.subscribe()
    before = served.slot.grid
    served.push(2)
    change(served, 4)
    served.push(3, grid=before)  # the tick has not heard of it yet
    assert indices(read_all(old)) == [10, 11]
    new = connect(served.port.port)
    header = EegHeader.decode(read(new, 64 + 4 * 16))
    assert header.labels == served.slot.labels and header.first_index == 12
    assert header.epoch == served.slot.epoch.bytes
    served.push(1)
    index, *_, value = struct.unpack("<QqII4f", read(new, 40))
    assert (index, value) == (12, 15.0)
    assert served.status().published == 3


def test_a_grid_that_is_not_changed_after_all_goes_on(served):
    [sock] = served.subscribe()

    def act() -> None:
        with served.port.changing(served.slot):
            served.push()

    served.host.call(act)
    assert indices(read(sock, FRAME.size)) == [10]


def test_a_grid_that_was_left_is_let_go(served):
    before = served.slot.grid
    held = sys.getrefcount(before)
    change(served, 2)
    served.host.until(lambda: sys.getrefcount(before) < held)


def test_another_slot_is_nothing_to_this_port(served):
    [sock] = served.subscribe()
    other = SimpleNamespace(number=1, labels=LABELS, grid=None, epoch=None)

    def act() -> None:
        with served.port.changing(other):
            other.grid = Ring(grid_words(2), 64)

    served.host.call(act)
    served.push()
    assert indices(read(sock, FRAME.size)) == [10]


# -- starting, closing -----------------------------------------------------------------------------


def test_a_port_in_use_is_named(served):
    port = EegPort("127.0.0.1", served.port.port, lambda: served.slot)
    with pytest.raises(PortInUse, match=str(served.port.port)):
        served.host.wait(port.start())


def test_closing_gives_readers_what_is_queued(served):
    [slow] = served.subscribe(rcvbuf=4096)
    while not served.status().dropped:
        served.push(8)
    served.push(5)
    got = []
    reader = threading.Thread(target=lambda: got.append(read_all(slow)))
    reader.start()
    served.host.wait(served.port.close(5.0))
    reader.join(10)
    status = served.status()
    seen = indices(got[0])
    assert len(seen) == status.published - status.dropped and seen[-1] == served.slot.grid.next - 1


def test_closing_does_not_wait_for_those_who_do_not_read(served):
    served.subscribe(rcvbuf=4096)
    served.until_dropped(1)
    began_s = time.monotonic()
    served.host.wait(served.port.close(0.05))
    assert time.monotonic() - began_s < 5.0


def test_what_the_system_refused_is_told_with_what_to_do(served):
    assert served.port.degraded() == [] or "frames-" in served.port.degraded()[0]
    core = served.port.core
    refusing = SimpleNamespace(promote_error=errno.EPERM, lock_error=errno.ENOMEM)
    served.port.core = served.port._core = refusing
    priority, memory = served.port.degraded()
    served.port.core = served.port._core = core
    assert priority.startswith("frames-priority") and "LimitRTPRIO" in priority
    assert memory.startswith("frames-memory") and "LimitMEMLOCK" in memory


# -- the core alone --------------------------------------------------------------------------------


def test_on_a_virtual_clock_a_step_does_what_the_thread_does():
    core = Frames(4, deadline_ns=7_800_000)
    grid = Ring(grid_words(2), 64)
    header = EegHeader(LABELS, 128.0, 0, 0, bytes(16)).encode()
    assert core.order("switch", grid=grid, value=0, message=header)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    assert core.order("join", connection=2, value=theirs.fileno())
    core.step(0)
    frame = np.zeros(grid.words, np.uint64)
    frame[0], frame[1] = GRID_NS, 2 * GRID_NS
    grid.push(frame)
    core.step(3 * GRID_NS)
    data = read(ours, HEADER_BYTES + FRAME.size)
    assert FRAME.unpack(data[HEADER_BYTES:]) == (0, GRID_NS, Flag.LATE, 2 * GRID_NS // 1000, 0, 0)
    assert core.newest_ns == GRID_NS and core.published == 1
    assert core.order("end-all") and core.order("ticket", value=7)
    core.step(4 * GRID_NS)
    assert core.take_news() == [
        ("left", 2, "ended", theirs.fileno(), b""),
        ("done", 0, "gone", 7, b""),
    ]


@pytest.mark.parametrize("grid", [Ring(5, 64), Ring(grid_words(3), 64), Ring(400, 64)])
def test_a_header_of_another_grid_is_a_mistake_of_the_caller(grid):
    core = Frames(4, deadline_ns=0)
    header = EegHeader(LABELS, 128.0, 0, 0, bytes(16)).encode()
    with pytest.raises(ValueError, match="header"):
        core.order("switch", grid=grid, message=header)
