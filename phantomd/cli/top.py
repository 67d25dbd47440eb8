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
from collections.abc import Callable
from contextlib import suppress
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
        ended = _watch(feed, view)
    raise typer.Exit(ended)


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
            "channels": [
                {"label": label, "rms_uv": level, "values": row}
                for label, level, row in zip(scene.labels, rms(window), rows, strict=True)
            ],
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


def _watch(feed: Feed, view: View) -> int:
    """Until somebody quits; the exit status."""
    from rich.console import Console
    from rich.live import Live

    from phantomd.cli.picture import Picture, take_traces

    screen = Console(highlight=False, markup=False, emoji=False)
    keys = key_map(view)
    traces: Traces | None = None
    drawn: Any = None
    with (
        _Keyboard() as keyboard,
        Live(
            console=screen,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as live,
    ):
        due_s = time.monotonic()
        while keyboard.signal is None:
            size = screen.size
            if not view.paused or drawn != size:
                with feed.lock:
                    if not view.frozen or traces is None:
                        traces = take_traces(feed.scene, view, size.width)
                    picture = Picture(feed.scene, view, traces, size.height)
                    live.update(picture, refresh=True)
                drawn = size
            due_s = max(due_s + REFRESH_S, time.monotonic())
            for key in keyboard.listen(due_s):
                if key == "q":
                    return 0
                if key in keys:
                    keys[key]()
                    drawn = None
    return 0 if keyboard.signal == signal.SIGINT else 128 + keyboard.signal


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


class _Keyboard:
    """Hears keys and signals while it is entered; the terminal is as it was afterwards.

    A signal does not end things in the midst of a picture: that would leave its rest on the screen.
    """

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._tty = os.isatty(self._fd)
        self._before: list[Any] = []
        self._handlers: dict[int, Any] = {}
        self.signal: int | None = None

    def __enter__(self) -> _Keyboard:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self._note)
        # Suspended in the midst of a picture the terminal would stay as it is.
        self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        if self._tty:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def __exit__(self, *_: object) -> None:
        if self._tty:
            with suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        self.signal = number

    def listen(self, until_s: float) -> list[str]:
        """The keys that are pressed first, until an instant of the monotonic clock at most."""
        wait_s = max(0.0, until_s - time.monotonic())
        readable, _, _ = select.select([self._fd] if self._tty else [], [], [], wait_s)
        if not readable:
            return []
        try:
            text = os.read(self._fd, 256).decode(errors="replace")
        except OSError:
            text = ""
        if not text:  # the terminal is gone
            self.signal = signal.SIGHUP
        return _KEY.findall(text)
