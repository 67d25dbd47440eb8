"""One TCP stream: a history that all subscribers share, and a cursor for each of them.

A message that was begun is always finished, so framing never breaks. A subscriber that falls
behind the history loses its oldest messages, is told how many, and delays nobody. Nothing here
blocks, and nothing grows with what a client does or leaves undone.

All of it belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from phantomd.contracts import EEG_MAGIC, StreamStatus
from phantomd.errors import (
    BadFrame,
    ConfigError,
    PhantomError,
    PortInUse,
    PortNotAllowed,
    TooManyClients,
)
from phantomd.net.listen import Farewells, Listener

log = logging.getLogger(__name__)

SNDBUF_BYTES = 32 * 1024
_BACKLOG = 128
_SEND_BYTES = 64 * 1024
_RECV_BYTES = 16 * 1024
_OWN_MESSAGES = 64
#: A subscriber's host that died without a word is noticed after 15 + 3 * 5 s.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))

Opening = Callable[[bytes], bool | None]


def eeg_opening(start: bytes) -> bool | None:
    """Whether bytes can begin a frame stream: True yes, False no, None more are needed."""
    if len(start) >= len(EEG_MAGIC):
        return start.startswith(EEG_MAGIC)
    return None if EEG_MAGIC.startswith(start) else False


def json_opening(start: bytes) -> bool | None:
    """Whether bytes can begin a line with a JSON object."""
    text = start.lstrip(b" \t\r\n")
    return text.startswith(b"{") if text else None


def msgpack_opening(start: bytes) -> bool | None:
    """Whether a byte can begin a MessagePack map."""
    return 0x80 <= start[0] <= 0x8F or start[0] in (0xDE, 0xDF) if start else None


class Subscriber:
    """A connected client: where it is in the history, and what it is owed besides."""

    def __init__(self, sock: socket.socket, greeting: bytes, cursor: int) -> None:
        self.sock = sock
        self.address = str(sock.getpeername()) if sock.fileno() >= 0 else "?"
        self.cursor = cursor
        #: The unsent end of a message that was begun.
        self.rest = greeting
        #: Messages for this client alone.
        self.own: deque[bytes] = deque()
        self.blocked = False
        self.dropped = 0
        self.lost_first = 0
        self.lost = 0
        #: The newest announcement among what was lost.
        self.kept = b""
        #: First bytes until they are judged, then None.
        self.opening: bytes | None = b""
        self.half_closed = False


class _Piece(enum.Enum):
    REST = 0
    OWN = 1
    GAP = 2
    KEPT = 3
    SHARED = 4


class StreamServer:
    """A port with its subscribers.

    ``greet`` makes what each connection gets first; ``history`` is how many messages a client may
    be behind (2 s of the stream, at least 64 where messages come on events); ``gap(first_seq,
    count)`` makes the message in place of lost ones (None: the stream's own indices tell);
    ``refuse`` makes the message for an error (None: the connection is just closed); ``opening``
    judges a client's first bytes; ``receive(client, data)`` takes what clients of a two-way stream
    send, and may raise a PhantomError, which is answered, and closes the connection where the error
    says so. Bytes to a stream without ``receive`` are thrown away.

    A subscriber that closes its sending half (``nc -N``) goes on getting its data. TCP does not
    tell that from a client that closed wholly, until something is sent to it: such clients are
    the first to go when ``max_clients`` is reached, and keepalive finds them on silent streams.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        greet: Callable[[], bytes],
        history: int,
        opening: Opening,
        gap: Callable[[int, int], bytes] | None = None,
        refuse: Callable[[PhantomError], bytes] | None = None,
        receive: Callable[[Subscriber, bytes], None] | None = None,
        max_clients: int = 256,
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        #: Sequence number of the next message. Never starts again.
        self.next_seq = 0
        self._greet = greet
        self._limit = history
        self._opening = opening
        self._gap = gap
        self._refuse = refuse
        self._receive = receive
        self._max_clients = max_clients
        #: Messages with their sequence numbers (None: an announcement). The position of the oldest
        #: is ``_base``, that after the newest ``_head``.
        self._history: deque[tuple[bytes, int | None]] = deque()
        self._base = 0
        self._head = 0
        self._flushed = 0
        self._scheduled = False
        self._clients: dict[Subscriber, None] = {}
        self._blocked: dict[Subscriber, None] = {}
        self._dropped = 0
        self._full = False
        self._listener: Listener | None = None

    async def start(self) -> None:
        """Listen. Port 0 takes a free one; ``port`` tells it afterwards. Raises PortInUse,
        PortNotAllowed, ConfigError."""
        self._loop = asyncio.get_running_loop()
        self._farewells = Farewells(self._max_clients)
        try:
            found = await self._loop.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise self._unusable(error) from error
        # "localhost" is ::1 first on many hosts, and clients are told 127.0.0.1.
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Before listen(): accepted sockets inherit it, and never had a larger one.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF_BYTES)
            sock.bind(address)
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            raise self._unusable(error) from error
        self.port = sock.getsockname()[1]
        self._listener = Listener(sock, self.name, self._accepted)

    def publish(self, data: bytes, n_messages: int = 1) -> None:
        """Append ``n_messages`` messages of equal size to the stream; each can be lost by itself.

        They are sent when the loop comes round: one ``send`` a client, however often a callback
        publishes.
        """
        if n_messages == 1:
            self._append(data, self.next_seq)
            self.next_seq += 1
        elif n_messages > 1:
            size, odd = divmod(len(data), n_messages)
            if odd:
                raise ValueError(f"{len(data)} bytes are not {n_messages} messages of one size")
            for at in range(0, len(data), size):
                self._append(data[at : at + size], self.next_seq)
                self.next_seq += 1

    def announce(self, message: bytes) -> None:
        """Append a message without a sequence number (``clock``, ``session``). A client that loses
        it by being slow gets the newest of them after its gap."""
        self._append(message, None)

    def reply(self, client: Subscriber, message: bytes) -> None:
        """Queue a message for one client, ahead of the stream. The oldest of more than 64 is
        dropped and counted."""
        if client not in self._clients:
            return
        if len(client.own) >= _OWN_MESSAGES:
            client.own.popleft()
            self._count(client, 1)
        client.own.append(message)
        if not client.blocked:
            self._send(client)

    def flush(self) -> None:
        """Send what was published to everybody who is not behind."""
        self._scheduled = False
        if self._flushed == self._head:
            return
        cursor, head = self._flushed, self._head
        data, count = self._shared(cursor)
        for client in tuple(self._clients):
            if client.blocked:
                continue
            if client.cursor != cursor:  # came after a part of these messages
                self._send(client)
                continue
            try:
                sent = client.sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._drop(client, error)
                continue
            if sent == len(data):
                client.cursor += count
            else:
                self._settle(client, self._pieces(client), sent)
            if client.cursor != head or client.rest:
                self._block(client)
        self._flushed = head

    def restart(self) -> None:
        """The epoch changed: every connection gets what was published until now, then FIN. Whoever
        connects from now on gets the new greeting."""
        self._end_all()
        self._history.clear()
        self._base = self._flushed = self._head

    def status(self) -> StreamStatus:
        return StreamStatus(len(self._clients), self.next_seq, self._dropped)

    @property
    def clients(self) -> tuple[Subscriber, ...]:
        return tuple(self._clients)

    async def close(self, flush_s: float = 0.3) -> None:
        """Stop listening, and give readers what is queued, then FIN. Takes at most ``flush_s``."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        self._end_all()
        await self._farewells.finish(flush_s)

    # -- arriving and leaving ----------------------------------------------------------------------

    def _accepted(self, sock: socket.socket) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            client = Subscriber(sock, self._greet(), self._head)
        except OSError:  # it has already gone
            sock.close()
            return
        if len(self._clients) >= self._max_clients and not self._make_room():
            self._turn_away(client)
            return
        self._full = False
        self._clients[client] = None
        self._loop.add_reader(sock.fileno(), self._readable, client)
        self._send(client)

    def _make_room(self) -> bool:
        for client in self._clients:
            if client.half_closed:
                self._end(client, b"")
                return True
        return False

    def _turn_away(self, client: Subscriber) -> None:
        if not self._full:
            self._full = True
            log.warning("%s has %d clients: no more are taken", self.name, self._max_clients)
        error = TooManyClients(
            f"{self.name} has {self._max_clients} clients already",
            hint="close some, or have one client pass the stream on",
        )
        refusal = self._refuse(error) if self._refuse else b""
        self._farewells.add(client.sock, client.rest + refusal if refusal else b"")

    def _readable(self, client: Subscriber) -> None:
        try:
            data = client.sock.recv(_RECV_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._drop(client, error)
            return
        if not data:
            client.half_closed = True
            self._loop.remove_reader(client.sock.fileno())
            return
        if client.opening is not None:
            start = client.opening + data
            fits = self._opening(start)
            if fits is False:
                self._reject(client, self._not_ours(start))
                return
            client.opening = start[: len(EEG_MAGIC)] if fits is None else None
        if self._receive is not None:
            try:
                self._receive(client, data)
            except PhantomError as error:
                self._reject(client, error)

    def _reject(self, client: Subscriber, error: PhantomError) -> None:
        if client not in self._clients:
            return
        refusal = self._refuse(error) if self._refuse is not None else b""
        if getattr(error, "closing", False):
            log.debug("%s closes %s: %s", self.name, client.address, error.message)
            self._end(client, refusal)
        elif refusal:
            self.reply(client, refusal)

    def _not_ours(self, start: bytes) -> BadFrame:
        return BadFrame(
            f"{start[:8]!r} can't begin a message of {self.name}",
            hint="this is no HTTP: connect and read; docs/wire.md says what a client may send",
        )

    def _end(self, client: Subscriber, tail: bytes) -> None:
        """Finish what was begun, send ``tail``, close."""
        self._forget(client)
        self._farewells.add(client.sock, client.rest + tail)

    def _end_all(self) -> None:
        for client in tuple(self._clients):
            # What was begun comes first, and without it nothing else could follow.
            pieces = self._pieces(client, whole=True)
            client.rest = b""
            self._end(client, b"".join(piece for piece, _ in pieces))

    def _drop(self, client: Subscriber, error: OSError) -> None:
        """The peer is gone: nothing to tell anybody."""
        log.debug("%s lost %s: %s", self.name, client.address, error)
        self._forget(client)
        client.sock.close()

    def _forget(self, client: Subscriber) -> None:
        del self._clients[client]
        self._blocked.pop(client, None)
        self._loop.remove_reader(client.sock.fileno())
        if client.blocked:
            self._loop.remove_writer(client.sock.fileno())

    # -- history and cursors -----------------------------------------------------------------------

    def _append(self, message: bytes, seq: int | None) -> None:
        if not message:
            raise ValueError("an empty message has no place in a stream")
        if len(self._history) == self._limit:
            if self._flushed == self._base:
                self.flush()
            lost, lost_seq = self._history.popleft()
            for client in self._blocked:
                if client.cursor == self._base:
                    self._lose(client, lost, lost_seq)
            self._base += 1
        self._history.append((message, seq))
        self._head += 1
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def _lose(self, client: Subscriber, message: bytes, seq: int | None) -> None:
        client.cursor += 1
        if seq is None:
            client.kept = message
            return
        if not client.lost:
            client.lost_first = seq
        client.lost += 1
        self._count(client, 1)

    def _count(self, client: Subscriber, n_messages: int) -> None:
        client.dropped += n_messages
        self._dropped += n_messages

    def _after(self, cursor: int) -> Iterable[tuple[bytes, int | None]]:
        return islice(self._history, cursor - self._base, None)

    def _shared(self, cursor: int) -> tuple[bytes, int]:
        """Messages from a cursor on, as many as one send may take, and their number."""
        if cursor == self._head - 1:
            return self._history[-1][0], 1
        messages: list[bytes] = []
        size = 0
        for message, _ in self._after(cursor):
            messages.append(message)
            size += len(message)
            if size >= _SEND_BYTES:
                break
        return b"".join(messages), len(messages)

    def _pieces(self, client: Subscriber, whole: bool = False) -> list[tuple[bytes, _Piece]]:
        """What a client gets next, in order; ``whole``: all of it, else what one send may take."""
        pieces = [(client.rest, _Piece.REST)] if client.rest else []
        pieces += [(message, _Piece.OWN) for message in client.own]
        if client.lost and self._gap is not None:
            pieces.append((self._gap(client.lost_first, client.lost), _Piece.GAP))
        if client.kept:
            pieces.append((client.kept, _Piece.KEPT))
        size = 0
        for message, _ in self._after(client.cursor):
            pieces.append((message, _Piece.SHARED))
            size += len(message)
            if size >= _SEND_BYTES and not whole:
                break
        return pieces

    def _send(self, client: Subscriber) -> None:
        """One send of what this client is owed; the loop calls again when there is room."""
        pieces = self._pieces(client)
        try:
            sent = client.sock.send(b"".join(piece for piece, _ in pieces)) if pieces else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._drop(client, error)
            return
        self._settle(client, pieces, sent)
        if client.rest or client.own or client.kept or client.cursor != self._head:
            self._block(client)
        elif client.blocked:
            client.blocked = False
            del self._blocked[client]
            self._loop.remove_writer(client.sock.fileno())

    def _settle(self, client: Subscriber, pieces: list[tuple[bytes, _Piece]], sent: int) -> None:
        """Note what was sent: a piece that was begun becomes the rest."""
        for piece, what in pieces:
            if not sent:
                return
            match what:
                case _Piece.OWN:
                    client.own.popleft()
                case _Piece.GAP:
                    client.lost = 0
                case _Piece.KEPT:
                    client.kept = b""
                case _Piece.SHARED:
                    client.cursor += 1
                    if self._gap is None:
                        client.lost = 0
            client.rest = piece[sent:]
            sent -= min(sent, len(piece))

    def _block(self, client: Subscriber) -> None:
        if not client.blocked:
            client.blocked = True
            self._blocked[client] = None
            self._loop.add_writer(client.sock.fileno(), self._send, client)

    def _unusable(self, error: OSError) -> PhantomError:
        where = f"{self.host}:{self.port}"
        if error.errno == errno.EADDRINUSE:
            return PortInUse(
                f"port {self.port} ({self.name}) is in use",
                hint=f"`ss -ltnp 'sport = :{self.port}'` names who has it; "
                "--base-port N moves all ports",
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return PortNotAllowed(
                f"port {self.port} ({self.name}): {error.strerror}",
                hint="ports below 1024 are for root: take others with --base-port N",
            )
        return ConfigError(
            f"{self.name} can't listen on {where}: {error.strerror}",
            hint="the host must be an address of this machine, such as 127.0.0.1 or 0.0.0.0",
        )
