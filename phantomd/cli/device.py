"""``device``: what is open, what could be, opening, closing, faults, impedance."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command, group
from phantomd.cli.output import NONE
from phantomd.cli.status import devices
from phantomd.errors import UsageError

DeviceId = Annotated[
    str, typer.Argument(metavar="ID", help="As `device list` has it: cyton-0.", show_default=False)
]

#: Kinds of devices that are files, named behind the colon.
FILES = ("replay", "python", "broadband")


def add(app: typer.Typer) -> None:
    commands = group(app, "device", "Open, close and look at devices.")
    command(commands, "list")(_list)
    command(commands, "scan")(_scan)
    command(commands, "open")(_open)
    command(commands, "close")(_close)
    command(commands, "fault")(_fault)
    command(commands, "impedance")(_impedance)


def _list(invocation: Invocation) -> None:
    """What is open."""
    infos = invocation.call("device.list")
    if invocation.as_json:
        output.as_json(infos)
    elif infos:
        devices(output.console(), infos)
    else:
        print("no device is open; `phantomctl device scan` says what could be")


def _scan(invocation: Invocation) -> None:
    """What could be opened, and why it is thought so."""
    found = invocation.call("device.scan")
    if invocation.as_json:
        output.as_json(found)
        return
    rows = [
        (
            row["address"],
            row.get("kind") or NONE,
            ("open", "green")
            if row.get("open")
            else (f"held by {row['held_by']}", "red")
            if row.get("held_by")
            else "",
            row.get("why", ""),
        )
        for row in found
    ]
    output.table(output.console(), ("address", "kind", "", "why"), rows)


def _open(
    invocation: Invocation,
    address: Annotated[
        str,
        typer.Argument(metavar="ADDRESS", help="kind[:where][?key=value&…]: cyton:/dev/ttyUSB0"),
    ],
) -> None:
    """Open a device now; from then on the daemon keeps it open."""
    answer = invocation.call("device.open", address=_absolute(address))
    if invocation.as_json:
        output.as_json(answer)
    else:
        print(f"{output.printable(answer['device_id'])} is open")


def _absolute(address: str) -> str:
    """A file is named from where the command is typed: the daemon's directory is another one."""
    kind, colon, rest = address.partition(":")
    where, query, options = rest.partition("?")
    if kind not in FILES or not where:
        return address
    return f"{kind}{colon}{Path(where).expanduser().absolute()}{query}{options}"


def _close(invocation: Invocation, device_id: DeviceId) -> None:
    """Close a device; frames go on, MISSING."""
    answer = invocation.call("device.close", device_id=device_id)
    if invocation.as_json:
        output.as_json(answer)
    else:
        print(f"{output.printable(device_id)} is closed")


def _fault(
    invocation: Invocation,
    device_id: DeviceId,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="docs/devices.md has them.")],
    duration_s: Annotated[
        float | None, typer.Option("--duration", metavar="S", min=0.0, help="How long it lasts.")
    ] = None,
    args: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="KEY=VALUE", help="Of this kind of fault; repeatable."),
    ] = None,
) -> None:
    """Play a fault (simulator)."""
    params: dict[str, Any] = {"device_id": device_id, "kind": kind}
    if duration_s is not None:
        params["duration_s"] = duration_s
    if args:
        params["args"] = dict(_argument(text) for text in args)
    answer = invocation.call("device.fault", **params)
    if invocation.as_json:
        output.as_json(answer)
    else:
        length = f" for {duration_s:g} s" if duration_s is not None else ""
        print(f"{output.printable(device_id)} plays {output.printable(kind)}{length}")


def _argument(text: str) -> tuple[str, Any]:
    """``key=value``; the value is JSON where it can be, else a string."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"--arg {text}: no key=value", hint="for example --arg channel=3")
    try:
        return key, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return key, value


def _impedance(
    invocation: Invocation,
    device_id: DeviceId,
    channels: Annotated[
        list[str] | None, typer.Argument(metavar="[CHANNEL]…", help="All, if none is named.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Measure again and again, until interrupted.")
    ] = False,
) -> None:
    """Measure the electrodes' impedance; the signal holds the test current for two seconds."""
    params: dict[str, Any] = {"device_id": device_id}
    if channels:
        params["channels"] = channels
    if watch:
        _watch(invocation, params)
        return
    kohm = invocation.call("device.impedance", **params)
    if invocation.as_json:
        output.as_json(kohm)
    else:
        output.table(output.console(), _IMPEDANCE, _impedance_rows(kohm, {}))


_IMPEDANCE = ("channel", ">impedance", ">best", "")
#: What electrodes of an EEG should have at the most, and what is still of use.
GOOD_KOHM = 20.0
USABLE_KOHM = 100.0


def _watch(invocation: Invocation, params: dict[str, Any]) -> None:
    """A table that stands still, or with --json a line each time."""
    best: dict[str, float] = {}
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as showing:
        live = None
        while True:
            kohm = invocation.call("device.impedance", **params)
            if invocation.as_json:
                output.as_json(kohm)
                continue
            for name, value in kohm.items():
                if value is not None:
                    best[name] = min(value, best.get(name, value))
            grid = output.grid(_IMPEDANCE, _impedance_rows(kohm, best))
            if live is None:
                live = showing.enter_context(output.standing(grid))
            live.update(grid, refresh=True)


def _impedance_rows(kohm: dict[str, float | None], best: dict[str, float]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for name, value in kohm.items():
        least = f"{best[name]:.1f} kΩ" if name in best else ""
        if value is None:
            rows.append((name, NONE, least, ("no contact", "red")))
            continue
        grade = (
            ("good", "green")
            if value <= GOOD_KOHM
            else ("usable", "yellow")
            if value <= USABLE_KOHM
            else ("poor", "red")
        )
        rows.append((name, f"{value:.1f} kΩ", least, grade))
    return rows
