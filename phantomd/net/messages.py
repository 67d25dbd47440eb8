"""A stream of JSON lines or MessagePack maps: a port, and the envelopes of its messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from phantomd.contracts import JSON_STREAMS
from phantomd.core.engine import now_ns, wall_offset_ns
from phantomd.errors import BadFrame, ControlError
from phantomd.net.envelope import Envelope
from phantomd.net.frames import Scanner
from phantomd.net.history import Subscriber
from phantomd.net.stream import StreamServer, json_opening, msgpack_opening

#: What a client may send in one message of a stream.
MESSAGE_BYTES = 64 * 1024
_DEPTH = 8
_VALUES = 4096
_SHAPE = "each message is one MessagePack map with string keys; docs/wire.md has them"

Receive = Callable[[Subscriber, dict[str, Any]], None]


class Messages(StreamServer):
    """``publish_data`` is a message of the stream, ``describe`` the ``data`` of its metadata.

    ``receive(client, map)`` gets each whole map that a client of a two-way stream sends; it may
    raise a PhantomError, which is answered. Bytes that are no MessagePack end the connection.
    """

    def __init__(
        self,
        name: str,
        epoch_hex: str,
        host: str,
        port: int,
        *,
        history: int,
        rate_hz: float | None = None,
        describe: Callable[[], Mapping[str, Any]] = dict,
        receive: Receive | None = None,
        max_clients: int = 256,
    ) -> None:
        json = name in JSON_STREAMS
        self.envelope = Envelope(name, epoch_hex, json)
        self.rate_hz = rate_hz
        self.newest_ns: int | None = None
        self._describe = describe
        self._receive_map = receive
        self._inboxes: WeakKeyDictionary[Subscriber, _Inbox] = WeakKeyDictionary()
        super().__init__(
            name,
            host,
            port,
            greet=self._greeting,
            history=history,
            opening=json_opening if json else msgpack_opening,
            gap=self.envelope.gap,
            refuse=self.envelope.error,
            receive=None if receive is None else self._received,
            max_clients=max_clients,
        )

    def publish_data(self, t_ns: int | None, data: Mapping[str, Any], late: bool = False) -> None:
        """``t_ns``: of the newest sample that the data stand on, None where there is none."""
        age_us = None if t_ns is None else max(0, (now_ns() - t_ns) // 1000)
        self.newest_ns = t_ns if t_ns is not None else self.newest_ns
        self.publish(self.envelope.data(self.next_seq, t_ns, age_us, late, data))

    def tell_clock(self, wall_offset: int) -> None:
        """The host's clock was stepped."""
        self.announce(self.envelope.clock(wall_offset))

    def _greeting(self) -> bytes:
        return self.envelope.metadata(
            self.rate_hz, self.newest_ns, wall_offset_ns(), self._describe()
        )

    def _received(self, client: Subscriber, data: bytes) -> None:
        """Raises BadFrame, TooBig, and what ``receive`` raises for a map that it refuses; maps
        behind that one are still taken."""
        assert self._receive_map is not None
        inbox = self._inboxes.setdefault(client, _Inbox())
        for message in inbox.take(data):
            try:
                self._receive_map(client, message)
            except ControlError as error:
                if error.closing:
                    raise
                self.reply(client, self.envelope.error(error))


class _Inbox:
    """Maps out of the bytes of one client; half a map waits for the rest."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._scanner = Scanner(MESSAGE_BYTES, _DEPTH, _VALUES)

    def take(self, data: bytes) -> list[dict[str, Any]]:
        self._data += data
        maps: list[dict[str, Any]] = []
        while self._data:
            end = self._scanner.scan(self._data, _VALUES)
            if end is None:
                if self._scanner.hungry:
                    break
                continue  # it has looked at its budget of values, and goes on
            self._scanner.reset()
            whole = bytes(self._data[:end])
            del self._data[:end]
            try:
                maps.append(msgspec.msgpack.decode(whole, type=dict[str, Any]))
            except msgspec.DecodeError as error:
                raise BadFrame(f"no MessagePack map: {error}", hint=_SHAPE) from error
        return maps
