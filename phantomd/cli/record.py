"""``record``: the device on 7069 into a file that MNE, EEGLAB and BIDS tools open."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command, group


def add(app: typer.Typer) -> None:
    commands = group(app, "record", "Record the signal (BrainVision), when you say so.")
    command(commands, "start")(_start)
    command(commands, "stop")(_stop)
    command(commands, "list")(_list)


def _start(
    invocation: Invocation,
    name: Annotated[str | None, typer.Argument(help="Of the files; else date and time.")] = None,
) -> None:
    """Begin a recording."""
    answer = invocation.call("record.start", **({"name": name} if name else {}))
    if invocation.as_json:
        output.as_json(answer)
    else:
        print(f"recording to {output.printable(answer['path'])}")


def _stop(invocation: Invocation) -> None:
    """End the recording; it is on the disk then."""
    answer = invocation.call("record.stop")
    if invocation.as_json:
        output.as_json(answer)
    else:
        print(output.printable(answer["path"]))


def _list(invocation: Invocation) -> None:
    """The recordings that there are."""
    found = invocation.call("record.list")
    if invocation.as_json:
        output.as_json(found)
        return
    rows = [
        (
            output.printable(one["path"]),
            f"{one['bytes'] / 1e6:.1f}",
            "now"
            if one["recording"]
            else time.strftime("%Y-%m-%d %H:%M", time.localtime(one["unix_s"])),
        )
        for one in found
    ]
    output.table(output.console(), ("file", ">MB", "until"), rows)
