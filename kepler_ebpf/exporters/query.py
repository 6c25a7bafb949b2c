"""Which rows are shown, in which order, and what becomes of the others: it adds up to the meter."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, cast

import numpy as np

from kepler_ebpf.exporters.frame import Frame, Rows
from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.model.workloads import ContainerLabels, PodLabels, ProcessLabels, State, VmLabels


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a frame.

    ``zone`` is "" for the frame's primary kind. ``within`` limits processes to those of a
    workload: its labels, None for all. ``top`` is the most rows that are shown, None for all,
    after the first ``skip``.
    """

    view: str = "process"
    sort: str = "watts"
    zone: str = ""
    filter: str = ""
    within: Any = None
    top: int | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row that is shown. ``watts`` is the interval's mean, ``joules`` the total since start."""

    labels: Any
    state: str
    watts: tuple[float, ...]
    joules: tuple[float, ...]
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Picture:
    """The rows of a query, and where the zone's other watts are.

    ``meter_w = shown_w + other_w + outside_w + unattributed_w + idle_w``, and each is counted by
    itself: ``other_w`` is that of ``others`` rows which are not shown, ``outside_w`` that of
    processes which belong to no row of this view. None stands for a zone that could not be read.
    """

    zone: str
    rows: tuple[Row, ...]
    found: int
    others: int
    meter_w: float | None
    shown_w: float
    other_w: float
    outside_w: float
    unattributed_w: float
    idle_w: float

    @property
    def off_w(self) -> float:
        """How far the parts are from the meter: rounding, or a fault of ours."""
        parts = (self.shown_w, self.other_w, self.outside_w, self.unattributed_w, self.idle_w)
        return 0.0 if self.meter_w is None else self.meter_w - sum(parts)


def picture(frame: Frame, query: Query) -> Picture:
    """Return what *query* finds in *frame*. Only the rows that are shown are made."""
    rows = frame.views[query.view]
    zone = query.zone or frame.primary()
    of_zone = _column(frame, zone)
    found = _found(rows, query)
    most = len(found) if query.top is None else min(query.skip + query.top, len(found))
    chosen = _ordered(rows, of_zone, found, query.sort, most)[query.skip :]
    per_watt = UJ_PER_J * frame.interval_s
    all_uj, shown_uj = of_zone(rows.uj).sum(), of_zone(rows.uj)[chosen].sum()
    left_out_uj = of_zone(rows.left_out_uj)
    is_known = zone in frame.kinds and zone not in frame.unread_kinds
    return Picture(
        zone=zone,
        rows=tuple(_row(rows, index, per_watt) for index in chosen.tolist()),
        found=len(found),
        others=len(rows.labels) - len(chosen) + rows.left_out,
        meter_w=float(of_zone(frame.energy_uj)) / per_watt if is_known else None,
        shown_w=float(shown_uj) / per_watt,
        other_w=float(all_uj - shown_uj + left_out_uj) / per_watt,
        outside_w=float(of_zone(frame.process_uj) - all_uj - left_out_uj) / per_watt,
        unattributed_w=float(of_zone(frame.unattributed_uj)) / per_watt,
        idle_w=float(of_zone(frame.idle_uj)) / per_watt,
    )


def position(frame: Frame, query: Query, wanted: Hashable) -> int | None:
    """Return where the row of an identity is in the order of *query*, None where it is not."""
    rows = frame.views[query.view]
    found = _found(rows, query)
    of_zone = _column(frame, query.zone or frame.primary())
    order = _ordered(rows, of_zone, found, query.sort, len(found)).tolist()
    places = (at for at, index in enumerate(order) if identity(rows.labels[index]) == wanted)
    return next(places, None)


def identity(labels: Any) -> Hashable:
    """Return what a row stands for, whatever its name is by now and wherever it is in the table."""
    if isinstance(labels, ProcessLabels):
        # A pid of 0 stands for several: they are told apart by their word and container.
        of_several = (labels.comm, labels.container_id) if labels.pid == 0 else ()
        return (labels.pid, labels.start_ns, *of_several)
    if isinstance(labels, CgroupName):
        return labels.path
    for kind, name in (
        (ContainerLabels, "container_id"),
        (PodLabels, "pod_id"),
        (VmLabels, "vm_id"),
    ):
        if isinstance(labels, kind):
            return str(getattr(labels, name))
    return str(labels.title)


