"""``session.*`` and ``dataset.list`` on the control socket."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from phantomd.gauntlet.datasets import DEFAULT
from phantomd.gauntlet.session import Sessions, stress_changes
from phantomd.gauntlet.stress import Level, Milliseconds, Probability
from phantomd.net.rpc import Method, NoParams
from phantomd.net.score_methods import score_methods

Code = Annotated[str, Meta(min_length=1, max_length=64)]
Seed = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class CreateParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: Code | None = None
    dataset: Annotated[str, Meta(min_length=1, max_length=4096)] = DEFAULT
    seed: Seed | None = None
    target_id: int | None = None
    trial_id: int | None = None
    level: Level | None = None
    loop: bool = True


class CodeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: Code


class SeekParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: Code
    position_s: Annotated[float, Meta(ge=0)] | None = None
    packet: Annotated[int, Meta(ge=0, lt=1 << 32)] | None = None


class StressParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: Code
    level: Level | None = None
    seed: Seed | None = None
    noise_std: Annotated[float, Meta(ge=0, le=100)] | None = None
    drift_amplitude: Annotated[float, Meta(ge=0, le=100)] | None = None
    drift_period_s: Annotated[float, Meta(ge=0.001, le=1e6)] | None = None
    dropout: Probability | None = None
    gain_std: Annotated[float, Meta(ge=0, le=5)] | None = None
    rotation_deg: Annotated[float, Meta(ge=-360, le=360)] | None = None
    shift: Annotated[float, Meta(ge=0, le=1024)] | None = None
    latency_ms: Milliseconds | None = None
    jitter_ms: Milliseconds | None = None
    loss: Probability | None = None
    duplicate: Probability | None = None
    reorder: Probability | None = None
    disconnects_per_min: Annotated[float, Meta(ge=0, le=600)] | None = None


def session_methods(sessions: Sessions) -> dict[str, Method]:
    async def create(params: CreateParams) -> dict[str, str]:
        live = await sessions.create(
            params.code,
            dataset=params.dataset,
            seed=params.seed,
            target_id=params.target_id,
            trial_id=params.trial_id,
            level=params.level,
            loop=params.loop,
        )
        return {"session_code": live.code}

    def every(_: NoParams) -> list[dict[str, Any]]:
        return [live.info() for live in sessions]

    def get(params: CodeParams) -> dict[str, Any]:
        return sessions.find(params.code).info()

    async def pause(params: CodeParams) -> dict[str, Any]:
        return (await sessions.pause(params.code)).info()

    async def resume(params: CodeParams) -> dict[str, Any]:
        return (await sessions.resume(params.code)).info()

    async def delete(params: CodeParams) -> dict[str, str]:
        await sessions.delete(params.code)
        return {"session_code": params.code}

    async def seek(params: SeekParams) -> dict[str, Any]:
        live = await sessions.seek(params.code, position_s=params.position_s, packet=params.packet)
        return live.info()

    async def stress(params: StressParams) -> dict[str, Any]:
        live = await sessions.stress(params.code, params.level, stress_changes(params))
        return live.info()

    def datasets(_: NoParams) -> list[str]:
        return sessions.datasets.names()

    return {
        "session.create": Method(CreateParams, create, "a session of your own"),
        "session.list": Method(NoParams, every, "all sessions"),
        "session.get": Method(CodeParams, get, "position, stress, decoder, latencies"),
        "session.pause": Method(CodeParams, pause, "no more packets"),
        "session.resume": Method(CodeParams, resume, "go on from there"),
        "session.seek": Method(SeekParams, seek, "go to another position"),
        "session.stress": Method(StressParams, stress, "a level, or single faults"),
        "session.delete": Method(CodeParams, delete, "end it, and its connections"),
        "dataset.list": Method(NoParams, datasets, "what a session can play"),
        **score_methods(sessions),
    }
