"""The records of one interval, as the ledger looks at them: by process, newest record last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kepler_ebpf.kernel.layout import FLAG_ENDED
from kepler_ebpf.ledger.identity_index import Majors, Minors
from kepler_ebpf.ledger.table import run_starts
from kepler_ebpf.model.arrays import Bools, Floats, Ints, Records
from kepler_ebpf.model.usage import OVERFLOW_COMM


@dataclass(frozen=True, slots=True)
class Batch:
    """Records (``layout.TASK``) with what is derived from them, one entry for each record.

    ``starts`` and ``tgids`` are the identity of the process: its start and pid. Both are 0 where
    the kernel map had no room for the tasks of a cgroup. ``weights`` (records, kinds + 1) are
    energy by kind and then CPU ns.
    """

    tasks: Records
    starts: Majors
    tgids: Minors
    cgroup_rows: Ints
    ended: Bools
    weights: Floats

    def comm(self, place: int) -> str:
        """Return the process's name in the record at *place*, as valid text."""
        if not self.tgids[place]:
            return OVERFLOW_COMM
        comm: bytes = self.tasks["process_comm"][place]
        return comm.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Groups:
    """Records grouped by process.

    ``order`` (records,) are places in the batch, group after group; ``starts`` (groups,) index
    ``order``; ``newest`` (groups,) are places in the batch.
    """

    order: Ints
    starts: Ints
    newest: Ints


def make_batch(tasks: Records, cgroup_rows: Ints, weights: Floats) -> Batch:
    """Return *tasks* with what the ledger derives from them."""
    return Batch(
        tasks=tasks,
        starts=tasks["process_start_ns"],
        tgids=tasks["tgid"],
        cgroup_rows=cgroup_rows,
        ended=(tasks["flags"] & FLAG_ENDED) != 0,
        weights=weights,
    )


def group_by_process(batch: Batch, places: Ints) -> Groups:
    """Group the records at *places*, at least one.

    The newest of a process's records is one made after its last exec, and of those the one with
    most CPU time: the order of the others within an interval is not known.
    """
    tasks = batch.tasks[places]
    starts, tgids = batch.starts[places], batch.tgids[places]
    by_process = np.lexsort((tasks["cpu_ns"], tasks["exec_id"], tgids, starts))
    order = places[by_process]
    first = run_starts(starts[by_process], tgids[by_process])
    return Groups(order, first, order[np.append(first[1:], len(order)) - 1])
