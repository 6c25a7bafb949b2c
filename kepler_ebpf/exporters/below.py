"""Cgroups with all that is below them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kepler_ebpf.exporters.frame import Figures, Rows
from kepler_ebpf.exporters.tree import ROOT
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.model.workloads import State, WorkloadView


def rows_with_below(view: WorkloadView, columns: Sequence[int]) -> Rows:
    """Return the cgroups that used CPU in the interval themselves or below, parents first.

    Only the kinds at *columns* are in the result. A parent that is not in *view* has a row.
    """
    labels, parents, depths, nodes = _nodes(view)
    kinds = len(columns)
    figures = np.zeros((len(view.labels), 2 * kinds + 1))
    figures[view.ran_rows, :kinds] = view.ran_uj[:, columns]
    figures[:, kinds:-1] = view.energy_uj[:, columns]
    figures[view.ran_rows, -1] = view.ran_cpu_ns
    listed = [row for row, label in enumerate(view.labels) if label is not None]
    own = np.zeros((len(labels), 2 * kinds + 1))
    np.add.at(own, nodes, figures[listed])
    below = own.copy()
    for depth in range(max(depths), 0, -1):
        children = np.flatnonzero(np.array(depths) == depth)
        np.add.at(below, np.array(parents)[children], below[children])
    state = np.full(len(labels), State.RUNNING, np.int64)
    state[nodes] = view.state[listed]
    ran = np.flatnonzero(below[:, -1])
    return Rows(
        labels=tuple(labels[node] for node in ran.tolist()),
        uj=own[ran, :kinds],
        total_uj=own[ran, kinds:-1],
        cpu_ns=own[ran, -1],
        state=state[ran],
        cgroups=(),
        left_out=0,
        left_out_uj=np.zeros(kinds),
        with_below=Figures(below[ran, :kinds], below[ran, kinds:-1], below[ran, -1]),
    )


def _nodes(view: WorkloadView) -> tuple[list[CgroupName], list[int], list[int], list[int]]:
    """Return labels, parents and depths of all nodes, and the node of each label of *view*."""
    index, labels, parents, depths = {ROOT: 0}, [CgroupName(ROOT)], [0], [0]
    nodes = []
    for label in view.labels:
        if label is None:
            continue
        missing, path = [], label.title
        while path not in index:
            missing.append(path)
            path = path.rpartition("/")[0] or ROOT
        for each in reversed(missing):
            parents.append(index[path])
            depths.append(depths[index[path]] + 1)
            index[each] = len(labels)
            labels.append(CgroupName(each))
            path = each
        nodes.append(index[path])
        labels[index[path]] = label
    return labels, parents, depths, nodes
