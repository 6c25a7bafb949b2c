"""What OpenTelemetry calls our figures and labels.

Names are those of its semantic conventions where there is one. Whatever they lack begins with
``kepler_ebpf.``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.pods import PodInfo


class Family(NamedTuple):
    """A metric: a sum that rises, or a gauge; ``unit`` is of UCUM."""

    name: str
    description: str
    unit: str
    is_sum: bool = True


ZONE, SOCKET, SPLIT = "kepler_ebpf.zone", "kepler_ebpf.socket", "kepler_ebpf.split"

NODE_ENERGY = Family("kepler_ebpf.node.energy", "Energy of a zone, active or idle.", "J")
UNATTRIBUTED = Family(
    "kepler_ebpf.node.unattributed.energy", "Active energy that is in no process row.", "J"
)
HOST_ENERGY = Family("hw.host.energy", "Energy of the whole host.", "J")
HOST_POWER = Family("hw.host.power", "Mean power of the whole host.", "W", is_sum=False)
HW_ENERGY = Family("hw.energy", "Energy of a zone.", "J")
HW_POWER = Family("hw.power", "Mean power of a zone.", "W", is_sum=False)

HOST_ZONE = "psys"
HW_TYPES = {"package": "cpu", "core": "cpu", "uncore": "cpu", "dram": "memory"}
PARTS_OF_PACKAGE = ("core", "uncore")

WORKLOAD_ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "process": {
        "pid": "process.pid",
        "comm": "kepler_ebpf.process.comm",
        "exe": "process.executable.path",
        "container_id": "container.id",
        "vm_id": "kepler_ebpf.vm.id",
    },
    "container": {
        "container_id": "container.id",
        "container_name": "container.name",
        "runtime": "container.runtime.name",
        "pod_id": "k8s.pod.uid",
    },
    "vm": {
        "vm_id": "kepler_ebpf.vm.id",
        "vm_name": "kepler_ebpf.vm.name",
        "hypervisor": "kepler_ebpf.vm.hypervisor",
    },
    "pod": {
        "pod_id": "k8s.pod.uid",
        "pod_name": "k8s.pod.name",
        "pod_namespace": "k8s.namespace.name",
    },
    "unit": {"unit": "kepler_ebpf.unit.name", "kind": "kepler_ebpf.unit.kind"},
}
"""The attribute for each label that is exported, by level."""

OWNERS = ("CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet")
"""Kinds of a pod's owner whose name has an attribute, ``k8s.KIND.name``."""


def workload_family(level: str, *, is_energy: bool) -> Family:
    """Return the energy of a level, or its CPU time."""
    if is_energy:
        return Family(f"kepler_ebpf.{level}.energy", f"Active energy of the {level}.", "J")
    return Family(f"kepler_ebpf.{level}.cpu.time", f"CPU time of the {level}.", "s")


def own_family(name: str, description: str, *, is_sum: bool) -> Family:
    """Return the family of a metric that is called *name* in Prometheus."""
    short = name.removeprefix("kepler_ebpf_").removesuffix("_total")
    return Family(f"kepler_ebpf.{short}", description, "", is_sum)


def hardware_of(zone: Zone, zones: Sequence[Zone]) -> tuple[Family, Family, dict[str, Any]]:
    """Return the energy, the power and the attributes of a zone, one of *zones*."""
    of_zone: dict[str, Any] = {"hw.id": _hardware_id(zone), "hw.name": zone.kind}
    if zone.kind == HOST_ZONE:
        return HOST_ENERGY, HOST_POWER, of_zone
    of_zone["hw.type"] = HW_TYPES.get(zone.kind, "cpu")
    packages = (each for each in zones if each.kind == "package" and each.socket == zone.socket)
    parent = next(packages, None) if zone.kind in PARTS_OF_PACKAGE else None
    if parent:
        of_zone["hw.parent"] = _hardware_id(parent)
    return HW_ENERGY, HW_POWER, of_zone


def identity_of(level: str, labels: Any) -> tuple[Any, ...]:
    """Return what stays the same of a workload's labels; a row of several processes keeps all."""
    if level != "process":
        return "id", level, getattr(labels, next(iter(WORKLOAD_ATTRIBUTES[level])))
    return ("id", labels.pid, labels.start_ns) if labels.pid else ("id", labels)


def owner_of(pod: PodInfo) -> dict[str, str]:
    """Return the attribute that names the owner of a pod."""
    if pod.owner_kind not in OWNERS:
        return {}
    return {f"k8s.{pod.owner_kind.lower()}.name": pod.owner_name}


def _hardware_id(zone: Zone) -> str:
    return zone.path if zone.socket is None else f"{zone.path}#{zone.socket}"
