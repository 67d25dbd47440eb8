"""``phantomctl``: asks, watches and steers a daemon. docs/phantomctl.md shows it at work.

A new command is a module here with ``add(app)``, and its name in ``_COMMANDS``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from phantomd import __version__
from phantomd.cli import (
    calibrate,
    dataset,
    device,
    emulate,
    gauntlet,
    journal,
    marker,
    output,
    panic,
    record,
    replay,
    session,
    status,
    tap,
    top,
)
from phantomd.cli.invocation import (
    BasePortOption,
    ControlOption,
    HostOption,
    Invocation,
    JsonOption,
    no_command,
)
from phantomd.errors import ConfigError, PhantomError, UnknownKey, UsageError, WrongType

#: In the order of the help.
_COMMANDS = (
    status,
    top,
    tap,
    device,
    session,
    dataset,
    calibrate,
    marker,
    panic,
    record,
    journal,
    replay,
    emulate,
    gauntlet,
)

_BAD_CONFIG = frozenset({ConfigError.code, UnknownKey.code, WrongType.code})

#: typer has its usage errors from click or from a copy of its own; this finds them in either.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="phantomctl",
    help="Asks, watches and steers phantomd, the acquisition daemon for brain signals.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"phantomctl {__version__}")
        raise typer.Exit


@app.callback()
def _shared(
    ctx: typer.Context,
    control_path: ControlOption = None,
    host: HostOption = None,
    base_port: BasePortOption = None,
    as_json: JsonOption = False,
    version: Annotated[
        bool, typer.Option("--version", help="Say the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    ctx.obj = Invocation(control_path, host, base_port, as_json)
    if ctx.invoked_subcommand is None:
        raise no_command(ctx, as_json)


for _module in _COMMANDS:
    _module.add(app)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; the exit status, as errors.py has it."""
    json = "--json" in arguments
    try:
        status = app(args=list(arguments), prog_name="phantomctl", standalone_mode=False)
    except PhantomError as error:
        output.fail(error, json)
        # What the daemon refuses carries a code, and what the code means outlives the socket.
        return ConfigError.exit_status if error.code in _BAD_CONFIG else error.exit_status
    except _CommandLineError as error:
        return _misused(error, arguments, json)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    return status if isinstance(status, int) else 0


def _misused(error: Exception, arguments: Sequence[str], json: bool) -> int:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "phantomctl"
    output.fail(UsageError(message, hint=f"`{path} --help` says what it takes"), json)
    return UsageError.exit_status


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
