"""MessagePack-RPC on a Unix socket, for peers whose user may steer the daemon.

No client holds the loop: all connections together get a millisecond of it, then it goes round.
Nothing grows with what a client sends or leaves unread, and whatever it sends, the answer has a
name and a hint, and the next client is served.
"""

from __future__ import annotations

import asyncio
import difflib
import inspect
import logging
import socket
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from phantomd.contracts import ErrorBody
from phantomd.errors import (
    BadFrame,
    ControlError,
    RateLimited,
    TooBig,
    TooManyClients,
    UnknownMethod,
)
from phantomd.net.envelope import finite
from phantomd.net.frames import Scanner
from phantomd.net.listen import Farewells, Listener
from phantomd.net.peer import Allow, Peer, UnixSocket, peer_of, permission
from phantomd.net.rpc import SHAPE, Method, body_of, convert, encode, error_of, parse, refusal

log = logging.getLogger(__name__)

_ARRAY_BYTES = (0x93, 0x94, 0xDC, 0xDD)
_RECV_BYTES = 16 * 1024
#: Of one connection, before the next has its turn. Scanning 2048 values takes some 0.4 ms.
_MESSAGES_A_VISIT = 8
_VALUES_A_VISIT = 2048
#: A client that goes on over its rate is not read for a while: answers cost as much as work.
_REFUSALS_BEFORE_PAUSE = 64
_PAUSE_S = 0.05
#: Of answers gathered in one visit, before they are sent.
_OUTBOX_BYTES = 64 * 1024


class Limits(msgspec.Struct, frozen=True):
    """What the control socket grants. ``values`` are the numbers and strings of a message, and 8
    for each of its arrays and maps, so that decoding one is a matter of few milliseconds.
    ``silence_s`` is for half a message, and for answers that nobody takes.
    """

    message_bytes: int = 1 << 20
    depth: int = 16
    values: int = 1 << 17
    connections: int = 64
    in_flight: int = 16
    rate_per_s: float = 500.0
    burst: int = 1000
    silence_s: float = 10.0
    output_bytes: int = 1 << 20
    turn_s: float = 0.001


class _Connection:
    def __init__(self, sock: socket.socket, peer: Peer, limits: Limits, now_s: float) -> None:
        self.sock = sock
        self.peer = peer
        self.scanner = Scanner(limits.message_bytes, limits.depth, limits.values)
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.tasks: set[asyncio.Future[Any]] = set()
        self.tokens = float(limits.burst)
        self.refilled_s = now_s
        self.refusals = 0
        self.waiting = False
        self.ended = False
        self.closed = False
        #: Running while answers lie unread.
        self.unread: asyncio.TimerHandle | None = None
        #: Running while the client is kept waiting for having asked too much.
        self.pause: asyncio.TimerHandle | None = None
        #: Running while half a message is there.
        self.silence: asyncio.TimerHandle | None = None


