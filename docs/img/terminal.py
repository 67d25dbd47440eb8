"""Draws what a command writes to a terminal as a PNG (Pillow comes with matplotlib):

    FORCE_COLOR=1 COLORTERM=truecolor COLUMNS=112 LINES=38 phantomctl top --once \\
        | python docs/img/terminal.py docs/img/top.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from rich.color import Color
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

CELL = (9, 20)
FONT_SIZE = 15
MARGIN = 12
BACKGROUND, FOREGROUND = (24, 26, 31), (205, 209, 216)
_NORMAL = [
    (24, 26, 31), (224, 82, 82), (126, 191, 96), (222, 178, 75),
    (83, 140, 222), (187, 108, 205), (76, 178, 191), (205, 209, 216),
]  # fmt: skip
_BRIGHT = [
    (92, 99, 112), (245, 112, 112), (152, 215, 122), (240, 200, 105),
    (112, 165, 245), (210, 140, 228), (110, 205, 216), (255, 255, 255),
]  # fmt: skip
THEME = TerminalTheme(BACKGROUND, FOREGROUND, _NORMAL, _BRIGHT)
#: Dots of a braille cell by bit: column, row (Unicode 15, chapter 21.1).
DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))


def rgb(color: Color | None, foreground: bool) -> tuple[int, int, int]:
    if color is None or color.is_default:
        return FOREGROUND if foreground else BACKGROUND
    return tuple(color.get_truecolor(THEME, foreground=foreground))  # type: ignore[return-value]


def draw(text: str) -> Image.Image:
    lines = Text.from_ansi(text).split("\n")
    columns = max(line.cell_len for line in lines)
    size = (columns * CELL[0] + 2 * MARGIN, len(lines) * CELL[1] + 2 * MARGIN)
    image = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(image)
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    normal = ImageFont.truetype(fonts / "DejaVuSansMono.ttf", FONT_SIZE)
    bold = ImageFont.truetype(fonts / "DejaVuSansMono-Bold.ttf", FONT_SIZE)
    for row, line in enumerate(lines):
        styles = [Style.null()] * len(line.plain)
        for span in line.spans:
            style = Style.parse(span.style) if isinstance(span.style, str) else span.style
            for at in range(span.start, min(span.end, len(styles))):
                styles[at] = styles[at] + style
        for column, (character, style) in enumerate(zip(line.plain, styles, strict=True)):
            x, y = MARGIN + column * CELL[0], MARGIN + row * CELL[1]
            ink, paper = rgb(style.color, True), rgb(style.bgcolor, False)
            if style.dim:
                ink = tuple((2 * a + b) // 3 for a, b in zip(ink, paper, strict=True))  # type: ignore[assignment]
            pen.rectangle((x, y, x + CELL[0] - 1, y + CELL[1] - 1), paper)
            code = ord(character) - 0x2800
            if 0 <= code < 256:
                for bit, (i, j) in enumerate(DOTS):
                    if code >> bit & 1:
                        dot = (x + 1 + 4.5 * i, y + 1 + 5 * j)
                        pen.ellipse((*dot, dot[0] + 2.5, dot[1] + 2.5), ink)
            elif character != " ":
                pen.text((x, y + 1), character, ink, bold if style.bold else normal)
    return image


if __name__ == "__main__":
    draw(sys.stdin.read().rstrip("\n")).save(sys.argv[1], optimize=True)
