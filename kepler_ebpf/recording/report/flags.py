"""The flags of `report`."""

from __future__ import annotations

import time

import click

from kepler_ebpf.config.moment import parse_moment
from kepler_ebpf.config.values import duration_s

GROUPS = ("process", "task", "comm", "exe", "cgroup", "container", "pod", "unit", "vm")
FORMS = ("text", "csv", "json", "html", "parquet", "png", "svg")


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else parse_moment(text, time.time())
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not allowed: want {error}") from None


def _step(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text in {None, "auto"} else duration_s("10ms", "8760h")(str(text))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not allowed: want auto, or {error}") from None


REPORT_FLAGS: tuple[click.Parameter, ...] = (
    click.Option(
        ["--by"], type=click.Choice(GROUPS), default="process", show_default=True, help="The rows."
    ),
    click.Option(
        ["--since"],
        metavar="WHEN",
        callback=_moment,
        help='From a time on, such as "10m ago", 14:03, "yesterday 14:03", 2026-11-26T14:03:20.',
    ),
    click.Option(["--until"], metavar="WHEN", callback=_moment, help="Up to a time."),
    click.Option(["--zone"], default="", metavar="KIND", help="The zone; by default the widest."),
    click.Option(["--top"], type=click.IntRange(1), help="So many rows at most."),
    click.Option(["--over-time"], is_flag=True, help="The rows of each step of time."),
    click.Option(
        ["--step"],
        metavar="TIME",
        callback=_step,
        help="Length of a step; by default such that there are 240 at most.",
    ),
    click.Option(
        ["--format", "form"],
        type=click.Choice(FORMS),
        help="By default that of the end of --output's name, or text.",
    ),
    click.Option(["-o", "--output"], metavar="FILE", help="Write to a file."),
    click.Argument(["recording"], metavar="PATH"),
)
