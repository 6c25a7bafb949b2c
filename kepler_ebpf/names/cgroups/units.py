"""From a cgroup path to the systemd unit or the Slurm step it belongs to. Pure, never raises.

What is in a container or a pod is the container's: its own systemd's units are not the host's.
A unit from which containers were started below its own cgroup has their energy too.
"""

from __future__ import annotations

import re

from kepler_ebpf.model.workloads import UnitLabels
from kepler_ebpf.names.cgroups.containers import outside_of_containers

_SYSTEMD = re.compile(r"(?<=/)[^/]+\.(?:service|scope)(?=/|\Z)")
# Below /slurm/uid_N of a v1 hierarchy, or below the scope of slurmstepd in v2; with several
# daemons on a host the node's name is part of either. Slurm 26.05 names a job's cgroup by its
# SLUID, older ones by its number. Whatever a step's cgroup is in is a job.
_SLURM = re.compile(
    r"/(?:slurm(?:_[^/]+)?|(?:[^/]+_)?slurmstepd\.scope)(?:/uid_[0-9]+)?"
    r"/(?:job_(?P<job>[^/]+)|(?P<sluid>s[0-9A-Z]{8,}|[^/]+(?=/step_)))"
    r"(?:/step_(?P<step>[^/]+))?(?=/|\Z)"
)


def match_unit(path: str) -> UnitLabels | None:
    """Find the innermost unit of a cgroup path; None outside of any.

    A Slurm step is ``JOB.STEP``, as in Slurm's own tools, or ``SLUID.STEP``. A unit of a user's
    systemd, or one that another unit manages by itself, stands behind that one's name and a slash:
    two users may each have a unit of one name.
    """
    path = outside_of_containers(path)
    steps = list(_SLURM.finditer(path))
    if steps:
        return UnitLabels(".".join(filter(None, steps[-1].groups())), "slurm")
    units = _SYSTEMD.findall(path)
    return UnitLabels("/".join(units), "systemd") if units else None
