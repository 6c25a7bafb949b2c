"""What the kernel side must know of a cgroup v1 controller, to name tasks by it."""

from __future__ import annotations

from pathlib import Path

from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.regular_file import read_regular
from kepler_ebpf.kernel.btf import Btf

_KERNEL_NAMES = {"blkio": "io"}
"""Controllers that v1 calls otherwise than the kernel."""


def subsys_index(controller: str, procfs: str = "/proc") -> int:
    """Index of *controller* in a task's array of cgroup states.

    From the kernel's BTF, or where it has none from the order of /proc/cgroups.
    """
    try:
        with Btf.of_kernel() as btf:
            index = btf.enum_value(
                "cgroup_subsys_id", f"{_KERNEL_NAMES.get(controller, controller)}_cgrp_id"
            )
    except SetupError:
        names = list(_controllers(procfs))
        index = names.index(controller) if controller in names else None
    if index is None:
        raise SetupError(
            f"this kernel has no cgroup controller {controller}", "use --cgroup-hierarchy=v2"
        )
    return index


def hierarchy_id(controller: str, procfs: str = "/proc") -> int:
    """Number of the v1 hierarchy that *controller* is mounted in; 0 is the v2 hierarchy."""
    return _controllers(procfs).get(controller, 0)


def _controllers(procfs: str) -> dict[str, int]:
    """Hierarchy number by controller, in the kernel's order."""
    path = Path(procfs, "cgroups")
    try:
        lines = read_regular(path).splitlines()
        rows = [line.split() for line in lines if not line.startswith("#")]
        return {row[0]: int(row[1]) for row in rows}
    except (OSError, ValueError, IndexError) as error:
        raise SetupError(
            f"cannot read {path}: {error}", "name the right mount with --host.procfs"
        ) from error
