"""``session``: brains on port 7072 for decoders to be tried on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command, group

Code = Annotated[str, typer.Argument(help="The session's code.")]
_FAULTS = (
    *("noise_std", "drift_amplitude", "drift_period_s", "dropout", "gain_std", "rotation_deg"),
    *("shift", "latency_ms", "jitter_ms", "loss", "duplicate", "reorder", "disconnects_per_min"),
)


def add(app: typer.Typer) -> None:
    commands = group(app, "session", "Sessions of the gauntlet, on port 7072.")
    command(commands, "create")(_create)
    command(commands, "list")(_list)
    command(commands, "get")(_get)
    command(commands, "pause")(_pause)
    command(commands, "resume")(_resume)
    command(commands, "seek")(_seek)
    command(commands, "stress")(_stress)
    command(commands, "delete")(_delete)


def _create(
    invocation: Invocation,
    code: Annotated[str | None, typer.Argument(help="Else the daemon makes one up.")] = None,
    dataset: Annotated[
        str, typer.Option("--dataset", help="A name of `dataset list`, or a folder.")
    ] = "synthetic",
    seed: Annotated[int | None, typer.Option("--seed", help="Of the stress.")] = None,
    target: Annotated[int | None, typer.Option("--target", help="Only its trials.")] = None,
    trial: Annotated[int | None, typer.Option("--trial", help="Only this trial.")] = None,
    level: Annotated[
        str | None, typer.Option("--level", help="none, light, moderate, intense, extreme.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End, and don't begin again.")] = False,
) -> None:
    """Make a session, and say its code."""
    asked: dict[str, Any] = {
        "code": code,
        "dataset": dataset,
        "seed": seed,
        "target_id": target,
        "trial_id": trial,
        "level": level,
        "loop": not once,
    }
    given = {key: value for key, value in asked.items() if value is not None}
    answer = invocation.call("session.create", **given)
    if invocation.as_json:
        output.as_json(answer)
    else:
        print(answer["session_code"])


def _list(invocation: Invocation) -> None:
    """All sessions."""
    sessions = invocation.call("session.list")
    if invocation.as_json:
        output.as_json(sessions)
        return
    output.table(
        output.console(),
        (
            "code",
            "dataset",
            "state",
            ">at s",
            ">packets",
            ">clients",
            "decoder",
            ">p99 ms",
            "stress",
        ),
        [
            (
                one["session_code"],
                one["dataset"],
                one["state"],
                f"{one['position_s']:.2f}",
                output.count(one["packets"]),
                one["subscribers"],
                "yes" if one["decoder"] else output.NONE,
                _ms(one["loop_ms"]["p99_ms"]),
                " ".join(f"{key}={value:g}" for key, value in one["stress"].items()),
            )
            for one in sessions
        ],
    )


def _get(invocation: Invocation, code: Code) -> None:
    """Position, stress, decoder, latencies."""
    _say(invocation, invocation.call("session.get", code=code))


def _pause(invocation: Invocation, code: Code) -> None:
    """No more packets until it is resumed."""
    _say(invocation, invocation.call("session.pause", code=code), brief=True)


def _resume(invocation: Invocation, code: Code) -> None:
    """Go on from there."""
    _say(invocation, invocation.call("session.resume", code=code), brief=True)


def _seek(
    invocation: Invocation,
    code: Code,
    position_s: Annotated[float | None, typer.Argument(help="Seconds in the dataset.")] = None,
    packet: Annotated[int | None, typer.Option("--packet", help="A bin, instead.")] = None,
) -> None:
    """Go to another position."""
    where = {"position_s": position_s, "packet": packet}
    given = {key: value for key, value in where.items() if value is not None}
    _say(invocation, invocation.call("session.seek", code=code, **given), brief=True)


def _stress(
    invocation: Invocation,
    code: Code,
    level: Annotated[
        str | None, typer.Argument(help="none, light, moderate, intense, extreme.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option("--set", help=f"name=number, on top: {', '.join(_FAULTS)}, seed."),
    ] = None,
) -> None:
    """Switch stress, while it runs."""
    changes: dict[str, Any] = {} if level is None else {"level": level}
    for one in fault or []:
        key, _, value = one.partition("=")
        try:
            changes[key] = int(value) if key == "seed" else float(value)
        except ValueError:
            raise typer.BadParameter(f"{one!r}: name=number is wanted") from None
    answer = invocation.call("session.stress", code=code, **changes)
    if invocation.as_json:
        output.as_json(answer)
        return
    faults = answer["stress"]
    print(" ".join(f"{key}={value:g}" for key, value in faults.items()) or "no stress")


def _delete(invocation: Invocation, code: Code) -> None:
    """End it, and its connections."""
    answer = invocation.call("session.delete", code=code)
    if invocation.as_json:
        output.as_json(answer)
    else:
        print(f"{output.printable(answer['session_code'])} is deleted")


def _say(invocation: Invocation, info: dict[str, Any], brief: bool = False) -> None:
    if invocation.as_json:
        output.as_json(info)
    elif brief:
        print(f"{info['session_code']}: {info['state']}, at {info['position_s']:.3f} s")
    else:
        output.pairs(output.console(), info)


def _ms(value: float | None) -> str:
    return output.NONE if value is None else f"{value:.2f}"
