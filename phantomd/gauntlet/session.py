"""Sessions by their codes: made, found, steered, deleted, and forgotten when nobody uses them.

What has a deadline is in the sessions' thread (csrc/pd_port.h); this is who may have a session,
what it plays, and what is said about it. All of it belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from phantomd.contracts import Event
from phantomd.core.gauntlet import NOBODY, WHAT, Port, Session, Stress
from phantomd.engine.beside import beside
from phantomd.engine.orders import Orders
from phantomd.errors import SessionError, SessionExists, TooManySessions, UnknownSession
from phantomd.gauntlet.codes import checked, new_code
from phantomd.gauntlet.dataset import Dataset
from phantomd.gauntlet.datasets import DEFAULT, Datasets, LiveSource
from phantomd.gauntlet.saying import session_event
from phantomd.gauntlet.stress import Level, StressConfig, compiled

#: Joined by who attaches to no other; made when it is first wanted, and never expires.
DEFAULT_CODE = "default"
IDLE_S = 3600.0
#: Packets that a session remembers: more than the embedded dataset has, or, where there are many
#: sessions, the last 50 s.
_RECORDS = 16_384
_RECORDS_OF_MANY = 2048
_MANY = 64
#: Sessions are spread over their period in steps of a fiftieth, by the golden ratio.
_PHASES = 50
#: Those of one step are served in the same order each time.
_APART_NS = 20_000
_GOLDEN = 0.618033988749895


@dataclass(eq=False)
class Live:
    """A session that there is. ``number`` is its name in the thread."""

    code: str
    number: int
    source: Dataset | LiveSource
    core: Session
    loop: bool
    seed: int
    filter: dict[str, int]
    selected: int
    stress: StressConfig
    used_s: float
    plan: Stress | None = None
    created_s: float = field(default_factory=time.time)

    def metadata(self) -> dict[str, Any]:
        """``data`` of the metadata message."""
        return {
            **self.source.metadata(),
            "session": self.code,
            "state": self.core.state,
            "loop": self.loop,
            "filter": self.filter,
            "selected_packets": self.selected,
        }

    def info(self) -> dict[str, Any]:
        """What ``session.get`` says."""
        loop = self.core.loop
        quantiles = {
            name: loop.quantile(q) / 1e6 if loop.count else None
            for name, q in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999))
        }
        bin_s = self.source.bins.bin_ns / 1e9
        return {
            "session_code": self.code,
            "dataset": self.source.name,
            "state": self.core.state,
            "packet": self.core.bin,
            "position_s": round(self.core.bin * bin_s, 6),
            "loop": self.loop,
            "filter": self.filter,
            "selected_packets": self.selected,
            "seed": self.seed,
            "stress": self.stress.faults(),
            "subscribers": self.core.subscribers,
            "decoder": self.core.decoder is not None,
            **self.core.counts(),
            "loop_ms": {**quantiles, "max_ms": loop.max_ns / 1e6 if loop.count else None},
            "created_unix_s": round(self.created_s, 3),
        }


def phase_ns(number: int, period_ns: int) -> int:
    """Into the period, of the session that was made as the ``number``-th."""
    step, rest = divmod(number * _GOLDEN % 1.0 * _PHASES, 1.0)
    return period_ns * int(step) // _PHASES + int(rest * _APART_NS)


class Sessions:
    """``port`` is the thread's; ``emit`` takes what is to be told on ``events``."""

    def __init__(
        self,
        port: Port,
        orders: Orders,
        datasets: Datasets,
        emit: Callable[[Event], None],
        *,
        limit: int,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.datasets = datasets
        self._port = port
        self._orders = orders
        self._emit = emit
        self._limit = limit
        self._now_s = now_s
        self._by_code: dict[str, Live] = {}
        self._by_number: dict[int, Live] = {}
        self._free = list(range(limit - 1, -1, -1))
        self._coming: set[str] = set()
        self._phase = 0
        self._default: asyncio.Task[Live] | None = None

    def __len__(self) -> int:
        return len(self._by_code)

    def __iter__(self) -> Any:
        return iter(tuple(self._by_code.values()))

    def find(self, code: str) -> Live:
        """Raises UnknownSession."""
        try:
            return self._by_code[code]
        except KeyError:
            raise UnknownSession(f"no session {code[:80]!r}") from None

    def numbered(self, number: int | None) -> Live | None:
        return None if number is None else self._by_number.get(number)

    async def default(self) -> Live:
        """The session of who attaches to no other."""
        found = self._by_code.get(DEFAULT_CODE)
        if found is not None:
            return found
        if self._default is None or self._default.done():
            self._default = asyncio.get_running_loop().create_task(self.create(DEFAULT_CODE))
        # All who come meanwhile wait for the same one.
        return await asyncio.shield(self._default)

    async def create(
        self,
        code: str | None = None,
        *,
        dataset: str = DEFAULT,
        seed: int | None = None,
        target_id: int | None = None,
        trial_id: int | None = None,
        level: Level | None = None,
        loop: bool = True,
    ) -> Live:
        """Raises SessionExists, FilterEmpty, UnknownDataset, TooManySessions, SessionError."""
        wanted = self._reserve(code)
        try:
            source = await self.datasets.get(dataset)
            spans = source.select(target_id, trial_id)
            if seed is None:
                seed = random.randrange(1 << 31)
            stress = StressConfig(seed=seed).changed(level, {})
            plan = await self._compile(stress, source)
            if not self._free:
                raise self._full()
            live = self._make(wanted, source, spans, loop, seed, stress)
        finally:
            self._coming.discard(wanted)
        live.filter = {
            key: value
            for key, value in (("target_id", target_id), ("trial_id", trial_id))
            if value is not None
        }
        self._orders.give("add", session=live.number, pointer=live.core)
        if plan is not None:
            live.plan = plan
            self._orders.give("stress", session=live.number, pointer=plan)
        await self._orders.done()
        return live

    async def pause(self, code: str) -> Live:
        return await self._steer(code, "pause")

    async def resume(self, code: str) -> Live:
        return await self._steer(code, "resume")

    async def seek(
        self, code: str, *, position_s: float | None = None, packet: int | None = None
    ) -> Live:
        """To a bin of the dataset, or the next one that the filter passes. Raises SessionError."""
        live = self.find(code)
        if isinstance(live.source, LiveSource):
            raise SessionError(f"{code} is live", hint="only a recording can be sought in")
        if (position_s is None) == (packet is None):
            raise SessionError("neither or both of position_s and packet", hint="give one of them")
        if packet is None:
            assert position_s is not None
            # A hair above, so that 0.05 s is bin 2 of 25 ms and not bin 1.
            packet = int(position_s / live.source.bin_s + 1e-6)
        if not 0 <= packet < live.source.n_bins:
            raise SessionError(
                f"packet {packet} is outside the dataset",
                hint=f"there are packets 0..{live.source.n_bins - 1}, {live.source.duration_s:g} s",
            )
        return await self._steer(code, "seek", value=packet)

    async def stress(self, code: str, level: Level | None, changes: Mapping[str, Any]) -> Live:
        """Takes effect with the next packet. Raises SessionError."""
        live = self.find(code)
        live.stress = config = live.stress.changed(level, changes)
        plan = await self._compile(config, live.source)
        if live.stress is not config or self._by_code.get(code) is not live:
            return live  # it was changed again meanwhile, or is gone: that is what counts
        before, live.plan = live.plan, plan
        await self._steer(code, "stress", pointer=plan)
        del before  # until now the thread may have been using it
        return live

    async def delete(self, code: str) -> None:
        """Its subscribers are told ``ended``, and their connections end."""
        live = self.find(code)
        del self._by_code[code]
        self._orders.give("remove", session=live.number)
        await self._orders.done()
        del self._by_number[live.number]
        self._free.append(live.number)

    async def sweep(self) -> list[str]:
        """Deletes sessions that nobody has used for an hour."""
        now_s = self._now_s()
        for live in self:
            if live.core.subscribers:
                live.used_s = now_s
        old = [
            live.code for live in self if now_s - live.used_s > IDLE_S and live.code != DEFAULT_CODE
        ]
        for code in old:
            await self.delete(code)
        return old

    def take_event(self, number: int, code: int, seq: int, value: int) -> None:
        """What the thread says of a session."""
        live = self._by_number.get(number)
        if live is not None:
            self._emit(session_event(live.code, WHAT[code], seq, value))

    # -- making ------------------------------------------------------------------------------------

    def _reserve(self, code: str | None) -> str:
        taken = self._by_code.keys() | self._coming
        if len(taken) >= self._limit:
            raise self._full()
        wanted = new_code(taken) if code is None else checked(code)
        if wanted in taken:
            raise SessionExists(
                f"there is a session {wanted!r} already", hint="join it, or take another code"
            )
        self._coming.add(wanted)
        return wanted

    def _full(self) -> TooManySessions:
        return TooManySessions(
            f"there are {self._limit} sessions already",
            hint="delete some, or raise gauntlet.max_sessions",
        )

    async def _compile(self, config: StressConfig, source: Dataset | LiveSource) -> Stress | None:
        dataset = source if isinstance(source, Dataset) else None
        if not config.is_on:
            return None
        return await beside(compiled, config, source.n_units, dataset)

    def _make(
        self,
        code: str,
        source: Dataset | LiveSource,
        spans: Any,
        loop: bool,
        seed: int,
        stress: StressConfig,
    ) -> Live:
        self._phase += 1
        core = Session(
            source.bins,
            spans if len(spans) else None,
            loop=loop,
            phase_ns=phase_ns(self._phase, source.bins.bin_ns),
            record_slots=_RECORDS if len(self) < _MANY else _RECORDS_OF_MANY,
            live=source.ring if isinstance(source, LiveSource) else None,
        )
        selected = int(np.subtract(*spans.T[::-1]).sum()) if len(spans) else 0
        live = Live(
            code, self._free.pop(), source, core, loop, seed, {}, selected, stress, self._now_s()
        )
        self._by_code[code] = live
        self._by_number[live.number] = live
        return live

    async def _steer(self, code: str, what: str, **how: Any) -> Live:
        live = self.find(code)
        live.used_s = self._now_s()
        self._orders.give(what, session=live.number, **how)
        await self._orders.done()
        return live


def stress_changes(params: msgspec.Struct) -> dict[str, Any]:
    """The faults that a request names."""
    values = msgspec.structs.asdict(params)
    return {
        key: values[key] for key in StressConfig.__struct_fields__ if values.get(key) is not None
    }


__all__ = ["DEFAULT_CODE", "NOBODY", "Live", "Sessions", "stress_changes"]