def key_of(labels: Any) -> str:
    """Return the identity of a row as text: the same as long as kepler-ebpf runs."""
    found = identity(labels)
    return found if isinstance(found, str) else "-".join(map(str, cast(tuple[Any, ...], found)))


def title(labels: Any) -> str:
    """Return the name of a row for people, without what a terminal obeys."""
    return "".join(char if char.isprintable() else "?" for char in labels.title)


def _column(frame: Frame, zone: str) -> Callable[[Floats], Floats]:
    """Return what takes the figures of *zone*: zeros where it has counted nothing yet."""
    if zone not in frame.kinds:
        return lambda uj: np.zeros(uj.shape[:-1])
    index = frame.kinds.index(zone)
    return lambda uj: uj[..., index]


def _found(rows: Rows, query: Query) -> Ints:
    """Return the indexes of the rows that *query* wants."""
    indexes: Ints = np.arange(len(rows.labels))
    if query.within is not None:
        is_within = _membership(query.within)
        cgroups = rows.cgroups or (None,) * len(rows.labels)
        inside = map(is_within, rows.labels, cgroups)
        indexes = indexes[np.fromiter(inside, np.bool_, len(rows.labels))]
    if query.filter:
        matches = matcher(query.filter)
        named = [matches(_searched(rows.labels[index])) for index in indexes.tolist()]
        indexes = indexes[np.array(named, np.bool_)]
    return indexes


def _ordered(
    rows: Rows, of_zone: Callable[[Floats], Floats], found: Ints, sort: str, most: int
) -> Ints:
    """Return the first *most* of the indexes *found*, in their order."""
    if sort == "name":
        by_name = sorted(found.tolist(), key=lambda index: rows.labels[index].title.lower())
        return np.array(by_name[:most], np.int64)
    figures = {"joules": rows.total_uj, "watts": rows.uj}.get(sort)
    weight = -(rows.cpu_ns if figures is None else of_zone(figures))
    if most < len(found):
        found = found[np.sort(np.argpartition(weight[found], most)[:most])]
    ordered: Ints = found[np.argsort(weight[found], kind="stable")]
    return ordered


def _row(rows: Rows, index: int, per_watt: float) -> Row:
    return Row(
        labels=rows.labels[index],
        state="ended" if rows.state[index] == State.TERMINATED else "running",
        watts=tuple((rows.uj[index] / per_watt).tolist()),
        joules=tuple((rows.total_uj[index] / UJ_PER_J).tolist()),
        cpu_s=float(rows.cpu_ns[index]) / NS_PER_S,
    )


# --- filters ----------------------------------------------------------------------------------


def matcher(text: str) -> Callable[[str], bool]:
    """Return what tells whether a name matches: *text* is part of it, or a pattern of * and ?.

    Case does not matter. Neither form can run away, whatever the text and the names are.
    """
    wanted = text.lower()
    if not set(wanted) & set("*?["):
        return lambda name: wanted in name.lower()
    pattern = re.compile(translate(wanted))
    return lambda name: pattern.match(name.lower()) is not None


def _searched(labels: Any) -> str:
    return (
        f"{labels.title.strip()} {labels.exe}"
        if isinstance(labels, ProcessLabels)
        else labels.title
    )


def _membership(of: Any) -> Callable[[ProcessLabels, CgroupName | None], bool]:
    """Return what tells whether a process, which is in a cgroup, belongs to the workload *of*."""
    if isinstance(of, ContainerLabels):
        return lambda process, _: process.container_id == of.container_id
    if isinstance(of, VmLabels):
        return lambda process, _: process.vm_id == of.vm_id
    if isinstance(of, PodLabels):
        return lambda _, cgroup: cgroup is not None and cgroup.pod_id == of.pod_id
    if isinstance(of, CgroupName):
        below = of.path.rstrip("/") + "/"
        return lambda _, cgroup: cgroup is not None and f"{cgroup.path}/".startswith(below)
    return lambda _, cgroup: cgroup is not None and any(of == labels for _, labels in cgroup.groups)
