"""``tap STREAM``: what a stream says, line by line, until there is enough."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command
from phantomd.contracts import Flag
from phantomd.errors import NoDaemon, UsageError

if TYPE_CHECKING:
    from phantomd.client import Connection, EegConnection, Frame, MessageConnection

#: A letter a flag, in the order of their bits.
LETTERS = {
    Flag.MISSING: "M",
    Flag.LATE: "L",
    Flag.ARTIFACT: "A",
    Flag.DISCONTINUITY: "D",
    Flag.SIMULATED: "S",
    Flag.BRIDGED: "B",
}
_CONNECT_S = 5.0
_RECV_BYTES = 64 * 1024
_LEGEND = "M missing, L late, A artifact, D discontinuity, S simulated, B bridged"


def add(app: typer.Typer) -> None:
    command(app, "tap")(_tap)


def _tap(
    invocation: Invocation,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="eeg, focus, events, …")],
    n: Annotated[
        int | None, typer.Option("-n", metavar="N", min=1, help="End after N messages.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", min=0.0, help="End after S seconds.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="The bytes as they come, for a file or a pipe.")
    ] = False,
) -> None:
    """Print a stream. Ctrl-C ends it."""
    if raw and (n is not None or invocation.as_json):
        raise UsageError(
            "--raw goes with neither -n nor --json", hint="bytes have no lines; use --seconds"
        )
    until_s = None if seconds is None else time.monotonic() + seconds
    with suppress(KeyboardInterrupt, TimeoutError):
        if raw:
            _copy(invocation, stream, until_s)
        else:
            _print(invocation, stream, n, until_s)


def _print(invocation: Invocation, stream: str, n: int | None, until_s: float | None) -> None:
    """Raises TimeoutError when the time is over, NoDaemon when the stream ends before."""
    with invocation.subscribe(stream, everything=True) as connection:
        lines: _Frames | _Messages
        if stream == "eeg":
            lines = _Frames(connection, invocation.as_json)  # type: ignore[arg-type]
        else:
            lines = _Messages(connection, invocation.as_json)  # type: ignore[arg-type]
        _write(lines.first())
        left = n
        for item in _items(connection, until_s):
            _write(lines.of(item))
            if left is not None and lines.counts(item):
                left -= 1
                if not left:
                    return
    raise _ended(stream)


def _write(lines: list[str]) -> None:
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


def _items(connection: Connection[Any], until_s: float | None) -> Iterator[Any]:
    while True:
        if until_s is not None:
            connection.timeout(_left_s(until_s))
        try:
            yield next(connection)
        except StopIteration:
            return


def _left_s(until_s: float) -> float:
    """Raises TimeoutError when nothing is left."""
    left_s = until_s - time.monotonic()
    if left_s <= 0.0:
        raise TimeoutError
    return left_s


def _ended(stream: str) -> NoDaemon:
    return NoDaemon(
        f"the daemon closed {stream}", hint="it stopped, or the channels changed: tap again"
    )


def _copy(invocation: Invocation, stream: str, until_s: float | None) -> None:
    """Bytes from the port to stdout. Raises as ``_print`` does."""
    host, port, unasked = invocation.place(stream)
    try:
        sock = socket.create_connection((host, port), timeout=_CONNECT_S)
    except OSError as error:
        nobody = NoDaemon(f"nobody serves {stream} on {host}:{port}: {error}")
        raise unasked or nobody from error
    with sock:
        sock.settimeout(None)
        while True:
            if until_s is not None:
                sock.settimeout(_left_s(until_s))
            try:
                data = sock.recv(_RECV_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                raise _ended(stream)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


class _Frames:
    """Frames of 7069 as lines."""

    def __init__(self, connection: EegConnection, json: bool) -> None:
        self._header = connection.header
        self._json = json

    def first(self) -> list[str]:
        header = self._header
        if self._json:
            return [
                _encoded(
                    {
                        "type": "metadata",
                        "stream": "eeg",
                        "epoch": header.epoch.hex(),
                        "rate_hz": header.rate_hz,
                        "wall_offset_ns": header.wall_offset_ns,
                        "first_index": header.first_index,
                        "unit": "uV",
                        "channels": header.labels,
                    }
                )
            ]
        labels = "".join(f"{output.printable(label)[:10]:>11}" for label in header.labels)
        return [
            f"# microvolt, {header.rate_hz:g} Hz; flags: {_LEGEND}",
            f"{'index':>10}  {'time':<15} {'age':>8}  {'flags':<6}{labels}",
        ]

    def of(self, frame: Frame) -> list[str]:
        lines = self._json_lines(frame) if self._json else self._text_lines(frame)
        return lines if frame.lost else lines[-1:]

    def counts(self, _: Frame) -> bool:
        return True

    def _json_lines(self, frame: Frame) -> list[str]:
        gap = {
            "type": "gap",
            "stream": "eeg",
            "first_seq": frame.index - frame.lost,
            "count": frame.lost,
            "reason": "slow-client",
        }
        data = {
            "type": "data",
            "stream": "eeg",
            "seq": frame.index,
            "t_ns": frame.t_ns,
            "age_us": frame.age_us,
            "late": Flag.LATE in frame.flags,
            "data": {
                "flags": [flag.name for flag in LETTERS if flag in frame.flags],
                "values": [None if value != value else value for value in frame.values.tolist()],
            },
        }
        return [_encoded(gap), _encoded(data)]

    def _text_lines(self, frame: Frame) -> list[str]:
        flags = "".join(letter if flag in frame.flags else "." for flag, letter in LETTERS.items())
        values = "".join(
            f"{output.NONE:>11}" if value != value else f"{value:>11.2f}"
            for value in frame.values.tolist()
        )
        when = output.clock(frame.t_ns + self._header.wall_offset_ns)
        return [
            f"# {frame.lost} frames lost here: this client was too slow",
            f"{frame.index:>10}  {when} {output.micros(frame.age_us):>8}  {flags}{values}",
        ]


class _Messages:
    """Messages of a JSON or MessagePack stream, one a line."""

    def __init__(self, connection: MessageConnection, json: bool) -> None:
        self._connection = connection
        self._json = json

    def first(self) -> list[str]:
        return []  # the metadata message comes with the others

    def counts(self, message: dict[str, Any]) -> bool:
        return message.get("type") == "data"

    def of(self, message: dict[str, Any]) -> list[str]:
        if self._json:
            return [_encoded(message)]
        match message:
            case {"type": "metadata", "daemon": daemon, "stream": stream, "data": data}:
                text = f"# {stream} of {daemon}: {_encoded(data)}"
            case {"type": "gap", "count": count}:
                text = f"# {count} messages lost here: this client was too slow"
            case {"type": "data", "data": data}:
                text = self._data(message, data)
            case {"type": kind, **rest}:
                text = f"# {kind}: {_encoded(rest)}"
            case _:
                text = _encoded(message)
        return [output.printable(text)]

    def _data(self, message: dict[str, Any], data: dict[str, Any]) -> str:
        t_ns = message.get("t_ns")
        offset_ns = self._connection.wall_offset_ns
        when = f"{'-':<15}" if t_ns is None else output.clock(t_ns + offset_ns)
        late = " LATE" if message.get("late") else ""
        if message.get("stream") == "events":
            said = (
                f"{data.get('level', ''):<7}  {data.get('kind', ''):<7}  {data.get('message', '')}"
            )
        else:
            said = _encoded(data)
        return f"{message.get('seq', ''):>6}  {when}{late}  {said}"


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()
