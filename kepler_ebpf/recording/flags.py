"""The flags of `record` and `replay`."""

from __future__ import annotations

import re

import click

from kepler_ebpf.config.flags import COMMAND, USER, ZONE, flag, parsed, rows_at_most, timeout
from kepler_ebpf.config.values import duration_s

UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SIZE = re.compile(r"([0-9]{1,12})(|kB|MB|GB|TB)")
MIN_BYTES = 100_000

# As in the modules that need more than flags do: help is quick.
SPLITS, WEIGHTS = ("busy", "all"), ("cpu", "switches", "equal")
GROUPS = ("process", "comm", "exe", "cgroup", "container", "pod", "unit")


def size_bytes(text: str) -> int:
    """Parse a size such as ``64MB``. Raises ValueError."""
    match = SIZE.fullmatch(text)
    size = int(match[1]) * UNITS[match[2]] if match else 0
    if size < MIN_BYTES:
        raise ValueError("a size of 100kB or more, such as 64MB or 1GB")
    return size


def _size(name: str, default: str, meaning: str) -> click.Option:
    return flag(name, default=default, metavar="SIZE", callback=parsed(size_bytes), help=meaning)


def _time(name: str, default: str, meaning: str) -> click.Option:
    parse = duration_s("1s", "87600h")
    return flag(name, default=default, metavar="TIME", callback=parsed(parse), help=meaning)


RECORD_FLAGS: tuple[click.Parameter, ...] = (
    flag(
        "-o",
        "--output",
        required=True,
        metavar="PATH",
        help="File to write, or a directory (one that exists, or a name with / at its end) for a "
        "recording in parts, of which the oldest are removed.",
    ),
    flag("--force", is_flag=True, help="Replace the file if it exists."),
    timeout("End after so many seconds."),
    _size("--max-size", "1GB", "A file ends there; of a directory's parts the oldest are removed."),
    _time("--keep", "87600h", "Parts of a directory are removed so long after their end."),
    _size("--part-size", "64MB", "Greatest size of a part."),
    _time("--part-time", "1h", "Greatest length of a part."),
    flag("--arguments", is_flag=True, help="Record arguments of commands: they may hold secrets."),
    USER,
    COMMAND,
)

REPLAY_FLAGS: tuple[click.Parameter, ...] = (
    flag(
        "--split",
        type=click.Choice(SPLITS),
        default="busy",
        help="Active energy: by the busy part of the CPUs' time, as live, or all of it.",
    ),
    flag(
        "--idle-watts",
        multiple=True,
        metavar="ZONE=W",
        help="Active energy is what is beyond this power of the zone.",
    ),
    flag(
        "--weight",
        type=click.Choice(WEIGHTS),
        default="cpu",
        help="Share active energy by CPU time, as live, by context switches, or equally.",
    ),
    flag("--by", type=click.Choice(GROUPS), default="process", help="What the rows are."),
    ZONE,
    rows_at_most(20),
    flag("--json", "as_json", is_flag=True, help="Write JSON, with all zones and rows."),
    click.Argument(["recording"], metavar="PATH"),
)
