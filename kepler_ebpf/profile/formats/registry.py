"""The kinds of files that a profile can be written to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kepler_ebpf.profile.formats import (
    firefox,
    flamegraph,
    folded,
    perfetto,
    pprof,
    speedscope,
    svg,
)
from kepler_ebpf.profile.formats.caption import cleaned
from kepler_ebpf.profile.model import Profile


class Format(NamedTuple):
    """A kind of file. Names in the profile are printable when ``write`` gets it."""

    endings: tuple[str, ...]
    write: Callable[[Profile, str], bytes]


FORMATS = {
    "html": Format((".html", ".htm"), flamegraph.write),
    "svg": Format((".svg",), svg.write),
    "folded": Format((".folded", ".collapsed", ".txt"), folded.write),
    "speedscope": Format((".speedscope.json", ".speedscope"), speedscope.write),
    "pprof": Format((".pprof", ".pb.gz"), pprof.write),
    "firefox": Format((".firefox.json.gz", ".json.gz"), firefox.write),
    "perfetto": Format((".pftrace", ".perfetto-trace"), perfetto.write),
}


def format_of(path: str) -> str | None:
    """Return the name of the format that the ending of *path* stands for."""
    return next((name for name, each in FORMATS.items() if path.endswith(each.endings)), None)


def render(name: str, profile: Profile, kind: str) -> bytes:
    """Return the file of format *name*, which shows the energy of a kind of zone."""
    return FORMATS[name].write(cleaned(profile), kind)
