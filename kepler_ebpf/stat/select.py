"""Tasks that run anyway, chosen by process, cgroup, container or name."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from kepler_ebpf.errors import ReadError, SetupError
from kepler_ebpf.kernel.jobs import Jobs
from kepler_ebpf.model.arrays import Bools, Records
from kepler_ebpf.names.cgroups.containers import match_container
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.names.runtimes import RuntimeNames

Wanted = Callable[[str], bool]
"""Whether the cgroup of a path is wanted."""


class ProcessEnd:
    """The end of the last of some processes."""

    def __init__(self, pids: Sequence[int], jobs: Jobs, procfs: str) -> None:
        """Mark each thread of the processes *pids*. Raises SetupError where one does not exist."""
        self._open: set[int] = set()
        for pid in pids:
            try:
                self._open.add(os.pidfd_open(pid))
                for thread in Path(procfs, str(pid), "task").iterdir():
                    jobs.mark(int(thread.name))
            except (OSError, ReadError) as error:
                self.close()
                reason = getattr(error, "strerror", None) or error
                problem = f"--pid: process {pid} cannot be measured: {reason}"
                raise SetupError(problem, "name a process that runs") from None

    def within(self, wait_s: float) -> bool:
        """Wait no longer than *wait_s*; return whether all have ended."""
        end_s = time.monotonic() + wait_s
        while self._open and (left_s := end_s - time.monotonic()) > 0:
            ended, _, _ = select.select(self._open, (), (), left_s)
            for descriptor in ended:
                os.close(descriptor)
            self._open.difference_update(ended)
        return not self._open

    def close(self) -> None:
        """Let go of the processes."""
        while self._open:
            os.close(self._open.pop())


def by_comm(name: str) -> Callable[[Records], Bools]:
    """Choose the processes of that name, as the kernel has it: 15 bytes at most."""
    wanted = name.encode()[:15]

    def chosen(records: Records) -> Bools:
        is_named: Bools = records["process_comm"] == wanted
        return is_named

    return chosen


def by_cgroup(wanted: Wanted, path_of: Callable[[int], str | None]) -> Callable[[Records], Bools]:
    """Choose the tasks in cgroups that are *wanted*; *path_of* finds the path of an id."""
    known: dict[int, bool] = {}

    def is_wanted(cgroup_id: int) -> bool:
        if cgroup_id not in known:
            path = path_of(cgroup_id)
            known[cgroup_id] = path is not None and wanted(path)
        return known[cgroup_id]

    def chosen(records: Records) -> Bools:
        ids, index = np.unique(records["cgroup_id"], return_inverse=True)
        is_in: Bools = np.array([is_wanted(cgroup_id) for cgroup_id in ids.tolist()], bool)[index]
        return is_in

    return chosen


def below(path: str, hierarchy: CgroupHierarchy) -> Wanted:
    """Want the cgroup *path* and all below it. Raises SetupError where it does not exist."""
    path = "/" + path.strip("/")
    root = hierarchy.v1_root or hierarchy.v2_root
    if root is None or not os.path.isdir(root + path):  # noqa: PTH112 - a text, not a path of ours
        problem = f"--cgroup: there is no cgroup {path} in {root}"
        raise SetupError(problem, "give a path as /proc/PID/cgroup has it")
    prefix = path.rstrip("/") + "/"
    return lambda other: f"{other}/".startswith(prefix)


def of_container(name: str, hierarchy: CgroupHierarchy, host_root: str) -> Wanted:
    """Want the cgroups of a container by its name or the first characters of its id.

    Raises SetupError where none or more than one is such.
    """
    runtimes = RuntimeNames(host_root)
    found: set[str] = set()
    for path in _cgroups(hierarchy):
        match = match_container(path)
        if match and (
            match.container_id.startswith(name)
            or runtimes.name(match.container_id, match.runtime) == name
        ):
            found.add(match.container_id)
    if len(found) != 1:
        problem = f"--container: {'no' if not found else 'more than one'} container is {name!r}"
        raise SetupError(problem, "give its name or its id, as its runtime lists it")
    (wanted,) = found

    def is_of(path: str) -> bool:
        match = match_container(path)
        return match is not None and match.container_id == wanted

    return is_of


def _cgroups(hierarchy: CgroupHierarchy) -> Iterable[str]:
    root = hierarchy.v1_root or hierarchy.v2_root or ""
    return (path.removeprefix(root) for path, _, _ in os.walk(root) if root)
