"""The levels at which energy is shown: the node, and each kind of workload.

A new kind of workload is one entry here, its labels in ``model.workloads`` and a matcher in
``names.cgroups.kinds``. Imports nothing, so that ``--help`` and the configuration can use it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkloadLevel:
    """One kind of workload.

    ``prefix`` begins its metrics: ``kepler`` where Kepler has the same ones. ``labels`` are the
    attributes of its labels object that are exported. ``seconds_labels`` are the labels of its
    CPU time, None where it has no such metric. ``by_default`` is False for a kind that is measured
    only on request, ``by_path`` True for one that a matcher of ``names.cgroups.kinds`` finds in the
    path of a cgroup, whatever else the cgroup is in.
    """

    name: str
    plural: str
    prefix: str
    labels: tuple[str, ...]
    seconds_labels: tuple[str, ...] | None = None
    by_default: bool = True
    by_path: bool = False


_PROCESS = ("pid", "comm", "exe", "type", "container_id", "vm_id")
_CONTAINER = ("container_id", "container_name", "runtime", "pod_id")
_VM = ("vm_id", "vm_name", "hypervisor")
_POD = ("pod_id", "pod_name", "pod_namespace")
_UNIT = ("unit", "kind")

WORKLOAD_LEVELS = {
    level.name: level
    for level in (
        WorkloadLevel("process", "processes", "kepler", _PROCESS, _PROCESS),
        WorkloadLevel("container", "containers", "kepler", _CONTAINER, (*_CONTAINER, "state")),
        WorkloadLevel("vm", "vms", "kepler", _VM),
        WorkloadLevel("pod", "pods", "kepler", _POD),
        WorkloadLevel(
            "unit",
            "units",
            "kepler_ebpf",
            _UNIT,
            (*_UNIT, "state"),
            by_default=False,
            by_path=True,
        ),
    )
}
"""Every kind of workload by its name, in the order in which exporters list them."""

NODE = "node"
LEVELS = (NODE, *WORKLOAD_LEVELS)
"""The names that a user can choose."""

DEFAULT_LEVELS = (NODE, *(level.name for level in WORKLOAD_LEVELS.values() if level.by_default))
