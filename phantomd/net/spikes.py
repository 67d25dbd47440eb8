"""Port 7072: a connection is a subscriber of a session, and may answer its packets.

Packets and answers go through the sessions' thread (csrc/pd_port.h) and never come by here. What
does: connections that arrive, attach and leave, answers that are refused, and what sessions tell.
All of it belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phantomd.contracts import Event, StreamStatus
from phantomd.core.engine import now_ns, wall_offset_ns
from phantomd.core.gauntlet import LEFT, REFUSALS, WHY, Port
from phantomd.core.hist import Histogram
from phantomd.engine.orders import Orders
from phantomd.errors import (
    AnsweredTwice,
    AnswerTooOld,
    BadAnswer,
    BadFrame,
    ControlError,
    DecoderTaken,
    NeverSent,
    PhantomError,
    RateLimited,
    TooBig,
    TooManyClients,
)
from phantomd.gauntlet.datasets import Datasets
from phantomd.gauntlet.session import Live, Sessions
from phantomd.net.envelope import Envelope
from phantomd.net.threaded import ThreadedPort

if TYPE_CHECKING:
    from phantomd.core.gauntlet import PortEvent

log = logging.getLogger(__name__)

SWEEP_S = 30.0
#: A thousand clients may come at once, and the loop has others to serve.
_EVENTS_A_TURN = 32
#: Lines of sessions on ``events``: so many at once, and so many a second.
_SAID_AT_ONCE = 200
_SAID_A_SECOND = 50

_SHAPE = 'a message is a MessagePack map: {"attach":code} or {"vx":…,"vy":…,"seq":n}'
_WHY = {
    "no-velocity": "it has no vx and vy (and x only with y), and is no attach",
    "wrong-type": "vx, vy, x, y are numbers, seq is a packet's number, attach is a code",
    "not-finite": "NaN, infinity, or more than 1e9",
    "two-meanings": "a key is in it twice, or it is both an attach and an answer",
}


class SpikesPort(ThreadedPort):
    """``emit`` takes lines of ``events``."""

    def __init__(
        self,
        epoch_hex: str,
        host: str,
        port: int,
        *,
        home: Path,
        emit: Callable[[Event], None],
        max_clients: int = 256,
        max_sessions: int = 2048,
        priority: int = 0,
        cpu: int = -1,
    ) -> None:
        super().__init__("spikes", host, port, max_clients=max_clients, priority=priority, cpu=cpu)
        self.envelope = Envelope("spikes", epoch_hex, json=False)
        self.datasets = Datasets(home)
        self._emit = emit
        self.core = self._core = Port(max_sessions, max_clients, self._notify_fd)
        self.orders = Orders(self.core)
        self.sessions = Sessions(
            self.core, self.orders, self.datasets, self._say, limit=max_sessions
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._allowance = float(_SAID_AT_ONCE)
        self._allowed_s = 0.0
        self._unsaid = 0

    @property
    def lateness(self) -> Histogram:
        """For the ledger: how late packets were made; the deadline is 3 ms."""
        return self.core.lateness

    @property
    def loops(self) -> Histogram:
        """For the ledger: latencies of all loops; the deadline is 50 ms."""
        return self.core.loops

    def degraded(self) -> list[str]:
        notes = self._priority_notes("spikes", "the sessions")
        if self.core.untold:
            notes.append(
                f"spikes-news: {self.core.untold} lines about sessions found no room, the event "
                "loop was kept too long: `phantomctl ledger` says by what"
            )
        return notes

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises PortInUse, PortNotAllowed, ConfigError, OSError."""
        await super().start()
        self._sweeper = self._loop.create_task(self._sweep())

    def _tidy(self) -> None:
        self._sweeper.cancel()
        for task in tuple(self._tasks):
            task.cancel()

    def status(self) -> StreamStatus:
        return StreamStatus(self.core.n_connections, self.core.published, self.core.dropped)

    def tell_clock(self, wall_offset: int) -> None:
        """The host's clock was stepped."""
        if self._running:
            self.orders.give("broadcast", message=self.envelope.clock(wall_offset))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            for code in await self.sessions.sweep():
                self._say(
                    Event(
                        "session",
                        "info",
                        f"{code}: deleted, nobody has used it for an hour",
                        fields={"session": code, "what": "expired"},
                    )
                )

    # -- arriving and leaving ----------------------------------------------------------------------

    def _take(self, number: int, sock: socket.socket) -> None:
        self._spawn(self._join(number, sock))

    async def _join(self, number: int, sock: socket.socket) -> None:
        try:
            live = await self.sessions.default()
        except BaseException as error:
            del self._sockets[number]
            self._give_back(number)
            if not isinstance(error, PhantomError):
                sock.close()
                raise
            self._farewells.add(sock, self._closing(error))
            return
        self.orders.give(
            "join",
            connection=number,
            session=live.number,
            value=sock.fileno(),
            message=self._greeting(live),
        )

    async def _attach(self, number: int, code: str) -> None:
        try:
            live = await self.sessions.default() if code == "default" else self.sessions.find(code)
        except PhantomError as error:
            self._reply(number, error)
            return
        live.used_s = self._loop.time()
        self.orders.give(
            "move", connection=number, session=live.number, message=self._greeting(live)
        )

    def _greeting(self, live: Live) -> bytes:
        rate_hz = 1e9 / live.source.bins.bin_ns
        return self.envelope.metadata(rate_hz, now_ns(), wall_offset_ns(), live.metadata())

    def _too_many(self) -> bytes:
        return self._closing(
            TooManyClients(
                f"spikes has {self._max_clients} clients already",
                hint="close some, or raise streams.max_clients",
            )
        )

    def _ends(self, number: int, why: str, rest: bytes) -> None:
        error: ControlError | None = None
        if why == "bad-frame":
            error = BadFrame("these bytes are no MessagePack map", hint=_SHAPE)
        elif why == "too-big":
            error = TooBig("a message of more than 4096 bytes or 8 levels", hint=_SHAPE)
        last = rest + (self._closing(error) if error else b"")
        self._left(number, None if why == "gone" else last)

    # -- what the thread tells ---------------------------------------------------------------------

    def _take_news(self) -> bool:
        events = self.core.take_events(_EVENTS_A_TURN)
        for event in events:
            try:
                self._take_event(event)
            except Exception:  # the next is somebody else's
                log.exception("spikes: %r was lost to an error", event[0])
        if self._unsaid and self._may_say():
            unsaid, self._unsaid = self._unsaid, 0
            self._emit(
                Event(
                    "session",
                    "warning",
                    f"{unsaid} lines of sessions were left out: too many at once",
                    fields={"what": "left-out", "count": unsaid},
                )
            )
        return len(events) == _EVENTS_A_TURN

    def _take_event(self, event: PortEvent) -> None:
        what, connection, session, code, why, count, seq, value, message = event
        match what:
            case "left":
                self._ends(connection, LEFT[code], message)
            case "attach":
                self._spawn(self._attach(connection, message.decode(errors="replace")))
            case "refused":
                error = self._refusal(REFUSALS[code], WHY[why], seq, count, session)
                self._reply(connection, error)
            case "session" if session is not None:
                self.sessions.take_event(session, code, seq, value)
            case "done":
                self.orders.finish(value)
            case "half":
                self._half(connection)

    def _refusal(
        self, refusal: str, why: str, seq: int, count: int, session: int | None
    ) -> ControlError:
        live = self.sessions.numbered(session)
        name = live.code if live else "the session"
        more = f" (and {count - 1} more refusals)" if count > 1 else ""
        match refusal:
            case "decoder-taken":
                return DecoderTaken(
                    f"{name} has a decoder already{more}",
                    hint="session.create makes one of your own; the seat is free when it leaves",
                )
            case "never-sent":
                return NeverSent(
                    f"packet {seq} was not sent{more}", hint="answer with the seq of the envelope"
                )
            case "too-old":
                return AnswerTooOld(
                    f"packet {seq} is more than 2 s old{more}", hint="answer within 50 ms"
                )
            case "answered-twice":
                return AnsweredTwice(
                    f"packet {seq} has its answer{more}", hint="one answer a packet"
                )
            case "rate-limited":
                return RateLimited(f"too many attaches{more}", hint="attach once, then read")
        return BadAnswer(f"no answer to packet {seq}: {_WHY.get(why, why)}{more}", hint=_SHAPE)

    def _reply(self, number: int, error: PhantomError) -> None:
        self.orders.give("reply", connection=number, message=self.envelope.error(error))

    def _closing(self, error: PhantomError) -> bytes:
        return self.envelope.encode(
            {
                "type": "error",
                "code": error.code,
                "message": error.message,
                "hint": error.hint,
                "closing": True,
            }
        )

    def _may_say(self) -> bool:
        now_s = self._loop.time()
        earned = (now_s - self._allowed_s) * _SAID_A_SECOND
        self._allowance = min(float(_SAID_AT_ONCE), self._allowance + earned)
        self._allowed_s = now_s
        if self._allowance < 1.0:
            return False
        self._allowance -= 1.0
        return True

    def _say(self, event: Event) -> None:
        """A thousand sessions may have something to say at once: not all of it is told."""
        if self._may_say():
            self._emit(event)
        else:
            self._unsaid += 1

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("spikes: a connection was lost to an error", exc_info=error)
