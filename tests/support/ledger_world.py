"""Records as the kernel side makes them, and a ledger with names that a test decides."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kepler_ebpf.kernel.layout import FLAG_ENDED, TASK
from kepler_ebpf.ledger.cgroups import GONE
from kepler_ebpf.ledger.ledger import Batch, Ledger, Retention
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.model.attributed import Attribution
from kepler_ebpf.model.bounds import DEFAULT_MAX, MaxListed
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.selection import ALL, Selection
from kepler_ebpf.model.workloads import (
    OTHERS,
    RETIRED,
    ContainerLabels,
    PodLabels,
    ProcessLabels,
    VmLabels,
)

ZONES = (Zone("package", 0, "/package"), Zone("dram", 0, "/dram"))
KEEP_ALL = Retention(for_s=1e9, most=-1, min_uj=0.0)


def record(pid=10, cpu_ns=1_000, *, ended=False, start=None, thread=None, **fields) -> Records:
    """Return one record of a process, by default of its first thread, with other *fields*."""
    start_ns = pid * 1_000 if start is None else start
    values = {
        "pid": pid if thread is None else thread,
        "tgid": pid,
        "start_ns": start_ns,
        "process_start_ns": start_ns,
        "cgroup_id": 1,
        "cpu_ns": cpu_ns,
        "flags": FLAG_ENDED if ended else 0,
        "comm": b"work",
        "process_comm": b"work",
    }
    made = np.zeros(1, TASK)
    for name, value in (values | fields).items():
        made[name] = value
    return made


def container(name: str, pod_id: str = "") -> ContainerLabels:
    """Return the labels of a container of that name and id."""
    return ContainerLabels(container_id=name, container_name=name, runtime="docker", pod_id=pod_id)


def vm(name: str) -> VmLabels:
    """Return the labels of a machine of that name and id."""
    return VmLabels(vm_id=name, vm_name=name, hypervisor="kvm")


@dataclass
class Names:
    """Names by id, and what was asked for."""

    cgroups: dict[int, CgroupName] = field(default_factory=dict)
    processes: dict[int, ProcessName] = field(default_factory=dict)
    pods: dict[str, str] = field(default_factory=dict)
    pod_ids: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def cgroup(self, cgroup_id):
        self.asked.append(("cgroup", cgroup_id))
        return self.cgroups.get(cgroup_id, CgroupName(f"/{cgroup_id}"))

    def process(self, identity):
        self.asked.append(("process", *identity))
        return self.processes.get(identity.tgid, ProcessName(f"/bin/{identity.comm}"))

    def pod(self, pod_id):
        self.asked.append(("pod", pod_id))
        return PodLabels(self.pod_ids.get(pod_id, pod_id), self.pods.get(pod_id, ""), "")


class World:
    """A ledger of two zones, package and dram, and a clock that moves a second an interval."""

    def __init__(
        self,
        retention: Retention = KEEP_ALL,
        uj_per_ns=1.0,
        most: MaxListed = DEFAULT_MAX,
        selection: Selection = ALL,
        *,
        with_tasks: bool = False,
    ) -> None:
        self.names = Names()
        self.uj_per_ns = uj_per_ns
        self.ledger = Ledger(ZONES, self.names, retention, most, selection, with_tasks=with_tasks)
        self.now_s = 0.0
        self.grid = 0

    def credit(self, *records, uj=None) -> None:
        """Credit *records* of the current interval, which goes on.

        Each has *uj* package µJ, its CPU ns where that is not given, and a quarter of it in dram.
        """
        self._credit([concatenated(records)], uj, max(self.grid - 1, 0))

    def interval(self, *records, uj=None, seconds=1.0) -> None:
        """Credit *records* as ``credit`` does, with the end of the interval."""
        self.now_s += seconds
        self._credit([concatenated(records)], uj, self.grid)
        self.grid += 1

    def batch(self, *intervals) -> None:
        """Credit several whole intervals at once, a list of records each."""
        self.now_s += len(intervals)
        last = self.grid + len(intervals) - 1
        self._credit([concatenated(records) for records in intervals], None, last)
        self.grid = last + 1

    def _credit(self, intervals, uj, shown) -> None:
        grid = np.arange(self.grid, self.grid + len(intervals))
        self.ledger.credit(
            Batch(
                records=concatenated(intervals),
                grid=np.repeat(grid, [len(tasks) for tasks in intervals]),
                attribution=attribution([self._shares(tasks, uj) for tasks in intervals]),
                interval_grid=grid,
                shown=shown,
                end_s=self.now_s,
            )
        )

    def _shares(self, tasks, uj) -> np.ndarray:
        """Return the energy (tasks, kinds) of *tasks*: *uj* each, or by their CPU time."""
        package_uj = tasks["cpu_ns"] * self.uj_per_ns if uj is None else np.full(len(tasks), uj)
        return np.column_stack((package_uj, package_uj / 4.0))

    @property
    def processes(self):
        return self.ledger.views()["process"]

    @property
    def containers(self):
        return self.ledger.views()["container"]

    @property
    def pods(self):
        return self.ledger.views()["pod"]

    @property
    def vms(self):
        return self.ledger.views()["vm"]

    @property
    def units(self):
        return self.ledger.views()["unit"]

    @property
    def tasks(self):
        return self.ledger.tasks()

    @property
    def cgroups(self):
        return self.ledger.groups.cgroups.make_view([GONE])


def concatenated(records) -> Records:
    """Return several arrays of records as one."""
    return np.concatenate([np.zeros(0, TASK), *records])


def attribution(intervals) -> Attribution:
    """Return the attribution of *intervals*, shares each.

    The active energy of an interval is its shares and 10 µJ more, the idle energy twice that.
    """
    active_uj = np.array([shares_uj.sum(axis=0) + 10.0 for shares_uj in intervals])
    return Attribution(
        kinds=("package", "dram"),
        shares_uj=np.concatenate(intervals),
        active_uj=active_uj,
        idle_uj=active_uj * 2,
        unattributed_uj=np.full(active_uj.shape, 10.0),
    )


def rows_of(view) -> dict[int, Any]:
    """Return the label of each row that is of one workload: no gap, no sum of processes."""
    return {
        row: label
        for row, label in enumerate(view.labels)
        if label is not None and getattr(label, "comm", "") not in {RETIRED, OTHERS}
    }


def listed(view) -> dict[Any, float]:
    """Return the package µJ of each workload, by label."""
    return {label: float(view.energy_uj[row, 0]) for row, label in rows_of(view).items()}


def by(view, attribute: str) -> dict[Any, tuple[float, int, int]]:
    """Return (package µJ, CPU ns, state) of each workload, by one attribute of its label."""
    return {
        getattr(label, attribute): (
            float(view.energy_uj[row, 0]),
            int(view.cpu_ns[row]),
            int(view.state[row]),
        )
        for row, label in rows_of(view).items()
    }


def everything(view) -> tuple[np.ndarray, int]:
    """Return the energy by kind and the CPU ns of a level: its rows, and the retired.

    The retired processes have rows.
    """
    energy_uj, cpu_ns = view.energy_uj.sum(axis=0), int(view.cpu_ns.sum())
    if any(isinstance(label, ProcessLabels) for label in view.labels):
        return energy_uj, cpu_ns
    return energy_uj + view.retired_uj, cpu_ns + view.retired_cpu_ns


def totals_by_series(world):
    """Return energy by kind and CPU ns of every row, by its labels without the start."""
    totals = {}
    for level, view in world.ledger.views().items():
        totals[level, "retired"] = np.append(view.retired_uj, view.retired_cpu_ns)
        for row, label in enumerate(view.labels):
            if label:
                key = (level, replace(label, start_ns=0) if level == "process" else label)
                assert key not in totals
                totals[key] = np.append(view.energy_uj[row], view.cpu_ns[row])
    return totals
