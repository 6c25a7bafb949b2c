"""The flags of `report`."""

from __future__ import annotations

import time

import click

from kepler_ebpf.config.flags import ZONE, flag, parsed, rows_at_most
from kepler_ebpf.config.moment import parse_moment
from kepler_ebpf.config.values import duration_s

GROUPS = ("process", "task", "comm", "exe", "cgroup", "container", "pod", "unit", "vm")
FORMS = ("text", "csv", "json", "html", "parquet", "png", "svg")


def _moment(text: str) -> float:
    return parse_moment(text, time.time())


def _step_s(text: str) -> float | None:
    try:
        return None if text == "auto" else duration_s("10ms", "8760h")(text)
    except ValueError as error:
        raise ValueError(f"auto, or {error}") from None


REPORT_FLAGS: tuple[click.Parameter, ...] = (
    flag("--by", type=click.Choice(GROUPS), default="process", help="What the rows are."),
    flag(
        "--since",
        metavar="WHEN",
        callback=parsed(_moment),
        help='From a time on, such as "10m ago", 14:03, "yesterday 14:03", 2026-11-26T14:03:20.',
    ),
    flag("--until", metavar="WHEN", callback=parsed(_moment), help="Up to a time."),
    ZONE,
    rows_at_most(),
    flag("--over-time", is_flag=True, help="Show the rows of each step of time."),
    flag(
        "--step",
        metavar="TIME",
        callback=parsed(_step_s),
        help="As --over-time, in steps of this length; by default there are 240 at most.",
    ),
    flag(
        "--format",
        "form",
        type=click.Choice(FORMS),
        help="Form of the report; by default that of the file's ending, or text.",
    ),
    flag("-o", "--output", metavar="FILE", help="File to write; by default standard output."),
    click.Argument(["recording"], metavar="PATH"),
)
