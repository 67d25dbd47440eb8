"""Markers, both ways: what clients, the control socket and devices say happened, on 7076.

A marker with the label ``PANIC`` sets panic, whoever says it; no marker clears it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from phantomd.contracts import Marker, MarkerSource
from phantomd.core.engine import now_ns, wall_offset_ns
from phantomd.errors import BadMarker, RateLimited
from phantomd.net.history import Subscriber
from phantomd.net.messages import Messages

PANIC = "PANIC"
#: One client may say so many in one second; whoever needs more wants a stream of samples.
BURST = 500
_HINT = 'a marker is {"label": str, "source"?: str, "payload"?: map, "t_ns" or "t_unix_ns"?: int}'
_DAY_NS = 86_400_000_000_000


class MarkerIn(msgspec.Struct, frozen=True):
    """What a client sends; other keys are ignored."""

    label: Annotated[str, Meta(min_length=1, max_length=256)]
    source: MarkerSource = "external"
    payload: dict[str, Any] | None = None
    t_ns: int | None = None
    t_unix_ns: int | None = None


class Markers:
    """Takes markers from everywhere and hands each on once, in the order of coming.

    ``publish`` puts it on the stream, ``keep`` into the journal, ``panic`` is told of ``PANIC``.
    """

    def __init__(
        self,
        publish: Callable[[Marker], None],
        panic: Callable[[str], object],
        keep: Callable[[Marker], None],
        clock: Callable[[], int] = now_ns,
    ) -> None:
        self._publish = publish
        self._panic = panic
        self._keep = keep
        self._clock = clock
        self._listeners: list[Callable[[Marker], None]] = []
        self._spent: dict[Subscriber, tuple[int, int]] = {}

    def listen(self, call: Callable[[Marker], None]) -> None:
        """``call`` gets each marker from now on (protocols, recordings)."""
        self._listeners.append(call)

    def put(self, marker: Marker) -> None:
        if marker.label == PANIC:
            self._panic(f"marker PANIC from {marker.source}")
        self._keep(marker)
        self.pass_on(marker)

    def pass_on(self, marker: Marker) -> None:
        """One that the tick found in a device's samples: a replay finds it there again."""
        self._publish(marker)
        for call in self._listeners:
            call(marker)

    def receive(self, client: Subscriber, message: dict[str, Any]) -> None:
        """From the port. Raises BadMarker, RateLimited."""
        arrived_ns = self._clock()
        try:
            said = msgspec.convert(message, MarkerIn)
        except msgspec.ValidationError as error:
            raise BadMarker(str(error), hint=_HINT) from None
        if said.label != PANIC:
            self._count(client, arrived_ns)
        self.put(Marker(self._time(said, arrived_ns), said.source, said.label, said.payload))

    def _count(self, client: Subscriber, arrived_ns: int) -> None:
        second = arrived_ns // 1_000_000_000
        since, count = self._spent.get(client, (second, 0))
        count = count + 1 if since == second else 1
        if len(self._spent) > 1024:
            self._spent.clear()
        self._spent[client] = (second, count)
        if count > BURST:
            raise RateLimited(
                f"more than {BURST} markers in a second", hint="send samples as a device instead"
            )

    def _time(self, said: MarkerIn, arrived_ns: int) -> int:
        """When it happened: as the client says, within a day of now, else when it came."""
        t_ns = said.t_ns
        if t_ns is None and said.t_unix_ns is not None:
            t_ns = said.t_unix_ns - wall_offset_ns()
        if t_ns is None:
            return arrived_ns
        if abs(t_ns - arrived_ns) > _DAY_NS:
            raise BadMarker(
                f"t_ns {t_ns} is over a day from now ({arrived_ns})",
                hint="t_ns counts on the daemon's CLOCK_MONOTONIC; or give t_unix_ns",
            )
        return t_ns


def marker_stream(stream: Messages) -> Callable[[Marker], None]:
    """How a marker goes out on its stream."""

    def publish(marker: Marker) -> None:
        stream.publish_data(marker.t_ns, marker.data())

    return publish
