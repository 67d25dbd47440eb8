"""Lines of styled text, measured in the cells of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

Piece = tuple[str, str]
Line = list[Piece]
#: Style of a line that heads others; it goes on to the edge.
HEADING = "grey70 on grey19"


def grid(headings: Sequence[str], rows: Sequence[Sequence[Piece]], gap: int = 2) -> list[Line]:
    """Columns as wide as their widest cell; ``>`` before a heading: they end evenly."""
    names = [heading.removeprefix(">") for heading in headings]
    widths = [
        max([len(name), *(cell_len(row[at][0]) for row in rows)]) for at, name in enumerate(names)
    ]
    lines: list[Line] = []
    names_row = [(name, HEADING) for name in names]
    for row in [names_row, *rows]:
        line: Line = []
        for (text, style), heading, cells in zip(row, headings, widths, strict=True):
            space = " " * (cells - cell_len(text))
            line.append((space + text if heading.startswith(">") else text + space, style))
            line.append((" " * gap, style if row is names_row else ""))
        lines.append(line[:-1])
    return lines


def beside(left: Sequence[Line], right: Sequence[Line], width: int) -> list[Line]:
    """Two blocks side by side, the right one at the right edge."""
    left_cells = max((width_of(line) for line in left), default=0)
    right_cells = max((width_of(line) for line in right), default=0)
    gap = max(2, width - left_cells - right_cells)
    lines: list[Line] = []
    for at in range(max(len(left), len(right))):
        line = list(left[at]) if at < len(left) else []
        if at < len(right):
            space = " " * (left_cells - width_of(line) + gap)
            line.append((space, HEADING if at == 0 else ""))
            line += right[at]
        lines.append(line)
    return lines


def width_of(line: Line) -> int:
    return sum(cell_len(text) for text, _ in line)


def fit(line: Line, width: int) -> Line:
    """Exactly ``width`` cells; the bar of a heading goes to the edge."""
    fitted: Line = []
    left = width
    for text, style in line:
        cells = cell_len(text)
        if cells > left:
            fitted.append((set_cell_size(text, left), style))
            return fitted
        fitted.append((text, style))
        left -= cells
    fitted.append((" " * left, HEADING if line and line[-1][1] == HEADING else ""))
    return fitted
