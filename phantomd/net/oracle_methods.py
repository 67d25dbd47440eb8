"""``oracle.*`` on the control socket."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from phantomd.net.rpc import Method, NoParams
from phantomd.oracle.baseline import SECONDS
from phantomd.oracle.stage import OracleStage


class BaselineParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: Annotated[float, Meta(ge=5, le=600)] = SECONDS


def oracle_methods(oracle: OracleStage) -> dict[str, Method]:
    async def baseline(params: BaselineParams) -> dict[str, Any]:
        return await oracle.rest(params.seconds)

    def reset(params: NoParams) -> dict[str, Any]:
        oracle.reset_session()
        return {}

    return {
        "oracle.baseline": Method(BaselineParams, baseline, "record rest, and refer to it"),
        "oracle.reset": Method(NoParams, reset, "the session's score begins anew"),
    }
