"""``marker``: a word on the markers stream, at an instant."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command, group
from phantomd.errors import UsageError


def add(app: typer.Typer) -> None:
    commands = group(app, "marker", "Mark an instant, for everybody who hears markers.")
    command(commands, "put")(_put)


def _put(
    invocation: Invocation,
    label: Annotated[str, typer.Argument(help="What happened; PANIC sets panic.")],
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="A map that goes with it.")
    ] = None,
    t_ns: Annotated[
        int | None, typer.Option("--t-ns", help="When, on CLOCK_MONOTONIC; else now.")
    ] = None,
) -> None:
    """Put a marker on port 7076, into the recording and the journal."""
    params: dict[str, Any] = {"label": label}
    if t_ns is not None:
        params["t_ns"] = t_ns
    if payload is not None:
        params["payload"] = _map_of(payload)
    answer = invocation.call("marker.put", **params)
    if invocation.as_json:
        output.as_json(answer)
    else:
        print(f"{output.printable(label)} at {answer['t_ns']} ns")


def _map_of(text: str) -> dict[str, Any]:
    try:
        payload = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"--payload is no JSON: {error}", hint="for example --payload '{\"block\":3}'"
        ) from error
    if not isinstance(payload, dict):
        raise UsageError("--payload is no map", hint="for example --payload '{\"block\":3}'")
    return payload
