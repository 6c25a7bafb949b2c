"""Which names a batch needs, and which it needs no longer.

Only what ran is named. A process is named when it has called exec, or has lived through the end of
a batch: of those that are only forked and end at once there may be thousands in a second, and they
have their parent's executable.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import numpy as np

from kepler_ebpf.kernel.layout import FLAG_ENDED
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.model.arrays import Ints, Records
from kepler_ebpf.model.names import CgroupName, ExecEvent, ProcessIdentity, ProcessName
from kepler_ebpf.model.workloads import PodLabels
from kepler_ebpf.names.naming import HostNaming
from kepler_ebpf.recording.encode import NamedRows
from kepler_ebpf.recording.names import (
    ProcessKey,
    texts_of_cgroup,
    texts_of_pod,
    texts_of_process,
)
from kepler_ebpf.recording.schema import CGROUP, POD, PROCESS

MAX_NAMED = 200_000
"""Processes whose names are kept."""


class BatchNames:
    """The names of one batch after the other, as texts. For the sampling thread alone."""

    def __init__(self, tracker: CpuTimeTracker, names: HostNaming, *, with_arguments: bool) -> None:
        """Take names from *names*; the arguments of programs *with_arguments* only."""
        self._tracker, self._names, self._with_arguments = tracker, names, with_arguments
        self._cgroups: set[int] = set()
        self._pods: set[str] = set()
        self._arguments: dict[ProcessKey, str] = {}
        self._before_ns = _boot_ns()

    def of(self, records: Records, budget_s: float) -> NamedRows:
        """Return the names that *records* (N,) need, and better ones of those before them.

        Reading files takes *budget_s* at most; what there is no time for comes with a later batch.
        """
        names, execs = self._names, self._tracker.exec_events.take()
        names.begin_batch(budget_s)
        names.learn_execs(execs)
        cgroups = self._new_cgroups(records)
        processes = dict(self._executed(execs))
        processes |= self._lasting(records)
        updates = names.updates()
        cgroups |= updates.cgroups
        pods = self._new_pods(cgroups.values()) | updates.pods
        processes |= updates.processes
        texts = {
            key: texts_of_process(name, self._arguments.get(key, ""))
            for key, name in processes.items()
        }
        return {
            CGROUP: {key: texts_of_cgroup(name) for key, name in cgroups.items()},
            PROCESS: {key: each for key, each in texts.items() if any(each.values())},
            POD: {key: texts_of_pod(labels) for key, labels in pods.items()},
        }

    def gone(self, records: Records) -> list[tuple[str, Hashable]]:
        """Return kind and key of the names that are not needed after *records* (N,)."""
        ended = records[records["flags"] & FLAG_ENDED > 0]
        processes = _keys(ended["tgid"], ended["process_start_ns"]) | _keys(
            *self._tracker.take_ends()
        )
        # Ends can be lost: then all are forgotten, and named anew where they run.
        is_full = len(self._arguments) > MAX_NAMED
        processes = set(self._arguments) if is_full else processes & self._arguments.keys()
        for key in processes:
            del self._arguments[key]
        cgroups = self._names.take_ended_cgroups()
        self._cgroups.difference_update(cgroups)
        return [(PROCESS, key) for key in processes] + [(CGROUP, key) for key in cgroups]

    def _new_cgroups(self, records: Records) -> dict[int, CgroupName]:
        new = set(np.unique(records["cgroup_id"]).tolist()) - self._cgroups
        self._cgroups |= new
        return {key: self._names.cgroup(key) for key in new}

    def _new_pods(self, cgroups: Iterable[CgroupName]) -> dict[str, PodLabels]:
        new = {name.pod_id for name in cgroups if name.pod_id} - self._pods
        self._pods |= new
        return {key: self._names.pod(key) for key in new}

    def _executed(self, execs: Iterable[ExecEvent]) -> Iterator[tuple[ProcessKey, ProcessName]]:
        for event in execs:
            key = event.tgid, event.start_ns
            self._arguments[key] = shlex.join(event.arguments) if self._with_arguments else ""
            yield key, self._names.process(ProcessIdentity(*key, event.exec_id, ""))

    def _lasting(self, records: Records) -> dict[ProcessKey, ProcessName]:
        """Name the processes that have lived through the end of a batch, and ran in this one."""
        before_ns, self._before_ns = self._before_ns, _boot_ns()
        lasting = records[(records["process_start_ns"] < before_ns) & (records["tgid"] > 0)]
        # The last row of each: its name and its program are the newest.
        rows = dict(
            zip(
                zip(lasting["tgid"].tolist(), lasting["process_start_ns"].tolist(), strict=True),
                range(len(lasting)),
                strict=True,
            )
        )
        new = {key: lasting[row] for key, row in rows.items() if key not in self._arguments}
        self._arguments |= dict.fromkeys(new, "")
        return {key: self._names.process(_identity(key, row)) for key, row in new.items()}


def _identity(key: ProcessKey, row: Any) -> ProcessIdentity:
    comm = bytes(row["process_comm"]).decode("utf-8", "replace")
    is_alive = not int(row["flags"]) & FLAG_ENDED
    return ProcessIdentity(*key, int(row["exec_id"]), comm, is_alive)


def _keys(tgids: Ints, starts_ns: Ints) -> set[ProcessKey]:
    return set(zip(tgids.tolist(), starts_ns.tolist(), strict=True))


def _boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
