"""Text in the width of a terminal."""

from __future__ import annotations

import unicodedata

UTF8_BARS, ASCII_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"


def sparkline(figures: list[float], bars: str) -> str:
    """Return a character for each figure, by its part of the highest."""
    highest = max(figures, default=0.0) or 1.0
    return "".join(bars[round(figure / highest * (len(bars) - 1))] for figure in figures)


def wrapped(line: str, columns: int) -> list[str]:
    """Break the sum before a part of it."""
    lines = [""]
    for part in line.replace(" + ", "\n + ").splitlines():
        if len(lines[-1]) + len(part) > columns and lines[-1]:
            lines.append("  ")
        lines[-1] += part
    return [cut(each, columns) for each in lines]


def cut(line: str, columns: int) -> str:
    """Return what of *line* fits; East Asian characters are two columns wide."""
    if line.isascii():
        return line[:columns]
    width = 0
    for at, char in enumerate(line):
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if width > columns:
            return line[:at]
    return line
