"""The rows of processes that stand for several processes: one of each kind in each container."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kepler_ebpf.ledger.groups import NONE
from kepler_ebpf.ledger.table import Table
from kepler_ebpf.model.arrays import Bools, Ints
from kepler_ebpf.model.usage import OVERFLOW_COMM
from kepler_ebpf.model.workloads import OTHERS, RETIRED, ProcessLabels


class SumRows:
    """Rows of *table* with pid 0, by comm and container; ``container_id`` names a container."""

    def __init__(self, table: Table[ProcessLabels], container_id: Callable[[int], str]) -> None:
        self._table = table
        self._container_id = container_id
        self._rows: dict[tuple[str, int], int] = {}
        self.row(RETIRED, NONE)
        self.row(OTHERS, NONE)

    def row(self, comm: str, container: int) -> int:
        """Return the row named *comm* of a container, made where there is none yet."""
        row = self._rows.get((comm, container))
        if row is None:
            label = make_label(0, 0, comm, "", self._container_id(container))
            row = self._rows[comm, container] = self._table.add(label)
            self._table.columns["container"][row] = container
        return row

    def put(self, rows: Ints, is_put: Bools, containers: Ints, comm: str) -> None:
        """Let the records that are to be *is_put* be in the rows *comm* of their *containers*."""
        found, index = np.unique(containers[is_put], return_inverse=True)
        sums = [self.row(comm, container) for container in found.tolist()]
        rows[is_put] = np.array(sums, np.int64)[index]

    def forget(self, containers: Ints) -> None:
        """Note that the rows of *containers* are listed no longer."""
        gone = set(containers.tolist())
        self._rows = {key: row for key, row in self._rows.items() if key[1] not in gone}

    def unlisted(self) -> list[int]:
        """Return the rows of processes that are not listed."""
        return [row for (comm, _), row in self._rows.items() if comm != OVERFLOW_COMM]

    def in_containers(self) -> list[tuple[int, int]]:
        """Return each row that is of a container, and that container."""
        return [(row, container) for (_, container), row in self._rows.items() if container != NONE]


def make_label(
    pid: int, start_ns: int, comm: str, exe: str, container_id: str, vm_id: str = ""
) -> ProcessLabels:
    """Return the labels of a process, with Kepler's word for what it is part of."""
    kind = "container" if container_id else "vm" if vm_id else "regular"
    return ProcessLabels(pid, start_ns, comm, exe, kind, container_id, vm_id)
