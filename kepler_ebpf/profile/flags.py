"""The flags of `profile`."""

from __future__ import annotations

import click

MAX_HZ = 9999

FORMAT_NAMES = ("html", "svg", "folded", "speedscope", "pprof", "firefox", "perfetto")
"""Those of ``formats.registry``, which `--help` has no time to import."""

FLAGS: tuple[click.Parameter, ...] = (
    click.Option(
        ["-F", "--frequency"],
        type=click.IntRange(1, MAX_HZ),
        default=99,
        show_default=True,
        metavar="HZ",
        help="Sample each CPU so often.",
    ),
    click.Option(
        ["--duration"],
        type=click.FloatRange(0.01),
        metavar="S",
        help="Without a command: end after this time.",
    ),
    click.Option(["-p", "--pid"], metavar="PID,…", help="Profile processes, and what they start."),
    click.Option(["--cgroup"], metavar="PATH", help="Profile a cgroup and all below it."),
    click.Option(["--container"], metavar="NAME", help="Profile a container, by name or id."),
    click.Option(["--comm"], metavar="NAME", help="Profile all processes of this name."),
    click.Option(
        ["-a", "--all", "everything"], is_flag=True, help="Profile all tasks of the machine."
    ),
    click.Option(
        ["-o", "--output"],
        type=click.Path(dir_okay=False, allow_dash=True),
        help="Write to this file, - for standard output; profile.html by default.",
    ),
    click.Option(
        ["--format", "form"],
        type=click.Choice(FORMAT_NAMES),
        help="What is written; by default what the file's ending stands for.",
    ),
    click.Option(["--zone"], metavar="KIND", help="Show this energy; by default the widest."),
    click.Option(["--user"], metavar="NAME", help="Run the command as this user."),
    click.Argument(["command"], nargs=-1, type=click.UNPROCESSED),
)
