"""One interval, reduced to what ran in it: small enough to be kept for a while."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.model.energy import primary_kind
from kepler_ebpf.model.levels import WORKLOAD_LEVELS

CGROUP, TASK = "cgroup", "task"
VIEWS = (*WORKLOAD_LEVELS, CGROUP, TASK)
"""Every view by its name: the kinds of workloads, cgroups, and tasks."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Other figures of the same rows, with the shapes that they have in ``Rows``."""

    uj: Floats
    total_uj: Floats
    cpu_ns: Floats


@dataclass(frozen=True, slots=True)
class Rows:
    """What ran in one interval, of one kind of workload.

    Shapes: ``labels``, ``cpu_ns`` and ``state`` (rows,), ``uj`` of the interval and ``total_uj``
    since start (rows, kinds). ``cgroups`` has the ``CgroupName`` or None of each process; it is
    empty in other views. ``left_out_uj`` (kinds,) belongs to ``left_out`` rows that were dropped.
    ``with_below`` has the figures of cgroups with all that is below them; parents are first.
    ``hashes`` (rows,) are those of the identities, so that rows that are kept are found soon.
    """

    labels: tuple[Any, ...]
    uj: Floats
    total_uj: Floats
    cpu_ns: Floats
    state: Ints
    cgroups: tuple[Any, ...]
    left_out: int
    left_out_uj: Floats
    with_below: Figures | None = None
    hashes: Ints | None = None

    def trimmed(self, most: int, identity: Callable[[Any], Hashable]) -> Rows:
        """Return the *most* rows with the highest energy of any kind, with the others left out."""
        if len(self.labels) <= most:
            return self
        whole = self.with_below or self
        # Stable: a parent has what is below it, and is kept before that.
        order = np.argsort(-whole.uj.max(axis=1), kind="stable")
        kept = np.sort(order[:most])
        labels = tuple(self.labels[row] for row in kept.tolist())
        return Rows(
            labels=labels,
            uj=self.uj[kept],
            total_uj=self.total_uj[kept],
            cpu_ns=self.cpu_ns[kept],
            state=self.state[kept],
            cgroups=tuple(self.cgroups[row] for row in kept.tolist()) if self.cgroups else (),
            left_out=self.left_out + len(self.labels) - most,
            left_out_uj=self.left_out_uj + self.uj[order[most:]].sum(axis=0),
            with_below=self.with_below
            and Figures(whole.uj[kept], whole.total_uj[kept], whole.cpu_ns[kept]),
            hashes=np.array([hash(identity(each)) for each in labels], np.int64),
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """One interval: the node's energy by kind of zone, each (kinds,), and the rows of each view.

    ``process_uj`` is the sum over all processes: what has an owner.
    """

    at_s: float
    interval_s: float
    kinds: tuple[str, ...]
    unread_kinds: frozenset[str]
    meter: str
    is_estimate: bool
    usage_ratio: float
    energy_uj: Floats
    idle_uj: Floats
    unattributed_uj: Floats
    process_uj: Floats
    views: Mapping[str, Rows]

    def primary(self) -> str:
        """Return the kind of zone that is shown where none is chosen."""
        return primary_kind(self.kinds)

    def trimmed(self, most: int, identity: Callable[[Any], Hashable]) -> Frame:
        """Return the frame with no more than *most* rows of each view, hashed by *identity*."""
        views = {name: rows.trimmed(most, identity) for name, rows in self.views.items()}
        return replace(self, views=views)
