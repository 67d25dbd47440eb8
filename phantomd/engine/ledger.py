"""The deadline ledger: one histogram a stage, and who kept the event loop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from phantomd.contracts import StageStats
from phantomd.core.hist import Histogram, Window

P = ParamSpec("P")
T = TypeVar("T")

#: Deadlines of the stages (docs/design.md), ns.
EEG_DEADLINE_NS = 7_800_000
LOOP_DEADLINE_NS = 2_000_000
CONTROL_DEADLINE_NS = 2_000_000
SLOW_CALLBACK_NS = 2_000_000
#: Callers whose windows are kept.
WINDOWS = 16

_TFD_TIMER_ABSTIME = 1


class Ledger:
    """Stage name to histogram; each histogram has one owner thread, anybody reads."""

    def __init__(self) -> None:
        self._stages: dict[str, Histogram] = {}
        self._windows: dict[str, dict[str, Window]] = {}
        self.slow_callbacks: Counter[str] = Counter()

    def stage(self, name: str, deadline_ns: int) -> Histogram:
        return self.add(name, Histogram(deadline_ns))

    def add(self, name: str, histogram: Histogram) -> Histogram:
        self._stages[name] = histogram
        return histogram

    def snapshot(self) -> dict[str, StageStats]:
        """Since the start."""
        return {name: _stats(histogram) for name, histogram in self._stages.items()}

    def window(self, name: str) -> dict[str, StageStats]:
        """Since the last call with this name; the first call gives nothing yet. The names used
        longest ago are forgotten."""
        windows = self._windows.pop(name, None)
        if windows is None:
            windows = {stage: Window(histogram) for stage, histogram in self._stages.items()}
        self._windows[name] = windows
        while len(self._windows) > WINDOWS:
            del self._windows[next(iter(self._windows))]
        return {stage: _stats(window.take()) for stage, window in windows.items()}

    def timed(
        self, name: str, call: Callable[P, T], histogram: Histogram | None = None
    ) -> Callable[P, T]:
        """``call``, counted by name when it keeps the loop for over 2 ms; ``histogram`` gets the
        time of each. Of a coroutine function only what it takes to make the coroutine."""

        def measured(*args: P.args, **kwargs: P.kwargs) -> T:
            start_ns = time.monotonic_ns()
            try:
                return call(*args, **kwargs)
            finally:
                took_ns = time.monotonic_ns() - start_ns
                if took_ns > SLOW_CALLBACK_NS:
                    self.slow_callbacks[name] += 1
                if histogram is not None:
                    histogram.add(took_ns)

        return measured


class LoopLag:
    """How late the event loop comes to what has become ready.

    A kernel timer becomes readable at instants that are known to the nanosecond, a tenth of a
    second apart; the loop's own timers are rounded to its milliseconds, and would be the larger
    part of what is measured. A loop that was kept over several instants is late for each of them.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, histogram: Histogram, every_ns: int = 100_000_000
    ) -> None:
        self._loop = loop
        self._histogram = histogram
        self._every_ns = every_ns
        self._due_ns = 0
        self._fd = -1

    def start(self) -> None:
        """Raises OSError."""
        self._due_ns = time.monotonic_ns() + self._every_ns
        self._fd = _timer_fd(self._due_ns, self._every_ns)
        self._loop.add_reader(self._fd, self._arrived)

    def stop(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _arrived(self) -> None:
        now_ns = time.monotonic_ns()
        try:
            times = int.from_bytes(os.read(self._fd, 8), sys.byteorder)
        except BlockingIOError:
            return
        for _ in range(times):
            self._histogram.add(now_ns - self._due_ns)
            self._due_ns += self._every_ns


def _timer_fd(first_ns: int, every_ns: int) -> int:
    """timerfd_create(2): readable at ``first_ns`` and then at each period. ``os`` has it from
    Python 3.13 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK))
    spec = (ctypes.c_long * 4)(*divmod(every_ns, 10**9), *divmod(first_ns, 10**9))
    if fd < 0 or libc.timerfd_settime(fd, _TFD_TIMER_ABSTIME, spec, None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    return fd


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
