"""From the engine to the ports: one wake-up of the event loop, frames and events on their way."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from phantomd.contracts import Event, Marker
from phantomd.core.engine import GridReader
from phantomd.engine.engine import Engine
from phantomd.engine.events import describe, marker_of

Frames = Callable[[bytes, int], None]
Emit = Callable[[Event], None]


class Publisher:
    """Reads slot 0's grid and the tick's events; the same code on both clocks."""

    def __init__(
        self,
        engine: Engine,
        frames: Frames,
        emit: Emit,
        mark: Callable[[Marker], None] = lambda _: None,
    ) -> None:
        self._mark = mark
        self._engine = engine
        self._frames = frames
        self._emit = emit
        self.reader_grid = engine.slots[0].grid
        self.reader: GridReader = engine.reader(engine.slots[0])
        self.newest_ns: int | None = None

    def publish(self, now_ns: int) -> None:
        """Hands on all that the tick has made by now."""
        self._drain(now_ns)
        raw_events, lost = self._engine.take_events()
        for raw in raw_events:
            marker = marker_of(raw, self._engine.spec_of)
            if marker is not None:
                self._mark(marker)
            else:
                self._emit(describe(raw, self._engine.spec_of))
        if lost:
            self._emit(Event("alert", "alert", f"{lost} events of the tick were lost"))

    def publish_frames(self, now_ns: int) -> None:
        """Those alone that the tick has made by now."""
        self._drain(now_ns)

    def leave_grid(self, now_ns: int) -> None:
        """Slot 0 has another grid, in the same turn of the loop: the old one is read up to where
        that begins. The tick may have gone on in it, and makes those frames again in the new."""
        first = self._engine.slots[0].grid.oldest
        self._drain(now_ns, max(0, first - self.reader.next))

    def enter_grid(self) -> None:
        """Goes on with the new grid, from its first frame."""
        self.reader_grid = self._engine.slots[0].grid
        self.reader = self._engine.reader(self._engine.slots[0])
        self.reader.seek(self.reader_grid.oldest)

    def _drain(self, now_ns: int, most: int = 4096) -> None:
        data, _, n_frames, t_ns = self.reader.drain(now_ns, most)
        if n_frames:
            self.newest_ns = t_ns
            self._frames(data, n_frames)


class Waker:
    """The eventfd between the tick thread and the event loop."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self.fd = -1

    def start(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        asyncio.get_running_loop().add_reader(self.fd, self._readable)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self.fd)
        os.close(self.fd)
        self.fd = -1

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        self._call()
