"""The flags of `record` and `replay`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import click

from kepler_ebpf.config.values import duration_s

T = TypeVar("T")

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


def _parsed(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, str], T]:
    def callback(_: click.Context, __: click.Parameter, text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is not allowed: want {error}") from None

    return callback


def _flag(*names: str, **form: object) -> click.Option:
    return click.Option(list(names), show_default="is_flag" not in form, **form)  # type: ignore[arg-type]


def _size(name: str, default: str, meaning: str) -> click.Option:
    return _flag(name, default=default, metavar="SIZE", callback=_parsed(size_bytes), help=meaning)


def _time(name: str, default: str, meaning: str) -> click.Option:
    parse = duration_s("1s", "87600h")
    return _flag(name, default=default, metavar="TIME", callback=_parsed(parse), help=meaning)


RECORD_FLAGS: tuple[click.Parameter, ...] = (
    _flag(
        "-o",
        "--output",
        required=True,
        metavar="PATH",
        help="File to write, or a directory (one that exists, or a name with / at its end) for a "
        "recording in parts, of which the oldest are removed.",
    ),
    _flag("--force", is_flag=True, help="Replace the file if it exists."),
    _flag("--timeout", type=click.FloatRange(0.01), metavar="S", help="End after so many seconds."),
    _size("--max-size", "1GB", "A file ends there; of a directory's parts the oldest are removed."),
    _time("--keep", "87600h", "Parts of a directory are removed so long after their end."),
    _size("--part-size", "64MB", "Greatest size of a part."),
    _time("--part-time", "1h", "Greatest length of a part."),
    _flag("--arguments", is_flag=True, help="Record arguments of commands: they may hold secrets."),
    _flag("--user", metavar="NAME", help="Run the command as this user."),
    click.Argument(["command"], nargs=-1, type=click.UNPROCESSED),
)

REPLAY_FLAGS: tuple[click.Parameter, ...] = (
    _flag(
        "--split",
        type=click.Choice(SPLITS),
        default="busy",
        help="Active energy: by the busy part of the CPUs' time, as live, or all of it.",
    ),
    _flag(
        "--idle-watts",
        multiple=True,
        metavar="ZONE=W",
        help="Active energy is what is beyond this power of the zone.",
    ),
    _flag(
        "--weight",
        type=click.Choice(WEIGHTS),
        default="cpu",
        help="Share active energy by CPU time, as live, by context switches, or equally.",
    ),
    _flag("--by", type=click.Choice(GROUPS), default="process", help="What the rows are."),
    _flag("--zone", default="", metavar="KIND", help="The zone; by default the widest."),
    _flag("--top", type=click.IntRange(1), default=20, help="Print so many rows at most."),
    _flag("--json", "as_json", is_flag=True, help="Write all of it as JSON."),
    click.Argument(["recording"], metavar="PATH"),
)
