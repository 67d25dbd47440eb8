"""Orders to a thread of the core: kept when its queue is full, and waited for where it matters."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

#: Between two looks at a full queue.
_AGAIN_S = 0.001


class Ordered(Protocol):
    """Who takes orders; ``ticket`` among them, whose ``value`` it gives back at its turn."""

    @property
    def order(self) -> Callable[..., bool]:
        """By name, with what belongs to it. False: its queue is full."""


class Orders:
    """Belongs to the event loop. Orders are carried out in the order in which they were given."""

    def __init__(self, core: Ordered) -> None:
        self._core = core
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._again: asyncio.TimerHandle | None = None
        self._tickets: dict[int, asyncio.Future[None]] = {}
        self._next_ticket = 0

    def give(self, what: str, **how: Any) -> None:
        if self._waiting or not self._core.order(what, **how):
            self._waiting.append((what, how))
            if self._again is None:
                self._again = asyncio.get_running_loop().call_later(_AGAIN_S, self._retry)

    def done(self) -> asyncio.Future[None]:
        """Done when everything that was ordered until now has been carried out."""
        self._next_ticket += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tickets[self._next_ticket] = future
        self.give("ticket", value=self._next_ticket)
        return future

    def finish(self, ticket: int) -> None:
        """The thread says so."""
        future = self._tickets.pop(ticket, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _retry(self) -> None:
        self._again = None
        while self._waiting:
            what, how = self._waiting[0]
            if not self._core.order(what, **how):
                self._again = asyncio.get_running_loop().call_later(_AGAIN_S, self._retry)
                return
            self._waiting.popleft()
