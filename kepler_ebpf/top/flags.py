"""The flags of `top`."""

from __future__ import annotations

import click

from kepler_ebpf.config.flags import ZONE, flag, rows_at_most
from kepler_ebpf.model.levels import WORKLOAD_LEVELS

SORTS = ("watts", "joules", "cpu", "name")

MAX_FILTER = 100
"""Characters of a filter."""


def _filter(_: click.Context, __: click.Parameter, text: str) -> str:
    if len(text) > MAX_FILTER:
        raise click.BadParameter(f"it has {len(text)} characters: at most {MAX_FILTER} are allowed")
    return text


TOP_FLAGS: tuple[click.Parameter, ...] = (
    flag("--once", is_flag=True, help="Print one interval, and end."),
    flag("--batch", is_flag=True, help="Print each interval."),
    flag("-n", "--count", type=click.IntRange(1), help="Print so many intervals, and end."),
    flag(
        "--format",
        "form",
        type=click.Choice(["text", "json", "csv"]),
        help="Form of what is printed; by default text, and json with --batch.",
    ),
    flag(
        "--view",
        type=click.Choice([*WORKLOAD_LEVELS, "cgroup", "task"]),
        default="process",
        help="What the rows are.",
    ),
    flag(
        "--sort",
        type=click.Choice(SORTS),
        default="watts",
        help="Order: by watts or CPU time of the interval, joules since the start, or name.",
    ),
    rows_at_most(),
    flag(
        "--filter",
        default="",
        metavar="TEXT",
        callback=_filter,
        help="Only rows whose name has this in it, or matches a pattern with * and ?.",
    ),
    ZONE,
)
