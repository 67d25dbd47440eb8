"""What a decoder author imports: the streams as iterators, and the control socket.

    from phantomd.client import connect

    with connect("eeg") as eeg:
        for frame in eeg:
            print(frame.index, frame.t_ns, frame.values)

Times are nanoseconds of the daemon host's CLOCK_MONOTONIC; ``wall_offset_ns`` added to one makes
it unix time. An iteration ends when the daemon closes the stream (it stopped, or the stream's
layout changed: connect again and read the new header).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, overload

import msgpack
import msgspec
import numpy as np
import numpy.typing as npt

from phantomd.contracts import BASE_PORT, JSON_STREAMS, PORTS, EegHeader, Flag
from phantomd.control import Control, refused
from phantomd.errors import NoDaemon, UsageError

__all__ = [
    "AsyncConnection",
    "Connection",
    "Control",
    "EegConnection",
    "Frame",
    "MessageConnection",
    "aconnect",
    "connect",
]

_RECV_BYTES = 64 * 1024
_MESSAGE_BYTES = 64 << 20
#: Index, t_ns, flags, age_us; the values follow.
_FRAME = struct.Struct("<QqII")
_FLOAT32 = np.dtype("<f4")
_STREAMS = tuple(name for name in PORTS if name not in ("control", "metrics"))
T = TypeVar("T")


class Frame(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A frame of 7069: ``values`` is float32 microvolt, one a channel, NaN where MISSING.

    ``lost``: how many frames this client lost right before it, by being too slow.
    """

    index: int
    t_ns: int
    flags: Flag
    age_us: int
    values: npt.NDArray[np.float32]
    lost: int = 0


class _Parser(Protocol[T]):
    """Bytes to items; the first thing of a stream (header, metadata) is kept."""

    @property
    def ready(self) -> bool:
        """The first thing is there."""

    def feed(self, data: bytes) -> list[T]: ...


class _Frames:
    def __init__(self) -> None:
        self.header: EegHeader | None = None
        self.lost = 0
        self._data = bytearray()
        self._frame_bytes = 0
        self._expected = 0

    @property
    def ready(self) -> bool:
        return self.header is not None

    def feed(self, data: bytes) -> list[Frame]:
        """Raises ValueError on what is no stream of frames."""
        self._data += data
        if self.header is None and not self._begin():
            return []
        assert self.header is not None
        whole = len(self._data) - len(self._data) % self._frame_bytes
        rows = self._data[:whole]
        del self._data[:whole]
        n_channels = len(self.header.labels)
        frames = []
        # They mostly come one by one: whoever waits for one has it after a few microseconds.
        for at in range(0, whole, self._frame_bytes):
            index, t_ns, flags, age_us = _FRAME.unpack_from(rows, at)
            values = np.frombuffer(rows, _FLOAT32, n_channels, at + _FRAME.size)
            lost = index - self._expected
            self.lost += lost
            self._expected = index + 1
            frames.append(Frame(index, t_ns, Flag(flags), age_us, values, lost))
        return frames

    def _begin(self) -> bool:
        if len(self._data) < 12:
            return False
        size = EegHeader.size(bytes(self._data[:12]))
        if len(self._data) < size:
            return False
        self.header = header = EegHeader.decode(bytes(self._data[:size]))
        self._frame_bytes = int.from_bytes(self._data[12:16], "little")
        del self._data[:size]
        self._expected = header.first_index
        return True


