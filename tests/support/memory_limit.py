"""A limit of memory for a `run`, as the shipped manifests set it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cgroup_tree import Cgroup

SHIPPED_BYTES = 512 << 20
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@contextmanager
def memory_limit(limit_bytes: int = SHIPPED_BYTES) -> Iterator[tuple[str, ...]]:
    """Give a wrapper that starts a command with so much memory; the kernel kills what needs more.

    The command has ended when the context does.
    """
    root, file = (V1, "memory.limit_in_bytes") if V1.is_dir() else (V2, "memory.max")
    directory = root / f"kepler-ebpf-test-memory-{os.getpid()}"
    directory.mkdir()
    try:
        (directory / file).write_text(str(limit_bytes))
        yield ("sh", "-ec", f'echo $$ >{directory}/cgroup.procs; exec "$@"', "sh")
    finally:
        Cgroup(0, "", directory).remove()


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had at a time."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10
