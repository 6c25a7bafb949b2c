"""Snapshots whose processes have what the node has, for the tests of `top`."""

from dataclasses import replace

import numpy as np
from snapshots import snapshot, view

from kepler_ebpf.model.snapshot import CgroupsView, Snapshot

ACTIVE_UJ = np.array([1.2e6, 0.1e6])
NO_OWNER_UJ = np.array([0.15e6, 0.0])
"""What the node of ``snapshots`` has, by kind."""


def closed(processes, **changes) -> Snapshot:
    """Return a snapshot whose processes have what the node has, less what has no owner."""
    shares = np.array([row.ran_uj[0] for row in processes])
    parts = shares / shares.sum()
    rows = [
        replace(row, ran_uj=tuple(part * (ACTIVE_UJ - NO_OWNER_UJ)))
        for row, part in zip(processes, parts, strict=True)
    ]
    cgroups = CgroupsView(view([]), (None,) * len(rows))
    given = {"cgroups": cgroups, "tasks": view([]), **changes}
    return replace(snapshot(rows, containers=[]), **given)