class _Messages:
    def __init__(self, stream: str, everything: bool) -> None:
        self.metadata: dict[str, Any] | None = None
        self.wall_offset_ns = 0
        self.lost = 0
        self.json = stream in JSON_STREAMS
        self._everything = everything
        self._line = b""
        self._unpacker = msgpack.Unpacker(max_buffer_size=_MESSAGE_BYTES, strict_map_key=False)

    @property
    def ready(self) -> bool:
        return self.metadata is not None

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Raises ValueError on what is no stream of messages, ControlError on a refusal that ends
        the connection."""
        messages = []
        for message in self._json(data) if self.json else self._msgpack(data):
            if not isinstance(message, dict):
                raise ValueError(f"not a message: {message!r}")  # noqa: TRY004 (the peer's mistake)
            if self._note(message) or self._everything:
                messages.append(message)
        return messages

    def _note(self, message: dict[str, Any]) -> bool:
        """Whether it is one for everybody, rather than about the connection."""
        match message.get("type"):
            case "metadata":
                self.metadata = message
                self.wall_offset_ns = message["wall_offset_ns"]
            case "gap":
                self.lost += message["count"]
            case "clock":
                self.wall_offset_ns = message["wall_offset_ns"]
            case "error" if message.get("closing"):
                raise refused(message)
            case _:
                return True
        return False

    def _json(self, data: bytes) -> list[Any]:
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _MESSAGE_BYTES:
            raise ValueError("a line without an end")
        return [msgspec.json.decode(line) for line in lines if line.strip()]

    def _msgpack(self, data: bytes) -> list[Any]:
        self._unpacker.feed(data)
        return list(self._unpacker)


class Connection(Iterator[T]):
    """A subscription. Iterate over it; ``with`` closes it."""

    def __init__(self, sock: socket.socket, parser: _Parser[T], stream: str) -> None:
        self.stream = stream
        self._sock = sock
        self._parser = parser
        self._items: deque[T] = deque()
        while not parser.ready:
            if not self._receive():
                raise _ended(stream)

    def __next__(self) -> T:
        while not self._items:
            if not self._receive():
                raise StopIteration
        return self._items.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def timeout(self, seconds: float | None) -> None:
        """How long an iteration may wait for the next item before it raises TimeoutError."""
        self._sock.settimeout(seconds)

    def _receive(self) -> bool:
        try:
            data = self._sock.recv(_RECV_BYTES)
        except ConnectionError:
            data = b""
        self._items.extend(self._parser.feed(data))
        return bool(data)


class EegConnection(Connection[Frame]):
    """Frames of 7069, with the header that came first."""

    _parser: _Frames

    @property
    def header(self) -> EegHeader:
        assert self._parser.header is not None
        return self._parser.header

    @property
    def lost(self) -> int:
        """Frames that this client lost so far, by being too slow."""
        return self._parser.lost


class MessageConnection(Connection[dict[str, Any]]):
    """Messages of a JSON or MessagePack stream as maps, ``data`` in ``message["data"]``."""

    _parser: _Messages

    @property
    def metadata(self) -> dict[str, Any]:
        """The newest metadata message (a two-way stream can send another)."""
        assert self._parser.metadata is not None
        return self._parser.metadata

    @property
    def wall_offset_ns(self) -> int:
        return self._parser.wall_offset_ns

    @property
    def lost(self) -> int:
        """Messages that this client lost so far, by being too slow."""
        return self._parser.lost

    def send(self, message: Mapping[str, Any]) -> None:
        """Say something on a two-way stream (markers, spikes)."""
        self._sock.sendall(msgspec.msgpack.encode(message))


@overload
def connect(  # type: ignore[overload-overlap]
    stream: Literal["eeg"] = "eeg",
    host: str = ...,
    port: int | None = ...,
    *,
    base_port: int = ...,
    timeout_s: float = ...,
) -> EegConnection: ...
@overload
def connect(
    stream: str,
    host: str = ...,
    port: int | None = ...,
    *,
    base_port: int = ...,
    timeout_s: float = ...,
    everything: bool = ...,
) -> MessageConnection: ...
def connect(
    stream: str = "eeg",
    host: str = "127.0.0.1",
    port: int | None = None,
    *,
    base_port: int = BASE_PORT,
    timeout_s: float = 5.0,
    everything: bool = False,
) -> EegConnection | MessageConnection:
    """Subscribe to a stream by its name: ``eeg``, ``focus``, ``events``, …

    ``port`` overrides what ``base_port`` and the name make. ``everything`` also yields what is
    about the connection (metadata, gaps, clock steps). Raises NoDaemon where nobody listens or
    answers within ``timeout_s``, UsageError on an unknown stream.
    """
    where = (host, _port(stream, port, base_port))
    try:
        sock = socket.create_connection(where, timeout=timeout_s)
    except OSError as error:
        raise _nobody(stream, where, error) from error
    # An iteration may wait for ever, but not for a daemon whose host has died.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Else an answer on 7072 waits for the daemon's next packet to confirm the one before it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        connection: EegConnection | MessageConnection
        if stream == "eeg":
            connection = EegConnection(sock, _Frames(), stream)
        else:
            connection = MessageConnection(sock, _Messages(stream, everything), stream)
    except BaseException as error:
        sock.close()
        if isinstance(error, ValueError | OSError):
            raise _nobody(stream, where, error) from error
        raise
    connection.timeout(None)
    return connection


async def aconnect(
    stream: str = "eeg",
    host: str = "127.0.0.1",
    port: int | None = None,
    *,
    base_port: int = BASE_PORT,
    timeout_s: float = 5.0,
) -> AsyncConnection:
    """``connect`` for asyncio: ``async for frame in await aconnect("eeg")``."""
    where = (host, _port(stream, port, base_port))
    parser = _Frames() if stream == "eeg" else _Messages(stream, everything=False)
    connection: AsyncConnection | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(*where, limit=_RECV_BYTES)
            connection = AsyncConnection(reader, writer, parser)
            while not parser.ready:
                if not await connection.receive():
                    raise _ended(stream)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, OSError | ValueError):
            raise _nobody(stream, where, error) from error
        raise
    return connection


class AsyncConnection(AsyncIterator[Any]):
    """``aconnect``'s subscription: yields Frames or messages."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        parser: _Frames | _Messages,
    ) -> None:
        self.parser = parser
        self._reader = reader
        self._writer = writer
        self._items: deque[Any] = deque()

    @property
    def lost(self) -> int:
        return self.parser.lost

    @property
    def header(self) -> EegHeader | dict[str, Any] | None:
        """What came first: the eeg header, or the metadata message."""
        return self.parser.header if isinstance(self.parser, _Frames) else self.parser.metadata

    async def __anext__(self) -> Any:
        while not self._items:
            if not await self.receive():
                raise StopAsyncIteration
        return self._items.popleft()

    async def receive(self) -> bool:
        """Wait for more bytes; False at the end of the stream."""
        try:
            data = await self._reader.read(_RECV_BYTES)
        except ConnectionError:
            data = b""
        self._items.extend(self.parser.feed(data))
        return bool(data)

    def close(self) -> None:
        self._writer.close()


def _port(stream: str, port: int | None, base_port: int) -> int:
    if stream not in _STREAMS:
        raise UsageError(f"no stream {stream!r}", hint=f"streams: {', '.join(_STREAMS)}")
    return base_port + PORTS[stream] if port is None else port


def _nobody(stream: str, where: tuple[str, int], error: Exception) -> NoDaemon:
    place = f"{where[0]}:{where[1]}"
    if isinstance(error, TimeoutError):
        return NoDaemon(
            f"{place} takes the connection to {stream}, but says nothing",
            hint="is that phantomd's port? its log may say why it hangs",
        )
    if isinstance(error, ValueError):
        return NoDaemon(
            f"what listens on {place} is not phantomd's {stream}: {error}",
            hint="check host, port and base_port",
        )
    return NoDaemon(
        f"nobody serves {stream} on {place}: {error}",
        hint="start one with `phantomd`, or give its host, port or base_port",
    )


def _ended(stream: str) -> NoDaemon:
    return NoDaemon(f"{stream} was closed before it began", hint="the daemon is full or stopping")
