"""Whether the mounts that `run` reads show the host, or one container only.

Both functions return what is hidden, and the remedy; None where the host is shown. Figures that
are exported stay true, so that this is no reason not to start.
"""

from __future__ import annotations

import os
from pathlib import Path

from kepler_ebpf.errors import SetupError
from kepler_ebpf.host import facts
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy

ROOT_INODE = 1
"""Inode of the root of each cgroup hierarchy; no other cgroup has it."""

CGROUPS_REMEDY = (
    "mount the host's /sys, read-only, and give its directory with --host.sysfs (the manifests "
    "and compose.yaml do: /host/sys)"
)


def hidden_processes(procfs: str) -> SetupError | None:
    """Judge whether *procfs* has the host's processes: the kernel side counts by their PIDs."""
    if facts.read_text(Path(procfs, "1/stat")) is None:
        return SetupError(
            f"{procfs} hides other users' processes: they have only their short name",
            "mount it without hidepid, or grant CAP_SYS_PTRACE",
        )
    if facts.shows_kernel_threads(procfs):
        return None
    return SetupError(
        f"{procfs} shows a container's processes: others have only their short name, and there "
        "are no virtual machines",
        "share the host's PID namespace (hostPID: true, --pid=host), or mount the host's /proc "
        "and give it with --host.procfs",
    )


def hidden_cgroups(hierarchy: CgroupHierarchy) -> SetupError | None:
    """Judge whether the mount of *hierarchy* has the host's cgroups: names are found there."""
    where = hierarchy.v1_root or hierarchy.v2_root
    if where is None:
        return SetupError("no cgroups are mounted: containers have no names", CGROUPS_REMEDY)
    try:
        os.scandir(where).close()
        inode = Path(where).stat().st_ino
    except OSError as error:
        problem = f"{where} cannot be read ({error.strerror}): containers have no names"
        return SetupError(problem, CGROUPS_REMEDY)
    if inode == ROOT_INODE:
        return None
    problem = (
        f"{where} shows the cgroups of one container only: what runs outside of it belongs to no "
        "container and no pod"
    )
    return SetupError(problem, CGROUPS_REMEDY)
