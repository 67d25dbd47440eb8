"""Messages of MessagePack-RPC: requests taken apart and checked, answers and errors encoded."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from phantomd.contracts import ErrorBody
from phantomd.errors import BadFrame, BadParams, ControlError, PhantomError

log = logging.getLogger(__name__)

_REQUEST, _ANSWER, _NOTIFICATION = 0, 1, 2
SHAPE = (
    "requests are MessagePack: [0, id, method, [{params}]], notifications [2, method, [{params}]]"
)


class NoParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a method that takes none."""


@dataclass(frozen=True)
class Method:
    """``params`` must forbid unknown fields. ``call`` must not block; what it awaits may last."""

    params: type[msgspec.Struct]
    call: Callable[[Any], Any | Awaitable[Any]]
    doc: str

    def __post_init__(self) -> None:
        if not self.params.__struct_config__.forbid_unknown_fields:
            raise TypeError(f"{self.params.__name__} must forbid unknown fields")


def parse(message: bytes) -> tuple[int | None, str, Any]:
    """Request id (None: a notification), method and parameters. Raises BadFrame."""
    try:
        fields = msgspec.msgpack.decode(message)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"no MessagePack: {error}", hint=SHAPE) from error
    match fields:
        case [kind, request, str() as name, list() as params] if (
            type(kind) is int and kind == _REQUEST and type(request) is int
        ):
            return request, name, params
        case [kind, str() as name, list() as params] if type(kind) is int and kind == _NOTIFICATION:
            return None, name, params
    raise BadFrame("MessagePack, but no request", hint=SHAPE)


def convert(name: str, params: type[msgspec.Struct], arguments: list[Any]) -> msgspec.Struct:
    """``arguments`` as a method's parameters. Raises BadParams, which says path and valid keys."""
    keys = [field.encode_name for field in msgspec.structs.fields(params)]
    hint = f"{name} takes {', '.join(keys)}" if keys else f"{name} takes no parameters"
    if len(arguments) > 1 or (arguments and not isinstance(arguments[0], dict)):
        raise BadParams("the parameters are not one map", hint=f"[] or [{{…}}]; {hint}")
    try:
        return msgspec.convert(arguments[0] if arguments else {}, params)
    except (ValueError, RecursionError) as error:
        raise BadParams(f"{name}: {error}", hint=hint) from error


def error_of(name: str, error: BaseException) -> ErrorBody:
    """An answer for any exception. What nobody foresaw is logged, and goes out without details."""
    if isinstance(error, PhantomError):
        return body_of(error)
    log.error("%s failed", name, exc_info=error)
    return ErrorBody(
        "internal",
        f"{name} failed: {type(error).__name__}",
        "the daemon goes on; its log has the details (`journalctl -u phantomd`, or its terminal)",
    )


def body_of(error: PhantomError) -> ErrorBody:
    return ErrorBody(error.code, error.message, error.hint)


def encode(request: Any, error: ErrorBody | None, result: Any) -> bytes:
    return msgspec.msgpack.encode([_ANSWER, request, error, result])


def refusal(error: ControlError) -> bytes:
    """The answer to what was no request, so that it has no id."""
    return encode(None, body_of(error), None)
