"""``panic``: the latch that stops every action."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command, group


def add(app: typer.Typer) -> None:
    commands = group(app, "panic", "Stop every action, and allow them again.")
    command(commands, "on")(_on)
    command(commands, "off")(_off)
    command(commands, "status")(_status)


def _on(
    invocation: Invocation,
    reason: Annotated[str | None, typer.Argument(metavar="[REASON]", help="Kept with it.")] = None,
) -> None:
    """Nothing acts from now on, after a restart neither."""
    answer = invocation.call("panic.set", **({"reason": reason} if reason else {}))
    _say(invocation, answer, "panic is set: nothing acts until `phantomctl panic off REASON`")


def _off(
    invocation: Invocation,
    reason: Annotated[str, typer.Argument(metavar="REASON", help="Why it is safe again.")],
) -> None:
    """Actions are allowed again."""
    answer = invocation.call("panic.clear", reason=reason)
    _say(invocation, answer, "panic is cleared")


def _status(invocation: Invocation) -> None:
    """Whether panic is set, and why."""
    status = invocation.call("status")
    reason = status.get("detail", {}).get("panic_reason", "")
    text = "panic is set" if status["panic"] else "panic is not set"
    because = f": {output.printable(reason)}" if reason and status["panic"] else ""
    _say(invocation, {"panic": status["panic"], "reason": reason}, text + because)


def _say(invocation: Invocation, answer: Any, text: str) -> None:
    if invocation.as_json:
        output.as_json(answer)
    else:
        print(text)
