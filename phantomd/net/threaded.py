"""A port whose connections belong to a thread of the core, from their greeting to their end.

Listening, accepting and farewells stay with the event loop; a connection goes by its number. The
thread is told by orders (engine/orders.py), and tells by news that an eventfd announces.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
from collections import deque
from typing import Protocol

from phantomd.engine.engine import refused
from phantomd.engine.orders import Ordered, Orders
from phantomd.net.listen import Farewells, Listener, listening, prepare

log = logging.getLogger(__name__)

#: Of the daemon besides this port: other streams, devices, files.
_OTHER_DESCRIPTORS = 1024


def _allow_descriptors(n: int) -> None:
    """The usual soft limit is 1024; the hard one may be raised to without asking anybody."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < n:
        most = n if hard == resource.RLIM_INFINITY else min(n, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


class Core(Ordered, Protocol):
    """The thread. ``end`` (connection) and ``end-all`` are among its orders."""

    def start(self, priority: int = 0, cpu: int = -1) -> None: ...
    def stop(self) -> None: ...
    @property
    def promote_error(self) -> int: ...


class ThreadedPort:
    """``start``, then it streams until ``close``; the interface of a StreamServer.

    A port of a kind says how a connection begins (``_take``), what its last word is where it is one
    too many (``_too_many``), and what the thread's news mean (``_take_news``, which returns whether
    there is more). It tells of who left by ``_left``, of who closed a half by ``_half``.
    """

    def __init__(
        self, name: str, host: str, port: int, *, max_clients: int, priority: int, cpu: int
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self._max_clients = max_clients
        self._priority = priority
        self._cpu = cpu
        self._notify_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._free = list(range(max_clients - 1, -1, -1))
        self._sockets: dict[int, socket.socket] = {}
        self._half_closed: dict[int, None] = {}
        #: Each comes in place of a half-closed one that is ending.
        self._waiting: deque[socket.socket] = deque()
        self._full = False
        self._listener: Listener | None = None
        self._running = False

    _core: Core
    orders: Orders

    # -- of a kind ---------------------------------------------------------------------------------

    def _take(self, number: int, sock: socket.socket) -> None:
        """A connection begins: the thread is to have it."""
        raise NotImplementedError

    def _too_many(self) -> bytes:
        """For one that finds no room."""
        raise NotImplementedError

    def _take_news(self) -> bool:
        """A turn's worth of what the thread tells; whether there may be more."""
        raise NotImplementedError

    def _tidy(self) -> None:
        """Before everybody's end."""

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises PortInUse, PortNotAllowed, ConfigError, OSError."""
        self._loop = asyncio.get_running_loop()
        self._farewells = Farewells(self._max_clients)
        _allow_descriptors(self._max_clients + _OTHER_DESCRIPTORS)
        sock = await listening(self.name, self.host, self.port)
        self.port = sock.getsockname()[1]
        self._loop.add_reader(self._notify_fd, self._told)
        self._core.start(self._priority, self._cpu)
        self._running = True
        self._listener = Listener(sock, self.name, self._accepted)

    async def close(self, flush_s: float = 0.3) -> None:
        """Stop listening, and give readers what is queued, then FIN. Takes at most ``flush_s``."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        self._tidy()
        while self._waiting:
            self._farewells.add(self._waiting.popleft(), b"")
        self.orders.give("end-all")
        await self.orders.done()
        self._core.stop()
        self._running = False
        self._loop.remove_reader(self._notify_fd)
        os.close(self._notify_fd)
        await self._farewells.finish(flush_s)

    def _priority_notes(self, name: str, whose: str) -> list[str]:
        """For ``status``: that the thread has not the priority that it was to have."""
        if not self._core.promote_error:
            return []
        why = refused(
            f"SCHED_FIFO {self._priority} for {whose}",
            self._core.promote_error,
            "give LimitRTPRIO=99 (systemd) or an rtprio limit; see docs/realtime.md",
        )
        return [f"{name}-priority: {why}"]

    # -- arriving and leaving ----------------------------------------------------------------------

    def _accepted(self, sock: socket.socket) -> None:
        try:
            prepare(sock)
        except OSError:  # it has already gone
            sock.close()
            return
        if self._free:
            self._full = False
            self._begin(sock)
        elif self._half_closed:
            # Who has closed a half may have closed wholly: the first such makes room.
            number = next(iter(self._half_closed))
            del self._half_closed[number]
            self.orders.give("end", connection=number)
            self._waiting.append(sock)
        else:
            self._turn_away(sock)

    def _begin(self, sock: socket.socket) -> None:
        number = self._free.pop()
        self._sockets[number] = sock
        self._take(number, sock)

    def _turn_away(self, sock: socket.socket) -> None:
        if not self._full:
            self._full = True
            log.warning("%s has %d clients: no more are taken", self.name, self._max_clients)
        self._farewells.add(sock, self._too_many())

    def _half(self, number: int) -> None:
        self._half_closed[number] = None

    def _left(self, number: int, rest: bytes | None) -> None:
        """``rest``: its last bytes; None: there is nobody to send any to."""
        sock = self._sockets.pop(number)
        self._half_closed.pop(number, None)
        if rest is None:
            sock.close()
        else:
            self._farewells.add(sock, rest)
        self._give_back(number)

    def _give_back(self, number: int) -> None:
        self._free.append(number)
        if self._waiting:
            self._begin(self._waiting.popleft())

    def _told(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._notify_fd)
        self._go_on()

    def _go_on(self) -> None:
        if self._take_news():
            self._loop.call_soon(self._go_on)
