"""Measured intervals as the loop has them, built from a few figures."""

from collections.abc import Sequence

import numpy as np

from kepler_ebpf.kernel.layout import TASK
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.model.usage import Interval, Measured, SocketTime, Usage

SECOND_NS = 1_000_000_000


def tasks_of(*pairs: tuple[int, int]) -> Records:
    """Return one record for each (socket, cpu_ns)."""
    tasks = np.zeros(len(pairs), TASK)
    for index, (socket, cpu_ns) in enumerate(pairs):
        tasks[index]["socket"], tasks[index]["cpu_ns"] = socket, cpu_ns
    return tasks


def interval_of(
    energy_uj: Sequence[float],
    busy_ns: Sequence[int],
    idle_ns: Sequence[int],
    lost_ns: Sequence[int] = (0, 0),
    unowned: Sequence[bool] | None = None,
    **fields: int,
) -> Interval:
    """Return an interval of some sockets and zones; *fields* are those of its ``Usage``."""
    sockets = SocketTime(tuple(busy_ns), tuple(idle_ns), tuple(lost_ns))
    wall_ns = sum(busy_ns) + sum(idle_ns)
    values = {"start_ns": 0, "end_ns": SECOND_NS, "wall_ns": wall_ns, "record_count": 0} | fields
    none = (False,) * len(energy_uj)
    return Interval(
        0, Usage(sockets=sockets, **values), tuple(energy_uj), none, tuple(unowned or none)
    )


def measured_of(*intervals: tuple[Records, Interval]) -> Measured:
    """Return consecutive intervals with their records."""
    records = [tasks for tasks, _ in intervals]
    return Measured(
        records=np.concatenate(records),
        interval_of=np.repeat(np.arange(len(records)), [len(tasks) for tasks in records]),
        intervals=tuple(interval for _, interval in intervals),
    )
