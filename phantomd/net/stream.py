"""One TCP stream: a history that all subscribers share, and a cursor for each of them.

A message that was begun is always finished, so framing never breaks. A subscriber that falls
behind the history loses its oldest messages, is told how many, and delays nobody. Nothing here
blocks, and nothing grows with what a client does or leaves undone.

All of it belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from phantomd.contracts import StreamStatus
from phantomd.errors import BadFrame, PhantomError, TooManyClients
from phantomd.net.history import History, Subscriber
from phantomd.net.listen import Farewells, Listener, listening, prepare

log = logging.getLogger(__name__)

_RECV_BYTES = 16 * 1024
_OWN_MESSAGES = 64
#: Of first bytes that are not judged yet (white space before a line of JSON).
_OPENING_BYTES = 8
#: The state of a connection that was reset or given up (tcp_states.h); first byte of tcp_info.
_TCP_CLOSE = 7

Opening = Callable[[bytes], bool | None]


def json_opening(start: bytes) -> bool | None:
    """Whether bytes can begin a line with a JSON object."""
    text = start.lstrip(b" \t\r\n")
    return text.startswith(b"{") if text else None


def msgpack_opening(start: bytes) -> bool | None:
    """Whether a byte can begin a MessagePack map."""
    return 0x80 <= start[0] <= 0x8F or start[0] in (0xDE, 0xDF) if start else None


def _dead(sock: socket.socket) -> bool:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE


class StreamServer:
    """A port with its subscribers.

    ``greet`` makes what each connection gets first; ``history`` is how many messages a client may
    be behind (2 s of the stream, at least 64 where messages come on events);
    ``gap(first_seq, count)`` makes the message in place of lost ones (None: the messages' own
    numbers tell);
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
        self._opening = opening
        self._gap = gap
        self._refuse = refuse
        self._receive = receive
        self._max_clients = max_clients
        self._history = History(history)
        #: Position up to which everybody who is not blocked has been sent the history.
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
        sock = await listening(self.name, self.host, self.port)
        self.port = sock.getsockname()[1]
        self._listener = Listener(sock, self.name, self._accepted)

    def publish(self, message: bytes) -> None:
        """Append a message to the stream. It is sent when the loop comes round: one ``send`` a
        client, however often a callback publishes."""
        self._append(message, self.next_seq)
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
            client.dropped += 1
            self._dropped += 1
        client.own.append(message)
        if not client.blocked:
            self._send(client)

    def flush(self) -> None:
        """Send what was published to everybody who is not behind."""
        self._scheduled = False
        cursor, head = self._flushed, self._history.head
        if cursor == head:
            return
        data, count = self._history.chunk(cursor)
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
                client.settle(client.pieces(self._history, self._gap), sent)
            if client.owed(self._history):
                self._block(client)
        self._flushed = head

    def status(self) -> StreamStatus:
        self._sweep()
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
            prepare(sock)
            client = Subscriber(sock, self._greet(), self._history.head)
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

    def _sweep(self) -> None:
        """Nobody listens to a half-closed client's socket: ask it whether it is dead by now."""
        for client in tuple(self._clients):
            if client.half_closed and _dead(client.sock):
                self._drop(client, OSError(errno.ECONNRESET, "reset after a half-close"))

    def _make_room(self) -> bool:
        self._sweep()
        if len(self._clients) < self._max_clients:
            return True
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
            client.opening = start[:_OPENING_BYTES] if fits is None else None
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
            log.debug("%s closes a client: %s", self.name, error.message)
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
            pieces = client.pieces(self._history, self._gap, whole=True)
            client.rest = b""
            self._end(client, b"".join(piece for piece, _ in pieces))

    def _drop(self, client: Subscriber, error: OSError) -> None:
        """The peer is gone: nothing to tell anybody."""
        log.debug("%s lost a client: %s", self.name, error)
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
        history = self._history
        if history.full:
            if self._flushed == history.base:
                self.flush()
            position = history.base
            lost, lost_seq = history.pop()
            for client in self._blocked:
                if client.cursor == position:
                    client.lose(lost, lost_seq)
                    self._dropped += lost_seq is not None
        history.push(message, seq)
        if not self._clients:
            self._flushed = history.head
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def _send(self, client: Subscriber) -> None:
        """One send of what this client is owed; the loop calls again when there is room."""
        pieces = client.pieces(self._history, self._gap)
        try:
            sent = client.sock.send(b"".join(piece for piece, _ in pieces)) if pieces else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._drop(client, error)
            return
        client.settle(pieces, sent)
        if client.owed(self._history):
            self._block(client)
        elif client.blocked:
            client.blocked = False
            del self._blocked[client]
            self._loop.remove_writer(client.sock.fileno())

    def _block(self, client: Subscriber) -> None:
        if not client.blocked:
            client.blocked = True
            self._blocked[client] = None
            self._loop.add_writer(client.sock.fileno(), self._send, client)
