"""The names that a recording has, and their form in its rows: texts by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.workloads import ContainerLabels, PodLabels, UnitLabels, VmLabels

LABELS: Mapping[str, Any] = {
    "container": ContainerLabels,
    "pod": PodLabels,
    "vm": VmLabels,
    "unit": UnitLabels,
}
"""The class of labels of each kind of workload that a name holds."""

ProcessKey = tuple[int, int]
"""A process: its pid and its start on the boot-time clock, in ns."""

Texts = dict[str, str]


@dataclass(slots=True)
class Names:
    """What is known by name; it grows while a recording is read, and later names are better.

    ``arguments`` are those of programs that were executed, where they were asked for.
    """

    cgroups: dict[int, CgroupName] = field(default_factory=dict)
    processes: dict[ProcessKey, ProcessName] = field(default_factory=dict)
    arguments: dict[ProcessKey, str] = field(default_factory=dict)
    pods: dict[str, PodLabels] = field(default_factory=dict)
    _starts: dict[int, list[int]] = field(default_factory=dict)

    def process(self, tgid: int, start_ns: int, parent_tgid: int = 0) -> ProcessName:
        """Return the name of a process; of one that has only been forked, that of its parent."""
        name = self.processes.get((tgid, start_ns))
        if name is None:
            before = [start for start in self._starts.get(parent_tgid, ()) if start <= start_ns]
            name = self.processes[parent_tgid, max(before)] if before else ProcessName()
        return name

    def learn_process(self, key: ProcessKey, name: ProcessName, arguments: str = "") -> None:
        """Take in the name of a process."""
        if key not in self.processes:
            self._starts.setdefault(key[0], []).append(key[1])
        self.processes[key] = name
        if arguments:
            self.arguments[key] = arguments


def texts_of_cgroup(name: CgroupName) -> Texts:
    """Return a cgroup's name as texts."""
    found = [("path", name.path), ("pod_id", name.pod_id), ("owner", name.owner)]
    if name.container:
        found += _texts("container", name.container)
    for level, labels in name.groups:
        found += _texts(level, labels)
    return dict(found)


def cgroup_of_texts(texts: Texts) -> CgroupName:
    """Return the cgroup's name that *texts* are."""
    groups = ((level, _labels(level, texts)) for level in LABELS if level != "container")
    return CgroupName(
        path=texts.get("path", ""),
        container=_labels("container", texts),
        pod_id=texts.get("pod_id", ""),
        groups=tuple((level, labels) for level, labels in groups if labels),
        owner=texts.get("owner", ""),
    )


def texts_of_process(name: ProcessName, arguments: str = "") -> Texts:
    """Return a process's name as texts."""
    found = [("exe", name.exe), ("arguments", arguments)]
    return dict(found + (_texts("vm", name.vm) if name.vm else []))


def process_of_texts(texts: Texts) -> ProcessName:
    """Return the process's name that *texts* are."""
    return ProcessName(texts.get("exe", ""), _labels("vm", texts))


def texts_of_pod(labels: PodLabels) -> Texts:
    """Return a pod's labels as texts."""
    return dict(_texts("pod", labels))


def pod_of_texts(texts: Texts) -> PodLabels:
    """Return the pod's labels that *texts* are."""
    labels: PodLabels = _labels("pod", texts) or PodLabels("", "", "")
    return labels


def _texts(level: str, labels: Any) -> list[tuple[str, str]]:
    return [(f"{level}.{each.name}", getattr(labels, each.name)) for each in fields(labels)]


def _labels(level: str, texts: Texts) -> Any:
    kind = LABELS[level]
    found = {each.name: texts.get(f"{level}.{each.name}", "") for each in fields(kind)}
    return kind(**found) if any(found.values()) else None
