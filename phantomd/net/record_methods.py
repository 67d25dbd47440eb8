"""``record.*`` on the control socket."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from phantomd.net.rpc import Method, NoParams


class Records(Protocol):
    """What answers (records/recording.py)."""

    async def start(self, name: str | None) -> object: ...
    async def stop(self) -> object: ...
    def all(self) -> list[dict[str, Any]]: ...


class StartParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


def record_methods(recorder: Records) -> dict[str, Method]:
    async def start(params: StartParams) -> dict[str, str]:
        return {"path": str(await recorder.start(params.name))}

    async def stop(_: NoParams) -> dict[str, str]:
        return {"path": str(await recorder.stop())}

    return {
        "record.start": Method(StartParams, start, "record the device on 7069"),
        "record.stop": Method(NoParams, stop, "end the recording"),
        "record.list": Method(NoParams, lambda _: recorder.all(), "recordings that there are"),
    }
