"""``calibrate``: what a person has to sit still for."""

from __future__ import annotations

import threading
import time
from typing import Annotated, Any

import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command, group
from phantomd.errors import PhantomError

_POLL_S = 0.25
#: Beyond the seconds of rest: a loaded daemon's answer.
_MARGIN_S = 15.0


def add(app: typer.Typer) -> None:
    commands = group(app, "calibrate", "Fit the daemon to a person.")
    command(commands, "baseline")(_baseline)


def _baseline(
    invocation: Invocation,
    seconds: Annotated[
        float, typer.Option(metavar="S", min=5.0, max=600.0, help="Of rest.")
    ] = 30.0,
) -> None:
    """Record rest, with open eyes and a relaxed jaw: what Fisher-Rao focus is measured from."""
    if invocation.as_json:
        output.as_json(_asked(invocation, seconds))
        return
    answer: list[dict[str, Any]] = []
    failed: list[PhantomError] = []

    def ask() -> None:
        try:
            answer.append(_asked(invocation, seconds))
        except PhantomError as error:
            failed.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    _show(invocation, asking, seconds)
    if failed:
        raise failed[0]
    told = answer[0]
    rejected = ", ".join(f"{name} {count} s" for name, count in told["rejected"].items())
    print(
        f"{output.printable(told['path'])}: {told['good_s']:.0f} of {seconds:g} s were good"
        + (f" (left out: {rejected})" if rejected else "")
    )


def _asked(invocation: Invocation, seconds: float) -> dict[str, Any]:
    with invocation.control(seconds + _MARGIN_S) as control:
        told: dict[str, Any] = control.call("oracle.baseline", seconds=seconds)
        return told


def _show(invocation: Invocation, asking: threading.Thread, seconds: float) -> None:
    """A bar of the time, and how much of it was good."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    good = TextColumn("{task.fields[good]}")
    columns = (TextColumn("rest"), BarColumn(), TimeRemainingColumn(), good)
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("rest", total=seconds, good="")
        begun_s = time.monotonic()
        while asking.is_alive():
            asking.join(_POLL_S)
            progress.update(task, completed=time.monotonic() - begun_s, good=_good(invocation))


def _good(invocation: Invocation) -> str:
    try:
        detail = invocation.call("status")["detail"]["oracle"]
    except (PhantomError, KeyError):
        return ""
    resting = detail.get("resting")
    return f"{resting['good_s']} s good" if resting else ""
