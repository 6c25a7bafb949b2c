"""page_bytes: the page beside a user who chooses the longest names, against an honest one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from subprocess import PIPE, Popen

from benchmarks.cgroup import cgroups
from benchmarks.exporter import running
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.hostile import waiting

INTERVAL_S = 0.5
VMS, CONTAINERS = 100, 300
ARGUMENT = "u" * 30_000
NAME = "x" * 220
MAX_RATIO = 4


def measure() -> Iterator[Figure]:
    """Count the bytes of a page that lists as many machines and containers, named either way."""
    honest_bytes, hostile_bytes = _page_bytes("", ""), _page_bytes(ARGUMENT, NAME)
    details = {"hostile_bytes": hostile_bytes, "honest_bytes": honest_bytes}
    ratio = rounded(hostile_bytes / honest_bytes)
    yield Figure("page_bytes", ratio, "ratio", Bar(MAX_RATIO), details)


def _page_bytes(argument: str, name: str) -> int:
    with ExitStack() as stack:
        exporter = stack.enter_context(running("--interval", f"{INTERVAL_S}s", "--meter", "fake"))
        for number in range(VMS):
            options = ("-uuid", f"{number}{argument}", "-name", f"{number}{argument}")
            stack.enter_context(waiting("qemu-system-x86_64", *options))
        made = stack.enter_context(cgroups())
        for number in range(CONTAINERS):
            cgroup = made.make(f"lxc.payload.{number}{name}")
            visitor = Popen(["/bin/sh", "-c", "read _"], stdin=PIPE)
            with visitor:
                cgroup.enter(visitor.pid)
        exporter.settled(INTERVAL_S)
        return len(exporter.fetch().encode())
