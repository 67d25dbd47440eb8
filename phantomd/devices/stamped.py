"""Numbers for samples that have stamps and no counter, so that a loss keeps its true length.

Stamps of push time jitter, and they come late, never early: what is lost shows as a delay that does
not go away. So a jump in the stamps is not judged at once: the samples after it are held back until
a handful of them has shown whether the delay stays (a loss) or is caught up (a stall).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: Samples and time that a jump is looked at for.
LOOK_SAMPLES = 8
LOOK_NS = 60_000_000
#: What was held up comes all at once: for as long as the last few say so, the look goes on.
PACE_SAMPLES = 4
#: A jump: more than this many samples, and more than the usual spread of the stamps explains.
JUMP_SAMPLES = 0.8
JUMP_SPREADS = 6.0
JUMP_NS = 2_000_000
#: Stamps that go back, or jump ahead, by more begin anew.
RESTART_NS = 5_000_000_000
#: The earliest line follows a source that is slower than it says, by this part of time.
CREEP = 0.02
#: The usual spread is an average over about so many samples.
SPREAD_SAMPLES = 128


@dataclass(slots=True)
class Run:
    """Samples in a row, ready: ``lost`` of them are missing before the first."""

    rows: NDArray[np.float64]
    stamps_ns: NDArray[np.int64]
    lost: int = 0
    restart: bool = False


@dataclass(slots=True)
class StampedIndex:
    """``take`` gives what can be numbered by now."""

    rate_hz: float
    _period_ns: float = 0.0
    _next: int = 0
    _last_ns: int | None = None
    _edge_ns: float = 0.0
    _spread_ns: float = 0.0
    _origin_ns: int = 0
    _rows: list[NDArray[np.float64]] = field(default_factory=list)
    _stamps: list[int] = field(default_factory=list)
    _since_ns: int = 0

    def __post_init__(self) -> None:
        self._period_ns = 1e9 / self.rate_hz

    def take(
        self, rows: NDArray[np.float64], stamps_ns: NDArray[np.int64], now_ns: int
    ) -> Iterator[Run]:
        """``rows`` [n][values] with their stamps on the host's clock; n may be 0."""
        ready, restart = 0, False
        for place, stamp_ns in enumerate(stamps_ns.tolist()):
            if self._stamps:
                self._rows.append(rows[place])
                self._stamps.append(stamp_ns)
                if len(self._stamps) >= LOOK_SAMPLES and not self._catches_up():
                    yield self._judge()
                ready = place + 1
            elif self._begins(stamp_ns):
                if ready < place:
                    yield Run(rows[ready:place], stamps_ns[ready:place], restart=restart)
                ready, restart = place, self._last_ns is not None
                self._restart(stamp_ns)
            elif self._jumps(stamp_ns):
                if ready < place:
                    yield Run(rows[ready:place], stamps_ns[ready:place], restart=restart)
                ready, restart = place + 1, False
                self._rows, self._stamps, self._since_ns = [rows[place]], [stamp_ns], now_ns
            else:
                self._learn(stamp_ns)
        if ready < len(stamps_ns):
            yield Run(rows[ready:], stamps_ns[ready:], restart=restart)
        if self._stamps and now_ns - self._since_ns > LOOK_NS:
            yield self._judge()

    def forget(self) -> None:
        """The source is another one: what was held back has no place any more."""
        self._last_ns = None
        self._rows, self._stamps = [], []

    # -- inside ------------------------------------------------------------------------------------

    def _begins(self, stamp_ns: int) -> bool:
        return self._last_ns is None or abs(stamp_ns - self._last_ns) > RESTART_NS

    def _jumps(self, stamp_ns: int) -> bool:
        assert self._last_ns is not None
        jump_ns = stamp_ns - self._last_ns - self._period_ns
        usual_ns = max(JUMP_SAMPLES * self._period_ns, JUMP_SPREADS * self._spread_ns + JUMP_NS)
        return jump_ns > usual_ns

    def _catches_up(self) -> bool:
        """The newest of those held back come at less than half their pace apart."""
        span_ns = self._stamps[-1] - self._stamps[-PACE_SAMPLES]
        return span_ns < 0.5 * (PACE_SAMPLES - 1) * self._period_ns

    def _restart(self, stamp_ns: int) -> None:
        self._origin_ns, self._edge_ns, self._spread_ns = stamp_ns, 0.0, self._period_ns
        self._next, self._last_ns = 1, stamp_ns

    def _late_ns(self, stamp_ns: int, index: int) -> float:
        return stamp_ns - self._origin_ns - index * self._period_ns - self._edge_ns

    def _learn(self, stamp_ns: int) -> None:
        late_ns = self._late_ns(stamp_ns, self._next)
        self._edge_ns += min(late_ns, CREEP * self._period_ns)
        self._spread_ns += (max(late_ns, 0.0) - self._spread_ns) / SPREAD_SAMPLES
        self._next += 1
        self._last_ns = stamp_ns

    def _judge(self) -> Run:
        late_ns = min(
            self._late_ns(stamp_ns, self._next + place)
            for place, stamp_ns in enumerate(self._stamps)
        )
        lost = max(0, round(late_ns / self._period_ns))
        self._next += lost
        for stamp_ns in self._stamps:
            self._learn(stamp_ns)
        run = Run(np.array(self._rows), np.array(self._stamps, np.int64), lost)
        self._rows, self._stamps = [], []
        return run
