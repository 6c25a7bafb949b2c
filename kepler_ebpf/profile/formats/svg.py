"""The flame graph as one picture: no script, and a tooltip for each frame."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from html import escape

from kepler_ebpf.profile.formats.caption import energy, facts, remarks, title
from kepler_ebpf.profile.formats.tree import Tree, tree
from kepler_ebpf.profile.model import Profile

WIDTH, ROW, MARGIN = 1200, 17, 12
HEAD = 62
MIN_PX = 0.1
CHARACTER_PX = 6.4
SHADES = 4

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


def write(profile: Profile, kind: str) -> bytes:
    """Return the SVG: energy of *kind*, the whole at the bottom, and what it is of at the top."""
    drawn = tree(profile, kind)
    levels = int(drawn.depth.max()) + 1
    notes = remarks(profile)
    height = HEAD + levels * ROW + MARGIN + 16 * len(notes)
    name, line = title(profile, kind), " · ".join(facts(profile, kind))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>Flame graph: {escape(name)}</title><style>{STYLE}</style>",
        f'<text class="title" x="{MARGIN}" y="26">{escape(name[:120])}</text>',
        f'<text class="facts" x="{MARGIN}" y="46">{escape(line)}</text>',
        *_frames(drawn, profile.kinds.index(kind), HEAD + (levels - 1) * ROW),
    ]
    for index, note in enumerate(notes):
        y = HEAD + levels * ROW + MARGIN + 16 * index
        lines.append(f'<text class="facts" x="{MARGIN}" y="{y}">{escape(note[:180])}</text>')
    return "\n".join([*lines, "</svg>\n"]).encode()


def _frames(drawn: Tree, column: int, bottom: int) -> Iterator[str]:
    """Return a box for each frame, above the one that called it."""
    values = drawn.values[:, column].tolist()
    scale = (WIDTH - 2 * MARGIN) / max(values[0], 1e-9)
    start: list[float] = [0.0] * (int(drawn.depth.max()) + 2)
    for index, depth, uj in zip(drawn.frame.tolist(), drawn.depth.tolist(), values, strict=True):
        x, width = MARGIN + start[depth] * scale, uj * scale
        start[depth + 1] = start[depth]
        start[depth] += uj
        if width < MIN_PX:
            continue
        frame, kind = drawn.frames[index], drawn.classes[index]
        y = bottom - depth * ROW
        shade = zlib.crc32(frame.name.encode()) % SHADES if kind not in {"none", "program"} else ""
        share = 100 * uj / max(values[0], 1e-9)
        module = f" ({frame.module})" if frame.module else ""
        about = escape(f"{frame.name}{module}: {energy(uj)}, {share:.2f} %")
        yield (
            f'<g><title>{about}</title><rect class="{kind}{shade}" x="{x:.2f}" y="{y}" rx="1.5"'
            f' width="{width:.2f}" height="{ROW - 1}"/>{_label(frame.name, x, y, width)}</g>'
        )


def _label(name: str, x: float, y: int, width: float) -> str:
    """Return as much of a name as the box has room for."""
    room = int((width - 6) / CHARACTER_PX)
    if room < 3:  # noqa: PLR2004
        return ""
    text = name if len(name) <= room else f"{name[: room - 1]}…"
    return f'<text x="{x + 3:.2f}" y="{y + 12}">{escape(text)}</text>'
