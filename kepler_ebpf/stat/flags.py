"""The flags of `stat`, `compare` and `events`."""

from __future__ import annotations

import click

from kepler_ebpf.config.flags import COMMAND, USER, ZONE, choosing, flag, timeout

OWN_FAILURE = 125
"""The exit status where `stat` itself fails, as that of env and timeout is."""


STAT_FLAGS: tuple[click.Parameter, ...] = (
    flag("-r", "--repeat", type=click.IntRange(1), default=1, help="Measure so many runs."),
    flag("--warmup", type=click.IntRange(0), default=0, help="Runs before, which do not count."),
    flag("-i", "--ignore-failure", is_flag=True, help="Go on after a run with a status not 0."),
    flag(
        "-D",
        "--delay",
        type=click.IntRange(0),
        default=0,
        metavar="MS",
        help="Count after so long.",
    ),
    flag(
        "-I",
        "--rows",
        type=click.IntRange(10),
        metavar="MS",
        help="Print a row so often; with --json it is part of the run.",
    ),
    timeout("With --pid and its like: end after so many seconds."),
    flag("--prepare", metavar="COMMAND", help="Shell command before each run, not measured."),
    flag("--cleanup", metavar="COMMAND", help="Shell command after each run, not measured."),
    flag("--shell", is_flag=True, help="Run the command by /bin/sh -c."),
    USER,
    *choosing("Measure"),
    flag(
        "-o",
        "--output",
        type=click.Path(dir_okay=False),
        help="File to write; by default standard error.",
    ),
    flag("--log-fd", type=click.IntRange(0), metavar="FD", help="Write to this descriptor."),
    flag("--json", "as_json", is_flag=True, help="Write JSON."),
    flag("-x", "--separator", metavar="SEP", help="Write lines with this separator: CSV."),
    flag(
        "--format",
        "form",
        type=click.Choice(["text", "go"]),
        default="text",
        help="Form of the text; go is that of Go's benchmarks, for benchstat.",
    ),
    COMMAND,
)

COMPARE_FLAGS: tuple[click.Parameter, ...] = (
    flag("-n", "--pairs", type=click.IntRange(2), default=10, help="Pairs of runs."),
    flag(
        "--least",
        metavar="PERCENT",
        type=click.FloatRange(0),
        default=1.0,
        help="Less than this does not matter.",
    ),
    ZONE,
    flag("--seed", type=int, help="Draw the order of the runs by this."),
    flag("--prepare", metavar="COMMAND", help="Shell command before each run, not measured."),
    flag("--shell", is_flag=True, help="Run A and B by /bin/sh -c."),
    flag("--user", metavar="NAME", help="Run A and B as this user."),
    flag("--json", "as_json", is_flag=True, help="Write JSON, with all runs."),
    click.Argument(["a"], metavar="A"),
    click.Argument(["b"], metavar="B"),
)

EVENTS_FLAGS: tuple[click.Parameter, ...] = (
    flag("--comm", metavar="NAME", help="Only processes of this name."),
    flag(
        "--min-joules",
        type=click.FloatRange(0),
        default=0.0,
        metavar="J",
        help="Only ends of processes that used as much, in the widest zone.",
    ),
    flag("--arguments", is_flag=True, help="Show the arguments too: they may hold secrets."),
    flag("--step", type=click.IntRange(10, 1000), default=250, metavar="MS", help="Look so often."),
    flag("-n", "--count", type=click.IntRange(1), help="End after so many lines."),
    timeout("End after so many seconds."),
    flag("--json", "as_json", is_flag=True, help="Write a JSON object for each line."),
)
