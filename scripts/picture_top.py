#!/usr/bin/env python3
"""Writes top's picture: `scripts/picture_top.py [FILE]` runs `top` in a terminal, beside some work.

It needs the rights of `top`, and writes `kepler_ebpf/top/screen.svg` by default.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from contextlib import ExitStack
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
COLUMNS, LINES = 84, 18
WORK = (
    "gzip -9 </dev/urandom >/dev/null",
    "sha256sum /dev/zero",
    "while :; do seq 20000 | sort -rn >/dev/null; done",
    "while :; do sleep 0.05; awk 'BEGIN { for (i = 0; i < 200000; i++) s += i }'; done",
)
WORK_S = 12.0
CELL_W, CELL_H = 8.4, 18
PIECES = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([^\x1b]+)")


def main() -> None:
    """Let everything run for some seconds, and draw the last screen."""
    with ExitStack() as stack:
        for command in WORK:
            work = subprocess.Popen(["/bin/sh", "-c", command], process_group=0)
            stack.callback(work.wait)
            stack.callback(os.killpg, work.pid, 9)
        written = _written()
    file = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "kepler_ebpf/top/screen.svg")
    file.write_text(_drawn(_screen(written)), "utf-8")


def _written() -> str:
    """Return what `top` writes to a terminal while the work goes on."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "kepler_ebpf", "top"])  # noqa: S606
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    written, until_s = b"", time.monotonic() + WORK_S
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select((terminal,), (), (), left_s)[0]:
            written += os.read(terminal, 65536)
    os.write(terminal, b"q")
    os.waitpid(pid, 0)
    return written.decode("utf-8", "replace")


def _screen(written: str) -> dict[int, tuple[str, str]]:
    """Return the style, an escape's figures, and the text of each line."""
    lines: dict[int, tuple[str, str]] = {}
    row, style = 1, ""
    for figures, end, text in PIECES.findall(written):
        if text:
            lines[row] = (style, text)
        elif end == "H":
            row, style = int(figures.partition(";")[0]), ""
            lines[row] = ("", "")
        elif end == "m":
            style = figures
    return lines


def _drawn(lines: dict[int, tuple[str, str]]) -> str:
    width, height = round(COLUMNS * CELL_W + 20), LINES * CELL_H + 20
    drawn = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" aria-label="kepler-ebpf top">'
        ),
        (
            "<style>text{font:14px ui-monospace,Menlo,Consolas,monospace;fill:#d8dee9;"
            "white-space:pre}.b{font-weight:bold;fill:#fff}.r{fill:#16191f}</style>"
        ),
        f'<rect width="{width}" height="{height}" rx="8" fill="#16191f"/>',
    ]
    for row, (style, text) in sorted(lines.items()):
        y, shown = 10 + row * CELL_H, escape(text.rstrip())
        if style == "7":
            box = f'y="{y - 14}" width="{width - 20}" height="{CELL_H}"'
            drawn.append(f'<rect x="10" {box} fill="#d8dee9"/>')
        name = {"1": "b", "7": "r"}.get(style, "")
        length = f'textLength="{len(text.rstrip()) * CELL_W:.1f}" lengthAdjust="spacingAndGlyphs"'
        if shown:
            drawn.append(f'<text x="10" y="{y}" class="{name}" {length}>{shown}</text>')
    return "\n".join([*drawn, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
