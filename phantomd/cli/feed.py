"""What ``top`` looks at: streams and control, fetched by two threads that survive the daemon.

A daemon that hangs delays neither the keys nor the picture, and one that comes back is taken up
again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from phantomd.cli.invocation import Invocation
from phantomd.cli.traces import History
from phantomd.contracts import GRID_HZ
from phantomd.errors import NoDaemon, PhantomError

if TYPE_CHECKING:
    from phantomd.client import EegConnection, MessageConnection

#: Frames that are kept: the longest time that can be shown, and some.
HISTORY_S = 70
EVENTS = 200
_DRAIN_S = 0.1
_ASK_S = 0.5
_RETRY_S = 0.5
_TIMEOUT_S = 2.0


@dataclass
class Scene:
    """All that is known now. Belongs to the feed's lock while it is filled; ``top`` reads it under
    the same lock."""

    daemon: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    status: dict[str, Any] | None = None
    ledger: dict[str, dict[str, Any]] = field(default_factory=dict)
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
        """Whether so many frames have come, and an answer of control, if it is asked."""

        def there() -> bool:
            history = self.scene.history
            answered = not self._invocation.asks_control or (
                self.scene.status is not None or "control" in self.scene.trouble
            )
            return answered and history is not None and history.count >= count

        with self.lock:
            return self.changed.wait_for(there, within_s)

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
            if eeg is not None and not self._drain_eeg(eeg):
                eeg.close()
                eeg = None
            if events is not None and not self._drain_events(events):
                events.close()
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
            self._trouble(stream, error.message)
            return None
        connection.timeout(0)
        with self.lock:
            self.scene.trouble.pop(stream, None)
            if stream == "eeg":
                self._begin_eeg(connection)  # type: ignore[arg-type]
        return connection

    def _begin_eeg(self, connection: EegConnection) -> None:
        """Another run of the daemon, or another layout, has other indices."""
        header = connection.header
        scene = self.scene
        resumed = scene.history is not None and scene.history.next <= header.first_index
        if not resumed or scene.labels != header.labels:
            scene.history = History(len(header.labels), HISTORY_S * GRID_HZ)
        scene.labels = header.labels
        scene.wall_offset_ns = header.wall_offset_ns

    def _drain_eeg(self, connection: EegConnection) -> bool:
        """Takes all that is there; False when the stream has ended."""
        frames = []
        alive = False
        try:
            with suppress(BlockingIOError):
                frames.extend(connection)
            frames, alive = frames, False
        except (PhantomError, ValueError) as error:
            self._trouble("eeg", str(error))
        return alive
