"""An event loop in a thread of its own: tests are blocking clients of what runs there."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import msgpack
import uvloop

from phantomd.contracts import EEG_MAGIC

T = TypeVar("T")
#: For what comes at once, on a host that may stand still: only a failure waits so long.
WAIT_S = 30.0
_clients: list[socket.socket] = []


class Host:
    """``call`` runs a function on the loop, ``wait`` a coroutine; both give its result."""

    def __init__(self, kind: str = "uvloop") -> None:
        self.loop = uvloop.new_event_loop() if kind == "uvloop" else asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._ending: list[Callable[[], Awaitable[None]]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while _clients:
            _clients.pop().close()
        for close in reversed(self._ending):
            self.wait(close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()

    def wait(self, awaitable: Awaitable[T]) -> T:
        async def run() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT_S)

    def call(self, function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
        async def run() -> T:
            return function(*arguments, **keywords)

        return self.wait(run())

    def start(self, server: Any) -> Any:
        """A server with ``start`` and ``close``; closed with the host."""
        self.wait(server.start())
        self._ending.append(server.close)
        return server

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so, looked at on the loop."""

        async def look() -> None:
            async with asyncio.timeout(WAIT_S):
                while not condition():
                    await asyncio.sleep(0)

        self.wait(look())


def eeg_opening(start: bytes) -> bool | None:
    """For a StreamServer that stands in for 7069: whether bytes can begin a frame stream."""
    if len(start) >= len(EEG_MAGIC):
        return start.startswith(EEG_MAGIC)
    return None if EEG_MAGIC.startswith(start) else False


def client(family: socket.AddressFamily) -> socket.socket:
    """A socket that can't hang a test, and is closed with the host."""
    sock = socket.socket(family)
    sock.settimeout(WAIT_S)
    _clients.append(sock)
    return sock


def connect(port: int, rcvbuf: int | None = None) -> socket.socket:
    """A client of a port on loopback; a small ``rcvbuf`` makes a client that soon is slow."""
    sock = client(socket.AF_INET)
    if rcvbuf is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    sock.connect(("127.0.0.1", port))
    return sock


def read(sock: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes."""
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        assert more, f"the stream ended after {len(data)} of {size} bytes"
        data += more
    return data


def read_messages(sock: socket.socket) -> Iterator[dict[str, Any]]:
    """The maps of a MessagePack stream, as they come."""
    unpacker = msgpack.Unpacker()
    while more := sock.recv(1 << 16):
        unpacker.feed(more)
        yield from unpacker


def read_all(sock: socket.socket) -> bytes:
    """Everything until the server ends the stream."""
    data = b""
    while more := sock.recv(1 << 16):
        data += more
    return data
