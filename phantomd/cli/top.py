"""``top``: traces, devices, ports, deadlines and events, live in the terminal.

Eight times a second; two threads fetch (``feed``), one draws (``picture``) and hears the keys.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command
from phantomd.contracts import GRID_HZ
from phantomd.errors import NoDaemon, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from phantomd.cli.feed import Feed, Scene
    from phantomd.cli.picture import Traces, View

REFRESH_S = 0.125
_FIRST_FRAMES_S = 5.0
#: A key, or the sequence that a terminal sends for one.
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|.", re.DOTALL)


def add(app: typer.Typer) -> None:
    command(app, "top")(_top)


def _top(
    invocation: Invocation,
    once: Annotated[
        bool, typer.Option("--once", help="One picture of the next --seconds, and end.")
    ] = False,
    seconds: Annotated[
        int, typer.Option(metavar="S", min=1, max=60, help="Length of the traces.")
    ] = 4,
    scale_uv: Annotated[
        int | None,
        typer.Option("--scale", metavar="UV", min=1, help="Half height of a lane; else automatic."),
    ] = None,
) -> None:
    """Watch the daemon: traces, devices, ports, deadlines, events.

    Keys: q quit, p pause, space freeze the traces, + - scale, a automatic scale, [ ] time, arrows
    or j k other channels.
    """
    from phantomd.cli.feed import Feed
    from phantomd.cli.picture import SCALES_UV, SPANS_S, View, frames_shown

    view = View(span_s=next(span for span in SPANS_S if span >= seconds))
    if scale_uv is not None:
        view.auto = False
        view.scale_uv = next((scale for scale in SCALES_UV if scale >= scale_uv), SCALES_UV[-1])
    with Feed(invocation) as feed:
        found = feed.wait_frames(0, _FIRST_FRAMES_S)
        if feed.scene.gone:
            raise NoDaemon(feed.scene.trouble.get("control") or feed.scene.trouble["eeg"])
        if once or invocation.as_json:
            screen = output.console()
            shown = view.span_s * GRID_HZ
            if not invocation.as_json:
                shown = frames_shown(view, screen.width)
            if found:
                feed.wait_frames(shown, shown / GRID_HZ + _FIRST_FRAMES_S)
            _show_once(invocation, feed, view, screen)
            return
        if not sys.stdout.isatty():
            raise UsageError(
                "top needs a terminal", hint="`phantomctl top --once` prints one picture"
            )
        with suppress(KeyboardInterrupt):
            _watch(feed, view)


def _show_once(invocation: Invocation, feed: Feed, view: View, screen: Console) -> None:
    from phantomd.cli.picture import Picture, take_traces

    with feed.lock:
        if invocation.as_json:
            output.as_json(_snapshot(feed.scene, view))
            return
        traces = take_traces(feed.scene, view, screen.width)
        screen.print(Picture(feed.scene, view, traces))


def _snapshot(scene: Scene, view: View) -> dict[str, Any]:
    """What the picture shows, for programs; ``values`` in microvolt, null where missing."""
    from phantomd.cli.traces import rms

    eeg: dict[str, Any] | None = None
    if scene.history is not None:
        stop = scene.history.next
        window = scene.history.window(max(0, stop - view.span_s * GRID_HZ), stop)
        rows = window.values.T.tolist()
        eeg = {
            "first_index": window.first,
            "frames": scene.history.count,
            "t_ns": scene.history.t_ns,
            "age_us": scene.history.age_us,
            "lost": scene.lost,
            "flags": window.flags.tolist(),
            "channels": {
                label: {"rms_uv": level, "values": row}
                for label, level, row in zip(scene.labels, rms(window), rows, strict=True)
            },
        }
    return {
        "daemon": scene.daemon or None,
        "ports": scene.ports,
        "status": scene.status,
        "ledger": scene.ledger,
        "eeg": eeg,
        "events": list(scene.events),
        "trouble": scene.trouble,
    }


# -- live ------------------------------------------------------------------------------------------


def _watch(feed: Feed, view: View) -> None:
    from rich.console import Console
    from rich.live import Live

    from phantomd.cli.picture import Picture, take_traces

    screen = Console(highlight=False, markup=False, emoji=False)
    keys = key_map(view)
    traces: Traces | None = None
    drawn: Any = None
    with (
        _keyboard() as listen,
        Live(
            console=screen,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as live,
    ):
        due_s = time.monotonic()
        while True:
            size = screen.size
            if not view.paused or drawn != size:
                with feed.lock:
                    if not view.frozen or traces is None:
                        traces = take_traces(feed.scene, view, size.width)
                    picture = Picture(feed.scene, view, traces, size.height)
                    live.update(picture, refresh=True)
                drawn = size
            due_s = max(due_s + REFRESH_S, time.monotonic())
            for key in listen(due_s):
                if key == "q":
                    return
                if key in keys:
                    keys[key]()
                    drawn = None


def key_map(view: View) -> dict[str, Callable[[], None]]:
    """What each key does, but for q."""

    def pause() -> None:
        view.paused = not view.paused

    def freeze() -> None:
        view.frozen = not view.frozen

    def auto() -> None:
        view.auto = True

    def scroll(step: int) -> None:
        view.first_channel = max(0, view.first_channel + step)

    return {
        "p": pause,
        " ": freeze,
        "a": auto,
        # "+" makes the traces larger.
        "+": lambda: view.scale(-1),
        "=": lambda: view.scale(-1),
        "-": lambda: view.scale(1),
        "]": lambda: view.span(1),
        "[": lambda: view.span(-1),
        "j": lambda: scroll(1),
        "k": lambda: scroll(-1),
        "\x1b[B": lambda: scroll(1),
        "\x1b[A": lambda: scroll(-1),
    }


@contextmanager
def _keyboard() -> Iterator[Callable[[float], list[str]]]:
    """A function that hears keys until an instant of the monotonic clock, or the first ones. The
    terminal is as it was afterwards, whatever ends this."""
    fd = sys.stdin.fileno()
    tty_in = os.isatty(fd)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Suspended in the middle of a picture the terminal would stay as it is.
    suspend = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    before = termios.tcgetattr(fd) if tty_in else None

    def listen(until_s: float) -> list[str]:
        wait_s = max(0.0, until_s - time.monotonic())
        readable, _, _ = select.select([fd] if tty_in else [], [], [], wait_s)
        if not readable:
            return []
        text = os.read(fd, 256).decode(errors="replace")
        if not text:
            raise KeyboardInterrupt  # the terminal is gone
        return _KEY.findall(text)

    try:
        if before is not None:
            tty.setcbreak(fd)
        yield listen
    finally:
        if before is not None:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTSTP, suspend)
