"""Figures of records summed by process, by name, or by what their cgroups are in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from kepler_ebpf.model.arrays import Floats, Ints, Records
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.recording.names import Names

Title = Callable[[CgroupName, Names], str]


def _unit_title(name: CgroupName, _: Names) -> str:
    units = (labels for level, labels in name.groups if level == "unit")
    return next((str(getattr(labels, "title", "")) for labels in units), "")


OF_CGROUPS: Mapping[str, Title] = {
    "cgroup": lambda name, _: name.title,
    "container": lambda name, _: name.container.title if name.container else "",
    "pod": lambda name, names: (
        names.pods[name.pod_id].title if name.pod_id in names.pods else name.pod_id
    ),
    "unit": _unit_title,
}
"""Groups of cgroups, and the title of the one that a cgroup is in, "" for none."""

PID_BITS = 22

NONE = "[none]"
"""The title of what is in no group, as a cgroup in no container."""


class Sums:
    """Figures by group, added batch by batch; the titles are those of the names in the end."""

    def __init__(self, by: str) -> None:
        """Group *by* one of ``flags.GROUPS``."""
        self._by = by
        self._found: dict[Hashable, Floats] = {}
        self._last: dict[Hashable, Any] = {}

    def add(self, records: Records, figures: Floats) -> None:
        """Add the *figures* (N, K) of *records* (N,) to those of their groups."""
        last, group = _grouped(records, self._by)
        sums = np.column_stack([np.bincount(group, column, len(last)) for column in figures.T])
        for row, summed in zip(records[last], sums, strict=True):
            key = self._key(row)
            before = self._found.get(key)
            self._found[key] = summed if before is None else before + summed
            if self._by in {"process", "exe"}:
                self._last[key] = row

    def titled(self, names: Names) -> dict[str, Floats]:
        """Return the sums (K,) by title; groups of the same title are one."""
        titled: dict[str, Floats] = {}
        for key, summed in self._found.items():
            title = self._title(key, names) or NONE
            titled[title] = titled[title] + summed if title in titled else summed
        return titled

    def _key(self, row: Any) -> Hashable:
        if self._by == "comm":
            return _text(row["process_comm"])
        if self._by in OF_CGROUPS:
            return int(row["cgroup_id"])
        return int(row["tgid"]), int(row["process_start_ns"])

    def _title(self, key: Any, names: Names) -> str:
        if self._by == "comm":
            return str(key)
        if self._by in OF_CGROUPS:
            return OF_CGROUPS[self._by](names.cgroups.get(key, CgroupName("")), names)
        row = self._last[key]
        if self._by == "process":
            return f"{key[0]:>7} {_text(row['process_comm'])}"
        tgid, start_ns = key
        return names.process(tgid, start_ns, int(row["parent_tgid"])).exe


def _grouped(records: Records, by: str) -> tuple[Ints, Ints]:
    """Return the index of the last record of each group, and the group (N,) of each record."""
    if by == "comm":
        column = records["process_comm"]
    elif by in OF_CGROUPS:
        column = records["cgroup_id"]
    else:
        # The start may lose its upper bits: no pid is used again after exactly 73 minutes at once.
        column = records["process_start_ns"] << np.uint64(PID_BITS) ^ records["tgid"]
    _, last, group = np.unique(column[::-1], return_index=True, return_inverse=True)
    return len(records) - 1 - last, group[::-1]


def _text(raw: Any) -> str:
    return bytes(raw).decode("utf-8", "replace")
