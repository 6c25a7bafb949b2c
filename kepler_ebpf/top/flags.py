"""The flags of `top`."""

from __future__ import annotations

import click

from kepler_ebpf.model.levels import WORKLOAD_LEVELS

SORTS = ("watts", "joules", "cpu", "name")

MAX_FILTER = 100
"""Characters of a filter."""


def _filter(_: click.Context, __: click.Parameter, text: str) -> str:
    if len(text) > MAX_FILTER:
        raise click.BadParameter(f"it has {len(text)} characters: at most {MAX_FILTER} are allowed")
    return text


TOP_FLAGS: tuple[click.Parameter, ...] = (
    click.Option(["--once"], is_flag=True, help="Print one interval, and end."),
    click.Option(["--batch"], is_flag=True, help="Print each interval: JSON lines."),
    click.Option(
        ["-n", "--count"], type=click.IntRange(1), help="End after so many intervals of --batch."
    ),
    click.Option(
        ["--format", "form"],
        type=click.Choice(["text", "json", "csv"]),
        help="Form of what is printed: by default text, and json for --batch.",
    ),
    click.Option(
        ["--view"],
        type=click.Choice([*WORKLOAD_LEVELS, "cgroup", "task"]),
        default="process",
        help="What the rows are: process by default.",
    ),
    click.Option(
        ["--sort"],
        type=click.Choice(SORTS),
        default="watts",
        help="watts and CPU time of the interval, joules since the start; by default watts.",
    ),
    click.Option(["--top"], type=click.IntRange(1), help="Print so many rows at most."),
    click.Option(
        ["--filter"],
        default="",
        metavar="TEXT",
        callback=_filter,
        help="Only rows whose name has this in it, or matches a pattern with * and ?.",
    ),
    click.Option(["--zone"], default="", metavar="KIND", help="The zone; by default the widest."),
)
