"""The picture of ``top``: a scene and how it is looked at, as lines of a terminal of any size.

What ``draw`` makes depends on its arguments alone, and on the time only for what grows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from phantomd.cli.cells import HEADING, Line, Piece, beside, fit, grid, width_of
from phantomd.cli.feed import Scene
from phantomd.cli.output import NONE, clock, count, duration, micros, printable
from phantomd.cli.status import STATE_STYLE, bad_channels, ppm, stage_style, uncertainty
from phantomd.cli.traces import Window, columns, extremes, plot, rms
from phantomd.contracts import GRID_HZ, Flag

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

SCALES_UV = tuple(
    round(step * 10**power)
    for power in range(6)
    for step in (1, 1.5, 2, 3, 5, 7)
    if step != 1.5 or power
)
SPANS_S = (1, 2, 4, 8, 15, 30, 60)
_LANE_ROWS = 8
_EVENT_ROWS = 10
_LABEL_CELLS = 7
_RMS_CELLS = 8
_LANES = ("cyan", "green", "bright_blue", "magenta", "bright_cyan", "bright_green", "blue")
#: Marks under the traces, the gravest first: letter, style, word.
_MARKS = (
    (Flag.MISSING, "M", "bold red", "missing"),
    (Flag.DISCONTINUITY, "D", "bold magenta", "discont."),
    (Flag.LATE, "L", "bold yellow", "late"),
    (Flag.ARTIFACT, "A", "yellow", "artifact"),
    (Flag.BRIDGED, "B", "cyan", "bridged"),
)
_KEYS = (
    ("q", "quit"),
    ("p", "pause"),
    ("space", "freeze"),
    ("+ -", "scale"),
    ("a", "auto"),
    ("[ ]", "time"),
)
_BAR = "bold white on grey23"
_WIDE_CELLS = 110


@dataclass
class View:
    """How a person looks at it. ``scale_uv`` is the half height of a lane."""

    scale_uv: int = 50
    auto: bool = True
    fitted: bool = False
    span_s: int = 4
    first_channel: int = 0
    paused: bool = False
    frozen: bool = False

    def scale(self, step: int) -> None:
        self.auto = False
        at = SCALES_UV.index(self.scale_uv) + step
        self.scale_uv = SCALES_UV[min(max(at, 0), len(SCALES_UV) - 1)]

    def span(self, step: int) -> None:
        at = SPANS_S.index(self.span_s) + step
        self.span_s = SPANS_S[min(max(at, 0), len(SPANS_S) - 1)]

    def fit(self, reach_uv: float) -> None:
        """Another scale when the signal has outgrown this one, or would fit the next smaller one
        with a fifth to spare: so it does not go to and fro."""
        smaller = SCALES_UV[max(0, SCALES_UV.index(self.scale_uv) - 1)]
        if not self.fitted or reach_uv > self.scale_uv or reach_uv < 0.8 * smaller:
            fitting = (scale for scale in SCALES_UV if scale >= reach_uv)
            self.scale_uv = next(fitting, SCALES_UV[-1])
            self.fitted = True


@dataclass(frozen=True)
class Traces:
    """What the middle of the picture shows; kept while it is frozen."""

    labels: tuple[str, ...]
    window: Window
    frames_a_column: int


def _resolution(view: View, width: int) -> tuple[int, int]:
    """Columns of dots, and frames in each."""
    n_columns = 2 * max(1, width - _LABEL_CELLS - _RMS_CELLS)
    return n_columns, max(1, round(view.span_s * GRID_HZ / n_columns))


def frames_shown(view: View, width: int) -> int:
    """Frames that fill the traces, whatever the index of the first."""
    n_columns, frames_a_column = _resolution(view, width)
    return (n_columns + 1) * frames_a_column


def take_traces(scene: Scene, view: View, width: int) -> Traces | None:
    """The newest traces for a picture of ``width`` cells; an automatic scale is fitted to them."""
    if scene.history is None:
        return None
    n_columns, frames_a_column = _resolution(view, width)
    window = columns(scene.history, n_columns, frames_a_column)
    reach_uv = _reach_uv(window) if view.auto else None
    if reach_uv is not None:
        view.fit(reach_uv)
    return Traces(scene.labels, window, frames_a_column)


def _reach_uv(window: Window) -> float | None:
    """How far the middle channel reaches from its mean, but for the highest twentieth."""
    reaches = []
    for channel in window.values.T:
        known = channel[~np.isnan(channel)].astype(np.float64)
        if known.size:
            reaches.append(np.quantile(np.abs(known - known.mean()), 0.95))
    return float(np.median(reaches)) if reaches else None


class Picture:
    """Rich renders it to the size that it is given."""

    def __init__(self, scene: Scene, view: View, traces: Traces | None, height: int | None = None):
        self._scene = scene
        self._view = view
        self._traces = traces
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = self._height or options.height or console.height
        lines = draw(self._scene, self._view, self._traces, options.max_width, height)
        for number, line in enumerate(lines):
            if number:
                yield Segment.line()
            for text, style in line:
                yield Segment(text, Style.parse(style) if style else None)


def draw(scene: Scene, view: View, traces: Traces | None, width: int, height: int) -> list[Line]:
    """At most ``height`` lines of exactly ``width`` cells."""
    head = [_headline(scene, view), *_banners(scene)]
    devices = _devices(scene)
    streams, stages = _streams(scene, width), _stages(scene, width)
    n_channels = len(traces.labels) if traces else 0

    # Always there: the title of the traces, their marks, and the keys.
    rest = height - len(head) - len(devices) - 3
    n_tables = max(len(streams), len(stages))
    n_tables = min(n_tables, max(2, rest - n_channels - 1))
    rest -= n_tables
    n_events = min(max(1, rest - n_channels), 3)
    rest -= n_events
    lanes = min(n_channels, max(rest, 1))
    rows = min(max(1, rest // max(lanes, 1)), _LANE_ROWS) if lanes else 1
    rest -= lanes * rows
    n_events += max(0, min(rest, _EVENT_ROWS - n_events))

    lines = [
        *head,
        *_lanes(scene, view, traces, lanes, rows, width),
        *devices,
        *beside(streams[:n_tables], stages[:n_tables], width),
        *_events(scene, n_events),
    ]
    lines = lines[: height - 1]
    lines += [[] for _ in range(height - 1 - len(lines))]
    return [fit(line, width) for line in [*lines, _footer(width)]]


# -- parts -----------------------------------------------------------------------------------------


def _headline(scene: Scene, view: View) -> Line:
    line: Line = [(f" {scene.daemon or 'phantomd'} ", _BAR)]
    if scene.status is not None:
        line.append((f" up {duration(scene.status['uptime_s'])} ", "" if not scene.gone else "dim"))
        if not scene.status["ready"]:
            line.append((" starting ", "yellow"))
        if scene.status.get("recording"):
            line.append((" recording ", "red"))
        if scene.status.get("detail", {}).get("journal"):
            line.append((" journal ", "cyan"))
    if view.paused:
        line.append((" PAUSED ", "black on yellow"))
    elif view.frozen:
        line.append((" FROZEN ", "black on cyan"))
    if scene.lost:
        line.append((f" {scene.lost} frames lost by this client ", "yellow"))
    return line


def _banners(scene: Scene) -> list[Line]:
    lines: list[Line] = []
    if scene.gone:
        why = scene.trouble.get("control") or scene.trouble["eeg"]
        lines.append([(f" GONE: {printable(why)}; waiting for it ", "bold white on red")])
    else:
        lines += [
            [(f" {name}: {printable(scene.trouble[name])} ", "black on yellow")]
            for name in ("control", "eeg")
            if name in scene.trouble
        ]
    if scene.status is None:
        return lines
    if scene.status["panic"]:
        reason = printable(scene.status.get("detail", {}).get("panic_reason") or "no reason given")
        lines.append([(f" PANIC: {reason} ", "bold white on red")])
    names = [what.partition(": ") for what in scene.status["degraded"]]
    if len(names) == 1:
        lines.append([(" degraded ", "black on yellow"), (f" {printable(''.join(names[0]))}", "")])
    elif names:
        short = ", ".join(printable(name) for name, _, _ in names)
        more = "; `phantomctl status` says what to do"
        lines.append([(" degraded ", "black on yellow"), (f" {short}{more}", "")])
    return lines


def _lanes(
    scene: Scene, view: View, traces: Traces | None, lanes: int, rows: int, width: int
) -> list[Line]:
    if traces is None or scene.history is None:
        return [[("eeg  ", HEADING), ("no frames yet", "yellow")], []]
    window = traces.window
    first = min(view.first_channel, len(traces.labels) - lanes)
    shown = slice(first, first + lanes)
    window = Window(window.first, window.values[:, shown], window.flags)
    low, high = extremes(window, traces.frames_a_column)
    level = rms(window)
    plain = max(1, width - _LABEL_CELLS - _RMS_CELLS)
    lines = [_lane_title(scene, view, traces, lanes, width)]
    for lane, label in enumerate(traces.labels[shown]):
        text = plot(low[:, lane], high[:, lane], rows, float(view.scale_uv))
        style = _LANES[(first + lane) % len(_LANES)]
        middle = rows // 2
        for row, cells in enumerate(text):
            name = set_cell_size(printable(label), _LABEL_CELLS - 1) + " "
            value = NONE if level[lane] is None else _volts(level[lane] or 0.0)
            here = row == middle
            lines.append(
                [
                    (name if here else " " * _LABEL_CELLS, "bold"),
                    (cells[:plain], style),
                    (f"{value if here else '':>{_RMS_CELLS}}", "dim" if value != NONE else "red"),
                ]
            )
    lines.append(_marks(window, traces.frames_a_column))
    return lines


def _lane_title(scene: Scene, view: View, traces: Traces, lanes: int, width: int) -> Line:
    assert scene.history is not None
    n = len(traces.labels)
    shown = f"{n} channels" if lanes == n else f"{lanes} of {n} channels (↑ ↓)"
    span_s = len(traces.window.flags) / GRID_HZ
    how = "auto" if view.auto else "fixed"
    simulated = " simulated " if int(traces.window.flags.max(initial=0)) & Flag.SIMULATED else ""
    title = (
        f"eeg  {shown}  ±{_volts(view.scale_uv)} µV a lane ({how})  {span_s:.1f} s  "
        f"age {micros(scene.history.age_us)} "
    )
    unit = " rms µV"
    space = " " * max(0, width - cell_len(title) - len(simulated) - len(unit))
    return [(title, HEADING), (simulated, "black on cyan"), (f"{space}{unit}", HEADING)]


def _marks(window: Window, frames_a_column: int) -> Line:
    """A letter under each cell whose frames have a flag, and a tick each second."""
    line: Line = [(f"{'flags':<{_LABEL_CELLS}}", "dim")]
    size = 2 * frames_a_column
    for at in range(0, len(window.flags) - size + 1, size):
        cell = window.flags[at : at + size]
        mark = _gravest(cell)
        if mark is not None:
            line.append((mark[1], mark[2]))
        else:
            second = (window.first + at + size - 1) // GRID_HZ != (window.first + at - 1) // GRID_HZ
            line.append(("╵" if second else " ", "dim"))
    worst = _gravest(window.flags)
    if worst is not None:
        line.append((f"{worst[3]:>{_RMS_CELLS}}", worst[2]))
    return line


def _gravest(flags: NDArray[np.uint32]) -> tuple[Flag, str, str, str] | None:
    seen = int(np.bitwise_or.reduce(flags)) if flags.size else 0
    return next((mark for mark in _MARKS if seen & mark[0]), None)


def _devices(scene: Scene) -> list[Line]:
    infos: list[dict[str, Any]] = scene.status["devices"] if scene.status else []
    if not infos:
        return [[("no device is open", "yellow" if scene.status else "dim")]]
    rows: list[list[Piece]] = [
        [
            (printable(info["device_id"]), "bold"),
            (info["state"], STATE_STYLE.get(info["state"], "")),
            (f"{info['rate_hz']:g} Hz" if info["rate_hz"] else NONE, ""),
            (ppm(info), ""),
            (f"±{uncertainty(info)}", ""),
            (count(info["lost_samples"]), "yellow" if info["lost_samples"] else ""),
            (printable(info["address"]), "dim"),
        ]
        for info in infos
    ]
    lines = grid(("device", "state", ">rate", ">clock", ">time", ">lost", "address"), rows)
    for info in infos:
        if bad := bad_channels(info):
            lines.append([(f"{printable(info['device_id'])}: bad channels: {bad}", "yellow")])
    return lines


def _streams(scene: Scene, width: int) -> list[Line]:
    streams: dict[str, dict[str, Any]] = scene.status["streams"] if scene.status else {}
    rows: list[list[Piece]] = [
        [
            (printable(name), ""),
            (str(scene.ports.get(name, NONE)), "dim"),
            (count(of["clients"]), "bold" if of["clients"] else "dim"),
            (count(of["published"]), ""),
            (count(of["dropped"]), _growth(scene, name, of["dropped"])),
        ]
        for name, of in streams.items()
    ]
    if width < _WIDE_CELLS:
        return grid(("stream", ">port", ">cl", ">publ", ">drop"), rows, gap=1)
    return grid(("stream", ">port", ">clients", ">published", ">dropped"), rows)


def _stages(scene: Scene, width: int) -> list[Line]:
    rows: list[list[Piece]] = []
    for name, stage in scene.ledger.items():
        deadline_us = stage.get("deadline_us") or 0.0
        times: list[Piece] = [
            (micros(stage[key]).replace(" ", ""), stage_style(stage[key], deadline_us))
            if stage["count"]
            else (NONE, "dim")
            for key in ("p50_us", "p99_us", "p999_us", "max_us")
        ]
        missed = (count(stage["missed"]), _growth(scene, name, stage["missed"]))
        rows.append([(printable(name), ""), *times, missed])
    if width < _WIDE_CELLS:
        return grid(("deadlines", ">p50", ">p99", ">p99.9", ">max", ">miss"), rows, gap=1)
    return grid(("deadlines", ">p50", ">p99", ">p99.9", ">max", ">missed"), rows)


def _growth(scene: Scene, name: str, number: int) -> str:
    if not number:
        return "dim"
    return "bold red" if scene.growing.get(name, 0.0) > time.monotonic() else "yellow"


def _events(scene: Scene, n: int) -> list[Line]:
    lines: list[Line] = []
    for message in list(scene.events)[-n:]:
        data = message["data"]
        level = str(data.get("level", ""))
        style = {"warning": "yellow", "alert": "bold red"}.get(level, "")
        t_ns = message.get("t_ns")
        when = "--:--:--.---" if t_ns is None else clock(t_ns + scene.wall_offset_ns, 3)
        text = printable(str(data.get("message", "")))
        lines.append([(f"{when} ", "dim"), (text, style)])
    return lines or [[("no events since top was started", "dim")]]


def _footer(width: int) -> Line:
    line: Line = [(" ", "")]
    for key, word in _KEYS:
        line += [(key, "bold"), (f" {word}  ", "dim")]
    legend: Line = []
    for _, letter, style, word in _MARKS:
        legend += [(letter, style), (f" {word}  ", "dim")]
    space = width - width_of(line) - width_of(legend)
    return [*line, (" " * space, ""), *legend] if space >= 0 else line


def _volts(uv: float) -> str:
    if uv < 99.95:
        return f"{uv:.1f}" if isinstance(uv, float) else str(uv)
    return f"{uv:.0f}" if uv < 99_999.5 else f"{uv / 1e3:.0f}k"
