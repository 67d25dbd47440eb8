"""From the engine to the ports: what the tick told, and, on a virtual clock, its frames as well.

Live, frames go to port 7069 in a thread of their own (net/eeg.py), which then wakes the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from phantomd.contracts import Event, Marker
from phantomd.engine.engine import Engine
from phantomd.engine.events import describe, marker_of

Frames = Callable[[bytes, int], None]
Emit = Callable[[Event], None]


class Publisher:
    """Reads the tick's events and, for who takes ``frames``, slot 0's grid as it is now."""

    def __init__(
        self,
        engine: Engine,
        emit: Emit,
        mark: Callable[[Marker], None] = lambda _: None,
        frames: Frames | None = None,
    ) -> None:
        self._mark = mark
        self._engine = engine
        self._frames = frames
        self._emit = emit
        self._reader = engine.reader(engine.slots[0])
        self.newest_ns: int | None = None

    def publish(self, now_ns: int) -> None:
        """Hands on all that the tick has made by now."""
        if self._frames is not None:
            data, _, n_frames, t_ns = self._reader.drain(now_ns)
            if n_frames:
                self.newest_ns = t_ns
                self._frames(data, n_frames)
        raw_events, lost = self._engine.take_events()
        for raw in raw_events:
            marker = marker_of(raw, self._engine.spec_of)
            if marker is not None:
                self._mark(marker)
            else:
                self._emit(describe(raw, self._engine.spec_of))
        if lost:
            self._emit(Event("alert", "alert", f"{lost} events of the tick were lost"))


class Waker:
    """The eventfd on which the event loop hears that the tick has been."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    async def start(self) -> None:
        asyncio.get_running_loop().add_reader(self.fd, self._readable)

    async def stop(self) -> None:
        """Nobody writes it any more."""
        asyncio.get_running_loop().remove_reader(self.fd)
        os.close(self.fd)
        self.fd = -1

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        self._call()
