"""Port 7069: frames go from the tick's ring to the sockets in a thread of their own.

What comes by here are connections that arrive and leave, and other grids (csrc/pd_frames.h has the
rest). All of it belongs to the event loop.
"""

from __future__ import annotations

import contextlib
import socket
import uuid
from collections.abc import Callable, Iterator
from typing import Protocol

from phantomd.contracts import GRID_HZ, EegHeader, StreamStatus
from phantomd.core.frames import Frames
from phantomd.core.hist import Histogram
from phantomd.core.ring import Ring
from phantomd.engine.engine import refused
from phantomd.engine.ledger import EEG_DEADLINE_NS
from phantomd.engine.orders import Orders
from phantomd.net.threaded import ThreadedPort

_NEWS_A_TURN = 32


class Grid(Protocol):
    """What the port is of: slot 0 of the engine."""

    number: int
    labels: tuple[str, ...]
    grid: Ring
    epoch: uuid.UUID


class EegPort(ThreadedPort):
    """The stream of ``slot``. The tick is to write ``tick_fd``; ``loop_fd`` is written when its
    frames are out and the loop has use for that. ``changing`` goes around a change of the grid."""

    def __init__(
        self,
        host: str,
        port: int,
        slot: Callable[[], Grid],
        *,
        lateness: Histogram | None = None,
        loop_fd: int = -1,
        max_clients: int = 256,
        priority: int = 0,
        cpu: int = -1,
    ) -> None:
        super().__init__("eeg", host, port, max_clients=max_clients, priority=priority, cpu=cpu)
        self._slot = slot
        self._grid: Ring | None = None
        self.core = self._core = Frames(
            max_clients,
            deadline_ns=EEG_DEADLINE_NS,
            notify_fd=self._notify_fd,
            loop_fd=loop_fd,
            lateness=lateness,
        )
        self.orders = Orders(self.core)

    @property
    def tick_fd(self) -> int:
        return self.core.tick_fd

    @property
    def newest_ns(self) -> int | None:
        """Instant of the newest frame."""
        return self.core.newest_ns

    def loop_from(self, index: int) -> None:
        """The loop need not be woken for the sake of frames before this one."""
        self.core.loop_from(index)

    async def start(self) -> None:
        """Raises PortInUse, PortNotAllowed, ConfigError, OSError."""
        self._switch(self._slot())
        await super().start()

    def status(self) -> StreamStatus:
        return StreamStatus(len(self._sockets), self.core.published, self.core.dropped)

    def degraded(self) -> list[str]:
        notes = self._priority_notes("frames", "the frames")
        if self.core.lock_error:
            why = refused(
                "locking memory",
                self.core.lock_error,
                "raise LimitMEMLOCK or `ulimit -l`; see docs/realtime.md",
            )
            notes.append(f"frames-memory: {why}")
        return notes

    @contextlib.contextmanager
    def changing(self, slot: Grid) -> Iterator[None]:
        """Within it, a slot may get another grid, which begins at the index at which the old one
        stands: what the tick still makes in the old one is not published, it is made again in the
        new. Connections end after what was published; new ones get the new header."""
        if slot.number or not self._running:
            yield
            return
        self.core.hold()
        try:
            yield
        finally:
            if slot.grid is self._grid:
                self.core.let_go()
            else:
                self._switch(slot)

    def _switch(self, slot: Grid) -> None:
        before, self._grid = self._grid, slot.grid
        header = EegHeader(slot.labels, float(GRID_HZ), 0, 0, slot.epoch.bytes).encode()
        self.orders.give("switch", grid=slot.grid, value=slot.grid.oldest, message=header)
        if before is not None:
            self.orders.done().add_done_callback(lambda _: self.core.forget(before))

    def _take(self, number: int, sock: socket.socket) -> None:
        self.orders.give("join", connection=number, value=sock.fileno())

    def _too_many(self) -> bytes:
        return b""

    def _take_news(self) -> bool:
        news = self.core.take_news(_NEWS_A_TURN)
        for what, number, why, value, rest in news:
            match what:
                case "left":
                    self._left(number, None if why == "gone" else rest)
                case "half":
                    self._half(number)
                case "done":
                    self.orders.finish(value)
        return len(news) == _NEWS_A_TURN
