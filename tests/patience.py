"""Bounds of time on a host that others use, too: as tight as it allows, and no tighter."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Self

#: From what happens to what a test sees of it: threads and processes that wake one another.
HOPS = 10
_STEP_S = 0.005


class Pace:
    """``with Pace() as pace: …; assert took_s < pace.stretch(0.25)``: the bound, grown by how much
    is waiting for this host's processors, and by how late it woke a sleeper meanwhile. On an idle
    one little is added."""

    def __init__(self) -> None:
        self.late_s = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def stretch(self, bound_s: float) -> float:
        waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
        return bound_s * (1 + waiting) + HOPS * self.late_s

    def _watch(self) -> None:
        begun_s = time.monotonic()
        while not self._end.wait(_STEP_S):
            now_s = time.monotonic()
            self.late_s = max(self.late_s, now_s - begun_s - _STEP_S)
            begun_s = now_s
