"""``journal``: an intake journal, from which a run can be replayed byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command, group


def add(app: typer.Typer) -> None:
    commands = group(app, "journal", "Write down all that comes in, for replay.")
    command(commands, "start")(_start)
    command(commands, "stop")(_stop)


def _start(
    invocation: Invocation,
    path: Annotated[
        Path | None, typer.Argument(help="Where; else the daemon's state directory.")
    ] = None,
) -> None:
    """Begin a journal."""
    # The daemon's working directory is not the caller's.
    answer = invocation.call("journal.start", **({"path": str(path.absolute())} if path else {}))
    if invocation.as_json:
        output.as_json(answer)
    else:
        print(f"writing {output.printable(answer['path'])}")


def _stop(invocation: Invocation) -> None:
    """Close the journal."""
    answer = invocation.call("journal.stop")
    if invocation.as_json:
        output.as_json(answer)
        return
    print(f"{output.printable(answer['path'])}: {answer['bytes'] / 1e6:.1f} MB")
    if answer.get("dropped"):
        print(f"{answer['dropped']} records were dropped: the disk was too slow")
