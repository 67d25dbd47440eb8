"""Watches the wall clock: ``unix_ns = t_ns + wall_offset_ns`` holds until somebody steps it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from phantomd.core.engine import wall_offset_ns

#: NTP slews by 0.5 ms a second at the most; more is a step, or the host has slept.
STEP_NS = 10_000_000
EVERY_S = 1.0


class WallClock:
    """Looks once a second; ``stepped(old_ns, new_ns)`` is told of each step of the offset."""

    def __init__(
        self, stepped: Callable[[int, int], None], read: Callable[[], int] = wall_offset_ns
    ) -> None:
        self._stepped = stepped
        self._read = read
        self.offset_ns = read()
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(EVERY_S, self._again)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def look(self) -> None:
        """Compares with the last look."""
        before_ns, self.offset_ns = self.offset_ns, self._read()
        if abs(self.offset_ns - before_ns) > STEP_NS:
            self._stepped(before_ns, self.offset_ns)

    def _again(self) -> None:
        self.look()
        self.start()
