"""Envelopes of the JSON-lines and MessagePack streams, as WIRE.md has them.

NaN and infinity become null and nil at any depth. The order of keys is that of WIRE.md, then that
of the data's own mapping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from phantomd import __version__
from phantomd.contracts import PROTOCOL
from phantomd.errors import PhantomError

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()
_PLAIN = frozenset({str, int, bool, bytes, type(None)})


def finite(value: Any) -> Any:
    """A value that both formats can carry: floats finite or None, keys strings, NumPy scalars and
    arrays as numbers and lists, Structs as maps."""
    kind = type(value)
    if kind is float:
        return value if value - value == 0.0 else None
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {
            # Most of a message is this: the names and numbers of a window's features.
            key if type(key) is str else str(key): (
                item if type(item) is float and item - item == 0.0 else finite(item)
            )
            for key, item in value.items()
        }
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return {key: finite(getattr(value, name)) for key, name in _fields(kind)}
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    return msgspec.to_builtins(value)


#: Names of the fields of a Struct, on the wire and in Python.
_known: dict[type[msgspec.Struct], tuple[tuple[str, str], ...]] = {}


def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, str], ...]:
    names = _known.get(kind)
    if names is None:
        names = tuple((field.encode_name, field.name) for field in msgspec.structs.fields(kind))
        _known[kind] = names
    return names


class Envelope:
    """Messages of one stream in one epoch, encoded. ``json``: one line each, else MessagePack."""

    def __init__(self, stream: str, epoch_hex: str, json: bool) -> None:
        self.stream = stream
        self.epoch_hex = epoch_hex
        self.json = json

    def metadata(
        self,
        rate_hz: float | None,
        t_ns: int | None,
        wall_offset_ns: int,
        data: Mapping[str, Any],
    ) -> bytes:
        """The first message of every connection."""
        return self.encode(
            {
                "type": "metadata",
                "stream": self.stream,
                "protocol": PROTOCOL,
                "daemon": f"phantomd/{__version__}",
                "epoch": self.epoch_hex,
                "rate_hz": rate_hz,
                "t_ns": t_ns,
                "wall_offset_ns": wall_offset_ns,
                "data": data,
            }
        )

    def data(
        self, seq: int, t_ns: int | None, age_us: int | None, late: bool, data: Mapping[str, Any]
    ) -> bytes:
        """``seq`` is the stream server's ``next_seq``."""
        return self.encode(
            {
                "type": "data",
                "stream": self.stream,
                "seq": seq,
                "t_ns": t_ns,
                "age_us": age_us,
                "late": late,
                "data": data,
            }
        )

    def gap(self, first_seq: int, count: int) -> bytes:
        """This client was too slow and lost ``count`` messages."""
        return self.encode(
            {
                "type": "gap",
                "stream": self.stream,
                "first_seq": first_seq,
                "count": count,
                "reason": "slow-client",
            }
        )

    def clock(self, wall_offset_ns: int) -> bytes:
        """The host's clock was stepped, or the host slept."""
        return self.encode({"type": "clock", "wall_offset_ns": wall_offset_ns})

    def error(self, error: PhantomError) -> bytes:
        """A refusal; ``closing`` says that the connection ends with it."""
        return self.encode(
            {
                "type": "error",
                "code": error.code,
                "message": error.message,
                "hint": error.hint,
                "closing": getattr(error, "closing", False),
            }
        )

    def encode(self, message: Mapping[str, Any]) -> bytes:
        """Any other message of the stream (``{"type": "session", …}``)."""
        if self.json:
            return _json.encode(finite(message)) + b"\n"
        return _msgpack.encode(finite(message))
