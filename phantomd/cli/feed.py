"""What ``top`` looks at: streams and control, fetched by two threads that survive the daemon.

A daemon that hangs delays neither the keys nor the picture, and one that comes back is taken up
again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from phantomd.cli.invocation import Invocation
from phantomd.cli.traces import History
from phantomd.contracts import GRID_HZ
from phantomd.errors import PhantomError

if TYPE_CHECKING:
    from phantomd.client import Connection, EegConnection, MessageConnection
    from phantomd.control import Control

Item = TypeVar("Item")

#: Frames that are kept: the longest time that can be shown, and some.
HISTORY_S = 70
EVENTS = 200
_DRAIN_S = 0.1
_ASK_S = 0.5
_RETRY_S = 0.5
#: How long a count that has grown is marked.
GROWING_S = 5.0
_TIMEOUT_S = 2.0


@dataclass
class Scene:
    """All that is known now. Belongs to the feed's lock while it is filled; ``top`` reads it under
    the same lock."""

    daemon: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    status: dict[str, Any] | None = None
    ledger: dict[str, dict[str, Any]] = field(default_factory=dict)
    epoch: bytes = b""
    labels: tuple[str, ...] = ()
    wall_offset_ns: int = 0
    history: History | None = None
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=EVENTS))
    #: What is wrong with each source at the moment: control, eeg, events.
    trouble: dict[str, str] = field(default_factory=dict)
    #: Stages and streams whose count of misses or drops has grown of late, and until when.
    growing: dict[str, float] = field(default_factory=dict)
    #: Frames that this client lost by being too slow.
    lost: int = 0

    @property
    def gone(self) -> bool:
        """Nobody is there at all."""
        return "eeg" in self.trouble and ("control" in self.trouble or self.status is None)


class Feed:
    """``with Feed(invocation) as feed``; read ``feed.scene`` under ``feed.lock``."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self.scene = Scene()
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._streams, daemon=True)]
        if invocation.asks_control:
            self._threads.append(threading.Thread(target=self._control, daemon=True))

    def __enter__(self) -> Feed:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_S)

    def wait_frames(self, count: int, within_s: float) -> bool:
        """Whether so many frames come in this time, and an answer of control, if it is asked. A
        daemon that is gone isn't waited for."""

        def there() -> bool:
            history = self.scene.history
            answered = not self._invocation.asks_control or (
                self.scene.status is not None or "control" in self.scene.trouble
            )
            return answered and history is not None and history.count >= count

        with self.changed:
            self.changed.wait_for(lambda: there() or self.scene.gone, within_s)
            return there()

    # -- streams -----------------------------------------------------------------------------------

    def _streams(self) -> None:
        eeg: EegConnection | None = None
        events: MessageConnection | None = None
        again_s = 0.0
        while True:
            if (eeg is None or events is None) and time.monotonic() >= again_s:
                eeg = eeg or self._subscribed("eeg")  # type: ignore[assignment]
                events = events or self._subscribed("events")  # type: ignore[assignment]
                again_s = time.monotonic() + _RETRY_S
            if eeg is not None and not self._take_frames(eeg):
                eeg = None
            if events is not None and not self._take_events(events):
                events = None
            if self._stopping.wait(_DRAIN_S):
                break
        for connection in (eeg, events):
            if connection is not None:
                connection.close()

    def _subscribed(self, stream: str) -> EegConnection | MessageConnection | None:
        try:
            connection = self._invocation.subscribe(stream, timeout_s=_TIMEOUT_S)
        except PhantomError as error:
            with self.changed:
                self.scene.trouble[stream] = error.message
                self.changed.notify_all()
            return None
        connection.timeout(0)
        with self.lock:
            self.scene.trouble.pop(stream, None)
            if stream == "eeg":
                self._begin(connection)  # type: ignore[arg-type]
        return connection

    def _begin(self, connection: EegConnection) -> None:
        """Another run of the daemon, or another layout, has other indices."""
        header, scene = connection.header, self.scene
        if scene.epoch != header.epoch:
            scene.history = History(len(header.labels), HISTORY_S * GRID_HZ)
        scene.epoch = header.epoch
        scene.labels = header.labels
        scene.wall_offset_ns = header.wall_offset_ns

    def _take_frames(self, connection: EegConnection) -> bool:
        frames, alive = _drain(connection)
        with self.changed:
            scene = self.scene
            assert scene.history is not None
            scene.history.add(frames)
            scene.lost += sum(frame.lost for frame in frames)
            if not alive:
                scene.trouble["eeg"] = "the daemon closed eeg"
            self.changed.notify_all()
        return alive

    def _take_events(self, connection: MessageConnection) -> bool:
        messages, alive = _drain(connection)
        with self.lock:
            if not alive:
                self.scene.trouble["events"] = "the daemon closed events"
            for message in messages:
                if message.get("type") == "data" and isinstance(message.get("data"), dict):
                    self.scene.events.append(message)
        return alive

    # -- control -----------------------------------------------------------------------------------

    def _control(self) -> None:
        control: Control | None = None
        while True:
            try:
                if control is None:
                    control = self._invocation.control(_TIMEOUT_S)
                hello = control.call("hello", client="phantomctl top")
                self._answered(hello, control.call("status"), control.call("ledger"))
            except PhantomError as error:
                if control is not None:
                    control.close()
                control = None
                with self.changed:
                    self.scene.trouble["control"] = error.message
                    self.changed.notify_all()
            if self._stopping.wait(_ASK_S):
                break
        if control is not None:
            control.close()

    def _answered(
        self, hello: dict[str, Any], status: dict[str, Any], ledger: dict[str, dict[str, Any]]
    ) -> None:
        with self.changed:
            scene = self.scene
            old_streams = scene.status["streams"] if scene.status else {}
            grown = [
                *_grown("missed", scene.ledger, ledger),
                *_grown("dropped", old_streams, status["streams"]),
            ]
            until_s = time.monotonic() + GROWING_S
            scene.growing |= dict.fromkeys(grown, until_s)
            scene.trouble.pop("control", None)
            scene.daemon, scene.ports = hello["daemon"], hello["ports"]
            scene.status, scene.ledger = status, ledger
            self.changed.notify_all()


def _grown(
    key: str, before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    return [name for name in now if name in before and now[name][key] > before[name][key]]


def _drain(connection: Connection[Item]) -> tuple[list[Item], bool]:
    """All that is there, and whether more may come. Closes a connection that has ended."""
    items: list[Item] = []
    try:
        for item in connection:
            items.append(item)
    except BlockingIOError:
        return items, True
    except (OSError, ValueError, PhantomError):
        pass
    connection.close()
    return items, False
