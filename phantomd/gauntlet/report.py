"""A run as one HTML page: no script, and nothing that is fetched from anywhere."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from html import escape

import numpy as np

from phantomd.gauntlet import svg
from phantomd.gauntlet.play import Floats, Play
from phantomd.gauntlet.result import Result
from phantomd.gauntlet.score import TARGET_MM, Latency, in_mm, judged, reaches

PHANTOM, BIO, LOOP = "#ffd54a", "#5fd068", "#4aa8ff"
_LEVEL = {
    "none": "#e8eaed",
    "light": "#c4b5fd",
    "moderate": "#a78bfa",
    "intense": "#f472b6",
    "extreme": "#ef4444",
}
_TRIALS = 6
_PANEL = 150
_MOST_MS = 100.0

_STYLE = """
body{background:#16181c;color:#e8eaed;font:15px/1.5 system-ui,sans-serif;
margin:0 auto;max-width:1060px;padding:28px}
h1{font-size:24px;margin:0}h2{font-size:17px;margin:34px 0 6px}
p{color:#bdc1c6;margin:4px 0 10px;max-width:820px}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}
.tile{background:#202328;border-radius:8px;padding:12px 18px;min-width:112px}
.tile b{display:block;font-size:24px;font-weight:600}.tile span{color:#9aa0a6;font-size:13px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}
th{color:#9aa0a6;font-weight:400;text-align:right;padding:4px 10px;vertical-align:bottom}
td{text-align:right;padding:4px 10px;border-top:1px solid #33373d}
th:first-child,td:first-child{text-align:left}
.key i{display:inline-block;width:12px;height:12px;border-radius:6px;margin:0 6px 0 16px}
.wide{overflow-x:auto}svg{display:block;max-width:100%;height:auto}
"""


def report(result: Result, plays: dict[str, Play]) -> str:
    """The page's text."""
    title = f"Gauntlet: {result.decoder}"
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(result.unix_s))
    bars = {level: _LEVEL[level] for level in result.levels}
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(result.dataset)}, {result.seconds:g} s a level from bin {result.first_bin}, "
        f"seed {result.seed} · {escape(result.daemon)} · {when}</p>",
        _tiles(result),
        '<div class="wide">',
        _table(result),
        "</div>",
        "<h2>The three cursors</h2>",
        _key({"Phantom (target)": PHANTOM, "Bio-Link (arm)": BIO, "Loop-Back (decoder)": LOOP}),
        "<p>The same trials at each level. The ring is the target; the decoder's cursor begins "
        "each trial at the arm and is moved by its velocities alone.</p>",
        _paths(plays),
        "<h2>Score over time</h2>",
        _key(bars),
        _curve(result, 1, "score"),
        "<h2>Area of the triangle over time</h2>",
        _key(bars),
        _curve(result, 2, f"trinity area, {_unit(result)}²"),
        "<h2>Latency of the loop</h2>",
        "<p>From the packet's hand-over to the kernel until the answer was read; all levels. The "
        "count is on a logarithmic axis.</p>",
        _latencies(plays),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>"
    )


def _tiles(result: Result) -> str:
    first = next(iter(result.levels.values())).score
    level = next(iter(result.levels))
    tiles = [
        (_number(result.robustness), "robustness"),
        (_number(first.score), f"score, stress {level}"),
        (_number(first.velocity_r2), "velocity R²"),
        (f"{first.hits}/{first.trials}", f"targets hit (arm {first.arm_hits})"),
        (_number(None if first.latency is None else first.latency.p99_ms, 1), "loop p99, ms"),
        (str(sum(one.score.desyncs for one in result.levels.values())), "desyncs"),
    ]
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{b}</b><span>{escape(s)}</span></div>' for b, s in tiles)
        + "</div>"
    )


def _table(result: Result) -> str:
    heads = ("stress", "score", "velocity R²", "position R²", "accuracy", f"area {_unit(result)}²",
             "hits", "s to target", "path efficiency", "p50 ms", "p99", "p99.9", "desyncs",
             "missed", "invalid")  # fmt: skip
    rows = []
    for level, one in result.levels.items():
        s, t = one.score, one.score.latency
        rows.append(
            (level, _number(s.score), _number(s.velocity_r2), _number(s.position_r2),
             _number(s.position_accuracy), _number(s.trinity_area, 0), f"{s.hits}/{s.trials}",
             _number(s.time_to_target_s, 2), _number(s.path_efficiency, 2),
             *(_number(ms, 2) for ms in _quantiles(t)),
             s.desyncs, s.missed, s.invalid)
        )  # fmt: skip
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _quantiles(t: Latency | None) -> tuple[float | None, ...]:
    return (None, None, None) if t is None else (t.p50_ms, t.p99_ms, t.p999_ms)


def _key(entries: dict[str, str]) -> str:
    marks = "".join(
        f'<i style="background:{colour}"></i>{escape(name)}' for name, colour in entries.items()
    )
    return f'<p class="key">{marks}</p>'


# -- paths -----------------------------------------------------------------------------------------


def _paths(plays: dict[str, Play]) -> str:
    """Rows are levels, columns trials."""
    ready = {level: judged(play) for level, play in plays.items()}
    trials = _chosen(ready)
    if not trials:
        return "<p>No trial was played from its start to its end: play more seconds.</p>"
    scale, centre = _scale(ready, trials)
    margin = 74
    inside = []
    for row, (level, play) in enumerate(ready.items()):
        top = row * _PANEL
        inside.append(svg.text(0, top + _PANEL / 2, level, fill=_LEVEL[level], size=13))
        for column, trial in enumerate(trials):
            rows = _visit(play, trial)
            if rows is None:
                continue
            origin = (margin + (column + 0.5) * _PANEL, top + _PANEL / 2)
            inside.append(_panel(play.part(rows), origin, scale, centre, f"{level}-{column}"))
    width, height = margin + len(trials) * _PANEL, len(ready) * _PANEL
    return svg.svg(width, height, "".join(inside), "paths of the three cursors")


def _chosen(plays: dict[str, Play]) -> list[int]:
    """Trials that were wholly played at the first level, evenly picked."""
    first = next(iter(plays.values()))
    whole = [int(first.trial[one.first]) for one in reaches(first, first.position)]
    if len(whole) <= _TRIALS:
        return whole
    return [whole[round(i * (len(whole) - 1) / (_TRIALS - 1))] for i in range(_TRIALS)]


def _visit(play: Play, trial: int) -> slice | None:
    at = np.flatnonzero(play.trial == trial)
    return slice(int(at[0]), int(at[-1]) + 1) if len(at) else None


def _scale(plays: dict[str, Play], trials: Sequence[int]) -> tuple[float, Floats]:
    """Pixels a unit, such that arm and targets fill a panel; who goes further is cut off."""
    first = next(iter(plays.values()))
    rows = np.isin(first.trial, trials)
    points = np.concatenate([first.position[rows], first.target[rows]])
    points = points[np.isfinite(points).all(axis=1)]
    low, high = points.min(axis=0), points.max(axis=0)
    reach = float((high - low).max()) / 2 + TARGET_MM * in_mm(first.unit)
    return 0.45 * _PANEL / reach, (low + high) / 2


def _panel(play: Play, origin: tuple[float, float], scale: float, centre: Floats, name: str) -> str:
    half = _PANEL / 2 - 4

    def at(points: Floats) -> list[tuple[float, float]]:
        known = points[np.isfinite(points).all(axis=1)]
        moved = (known - centre) * scale * [1, -1] + origin
        return [(float(x), float(y)) for x, y in moved]

    phantom = at(play.target)
    box = (
        f'x="{origin[0] - half:.1f}" y="{origin[1] - half:.1f}" '
        f'width="{2 * half:.1f}" height="{2 * half:.1f}" rx="5"'
    )
    parts = [
        f'<clipPath id="{name}"><rect {box}/></clipPath><rect {box} fill="#1c1f24"/>',
        f'<g clip-path="url(#{name})">',
        svg.polyline(at(play.position), BIO),
        svg.polyline(at(play.cursor), LOOP),
    ]
    if phantom:
        x, y = phantom[-1]
        radius = TARGET_MM * in_mm(play.unit) * scale
        parts += [svg.circle(x, y, radius, PHANTOM, filled=False), svg.circle(x, y, 3, PHANTOM)]
        parts.append(svg.polyline(phantom, PHANTOM) if len(set(phantom)) > 1 else "")
    return "".join([*parts, "</g>"])


# -- over time, latency ----------------------------------------------------------------------------


def _curve(result: Result, column: int, name: str) -> str:
    curves = {
        level: [(p[0], p[column]) for p in one.over_time] for level, one in result.levels.items()
    }
    values = [y for points in curves.values() for _, y in points if y is not None]
    if not values:
        return "<p>Nothing to show: no answers, or no truth to hold them against.</p>"
    top = 1.0 if column == 1 else max(values)
    axes = svg.Axes(960, 240, result.seconds, (0.0, top), ("s of the course", name))
    for level, points in curves.items():
        axes.curve(points, _LEVEL[level])
    return axes.done(name)


def _latencies(plays: dict[str, Play]) -> str:
    ms = np.concatenate([judged(play).loop_ms for play in plays.values()])
    if not len(ms):
        return "<p>No answers.</p>"
    most = max(min(float(ms.max()) * 1.05, _MOST_MS), 1.0)
    most = max(most, 55.0)
    edges = np.linspace(0, most, 111)
    counts, _ = np.histogram(np.minimum(ms, most), edges)
    top = math.ceil(math.log10(max(int(counts.max()), 1)) + 0.05) or 1
    axes = svg.Axes(
        960, 220, most, (-0.3, float(top)), ("ms (later ones in the last bar)", "log₁₀ of packets")
    )
    for left, right, n in zip(edges[:-1], edges[1:], counts, strict=True):
        if n:
            axes.bar(float(left), float(right), math.log10(n), LOOP)
    axes.mark(25.0, "25 ms: the decoder's window", svg.FAINT)
    axes.mark(50.0, "50 ms: desync", _LEVEL["extreme"])
    return axes.done("latency of the loop")


def _unit(result: Result) -> str:
    return next(iter(result.levels.values())).score.unit


def _number(value: float | None, digits: int = 3) -> str:
    return "—" if value is None else f"{value:.{digits}f}"
