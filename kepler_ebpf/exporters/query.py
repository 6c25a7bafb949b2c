"""Which rows are shown, in which order, and what becomes of the others: it adds up to the meter."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, NamedTuple, cast

import numpy as np

from kepler_ebpf.exporters.frame import CGROUP, Figures, Frame, Rows
from kepler_ebpf.exporters.tree import arranged
from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.model.bounds import harmless
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.model.workloads import (
    ContainerLabels,
    PodLabels,
    ProcessLabels,
    State,
    TaskLabels,
    VmLabels,
)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a frame.

    ``zone`` is "" for the frame's primary kind. ``within`` limits processes to those of a
    workload, and tasks to those of a process: its labels, None for all. ``top`` is the most rows
    that are shown, None for all, after the first ``skip``. Cgroups are a tree if ``folded`` is not
    None and there is no filter; of the paths in it what is below is not shown.
    """

    view: str = "process"
    sort: str = "watts"
    zone: str = ""
    filter: str = ""
    within: Any = None
    top: int | None = None
    skip: int = 0
    folded: frozenset[str] | None = None

    @property
    def is_tree(self) -> bool:
        """Whether the rows are those of a tree, each with all that is below it."""
        return self.view == CGROUP and self.folded is not None and not self.filter


@dataclass(frozen=True, slots=True)
class Row:
    """One row that is shown. ``watts`` is the interval's mean, ``joules`` the total since start.

    ``name`` is harmless, and has the place in a tree; "" where nobody wants one.
    """

    labels: Any
    state: str
    watts: tuple[float, ...]
    joules: tuple[float, ...]
    cpu_s: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """The rows of a query, and where the zone's other watts are.

    ``meter_w = shown_w + other_w + outside_w + unattributed_w + idle_w``, and each is counted by
    itself: ``other_w`` is that of ``others`` rows which are not shown, ``outside_w`` that of
    processes which belong to no row of this view. None stands for a zone that could not be read.
    Of a tree ``shown_w`` has each watt once, whatever number of rows have it.
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


class _Listed(NamedTuple):
    """Rows in their order, what each counts for, names that are not titles, and how many are."""

    order: Ints
    counted_uj: Floats
    names: dict[int, str]
    rows: int


def picture(frame: Frame, query: Query) -> Picture:
    """Return what *query* finds in *frame*. Only the rows that are shown are made."""
    zone = query.zone or frame.primary()
    of_zone = _column(frame, zone)
    rows, listed = frame.views[query.view], _listed(frame, query)
    end = None if query.top is None else query.skip + query.top
    chosen = listed.order[query.skip : end]
    per_watt = UJ_PER_J * frame.interval_s
    counted_uj = of_zone(listed.counted_uj)
    all_uj, shown_uj = counted_uj.sum(), counted_uj[chosen].sum()
    # A tree has it in the rows above.
    left_out_uj = 0.0 if query.is_tree else of_zone(rows.left_out_uj)
    is_known = zone in frame.kinds and zone not in frame.unread_kinds
    return Picture(
        zone=zone,
        rows=tuple(_row(rows, listed.names, index, per_watt) for index in chosen.tolist()),
        found=len(listed.order),
        others=listed.rows - len(chosen),
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
    order = _listed(frame, query).order.tolist()
    places = (at for at, index in enumerate(order) if identity(rows.labels[index]) == wanted)
    return next(places, None)


def identity(labels: Any) -> Hashable:
    """Return what a row stands for, whatever its name is by now and wherever it is in the table."""
    if isinstance(labels, ProcessLabels | TaskLabels):
        # A pid of 0 stands for several: they are told apart by their word and container.
        if labels.pid == 0:
            return (0, labels.comm, getattr(labels, "container_id", ""))
        return (labels.pid, labels.start_ns)
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


def _column(frame: Frame, zone: str) -> Callable[[Floats], Floats]:
    """Return what takes the figures of *zone*: zeros where it has counted nothing yet."""
    if zone not in frame.kinds:
        return lambda uj: np.zeros(uj.shape[:-1])
    index = frame.kinds.index(zone)
    return lambda uj: uj[..., index]


def _listed(frame: Frame, query: Query) -> _Listed:
    """Return the rows that *query* wants, in their order."""
    rows = frame.views[query.view]
    of_zone = _column(frame, query.zone or frame.primary())
    figures: Rows | Figures = rows
    if query.is_tree and rows.with_below:
        figures = rows.with_below
    weight: Floats | list[str]
    if query.sort == "name":
        weight = [labels.title.lower() for labels in rows.labels]
    elif query.sort == "cpu":
        weight = -figures.cpu_ns
    else:
        weight = -of_zone(figures.uj if query.sort == "watts" else figures.total_uj)
    if query.is_tree and query.folded is not None:
        by = weight if isinstance(weight, list) else weight.tolist()
        paths = [labels.title for labels in rows.labels]
        tree = arranged(paths, figures.uj, by, query.folded)
        return _Listed(tree.order, tree.counted_uj, tree.names, len(tree.order))
    found = _found(rows, query)
    if isinstance(weight, list):
        order = np.array(sorted(found.tolist(), key=weight.__getitem__), np.int64)
    else:
        order = found[np.argsort(weight[found], kind="stable")]
    others = int(np.count_nonzero(rows.cpu_ns)) + rows.left_out
    return _Listed(order, rows.uj, {}, others)


def _found(rows: Rows, query: Query) -> Ints:
    """Return the indexes of the rows that *query* wants, which have used CPU themselves."""
    indexes: Ints = np.flatnonzero(rows.cpu_ns)
    if query.within is not None:
        is_within = _membership(query.within)
        cgroups = rows.cgroups or (None,) * len(rows.labels)
        inside = map(is_within, rows.labels, cgroups)
        is_inside = np.fromiter(inside, np.bool_, len(rows.labels))
        indexes = indexes[is_inside[indexes]]
    if query.filter:
        matches = matcher(query.filter)
        named = [matches(_searched(rows.labels[index])) for index in indexes.tolist()]
        indexes = indexes[np.array(named, np.bool_)]
    return indexes


def _row(rows: Rows, names: dict[int, str], index: int, per_watt: float) -> Row:
    figures = rows.with_below if index in names and rows.with_below else rows
    return Row(
        labels=rows.labels[index],
        name=harmless(names.get(index) or rows.labels[index].title),
        state="ended" if rows.state[index] == State.TERMINATED else "running",
        watts=tuple((figures.uj[index] / per_watt).tolist()),
        joules=tuple((figures.total_uj[index] / UJ_PER_J).tolist()),
        cpu_s=float(figures.cpu_ns[index]) / NS_PER_S,
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


def _membership(of: Any) -> Callable[[Any, CgroupName | None], bool]:
    """Return what tells whether a process, which is in a cgroup, or a task belongs to *of*."""
    if isinstance(of, ProcessLabels):
        return lambda task, _: (task.tgid, task.process_start_ns) == (of.pid, of.start_ns)
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
