"""What every command of phantomctl has in common: the options that say which daemon is meant, and
how its answers are to look. They may stand before the command or after it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from phantomd.cli import output
from phantomd.contracts import BASE_PORT, PORTS
from phantomd.control import Control
from phantomd.errors import NoDaemon, NotAllowed, PhantomError, UsageError

if TYPE_CHECKING:
    from phantomd.client import EegConnection, MessageConnection

LOOPBACK = "127.0.0.1"

ControlOption = Annotated[
    Path | None, typer.Option("--control", help="Control socket of the daemon.", metavar="PATH")
]
HostOption = Annotated[
    str | None, typer.Option("--host", help="Where the stream ports are.", metavar="HOST")
]
BasePortOption = Annotated[
    int | None,
    typer.Option("--base-port", help="Port 7068's place, if not as the daemon says.", metavar="N"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


@dataclass(frozen=True)
class Invocation:
    """Which daemon, and JSON or not."""

    control_path: Path | None = None
    host: str | None = None
    base_port: int | None = None
    as_json: bool = False

    def refined(
        self, control_path: Path | None, host: str | None, base_port: int | None, as_json: bool
    ) -> Self:
        """With what was said after the command on top of what was said before it."""
        return replace(
            self,
            control_path=control_path or self.control_path,
            host=host or self.host,
            base_port=self.base_port if base_port is None else base_port,
            as_json=as_json or self.as_json,
        )

    def control(self, timeout_s: float = 10.0) -> Control:
        """A connection to the control socket. Raises NoDaemon."""
        return Control(self.control_path, timeout_s=timeout_s)

    def call(self, method: str, /, **params: Any) -> Any:
        """One request. Raises NoDaemon, ControlError."""
        with self.control() as control:
            return control.call(method, **params)

    @property
    def asks_control(self) -> bool:
        """Whether the daemon behind the streams is one whose control socket can be asked."""
        return self.control_path is not None or (self.host is None and self.base_port is None)

    def subscribe(
        self, stream: str, *, everything: bool = False, timeout_s: float = 5.0
    ) -> EegConnection | MessageConnection:
        """A subscription. Raises UsageError on an unknown stream, NoDaemon where nobody is."""
        from phantomd.client import connect

        host, port, unasked = self.place(stream, timeout_s)
        try:
            return connect(stream, host, port, timeout_s=timeout_s, everything=everything)
        except NoDaemon as nobody:
            if unasked is not None:
                raise unasked from nobody
            raise

    def place(self, stream: str, timeout_s: float = 5.0) -> tuple[str, int, PhantomError | None]:
        """Host and port of a stream. The daemon tells its ports itself; where its control socket
        can't be asked they are the usual ones, and the third item says why they had to be guessed.
        """
        if stream not in PORTS or stream in ("control", "metrics"):
            known = [name for name in PORTS if name not in ("control", "metrics")]
            raise UsageError(f"no stream {stream!r}", hint=f"streams: {', '.join(known)}")
        host = self.host or LOOPBACK
        base_port = BASE_PORT if self.base_port is None else self.base_port
        if self.base_port is None and self.asks_control:
            try:
                return host, self._told_port(stream, timeout_s), None
            except (NoDaemon, NotAllowed) as error:
                return host, base_port + PORTS[stream], error
        return host, base_port + PORTS[stream], None

    def _told_port(self, stream: str, timeout_s: float) -> int:
        with self.control(timeout_s) as control:
            ports = control.call("hello", client="phantomctl")["ports"]
        if stream not in ports:
            raise PhantomError(
                f"this daemon serves no stream {stream!r}", hint=f"it serves: {', '.join(ports)}"
            )
        return int(ports[stream])


def command(
    app: typer.Typer, name: str, **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command of ``app``. It takes an Invocation first, and after that
    arguments and options as typer has them; the options above are added to them."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        def run(ctx: typer.Context, **given: Any) -> None:
            shared = [given.pop(parameter.name) for parameter in _SHARED]
            with output.pipe_may_close():
                function(ctx.obj.refined(*shared), **given)

        parameters = [_CONTEXT, *own, *_SHARED]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.__doc__ = function.__doc__
        app.command(name, **settings)(run)
        return function

    return register


def group(
    app: typer.Typer, name: str, help: str, alone: Callable[[Invocation], None] | None = None
) -> typer.Typer:
    """A command with commands of its own. ``alone`` is what it does without any of them."""
    inner = typer.Typer(help=help, invoke_without_command=True)
    app.add_typer(inner, name=name)

    @inner.callback()
    def shared(
        ctx: typer.Context,
        control_path: ControlOption = None,
        host: HostOption = None,
        base_port: BasePortOption = None,
        as_json: JsonOption = False,
    ) -> None:
        ctx.obj = ctx.obj.refined(control_path, host, base_port, as_json)
        if ctx.invoked_subcommand is not None:
            return
        if alone is None:
            raise no_command(ctx, ctx.obj.as_json)
        with output.pipe_may_close():
            alone(ctx.obj)

    return inner


def no_command(ctx: typer.Context, as_json: bool) -> UsageError:
    """What to raise for a command line that stops before its command; shows the help."""
    if not as_json:
        typer.echo(ctx.get_help(), err=True)
    names = ", ".join(ctx.command.list_commands(ctx))  # type: ignore[attr-defined]
    return UsageError(f"{ctx.info_name} needs a command", hint=f"one of {names}")


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> Any:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


_CONTEXT = inspect.Parameter(
    "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
)
_SHARED = (
    _parameter("control_path", ControlOption, None),
    _parameter("host", HostOption, None),
    _parameter("base_port", BasePortOption, None),
    _parameter("as_json", JsonOption, False),
)
