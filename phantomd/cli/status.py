"""``status``, ``ledger``, ``config``, ``hello``: what the daemon says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command, group
from phantomd.cli.output import NONE, count, micros

if TYPE_CHECKING:
    from rich.console import Console

STATE_STYLE = {
    "streaming": "green",
    "opening": "yellow",
    "stalled": "bold yellow",
    "lost": "bold red",
    "absent": "red",
}


def add(app: typer.Typer) -> None:
    command(app, "status")(_status)
    command(app, "ledger")(_ledger)
    command(app, "hello")(_hello)
    about = "The effective configuration; `reload` reads the file again."
    config = group(app, "config", about, alone=_config)
    command(config, "show")(_config)
    command(config, "reload")(_reload)


def _status(invocation: Invocation) -> None:
    """Devices, streams, deadlines, and what is degraded."""
    with invocation.control() as control:
        status = control.call("status")
        hello = control.call("hello", client="phantomctl")
        stages = control.call("ledger")
    if invocation.as_json:
        output.as_json({**status, "daemon": hello["daemon"], "ledger": stages})
        return
    screen = output.console()
    _headline(screen, hello["daemon"], status)
    if status["devices"]:
        devices(screen, status["devices"])
    else:
        screen.print("no device is open; `phantomctl device scan` says what could be")
    screen.print()
    rows = [
        (name, hello["ports"].get(name, NONE), of["clients"], of["published"], _bad(of["dropped"]))
        for name, of in status["streams"].items()
    ]
    output.table(screen, ("stream", ">port", ">clients", ">published", ">dropped"), rows)
    screen.print()
    _deadlines(screen, stages)


def _headline(screen: Console, daemon: str, status: Mapping[str, Any]) -> None:
    ready = "ready" if status["ready"] else "starting"
    screen.print(f"{daemon}  {ready}, up {output.duration(status['uptime_s'])}", style="bold")
    detail = status.get("detail", {})
    if status["panic"]:
        reason = detail.get("panic_reason") or "no reason given"
        screen.print(f"PANIC: {output.printable(reason)}", style="bold white on red", end="")
        screen.print("  nothing acts until `phantomctl panic off REASON`")
    for what in status["degraded"]:
        name, _, text = what.partition(": ")
        screen.print(f"degraded: {name}", style="yellow", end=" ")
        screen.print(output.printable(text), soft_wrap=True)
    if status.get("recording"):
        screen.print(f"recording to {output.printable(status['recording'])}")
    if detail.get("journal"):
        screen.print(f"intake journal: {output.printable(str(detail['journal'].get('path', '')))}")
    screen.print()


def devices(screen: Console, infos: list[dict[str, Any]]) -> None:
    """A table of DeviceInfo rows, with what is wrong below it."""
    rows = [
        (
            info["device_id"],
            info["address"],
            (info["state"], STATE_STYLE.get(info["state"], "")),
            f"{info['rate_hz']:g} Hz" if info["rate_hz"] else NONE,
            ppm(info),
            uncertainty(info),
            len(info["channels"]) or NONE,
            _bad(info["lost_samples"]),
        )
        for info in infos
    ]
    headings = ("device", "address", "state", ">rate", ">clock", ">time ±", ">channels", ">lost")
    output.table(screen, headings, rows)
    for info in infos:
        if error := info.get("detail", {}).get("error"):
            screen.print(f"{info['device_id']}: {output.printable(error)}", style="yellow")
        if bad := bad_channels(info):
            screen.print(f"{info['device_id']}: bad channels: {bad}", style="yellow")


def bad_channels(info: Mapping[str, Any]) -> str:
    """Those that were found, with their reasons; "" where there is none."""
    found = info.get("detail", {}).get("bad_channels") or ()
    return ", ".join(output.printable(f"{bad['label']} ({bad['reason']})") for bad in found)


def ppm(info: Mapping[str, Any]) -> str:
    """How far the device's clock is off its nominal rate, with one standard deviation."""
    clock = info.get("detail", {}).get("clock")
    if not clock or not info["rate_hz"] or not clock.get("locked"):
        return NONE
    off = (clock["rate_hz"] / info["rate_hz"] - 1.0) * 1e6
    return f"{off:+.1f} ±{clock['rate_sd_ppm']:.1f} ppm"


def uncertainty(info: Mapping[str, Any]) -> str:
    """By how much a sample's time may be wrong."""
    clock = info.get("detail", {}).get("clock")
    if not clock or clock.get("uncertainty_ns") is None or not clock.get("locked"):
        return NONE
    return micros(clock["uncertainty_ns"] / 1e3)


def stage_style(us: float, deadline_us: float) -> str:
    """Colour of a time against its deadline."""
    if not deadline_us:
        return ""
    return "red" if us > deadline_us else "yellow" if us > deadline_us / 2 else "green"


def _bad(number: int) -> tuple[str, str]:
    return (str(number), "yellow" if number else "")


def _ledger(invocation: Invocation) -> None:
    """How late each stage was, against its deadline."""
    stages = invocation.call("ledger")
    if invocation.as_json:
        output.as_json(stages)
    else:
        _deadlines(output.console(), stages)


def _deadlines(screen: Console, stages: Mapping[str, Mapping[str, Any]]) -> None:
    rows = []
    for name, stage in stages.items():
        deadline_us = stage.get("deadline_us") or 0.0
        times = [
            (micros(stage[key]), stage_style(stage[key], deadline_us)) if stage["count"] else NONE
            for key in ("p50_us", "p99_us", "p999_us", "max_us")
        ]
        missed = (str(stage["missed"]), "red" if stage["missed"] else "")
        limit = micros(deadline_us) if deadline_us else NONE
        rows.append((name, *times, limit, missed, count(stage["count"])))
    headings = ("stage", ">p50", ">p99", ">p99.9", ">max", ">deadline", ">missed", ">count")
    output.table(screen, headings, rows)


def _hello(invocation: Invocation) -> None:
    """Who answers, and on which ports its streams are."""
    hello = invocation.call("hello", client="phantomctl")
    if invocation.as_json:
        output.as_json(hello)
        return
    screen = output.console()
    ports = hello.pop("ports")
    output.pairs(screen, hello)
    output.table(screen, ("stream", ">port"), ports.items())


def _config(invocation: Invocation) -> None:
    """Every key with its effective value."""
    config = invocation.call("config.show")
    if invocation.as_json:
        output.as_json(config)
    else:
        output.pairs(output.console(), config)


def _reload(invocation: Invocation) -> None:
    """Read the configuration file again; says what changed and what needs a restart."""
    answer = invocation.call("config.reload")
    if invocation.as_json:
        output.as_json(answer)
        return
    changed, restart = answer.get("changed", []), answer.get("needs_restart", [])
    print(f"changed: {', '.join(changed)}" if changed else "nothing changed in the running daemon")
    if restart:
        print(f"needs a restart: {', '.join(restart)}")
