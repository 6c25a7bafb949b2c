"""The flame graph as one picture: no script, and a tooltip for each frame."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from html import escape
from textwrap import wrap
from typing import NamedTuple

from kepler_ebpf.profile.formats.caption import energy, facts, remarks, title
from kepler_ebpf.profile.formats.tree import Tree, tree
from kepler_ebpf.profile.model import Profile

WIDTH, ROW, MARGIN = 1200, 17, 12
HEAD = 62
MIN_PX = 0.5
CHARACTER_PX = 6.4
TITLE_CHARACTERS, NOTE_CHARACTERS, NOTE = 120, 180, 16
SHADES = 4
PACKAGE_PATH = re.compile(r"^[\w.-]+(/[\w.-]+)*/")
"""What is missed least of a name that is too long."""

STYLE = """
svg { background: #fffdf8; font: 11px ui-monospace, Menlo, Consolas, monospace; color: #211d1a }
text { fill: currentColor } .title { font: 600 16px system-ui, sans-serif }
.facts { font: 12px system-ui, sans-serif; opacity: .75 } rect { stroke: #fffdf8; stroke-width: .6 }
.program { fill: #e3ddd2 } .none { fill: #c9c9cc }
.user0 { fill: #f7a65a } .user1 { fill: #f9b56f } .user2 { fill: #f28f5b } .user3 { fill: #f7bd60 }
.kernel0 { fill: #85b3ea } .kernel1 { fill: #98c1ef } .kernel2 { fill: #74a6e4 }
.kernel3 { fill: #8bbbe6 }
.jit0 { fill: #74cfae } .jit1 { fill: #87d8ba } .jit2 { fill: #62c5a1 } .jit3 { fill: #7fd3a6 }
"""


class Box(NamedTuple):
    """A frame in the picture: its left edge and width in px, and its energy."""

    frame: int
    depth: int
    x: float
    width: float
    uj: float


def write(profile: Profile, kind: str) -> bytes:
    """Return the SVG: energy of *kind*, the whole at the bottom, and what it is of at the top."""
    drawn = tree(profile, kind)
    boxes = list(_boxes(drawn, profile.kinds.index(kind)))
    bottom = HEAD + max(box.depth for box in boxes) * ROW
    name, line = title(profile, kind), " · ".join(facts(profile, kind))
    hidden = drawn.pruned + len(drawn.frame) - len(boxes)
    notes = [*remarks(profile), f"Frames too narrow to be drawn: {hidden:,}."]
    lines = [row for note in notes for row in wrap(note, NOTE_CHARACTERS)]
    height = bottom + ROW + MARGIN + NOTE * len(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" role="img">',
        f"<title>Flame graph: {escape(name)}</title><style>{STYLE}</style>",
        f'<text class="title" x="{MARGIN}" y="26">{escape(name[:TITLE_CHARACTERS])}</text>',
        f'<text class="facts" x="{MARGIN}" y="46">{escape(line)}</text>',
        *(_drawn(drawn, box, boxes[0].uj, bottom - box.depth * ROW) for box in boxes),
    ]
    for y, row in enumerate(lines, 1):
        place = f'x="{MARGIN}" y="{bottom + ROW + NOTE * y}"'
        parts.append(f'<text class="facts" {place}>{escape(row)}</text>')
    return "\n".join([*parts, "</svg>\n"]).encode()


def _boxes(drawn: Tree, column: int) -> Iterator[Box]:
    """Return what is wide enough to be drawn; the first is the whole."""
    values = drawn.values[:, column].tolist()
    scale = (WIDTH - 2 * MARGIN) / max(values[0], 1)
    start = [0.0] * (int(drawn.depth.max()) + 2)
    for index, depth, uj in zip(drawn.frame.tolist(), drawn.depth.tolist(), values, strict=True):
        if not depth or uj * scale >= MIN_PX:
            yield Box(index, depth, MARGIN + start[depth] * scale, uj * scale, uj)
        start[depth + 1] = start[depth]
        start[depth] += uj


def _drawn(drawn: Tree, box: Box, whole_uj: float, y: int) -> str:
    """Return the frame, with its name and a tooltip."""
    frame, kind = drawn.frames[box.frame], drawn.classes[box.frame]
    shade = zlib.crc32(frame.name.encode()) % SHADES if kind not in {"none", "program"} else ""
    module = f" ({frame.module})" if frame.module else ""
    about = f"{frame.name}{module}: {energy(box.uj)}, {100 * box.uj / max(whole_uj, 1):.2f} %"
    return (
        f'<g><title>{escape(about)}</title><rect class="{kind}{shade}" x="{box.x:.2f}" y="{y}"'
        f' width="{box.width:.2f}" height="{ROW - 1}" rx="1.5"/>'
        f"{_label(frame.name, box.x, y, box.width)}</g>"
    )


def _label(name: str, x: float, y: int, width: float) -> str:
    """Return as much of a name as the box has room for."""
    room = int((width - 6) / CHARACTER_PX)
    if room < 3:  # noqa: PLR2004
        return ""
    short = name if len(name) <= room else PACKAGE_PATH.sub("", name)
    text = short if len(short) <= room else f"{short[: room - 1]}…"
    return f'<text x="{x + 3:.2f}" y="{y + 12}">{escape(text)}</text>'
