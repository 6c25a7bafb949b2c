"""Facts about the host and the rights of this process, each read by one small function.

What cannot be read is None or empty, never a guess. `check` judges the facts.
"""

from __future__ import annotations

import re
from pathlib import Path

from kepler_ebpf.host.regular_file import read_regular
from kepler_ebpf.host.rights import CAPABILITY_BITS


def read_text(path: Path) -> str | None:
    """Read a small file without its last line break; None where that cannot be done."""
    try:
        return read_regular(path, "utf-8", "replace").rstrip("\n")
    except OSError:
        return None


def kernel_version(release: str) -> tuple[int, int]:
    """Return major and minor of a kernel release; (0, 0) where it starts with no number."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def effective_capabilities(procfs: str) -> frozenset[str]:
    """Read which of the capabilities that matter this process may use now."""
    status = read_text(Path(procfs, "self/status")) or ""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    mask = int(match[1], 16) if match else 0
    return frozenset(name for name, bit in CAPABILITY_BITS.items() if mask >> bit & 1)


def is_host_user_namespace(procfs: str) -> bool:
    """Whether the user ids of this process are the host's, without exception."""
    mapping = (read_text(Path(procfs, "self/uid_map")) or "").split()
    return mapping == ["0", "0", str(2**32 - 1)]


def has_host_clocks(procfs: str) -> bool:
    """Whether the monotonic clocks of this process are the kernel's own, without an offset."""
    offsets = (read_text(Path(procfs, "self/timens_offsets")) or "").splitlines()
    return all(line.split()[1:] == ["0", "0"] for line in offsets)


def shows_kernel_threads(procfs: str) -> bool:
    """Whether PID 2 is the parent of the kernel's threads, as in the host's *procfs* only."""
    return read_text(Path(procfs, "2/comm")) == "kthreadd"


def lockdown(sysfs: str = "/sys") -> str:
    """Return the mode in which the kernel is locked down; empty where it cannot be."""
    modes = read_text(Path(sysfs, "kernel/security/lockdown")) or ""
    match = re.search(r"\[(\w+)\]", modes)
    return match[1] if match else ""


def mount_point(procfs: str, kind: str) -> str | None:
    """Find the first mount of one kind of file system in this process's mount namespace."""
    mounts = [line.split() for line in (read_text(Path(procfs, "self/mounts")) or "").splitlines()]
    return next((fields[1] for fields in mounts if fields[2:3] == [kind]), None)
