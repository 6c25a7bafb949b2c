"""Real cgroups for tests, in the hierarchies this host has mounted. All are removed again."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kepler_ebpf.model.names import CGROUP_V1_BIT
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy, discover

GIVE_UP_S = 10


def hierarchies() -> tuple[CgroupHierarchy, ...]:
    """Return the hierarchy this host is counted by and, on a hybrid host, v2 beside it."""
    counted = discover()
    both = counted.v1_root is not None and counted.v2_root is not None
    return (counted, discover("v2")) if both else (counted,)


@dataclass(frozen=True)
class Cgroup:
    """A real cgroup: its id as the kernel side reports it, its path and where that is mounted."""

    id: int
    path: str
    directory: Path

    def enter(self, pid: int) -> None:
        """Move a process into it."""
        (self.directory / "cgroup.procs").write_text(str(pid))

    @property
    def cpu_s(self) -> float:
        """The CPU seconds that the kernel has counted for it."""
        usage = self.directory / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        return int((self.directory / "cpu.stat").read_text().split()[1]) / 1e6

    def remove(self) -> None:
        """Remove it, as soon as the kernel is done with its last process."""
        give_up_s = time.monotonic() + GIVE_UP_S
        while self.directory.exists():
            try:
                self.directory.rmdir()
            except OSError:
                assert time.monotonic() < give_up_s, f"{self.directory} is still in use"
                time.sleep(0.001)


class CgroupTree:
    """Cgroups of one test in one hierarchy, below a directory of its own."""

    def __init__(self, hierarchy: CgroupHierarchy, suffix: str = "") -> None:
        """Use *hierarchy*, which must be mounted. *suffix* tells two trees of a test apart."""
        self.hierarchy = hierarchy
        self._root = Path(hierarchy.v1_root or hierarchy.v2_root or "/nonexistent")
        self._bit = CGROUP_V1_BIT if hierarchy.v1_root else 0
        self._base = f"/kepler-ebpf-test-{os.getpid()}{suffix}"

    def make(self, path: str) -> Cgroup:
        """Make the cgroup *path* (as "/docker/ID"), and those above it."""
        path = self._base + path
        directory = self._root / path[1:]
        directory.mkdir(parents=True, exist_ok=True)
        return Cgroup(directory.stat().st_ino | self._bit, path, directory)

    def remove(self) -> None:
        """Remove every cgroup that was made."""
        for directory, _, _ in os.walk(self._root / self._base[1:], topdown=False):
            Cgroup(0, "", Path(directory)).remove()


@contextmanager
def cgroup_tree(hierarchy: CgroupHierarchy, suffix: str = "") -> Iterator[CgroupTree]:
    """Give a test its cgroups; none outlives it."""
    tree = CgroupTree(hierarchy, suffix)
    try:
        yield tree
    finally:
        tree.remove()
