"""How phantomctl writes: tables and lines for people, JSON for programs, and its errors."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from phantomd.errors import PhantomError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

NONE = "—"
#: Of lines that go to a file or a pipe: tables there are not folded to some terminal's width.
_PIPE_COLUMNS = 200


def as_json(value: Any) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def fail(error: PhantomError, json: bool) -> None:
    """An error as one object on stdout, or as a line and its hint on stderr."""
    if json:
        as_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
        return
    sys.stderr.write(f"phantomctl: {printable(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"hint: {printable(error.hint)}\n")


@contextmanager
def pipe_may_close() -> Iterator[None]:
    """Whoever reads stdout may have seen enough (``| head``): that is no failure."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:
        # What is still in the buffer must not raise at exit.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise typer.Exit(0) from error


def console() -> Console:
    """Colours on a terminal only."""
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process with status 1

    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS
    return Screen(highlight=False, markup=False, emoji=False, width=wide)


def table(
    screen: Console, headings: Sequence[str], rows: Iterable[Sequence[Any]], title: str = ""
) -> None:
    """A table on the terminal; see ``grid``."""
    if title:
        screen.print(title, style="bold")
    screen.print(grid(headings, rows))


def grid(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table without rules. Headings that begin with ``>`` are of columns that end evenly. Cells
    are text, or (text, style)."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        right = heading.startswith(">")
        made.add_column(heading.removeprefix(">"), justify="right" if right else "left")
    for row in rows:
        cells = [cell if isinstance(cell, tuple) else (str(cell), "") for cell in row]
        made.add_row(*(Text(printable(text), style=style) for text, style in cells))
    return made


def standing(table: Table) -> Live:
    """A table that is renewed in its place."""
    from rich.live import Live

    return Live(table, console=console(), auto_refresh=False)


def pairs(screen: Console, values: Mapping[str, Any]) -> None:
    """Keys and values, one a line."""
    width = max((len(key) for key in values), default=0)
    for key, value in values.items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        screen.print(f"{key:<{width}}  {printable(text)}", soft_wrap=True)


def printable(text: str) -> str:
    """Text from elsewhere, so that it can't steer the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def count(number: int) -> str:
    """At most five characters: 99999, 123k, 12.3M."""
    if abs(number) < 100_000:
        return str(number)
    size = float(number)
    for unit in "kMGT":
        size /= 1000.0
        if abs(size) < 999.5:
            return f"{size:.0f}{unit}" if abs(size) >= 99.5 else f"{size:.1f}{unit}"
    return f"{size:.0f}T"


def micros(us: float | None) -> str:
    """A duration in at most six characters: 0.4 µs … 950 s."""
    if us is None:
        return NONE
    for value, unit in ((us, "µs"), (us / 1e3, "ms")):
        if value < 999.5:
            return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"
    seconds = us / 1e6
    return f"{seconds:.1f} s" if seconds < 99.95 else f"{seconds:.0f} s"


def duration(seconds: float) -> str:
    """12 s, 3:07, 1:02:03, 4 d 01:02:03."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    if not hours:
        return f"{m}:{s:02}"
    days, h = divmod(hours, 24)
    return f"{days} d {h:02}:{m:02}:{s:02}" if days else f"{h}:{m:02}:{s:02}"


def clock(unix_ns: int, digits: int = 6) -> str:
    """Local time of day."""
    seconds, ns = divmod(unix_ns, 1_000_000_000)
    parts = ns // 10 ** (9 - digits)
    return time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{parts:0{digits}}"
