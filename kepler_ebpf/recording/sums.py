"""Figures of records summed by process, by name, or by what their cgroups are in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from kepler_ebpf.kernel.layout import TASK
from kepler_ebpf.model.arrays import Floats, Ints, Records
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.model.workloads import OTHERS, PodLabels, ProcessLabels, TaskLabels
from kepler_ebpf.recording.names import Names

Of = Callable[[CgroupName, Names], Any]


def _unit(name: CgroupName, _: Names) -> Any:
    return next((labels for level, labels in name.groups if level == "unit"), None)


def _pod(name: CgroupName, names: Names) -> Any:
    if not name.pod_id:
        return None
    return names.pods.get(name.pod_id, PodLabels(name.pod_id, "", ""))


OF_CGROUPS: Mapping[str, Of] = {
    "cgroup": lambda name, _: name,
    "container": lambda name, _: name.container,
    "pod": _pod,
    "unit": _unit,
}
"""Groups of cgroups, and the labels of the one that a cgroup is in, None for none."""

_FIELDS = ("tgid", "process_start_ns", "parent_tgid", "cgroup_id", "comm", "process_comm")
LAST = np.dtype([(name, TASK[name]) for name in _FIELDS])
"""What is kept of the last record of each group: what is known of a process or a task."""

PID_BITS = 22

NONE = "[none]"
"""The title of what is in no group, as a cgroup in no container."""


class Sums:
    """Figures by group, added batch by batch; the titles are those of the names in the end."""

    def __init__(self, by: str) -> None:
        """Group *by* one of ``flags.GROUPS``."""
        self._by = by
        self._index: dict[Hashable, int] = {}
        self._figures: Floats = np.zeros((0, 0))
        self._last: Records = np.zeros(0, LAST)

    def add(self, records: Records, figures: Floats) -> None:
        """Add the *figures* (N, K) of *records* (N,) to those of their groups."""
        last, group = _grouped(records, self._by)
        sums: Floats = np.column_stack(
            [np.bincount(group, column, len(last)) for column in figures.T]
        )
        newest = records[last]
        self._put(self._keys(newest), sums, newest[list(LAST.names or ())])

    def merge(self, other: Sums) -> None:
        """Add the figures of *other*, which are later."""
        size = len(other._index)
        self._put(list(other._index), other._figures[:size], other._last[:size])

    def fold(self, most: int, column: int) -> None:
        """Where there are more than *most* groups, keep half of them and sum the others up.

        Those with the most in a *column* of the figures are kept.
        """
        size = len(self._index)
        if size <= most:
            return
        keys, figures, last = list(self._index), self._figures[:size], self._last[:size]
        order = np.argsort(-figures[:, column], kind="stable")
        kept = np.sort(order[: most // 2])
        rest = np.setdiff1d(order, kept)
        self._index, self._figures, self._last = {}, np.zeros((0, 0)), np.zeros(0, LAST)
        self._put([keys[at] for at in kept.tolist()], figures[kept], last[kept])
        self._put([OTHERS], figures[rest].sum(axis=0, keepdims=True), np.zeros(1, LAST))

    def labelled(self, names: Names) -> dict[str, tuple[Any, Floats]]:
        """Return by title the labels and the sums (K,); groups of the same title are one.

        ``NONE`` and ``OTHERS`` have no labels.
        """
        labelled: dict[str, tuple[Any, Floats]] = {}
        for key, at in self._index.items():
            labels = None if key == OTHERS else self._labels(key, self._last[at], names)
            title = OTHERS if key == OTHERS else _title(labels) or NONE
            before, summed = labelled.get(title), self._figures[at]
            labelled[title] = (labels, summed if before is None else before[1] + summed)
        return labelled

    def titled(self, names: Names) -> dict[str, Floats]:
        """Return the sums (K,) by title; groups of the same title are one."""
        return {title: summed for title, (_, summed) in self.labelled(names).items()}

    def _put(self, keys: Sequence[Hashable], sums: Floats, last: Records) -> None:
        """Add *sums* (keys, K) to the groups; of each the *last* record (keys,) is the newest."""
        if not keys:
            return
        index = self._index
        rows = np.array([index.setdefault(key, len(index)) for key in keys], np.int64)
        if len(index) > len(self._figures):
            grown = np.zeros((2 * len(index), sums.shape[1]))
            grown[: len(self._figures)] = self._figures.reshape(-1, sums.shape[1])
            self._figures, self._last = grown, np.resize(self._last, 2 * len(index))
        self._figures[rows] += sums
        self._last[rows] = last

    def _keys(self, newest: Records) -> list[Hashable]:
        if self._by == "comm":
            return [_text(comm) for comm in newest["process_comm"]]
        if self._by in OF_CGROUPS:
            return list(newest["cgroup_id"].tolist())
        fields = ("pid", "start_ns") if self._by == "task" else ("tgid", "process_start_ns")
        return list(zip(*(newest[name].tolist() for name in fields), strict=True))

    def _labels(self, key: Any, row: Records, names: Names) -> Any:
        """Return the labels of a group: an object with a title, a text, or None for none."""
        if self._by == "comm":
            return key
        if self._by in OF_CGROUPS:
            return OF_CGROUPS[self._by](names.cgroups.get(key, CgroupName("")), names)
        tgid, start_ns = int(row["tgid"]), int(row["process_start_ns"])
        comm, name = (
            _text(row["process_comm"]),
            names.process(tgid, start_ns, int(row["parent_tgid"])),
        )
        if self._by == "task":
            pid, task_start_ns = key
            task_comm = _text(row["comm"])
            return TaskLabels(pid, task_start_ns, task_comm, tgid, start_ns, comm)
        if self._by == "process":
            of = names.cgroups.get(int(row["cgroup_id"]), CgroupName(""))
            vm_id = name.vm.vm_id if name.vm else ""
            return ProcessLabels(tgid, start_ns, comm, name.exe, "", of.container_id, vm_id)
        return name.vm if self._by == "vm" else name.exe


def _grouped(records: Records, by: str) -> tuple[Ints, Ints]:
    """Return the index of the last record of each group, and the group (N,) of each record."""
    if by == "comm":
        column = records["process_comm"]
    elif by == "task":
        column = records["start_ns"] << np.uint64(PID_BITS) ^ records["pid"]
    elif by in OF_CGROUPS:
        column = records["cgroup_id"]
    else:
        # The start may lose its upper bits: no pid is used again after exactly 73 minutes at once.
        column = records["process_start_ns"] << np.uint64(PID_BITS) ^ records["tgid"]
    _, last, group = np.unique(column[::-1], return_index=True, return_inverse=True)
    return len(records) - 1 - last, group[::-1]


def _title(labels: Any) -> str:
    if labels is None:
        return ""
    return labels if isinstance(labels, str) else str(labels.title)


def _text(raw: Any) -> str:
    return bytes(raw).decode("utf-8", "replace")
