"""The flags of `stat`, `compare` and `events`."""

from __future__ import annotations

import click

OWN_FAILURE = 125
"""The exit status where `stat` itself fails, as that of env and timeout is."""


def _flag(*names: str, **form: object) -> click.Option:
    return click.Option(list(names), show_default="is_flag" not in form, **form)  # type: ignore[arg-type]


STAT_FLAGS: tuple[click.Parameter, ...] = (
    _flag("-r", "--repeat", type=click.IntRange(1), default=1, help="Measure so many runs."),
    _flag("--warmup", type=click.IntRange(0), default=0, help="Runs before, which do not count."),
    _flag("-i", "--ignore-failure", is_flag=True, help="Go on after a run with a status not 0."),
    _flag("-D", "--delay", type=click.IntRange(0), default=0, metavar="MS", help="Count later."),
    _flag("-I", "--rows", type=click.IntRange(10), metavar="MS", help="Print a row so often."),
    _flag("--timeout", type=click.FloatRange(0.01), metavar="S", help="With --pid …: end then."),
    _flag("--prepare", metavar="COMMAND", help="Shell command before each run, not measured."),
    _flag("--cleanup", metavar="COMMAND", help="Shell command after each run, not measured."),
    _flag("--shell", is_flag=True, help="Run the command by /bin/sh -c."),
    _flag("--user", metavar="NAME", help="Run the command as this user."),
    _flag("-p", "--pid", metavar="PID,…", help="Measure processes, and what they start."),
    _flag("--cgroup", metavar="PATH", help="Measure a cgroup and all below it."),
    _flag("--container", metavar="NAME", help="Measure a container, by name or id."),
    _flag("--comm", metavar="NAME", help="Measure all processes of this name."),
    _flag("-o", "--output", type=click.Path(dir_okay=False), help="Write to a file, not stderr."),
    _flag("--log-fd", type=click.IntRange(0), metavar="FD", help="Write to this descriptor."),
    _flag("--json", "as_json", is_flag=True, help="Write JSON."),
    _flag("-x", "--separator", metavar="SEP", help="Write lines with this separator: CSV."),
    _flag(
        "--format",
        "form",
        type=click.Choice(["text", "go"]),
        default="text",
        help="go: for benchstat.",
    ),
    click.Argument(["command"], nargs=-1, type=click.UNPROCESSED),
)

COMPARE_FLAGS: tuple[click.Parameter, ...] = (
    _flag("-n", "--pairs", type=click.IntRange(2), default=10, help="Pairs of runs."),
    _flag(
        "--least",
        metavar="PERCENT",
        type=click.FloatRange(0),
        default=1.0,
        help="Less than this does not matter.",
    ),
    _flag("--zone", metavar="KIND", help="The zone that decides; by default the widest."),
    _flag("--seed", type=int, help="Draw the order of the runs by this."),
    _flag("--prepare", metavar="COMMAND", help="Shell command before each run, not measured."),
    _flag("--shell", is_flag=True, help="Run A and B by /bin/sh -c."),
    _flag("--user", metavar="NAME", help="Run A and B as this user."),
    _flag("--json", "as_json", is_flag=True, help="Write JSON, with all runs."),
    click.Argument(["a"], metavar="A"),
    click.Argument(["b"], metavar="B"),
)

EVENTS_FLAGS: tuple[click.Parameter, ...] = (
    _flag("--comm", metavar="NAME", help="Only processes of this name."),
    _flag(
        "--min-joules",
        type=click.FloatRange(0),
        default=0.0,
        metavar="J",
        help="Only ends of processes that used as much, in the widest zone.",
    ),
    _flag("--arguments", is_flag=True, help="Show the arguments too: they may hold secrets."),
    _flag(
        "--step", type=click.IntRange(10, 1000), default=250, metavar="MS", help="Look so often."
    ),
    _flag("-n", "--count", type=click.IntRange(1), help="End after so many lines."),
    _flag("--timeout", type=click.FloatRange(0.01), metavar="S", help="End after this time."),
    _flag("--json", "as_json", is_flag=True, help="Write a JSON object a line."),
)
