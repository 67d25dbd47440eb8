"""The deadline ledger: one histogram a stage, and who kept the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from phantomd.contracts import StageStats
from phantomd.core.hist import Histogram

#: Deadlines of the stages (docs/design.md), ns.
EEG_DEADLINE_NS = 7_800_000
LOOP_DEADLINE_NS = 2_000_000
CONTROL_DEADLINE_NS = 2_000_000
SLOW_CALLBACK_NS = 2_000_000


class Ledger:
    """Stage name to histogram; each histogram has one owner thread, anybody reads."""

    def __init__(self) -> None:
        self._stages: dict[str, Histogram] = {}
        self.slow_callbacks: Counter[str] = Counter()

    def stage(self, name: str, deadline_ns: int) -> Histogram:
        return self.add(name, Histogram(deadline_ns))

    def add(self, name: str, histogram: Histogram) -> Histogram:
        self._stages[name] = histogram
        return histogram

    def snapshot(self) -> dict[str, StageStats]:
        return {name: _stats(histogram) for name, histogram in self._stages.items()}

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, counted by name when it keeps the loop for over 2 ms."""

        def measured(*args: Any) -> Any:
            start_ns = time.monotonic_ns()
            try:
                return call(*args)
            finally:
                if time.monotonic_ns() - start_ns > SLOW_CALLBACK_NS:
                    self.slow_callbacks[name] += 1

        return measured


class LoopLag:
    """Asks the event loop to call at a certain instant, and keeps how late it did."""

    def __init__(self, loop: asyncio.AbstractEventLoop, histogram: Histogram, every_s: float = 0.1):
        self._loop = loop
        self._histogram = histogram
        self._every_s = every_s
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        planned_s = self._loop.time() + self._every_s
        self._handle = self._loop.call_at(planned_s, self._arrived, planned_s)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _arrived(self, planned_s: float) -> None:
        # Not loop.time(): the loop's own idea of now is as late as it is.
        self._histogram.add(int((time.monotonic() - planned_s) * 1e9))
        self.start()


def _stats(histogram: Histogram) -> StageStats:
    return StageStats(
        count=histogram.count,
        missed=histogram.missed,
        p50_us=histogram.quantile(0.5) / 1e3,
        p99_us=histogram.quantile(0.99) / 1e3,
        p999_us=histogram.quantile(0.999) / 1e3,
        max_us=histogram.max_ns / 1e3,
        deadline_us=histogram.deadline_ns / 1e3,
    )
