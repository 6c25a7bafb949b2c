"""The flame graph as one page, which opens from disk and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from string import Template

from kepler_ebpf.profile.formats.caption import (
    duration_s,
    energy,
    facts,
    remarks,
    title,
    total_uj,
)
from kepler_ebpf.profile.formats.tree import tree
from kepler_ebpf.profile.model import Profile

SOURCES = files(__package__)


def write(profile: Profile, kind: str) -> bytes:
    """Return the page. It shows the energy of *kind* first, and the other values on request.

    The policy in the page forbids every load, and every script and style but its own.
    """
    style = SOURCES.joinpath("flamegraph.css").read_text("utf-8")
    script = SOURCES.joinpath("flamegraph.js").read_text("utf-8")
    page = Template(SOURCES.joinpath("flamegraph.html").read_text("utf-8"))
    return page.substitute(
        policy=f"default-src 'none'; script-src {_hashed(script)}; style-src {_hashed(style)}",
        title=escape(title(profile, kind)),
        style=style,
        script=script,
        subject=escape(profile.subject),
        total=energy(total_uj(profile, kind)),
        kind=escape(kind),
        estimate='<b class="estimate">ESTIMATE</b>' if profile.is_estimate else "",
        facts=_items(facts(profile, kind)),
        remarks=_items(remarks(profile)),
        data=_data(profile, kind),
    ).encode()


def _hashed(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _items(lines: tuple[str, ...]) -> str:
    return "".join(f"<li>{escape(line)}" for line in lines)


def _data(profile: Profile, kind: str) -> str:
    """Return the tree as JSON that can stand in a page: without the signs that end a script."""
    drawn = tree(profile, kind)
    used = sorted(set(drawn.frame.tolist()))
    place = {index: number for number, index in enumerate(used)}
    frames = [(*drawn.frames[index][:2], drawn.classes[index]) for index in used]
    document = {
        "metric": profile.kinds.index(kind),
        "metrics": [
            *({"name": each, "unit": "uj"} for each in profile.kinds),
            {"name": "CPU time", "unit": "ns"},
            {"name": "samples", "unit": ""},
        ],
        "seconds": duration_s(profile),
        "pruned": drawn.pruned,
        "frames": frames,
        "frame": [place[index] for index in drawn.frame.tolist()],
        "depth": drawn.depth.tolist(),
        "values": drawn.values.astype(int).T.tolist(),
    }
    text = json.dumps(document, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace("&", r"\u0026")
