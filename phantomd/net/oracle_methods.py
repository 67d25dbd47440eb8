"""``oracle.*`` on the control socket."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from phantomd.net.rpc import Method
from phantomd.oracle.baseline import SECONDS
from phantomd.oracle.stage import OracleStage


class BaselineParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: Annotated[float, Meta(ge=5, le=600)] = SECONDS


def oracle_methods(oracle: OracleStage) -> dict[str, Method]:
    async def baseline(params: BaselineParams) -> dict[str, Any]:
        return await oracle.rest(params.seconds)

    return {"oracle.baseline": Method(BaselineParams, baseline, "record rest, and refer to it")}
