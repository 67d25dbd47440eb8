"""``emulate``: a headset that isn't there, played from a recording."""

from __future__ import annotations

import io
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from phantomd.cli.invocation import Invocation, command, group
from phantomd.errors import PhantomError


def add(app: typer.Typer) -> None:
    command(group(app, "emulate", "Play a recording as a headset."), "cyton")(_cyton)


def _cyton(
    invocation: Invocation,
    file: Annotated[
        Path, typer.Option("--from", metavar="FILE", help="A recording, OpenBCI text (v4 to v6).")
    ],
    faults: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="What goes wrong: drop=0.001,wrap@10,unplug@20..25.",
        ),
    ] = "",
    link: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A symbolic link to the terminal.")
    ] = None,
    loop: Annotated[
        bool, typer.Option("--loop/--once", help="At the recording's end begin anew, or hang up.")
    ] = True,
    rate_hz: Annotated[float, typer.Option("--rate", metavar="HZ", min=1.0, max=10_000.0)] = 250.0,
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 0,
) -> None:
    """An OpenBCI Cyton on a pseudo-terminal, until it is interrupted."""
    from phantomd.devices.emulator import run

    stop = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
    out = sys.stdout if invocation.as_json else cast(TextIO, _Told(rate_hz))
    try:
        run(
            file,
            faults=faults,
            link=link,
            at_end="loop" if loop else "hangup",
            rate_hz=rate_hz,
            seed=seed,
            stop=stop,
            out=out,
        )
    except OSError as error:
        where = error.filename2 or error.filename or file
        raise PhantomError(
            f"{where}: {error.strerror or error}",
            hint="--from names a recording that can be read, --link a place that can be written",
        ) from error


class _Told(io.TextIOBase):
    """Says the emulator's JSON lines in words."""

    def __init__(self, rate_hz: float) -> None:
        self._line = ""
        self._rate_hz = rate_hz

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            sys.stdout.write(self._words(json.loads(line)) + "\n")
        return len(text)

    def flush(self) -> None:
        sys.stdout.flush()

    def _words(self, said: dict[str, Any]) -> str:
        match said:
            case {"path": path, "link": link}:
                return f"a Cyton at {link or path}; open it with\n" + (
                    f"  phantomctl device open cyton:{link or path}"
                )
            case {"t0_ns": t0_ns}:
                return f"streaming at {self._rate_hz:g} Hz, packet 0 at t_ns {t0_ns}"
            case {"sent": sent, "overruns": overruns, "faults": faults}:
                return f"{sent} packets, {len(faults)} faults played, {overruns} that nobody took"
        return json.dumps(said)
