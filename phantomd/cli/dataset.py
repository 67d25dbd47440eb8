"""``dataset``: recordings of spikes and movement, made into what a session can play."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command, group
from phantomd.config import Config

if TYPE_CHECKING:
    from phantomd.gauntlet.dataset import Dataset


def add(app: typer.Typer) -> None:
    commands = group(app, "dataset", "Recordings that sessions can play.")
    command(commands, "import")(_import)
    command(commands, "show")(_show)
    command(commands, "list")(_list)


def _import(
    invocation: Invocation,
    file: Annotated[Path, typer.Argument(help="NWB, MATLAB or NPZ.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder; else one in ~/.bci/datasets, named after the file."),
    ] = None,
    bin_ms: Annotated[
        float | None, typer.Option("--bin-ms", help="Width of a bin; 25 for spike times.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Else the file's.")] = None,
) -> None:
    """Bin a recording, check it, and keep it as a folder."""
    from phantomd.gauntlet.importing import import_file

    folder = out or Config().state_dir / "datasets" / file.stem
    data = import_file(file, bin_ms=bin_ms, name=name)
    data.save(folder)
    _say(invocation, data, folder)


def _show(
    invocation: Invocation,
    folder: Annotated[
        Path | None, typer.Argument(help="Of a dataset; else the embedded one.")
    ] = None,
) -> None:
    """What is in a dataset."""
    if folder is None:
        from phantomd.gauntlet.synthetic import synthetic

        _say(invocation, synthetic(), None)
    else:
        from phantomd.gauntlet.dataset import Dataset

        _say(invocation, Dataset.load(folder), folder)


def _list(invocation: Invocation) -> None:
    """What the daemon's sessions can play."""
    names = invocation.call("dataset.list")
    if invocation.as_json:
        output.as_json(names)
        return
    for one in names:
        print(output.printable(one))


def _say(invocation: Invocation, data: Dataset, folder: Path | None) -> None:
    summary: dict[str, Any] = data.summary()
    if folder is not None:
        summary["folder"] = str(folder)
    if invocation.as_json:
        output.as_json(summary)
        return
    ids = summary.pop("unit_ids", None)
    if ids:
        summary["unit_ids"] = f"{ids[0]} … {ids[-1]}"
    output.pairs(output.console(), summary)
