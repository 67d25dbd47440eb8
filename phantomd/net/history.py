"""What a stream has said of late, and how far each subscriber has heard it. No sockets here.

Positions count all messages of a stream; sequence numbers count those that have one.
"""

from __future__ import annotations

import enum
import socket
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

#: What one send may take: the kernel's send buffer holds about as much.
SEND_BYTES = 64 * 1024


class Piece(enum.Enum):
    """What a message is to its subscriber; in the order in which they are sent."""

    REST = 0
    OWN = 1
    GAP = 2
    KEPT = 3
    SHARED = 4


class History:
    """The newest messages of a stream, at most ``limit``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: Positions of the oldest message and of the next.
        self.base = 0
        self.head = 0
        self._messages: deque[tuple[bytes, int | None]] = deque()

    @property
    def full(self) -> bool:
        return len(self._messages) == self.limit

    def push(self, message: bytes, seq: int | None) -> None:
        """``seq`` is None for an announcement."""
        self._messages.append((message, seq))
        self.head += 1

    def pop(self) -> tuple[bytes, int | None]:
        self.base += 1
        return self._messages.popleft()

    def after(self, cursor: int) -> Iterable[bytes]:
        return (message for message, _ in islice(self._messages, cursor - self.base, None))

    def chunk(self, cursor: int) -> tuple[bytes, int]:
        """Messages from a cursor on, as many as one send may take, and their number."""
        if cursor == self.head - 1:
            return self._messages[-1][0], 1
        messages: list[bytes] = []
        size = 0
        for message in self.after(cursor):
            messages.append(message)
            size += len(message)
            if size >= SEND_BYTES:
                break
        return b"".join(messages), len(messages)


class Subscriber:
    """A connected client: where it is in the history, and what it is owed besides."""

    def __init__(self, sock: socket.socket, greeting: bytes, cursor: int) -> None:
        self.sock = sock
        self.cursor = cursor
        #: The unsent end of a message that was begun.
        self.rest = greeting
        #: Messages for this client alone.
        self.own: deque[bytes] = deque()
        self.dropped = 0
        #: Waits for room in its socket.
        self.blocked = False
        self.half_closed = False
        #: First bytes until they are judged, then None.
        self.opening: bytes | None = b""
        self._lost_first = 0
        self._lost = 0
        #: The newest announcement among what was lost.
        self._kept = b""

    def lose(self, message: bytes, seq: int | None) -> None:
        """The message at the cursor has left the history."""
        self.cursor += 1
        if seq is None:
            self._kept = message
            return
        if not self._lost:
            self._lost_first = seq
        self._lost += 1
        self.dropped += 1

    def pieces(
        self, history: History, gap: Callable[[int, int], bytes] | None, whole: bool = False
    ) -> list[tuple[bytes, Piece]]:
        """What comes next; ``whole``: all of it, else what one send may take."""
        pieces = [(self.rest, Piece.REST)] if self.rest else []
        pieces += [(message, Piece.OWN) for message in self.own]
        if self._lost and gap is not None:
            pieces.append((gap(self._lost_first, self._lost), Piece.GAP))
        if self._kept:
            pieces.append((self._kept, Piece.KEPT))
        size = 0
        for message in history.after(self.cursor):
            pieces.append((message, Piece.SHARED))
            size += len(message)
            if size >= SEND_BYTES and not whole:
                break
        return pieces

    def settle(self, pieces: list[tuple[bytes, Piece]], sent: int) -> None:
        """Note that ``sent`` bytes of them went out: a piece that was begun becomes the rest."""
        for message, what in pieces:
            if not sent:
                return
            match what:
                case Piece.OWN:
                    self.own.popleft()
                case Piece.GAP:
                    self._lost = 0
                case Piece.KEPT:
                    self._kept = b""
                case Piece.SHARED:
                    self.cursor += 1
            self.rest = message[sent:]
            sent -= min(sent, len(message))

    def owed(self, history: History) -> bool:
        """Whether anything is left to send."""
        return bool(self.rest or self.own or self._kept or self.cursor != history.head)
