"""Setting and clearing the panic latch of a running daemon: who is told, when it is on the disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from phantomd.contracts import Event
from phantomd.core.engine import now_ns, wall_offset_ns
from phantomd.engine.beside import beside
from phantomd.intents.panic import Latch, PanicLatch

log = logging.getLogger(__name__)


class PanicSwitch:
    """Belongs to the event loop; the disk is written beside it, one change after the other."""

    def __init__(self, latch: PanicLatch, emit: Callable[[Event], None]) -> None:
        self._panic = latch
        self._emit = emit
        self._writes: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    def change(self, is_set: bool, reason: str) -> asyncio.Future[None]:
        """Setting takes effect now, clearing when it is on the disk and nobody has set it since.
        The future fails with StateUnusable."""
        before = self._panic.latch
        latch = Latch(is_set, reason, now_ns() + wall_offset_ns())
        if is_set:
            self._panic.take(latch)
            self.say("panic set")
        task = asyncio.get_running_loop().create_task(self._keep(latch, before))
        self._writes.add(task)
        task.add_done_callback(self._kept)
        return task

    def say(self, what: str) -> None:
        """To the log and on ``events``, with the reason."""
        reason = f": {self._panic.reason}" if self._panic.reason else ""
        log.warning("%s%s", what, reason)
        self._emit(
            Event(
                "panic",
                "alert" if self._panic.is_set else "info",
                what + reason,
                fields={"panic": self._panic.is_set},
            )
        )

    async def finish(self) -> None:
        """What is being written comes to the disk."""
        if self._writes:
            await asyncio.wait(self._writes)

    async def _keep(self, latch: Latch, before: Latch) -> None:
        async with self._turn:
            await beside(self._panic.write, latch)
        if not latch.set and self._panic.latch is before:
            self._panic.take(latch)
            self.say("panic cleared")

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._writes.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s", error)
