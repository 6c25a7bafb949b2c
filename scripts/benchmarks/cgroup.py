"""Real cgroups with the names of containers, in the hierarchy that kepler-ebpf counts by."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from kepler_ebpf.model.names import CGROUP_V1_BIT
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy, discover

NS_PER_S = 1e9
US_PER_S = 1e6
GIVE_UP_S = 10.0

_NUMBERS = count()


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A cgroup: its id as the kernel side reports it, and its directory."""

    id: int
    directory: Path

    def enter(self, pid: int) -> None:
        """Move a process into it."""
        (self.directory / "cgroup.procs").write_text(f"{pid}")

    def used_s(self) -> float:
        """CPU time used in it, by the kernel's own account of cgroups."""
        v1 = self.directory / "cpuacct.usage"
        if v1.exists():
            return int(v1.read_text("ascii")) / NS_PER_S
        text = (self.directory / "cpu.stat").read_text("ascii")
        figures = dict(line.split() for line in text.splitlines())
        return int(figures["usage_usec"]) / US_PER_S

    def remove(self) -> None:
        """Remove it, as soon as the kernel is done with its last process."""
        give_up_s = time.monotonic() + GIVE_UP_S
        while True:
            try:
                self.directory.rmdir()
            except OSError:
                if time.monotonic() > give_up_s:
                    raise
                time.sleep(0.001)
            else:
                return


class Cgroups:
    """Makes cgroups below a directory of its own."""

    def __init__(self, hierarchy: CgroupHierarchy) -> None:
        root = hierarchy.v1_root or hierarchy.v2_root
        if root is None:
            raise RuntimeError("no cgroup hierarchy is mounted")
        self._bit = CGROUP_V1_BIT if hierarchy.v1_root else 0
        self._base = Path(root, f"kepler-ebpf-bench-{os.getpid()}-{next(_NUMBERS)}")

    def container(self, number: int) -> tuple[str, Cgroup]:
        """Make the cgroup of a docker container; its id first."""
        id_ = f"{number:064x}"
        return id_, self.make(f"docker/{id_}")

    def make(self, path: str) -> Cgroup:
        """Make a cgroup and those above it."""
        directory = self._base / path
        directory.mkdir(parents=True)
        return Cgroup(directory.stat().st_ino | self._bit, directory)

    def remove_all(self) -> None:
        """Remove all that are left."""
        for directory, _, _ in os.walk(self._base, topdown=False):
            Cgroup(0, Path(directory)).remove()


@contextmanager
def cgroups() -> Iterator[Cgroups]:
    """Have cgroups for the length of the context."""
    made = Cgroups(discover())
    try:
        yield made
    finally:
        made.remove_all()