class ControlServer:
    """The control socket at ``path``, serving ``methods``.

    ``allow``: None for root and the daemon's own user; a group's name for its members as well; or
    a function of (uid, gid, pid).
    """

    def __init__(
        self,
        path: Path | str,
        methods: Mapping[str, Method],
        *,
        allow: Allow | str | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.path = Path(path)
        self._methods = dict(methods)
        self._allow = allow
        self._limits = Limits() if limits is None else limits
        self._connections: dict[_Connection, None] = {}
        self._ready: deque[_Connection] = deque()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._refused_uids: set[int] = set()
        self._turning = False
        self._socket: UnixSocket | None = None

    async def start(self) -> None:
        """Listen. Raises PortInUse where a living daemon has the socket, StateUnusable where it
        can't be made, ConfigError on an unknown group."""
        self._loop = asyncio.get_running_loop()
        self._permission = permission(self._allow)
        self._socket = UnixSocket.bind(self.path, self._permission.gid)
        self._farewells = Farewells(self._limits.connections)
        self._listener = Listener(self._socket.sock, "control", self._accepted)

    async def close(self, flush_s: float = 0.3) -> None:
        """Stop listening, cancel what is under way, give readers their answers, close."""
        if self._socket is None:
            return
        self._listener.close()
        self._socket.remove()
        self._socket = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=flush_s)
        for connection in tuple(self._connections):
            self._end(connection)
        await self._farewells.finish(flush_s)

    @property
    def n_connections(self) -> int:
        return len(self._connections)

    # -- arriving and leaving ----------------------------------------------------------------------

    def _accepted(self, sock: socket.socket) -> None:
        try:
            peer = peer_of(sock)
        except OSError:  # it has already gone
            sock.close()
            return
        if not self._permission.allows(peer):
            if peer.uid not in self._refused_uids:
                self._refused_uids.add(peer.uid)
                log.warning("control refuses user %d (process %d)", peer.uid, peer.pid)
            self._farewells.add(sock, refusal(self._permission.refusal(peer)))
            return
        if len(self._connections) >= self._limits.connections:
            error = TooManyClients(
                f"the control socket has {self._limits.connections} connections already",
                hint="close a connection that is no longer used; one can carry many requests",
            )
            self._farewells.add(sock, refusal(error))
            return
        connection = _Connection(sock, peer, self._limits, self._loop.time())
        self._connections[connection] = None
        self._watch(connection)

    def _refuse(self, connection: _Connection, error: ControlError) -> None:
        """Answer what can't be gone on from, and close."""
        log.debug("control closes process %d: %s", connection.peer.pid, error.message)
        connection.outbox += refusal(error)
        self._end(connection)

    def _end(self, connection: _Connection) -> None:
        """Close after what was answered."""
        self._forget(connection)
        self._farewells.add(connection.sock, bytes(connection.outbox))

    def _drop(self, connection: _Connection) -> None:
        """The peer is gone. What it began goes on, so that no device stays half open."""
        self._forget(connection)
        connection.sock.close()

    def _forget(self, connection: _Connection) -> None:
        connection.closed = True
        del self._connections[connection]
        for timer in (connection.pause, connection.silence, connection.unread):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(connection.sock.fileno())
        self._loop.remove_writer(connection.sock.fileno())

    # -- reading: turns of the loop ----------------------------------------------------------------

    def _wake(self, connection: _Connection) -> None:
        """The connection has something to do: it waits for its turn."""
        if not connection.waiting:
            connection.waiting = True
            self._ready.append(connection)
            if not self._turning:
                self._turning = True
                self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Serve who waits, one visit each and round again, until the turn's time is over."""
        self._turning = False
        until_s = time.monotonic() + self._limits.turn_s
        while self._ready:
            connection = self._ready.popleft()
            connection.waiting = False
            if not connection.closed and self._visit(connection):
                connection.waiting = True
                self._ready.append(connection)
            if time.monotonic() >= until_s:
                break
        if self._ready:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _watch(self, connection: _Connection) -> None:
        """Read from a client only while it isn't kept waiting and takes its answers."""
        if connection.ended or connection.pause is not None or connection.unread is not None:
            self._loop.remove_reader(connection.sock.fileno())
        else:
            self._loop.add_reader(connection.sock.fileno(), self._wake, connection)

    def _visit(self, connection: _Connection) -> bool:
        """Whether there is more to do without the socket becoming readable."""
        if connection.pause is not None or connection.unread is not None:
            return False
        if connection.scanner.hungry and not self._receive(connection):
            return False
        try:
            for _ in range(_MESSAGES_A_VISIT):
                message = self._next(connection)
                if message is None:
                    break
                self._handle(connection, message)
                if connection.pause is not None or len(connection.outbox) > _OUTBOX_BYTES:
                    break
        except ControlError as error:
            self._refuse(connection, error)
        if connection.closed:
            return False
        self._time_silence(connection)
        self._flush(connection)
        return not (
            connection.closed or connection.pause or connection.unread or connection.scanner.hungry
        )

    def _receive(self, connection: _Connection) -> bool:
        try:
            data = connection.sock.recv(_RECV_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._drop(connection)
            return False
        if data:
            connection.inbox += data
            return True
        connection.ended = True
        self._watch(connection)
        if connection.inbox:
            self._refuse(connection, BadFrame("the connection ended in a message", hint=SHAPE))
        else:
            self._end_when_answered(connection)
        return False

    def _end_when_answered(self, connection: _Connection) -> None:
        """A client that closed its sending half still gets its answers."""
        if connection.ended and not connection.tasks and not connection.closed:
            self._end(connection)

    def _next(self, connection: _Connection) -> bytes | None:
        inbox = connection.inbox
        if inbox and inbox[0] not in _ARRAY_BYTES:
            raise BadFrame(f"{bytes(inbox[:8])!r} begins no request", hint=SHAPE)
        end = connection.scanner.scan(inbox, _VALUES_A_VISIT)
        if end is None:
            return None
        connection.scanner.reset()
        if connection.silence is not None:  # that was for this message
            connection.silence.cancel()
            connection.silence = None
        message = bytes(inbox[:end])
        del inbox[:end]
        # Whole messages may lie there already: only an empty inbox needs the socket.
        connection.scanner.hungry = not inbox
        return message

    def _time_silence(self, connection: _Connection) -> None:
        """A message that was begun has ``silence_s`` to be complete."""
        begun = bool(connection.inbox) and connection.scanner.hungry
        if begun and connection.silence is None:
            connection.silence = self._loop.call_later(
                self._limits.silence_s, self._silent, connection
            )
        elif not begun and connection.silence is not None:
            connection.silence.cancel()
            connection.silence = None

    def _silent(self, connection: _Connection) -> None:
        message = f"half a message, and nothing more for {self._limits.silence_s:g} s"
        self._refuse(connection, BadFrame(message, hint=SHAPE))

    # -- requests ----------------------------------------------------------------------------------

    def _handle(self, connection: _Connection, message: bytes) -> None:
        """Raises BadFrame on what is no request at all. Every other error is an answer."""
        request, name, arguments = parse(message)
        try:
            self._take_token(connection)
            method = self._methods.get(name)
            if method is None:
                raise self._unknown(name)
            result = method.call(convert(name, method.params, arguments))
        except Exception as error:
            self._answer(connection, request, error_of(name, error), None)
            return
        if not inspect.isawaitable(result):
            self._answer(connection, request, None, result)
            return
        task = asyncio.ensure_future(result)
        connection.tasks.add(task)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(connection, request, name, done))

    def _done(
        self, connection: _Connection, request: Any, name: str, task: asyncio.Future[Any]
    ) -> None:
        connection.tasks.discard(task)
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        body = None if error is None else error_of(name, error)
        if connection.closed:
            return
        self._answer(connection, request, body, None if body else task.result())
        self._flush(connection)
        self._end_when_answered(connection)

    def _take_token(self, connection: _Connection) -> None:
        limits, now_s = self._limits, self._loop.time()
        earned = (now_s - connection.refilled_s) * limits.rate_per_s
        connection.tokens = min(float(limits.burst), connection.tokens + earned)
        connection.refilled_s = now_s
        if len(connection.tasks) >= limits.in_flight:
            what = f"{limits.in_flight} requests of this connection are under way"
            hint = "wait for answers before asking more"
        elif connection.tokens < 1.0:
            what = f"more than {limits.rate_per_s:g} requests a second"
            hint = "subscribe to a stream instead of asking often"
        else:
            connection.tokens -= 1.0
            return
        connection.refusals += 1
        if connection.refusals % _REFUSALS_BEFORE_PAUSE == 0:
            connection.pause = self._loop.call_later(_PAUSE_S, self._unpause, connection)
            self._watch(connection)
        raise RateLimited(what, hint=hint)

    def _unpause(self, connection: _Connection) -> None:
        connection.pause = None
        self._watch(connection)
        self._wake(connection)

    def _unknown(self, name: str) -> UnknownMethod:
        near = difflib.get_close_matches(name[:64], self._methods, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"methods: {', '.join(self._methods)}"
        return UnknownMethod(f"no method {name[:64]!r}", hint=hint)

    # -- answers -----------------------------------------------------------------------------------

    def _answer(
        self, connection: _Connection, request: Any, error: ErrorBody | None, result: Any
    ) -> None:
        """Queue an answer; a notification has none."""
        if request is None:
            return
        try:
            answer = encode(request, error, finite(result))
            if len(answer) > self._limits.message_bytes:
                big = TooBig(f"an answer of {len(answer)} bytes", hint="ask for less")
                answer = encode(request, body_of(big), None)
        except Exception as unencodable:
            answer = encode(request, error_of("an answer", unencodable), None)
        connection.outbox += answer

    def _flush(self, connection: _Connection) -> None:
        """Send what was answered. While answers stay unread, no requests are read."""
        try:
            if connection.outbox:
                del connection.outbox[: connection.sock.send(connection.outbox)]
        except (BlockingIOError, InterruptedError):
            if len(connection.outbox) > self._limits.output_bytes + self._limits.message_bytes:
                self._cut_off(connection)
                return
        except OSError:
            self._drop(connection)
            return
        if connection.outbox and connection.unread is None:
            connection.unread = self._loop.call_later(
                self._limits.silence_s, self._cut_off, connection
            )
            self._loop.add_writer(connection.sock.fileno(), self._flush, connection)
            self._watch(connection)
        elif not connection.outbox and connection.unread is not None:
            connection.unread.cancel()
            connection.unread = None
            self._loop.remove_writer(connection.sock.fileno())
            self._watch(connection)
            self._wake(connection)

    def _cut_off(self, connection: _Connection) -> None:
        unread = len(connection.outbox)
        log.warning("control cuts off process %d: %d bytes unread", connection.peer.pid, unread)
        self._drop(connection)
