"""The kernel's account of CPU time in this process, for figures that need no exporter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from kepler_ebpf.host.topology import Topology
from kepler_ebpf.kernel import cgroup_v1
from kepler_ebpf.kernel.loaders import choice
from kepler_ebpf.kernel.programs import LoadRequest
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.names.cgroups.paths import discover


@contextmanager
def cpu_time_tracker(interval_s: float = 1.0) -> Iterator[CpuTimeTracker]:
    """Count from here on, with the programs that were compiled before."""
    with ExitStack() as stack:
        topology = stack.enter_context(Topology())
        count, hierarchy = len(topology.socket_of), discover()
        entries = choice.task_entries(0, count, interval_s)
        is_v1 = hierarchy.v1_root is not None
        subsys = cgroup_v1.subsys_index(hierarchy.name) if is_v1 else None
        programs = choice.load("core", LoadRequest(count, entries, subsys))
        account = CpuTimeTracker(programs, topology, entries)
        stack.callback(account.close)
        account.start(cgroup_v1.hierarchy_id(hierarchy.name) if is_v1 else 0)
        yield account


@contextmanager
def punctual(cpu: int) -> Iterator[None]:
    """Have this process run on *cpu* before all others, so that it reads clocks when it means to.

    Only for short work at long intervals: nothing else gets that CPU meanwhile.
    """
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, usable)


def cpu_ns_of(tasks: Records, pid: int) -> int:
    """CPU time of a process in one interval."""
    return int(np.sum(tasks["cpu_ns"][tasks["tgid"] == pid]))
