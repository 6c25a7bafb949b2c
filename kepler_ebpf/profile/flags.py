"""The flags of `profile`."""

from __future__ import annotations

import click

from kepler_ebpf.config.flags import COMMAND, USER, ZONE, choosing, flag, timeout

MAX_HZ = 9999

FORMAT_NAMES = ("html", "svg", "folded", "speedscope", "pprof", "firefox", "perfetto")
"""Those of ``formats.registry``, which `--help` has no time to import."""

FLAGS: tuple[click.Parameter, ...] = (
    flag(
        "-F",
        "--frequency",
        type=click.IntRange(1, MAX_HZ),
        default=99,
        metavar="HZ",
        help="Sample each CPU so often in a second.",
    ),
    timeout("Without a command: end after so many seconds.", "--duration"),
    *choosing("Profile"),
    flag("-a", "--all", "everything", is_flag=True, help="Profile all tasks of the machine."),
    flag(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, allow_dash=True),
        help="File to write, - for standard output; by default profile.html.",
    ),
    flag(
        "--format",
        "form",
        type=click.Choice(FORMAT_NAMES),
        help="Form of the file; by default that of its name's ending.",
    ),
    ZONE,
    USER,
    COMMAND,
)
