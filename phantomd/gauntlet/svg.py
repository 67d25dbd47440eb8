"""Small drawings as SVG text: lines over time, bars, paths in a plane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Points = Sequence[tuple[float, float]]

INK, FAINT, GRID = "#e8eaed", "#9aa0a6", "#33373d"
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 40


def svg(width: int, height: int, inside: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>{escape(title)}</title>{inside}</svg>"
    )


def text(
    x: float, y: float, words: str, *, anchor: str = "start", fill: str = FAINT, size: int = 12
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" '
        f'font-size="{size}">{escape(words)}</text>'
    )


def polyline(points: Points, colour: str, width: float = 1.8) -> str:
    if len(points) < 2:
        return "".join(circle(x, y, 2, colour) for x, y in points)
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="{width}" '
        'stroke-linejoin="round" stroke-linecap="round"/>'
    )


def circle(x: float, y: float, r: float, colour: str, *, filled: bool = True) -> str:
    how = f'fill="{colour}"' if filled else f'fill="none" stroke="{colour}" stroke-width="1.2"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" {how}/>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from low to high: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class Axes:
    """A frame with axes from 0 (x) and ``y``; drawings are added, ``done`` gives the SVG."""

    def __init__(
        self, width: int, height: int, x_high: float, y: tuple[float, float], names: tuple[str, str]
    ) -> None:
        self._size = width, height
        self._x_high, self._y = x_high or 1.0, y if y[1] > y[0] else (y[0], y[0] + 1)
        self._parts: list[str] = []
        for value in ticks(*self._y):
            at = self.y(value)
            self._parts.append(line(_LEFT, at, width - _RIGHT, at, GRID))
            self._parts.append(text(_LEFT - 6, at + 4, number(value), anchor="end"))
        for value in ticks(0, self._x_high, 8):
            self._parts.append(
                text(self.x(value), height - _BOTTOM + 16, number(value), anchor="middle")
            )
        middle = (_LEFT + width - _RIGHT) / 2
        self._parts.append(text(middle, height - 6, names[0], anchor="middle"))
        # Above the plot would need room: the name stands along the axis.
        high = (_TOP + height - _BOTTOM) / 2
        name = text(12, high, names[1], anchor="middle")
        self._parts.append(f'<g transform="rotate(-90 12 {high:.0f})">{name}</g>')

    def x(self, value: float) -> float:
        return _LEFT + (self._size[0] - _LEFT - _RIGHT) * value / self._x_high

    def y(self, value: float) -> float:
        low, high = self._y
        return _TOP + (self._size[1] - _TOP - _BOTTOM) * (high - value) / (high - low)

    def curve(self, points: Sequence[tuple[float, float | None]], colour: str) -> None:
        """Broken where a value is None."""
        part: list[tuple[float, float]] = []
        for x, y in [*points, (0.0, None)]:
            if y is not None:
                part.append((self.x(x), self.y(y)))
            elif part:
                self._parts.append(polyline(part, colour))
                part = []

    def bar(self, x1: float, x2: float, top: float, colour: str) -> None:
        left, right = self.x(x1), self.x(x2)
        y, low = self.y(top), self.y(self._y[0])
        self._parts.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(right - left - 1, 0.5):.1f}" '
            f'height="{max(low - y, 0):.1f}" fill="{colour}"/>'
        )

    def mark(self, x: float, words: str, colour: str) -> None:
        at = self.x(x)
        self._parts.append(line(at, _TOP, at, self._size[1] - _BOTTOM, colour, "4 3"))
        self._parts.append(text(at + 4, _TOP + 12, words, fill=colour))

    def done(self, title: str) -> str:
        return svg(*self._size, "".join(self._parts), title)
