"""Tasks that run anyway, as the flags of `stat` and `profile` choose them, and when they end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol

from kepler_ebpf.errors import ConfigError
from kepler_ebpf.kernel.jobs import Jobs
from kepler_ebpf.stat.tally import Select
from kepler_ebpf.wiring.measuring import Measuring


class Chosen(Protocol):
    """The flags that choose tasks; one of them is given."""

    @property
    def pid(self) -> str | None:
        """Process ids with commas between."""

    @property
    def cgroup(self) -> str | None:
        """The path of a cgroup."""

    @property
    def container(self) -> str | None:
        """The name of a container or its id."""

    @property
    def comm(self) -> str | None:
        """The name of processes."""


def attached(asked: Chosen) -> list[str]:
    """Return what is chosen, each with its flag."""
    flags = ("pid", "cgroup", "container", "comm")
    return [f"--{flag} {getattr(asked, flag)}" for flag in flags if getattr(asked, flag)]


def selection(
    stack: ExitStack, asked: Chosen, measuring: Measuring, jobs: Jobs
) -> tuple[Select, Callable[[float], bool] | None]:
    """Return which records are measured, and what waits for the end of what is measured.

    Raises KeplerError where it does not exist.
    """
    # A command that is measured waits for what is imported above.
    from kepler_ebpf.names.cgroups.paths import CgroupPaths  # noqa: PLC0415
    from kepler_ebpf.stat import select  # noqa: PLC0415

    config, hierarchy = measuring.config, measuring.hierarchy
    if asked.pid:
        pids = [int(pid) for pid in asked.pid.split(",") if pid.isdecimal()]
        if len(pids) != len(asked.pid.split(",")):
            raise ConfigError(f"--pid: {asked.pid!r} is not allowed", "want process ids: 1,23")
        processes = select.ProcessEnd(pids, jobs, config.procfs)
        stack.callback(processes.close)
        return jobs.select, processes.within
    if asked.comm:
        return select.by_comm(asked.comm), None
    wanted = (
        select.below(asked.cgroup, hierarchy)
        if asked.cgroup
        else select.of_container(asked.container or "", hierarchy, config.host_root)
    )
    paths = CgroupPaths(hierarchy)
    stack.callback(paths.close)

    def path_of(cgroup_id: int) -> str | None:
        paths.learn(measuring.tracker.cgroup_events())
        return paths.lookup(cgroup_id)

    return select.by_cgroup(wanted, path_of), None


def any_within(
    ends: Sequence[Callable[[float], bool]], timeout_s: float | None
) -> Callable[[float], bool]:
    """Wait for the first of some *ends*, or for the time that is over after *timeout_s*."""
    until_s = time.monotonic() + timeout_s if timeout_s else math.inf

    def within(wait_s: float) -> bool:
        part_s = min(wait_s, max(until_s - time.monotonic(), 0.0)) / len(ends)
        return any(end(part_s) for end in ends) or time.monotonic() >= until_s

    return within
