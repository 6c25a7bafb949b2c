"""Limits on the program by cgroup controllers, of either version, as this host has them mounted."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cgroup_tree import Cgroup

from kepler_ebpf.names.cgroups.hierarchy import discover

V1, V2 = Path("/sys/fs/cgroup"), Path(discover("v2").v2_root or "/sys/fs/cgroup")
_NAMES = {
    "pids.max": ("pids", "pids.max"),
    "cpu.max": ("cpu", "cpu.cfs_quota_us"),
    "memory.max": ("memory", "memory.limit_in_bytes"),
    "memory.current": ("memory", "memory.usage_in_bytes"),
    "cgroup.freeze": ("freezer", "freezer.state"),
}
_WORDS = {
    "cpu.max": {"5000 100000": "5000", "max": "-1"},
    "memory.max": {"max": "-1"},
    "cgroup.freeze": {"1": "FROZEN", "0": "THAWED"},
}
"""What version 1 calls the files and values of version 2."""


class Limited:
    """A cgroup with one controller; its files have the names and values of version 2."""

    def __init__(self, file: str) -> None:
        controller, _ = _NAMES[file]
        self._v1 = (V1 / controller / "cgroup.procs").exists()
        root = V1 / controller if self._v1 else V2
        if not self._v1 and file != "cgroup.freeze":
            (V2 / "cgroup.subtree_control").write_text(f"+{controller}")
        self.directory = root / f"kepler-ebpf-fault-{os.getpid()}"
        self.directory.mkdir()
        self._root = root

    def write(self, file: str, value: str) -> None:
        """Set a limit."""
        if self._v1:
            value, file = _WORDS.get(file, {}).get(value, value), _NAMES[file][1]
        (self.directory / file).write_text(value)

    def read(self, file: str) -> int:
        """Return a figure."""
        return int((self.directory / (_NAMES[file][1] if self._v1 else file)).read_text())

    def enter(self, pid: int) -> None:
        """Move a process in."""
        (self.directory / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        """Move out what is left, and remove it."""
        for pid in (self.directory / "cgroup.procs").read_text().split():
            (self._root / "cgroup.procs").write_text(pid)
        Cgroup(0, "", self.directory).remove()


@contextmanager
def limited(file: str, pid: int) -> Iterator[Limited]:
    """Put a process into a cgroup that can limit it by *file*; it goes back in the end."""
    cgroup = Limited(file)
    try:
        cgroup.enter(pid)
        yield cgroup
    finally:
        cgroup.close()
