"""``session.score`` and ``session.record``: what a session's decoder did."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from phantomd.engine.beside import beside
from phantomd.gauntlet.play import played
from phantomd.gauntlet.score import over_time, score
from phantomd.gauntlet.session import Live, Sessions
from phantomd.net.rpc import Method

Code = Annotated[str, Meta(min_length=1, max_length=64)]
#: A page of 2,048 packets has some 170 kB.
PAGE = 2048


class ScoreParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``first``: packets before this ``seq`` don't count."""

    code: Code
    first: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    over_time: bool = False


class RecordParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: Code
    first: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0


def score_methods(sessions: Sessions) -> dict[str, Method]:
    async def rate(params: ScoreParams) -> dict[str, Any]:
        # Some milliseconds of NumPy, for which nothing else need wait.
        return await beside(_rated, sessions.find(params.code), params.first, params.over_time)

    async def record(params: RecordParams) -> dict[str, Any]:
        return await beside(_page, sessions.find(params.code), params.first)

    return {
        "session.score": Method(ScoreParams, rate, "how well its decoder does"),
        "session.record": Method(RecordParams, record, "its settled packets, a page of them"),
    }


def _rated(live: Live, first: int, with_curve: bool) -> dict[str, Any]:
    play = played(live.core.records(first), live.source)
    answer = {"session_code": live.code, **msgspec.structs.asdict(score(play))}
    if with_curve:
        answer["over_time"] = over_time(play)
    return answer


def _page(live: Live, first: int) -> dict[str, Any]:
    records = live.core.records(first)[:PAGE]
    following = int(records["seq"][-1]) + 1 if len(records) else first
    page = played(records, live.source).as_map()
    return {
        "session_code": live.code,
        "next": following,
        "units": live.source.n_units,
        **page,
    }
