"""The analysis behind a device made anew while it streams: for a new configuration, or to go on
without channels that were found bad.

It is made beside the loop and learns from the signal ring; the tick takes it at a change of plan,
as of one sample. Clock, grid and native ring know nothing of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from phantomd.config import Config
from phantomd.engine.beside import beside
from phantomd.engine.engine import Engine, Renewal, Slot
from phantomd.errors import ConfigError

log = logging.getLogger(__name__)


class Renewals:
    """Belongs to the event loop. ``changed`` is told of each slot whose windows come in another
    ring from now on."""

    def __init__(self, engine: Engine, changed: Callable[[Slot], None]) -> None:
        self._engine = engine
        self._changed = changed
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def leave_out(self, device_id: str, labels: frozenset[str]) -> None:
        """The device's analysis goes on without these channels, and with all others again."""
        task = asyncio.get_running_loop().create_task(self._leave_out(device_id, labels))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def take(self, config: Config, hold: Callable[[Config], None]) -> None:
        """Grid and analysis are of this configuration. ``hold`` is called with what holds from that
        moment on. Raises ConfigError, and nothing has changed."""
        engine = self._engine
        await beside(engine.prepare_all, config)
        grid = msgspec.structs.replace(engine.config, grid=config.grid)
        if grid != engine.config:
            hold(grid)
            engine.apply(config.grid)
        if config != engine.config:
            await self._reload(config, lambda: hold(config))

    async def _reload(self, config: Config, commit: Callable[[], None]) -> None:
        async with self._changing:
            adopted = False
            while not adopted:
                slots = [slot for slot in self._engine.slots if slot.spec is not None]
                made = [await self._renew(slot, config, slot.left_out) for slot in slots]
                adopted = self._engine.adopt([one for one in made if one is not None], config)
            commit()
            for slot in slots:
                self._changed(slot)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # -- inside ------------------------------------------------------------------------------------

    async def _leave_out(self, device_id: str, labels: frozenset[str]) -> None:
        async with self._changing:
            while True:
                slot = self._slot_of(device_id)
                if slot is None or slot.left_out == labels:
                    return
                renewal = await self._renew(slot, slot.config, labels)
                if renewal is None:
                    return
                if self._engine.adopt([renewal]):
                    self._changed(slot)
                    return

    async def _renew(self, slot: Slot, config: Config, left_out: frozenset[str]) -> Renewal | None:
        try:
            return await beside(self._engine.renew, slot, config, left_out)
        except ValueError as error:
            raise ConfigError(f"no such analysis: {error}", hint="it stays as it was") from error

    def _slot_of(self, device_id: str) -> Slot | None:
        for slot in self._engine.slots:
            if slot.spec is not None and slot.spec.device_id == device_id:
                return slot
        return None

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the analysis could not be made anew", exc_info=error)
