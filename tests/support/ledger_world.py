"""Records as the kernel side makes them, and a ledger with names that a test decides."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kepler_ebpf.kernel.layout import FLAG_ENDED, TASK
from kepler_ebpf.ledger.ledger import CgroupName, Ledger, ProcessName, Retention
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.model.energy import Attribution, Zone
from kepler_ebpf.model.workloads import ContainerLabels, PodLabels, VmLabels

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

    def process(self, tgid, start_ns, comm, cgroup):
        self.asked.append(("process", tgid, start_ns, comm, cgroup.path))
        return self.processes.get(tgid, ProcessName(f"/bin/{comm}"))

    def pod(self, pod_id):
        self.asked.append(("pod", pod_id))
        return PodLabels(self.pod_ids.get(pod_id, pod_id), self.pods.get(pod_id, ""), "")


class World:
    """A ledger of two zones, package and dram, and a clock that moves a second an interval."""

    def __init__(self, retention: Retention = KEEP_ALL) -> None:
        self.names = Names()
        self.ledger = Ledger(ZONES, self.names, retention)
        self.now_s = 0.0

    def credit(self, *records, uj=None, **options) -> None:
        """Credit *records* with *uj* package µJ each, their CPU ns where it is not given."""
        tasks = np.concatenate(records) if records else np.zeros(0, TASK)
        package_uj = tasks["cpu_ns"].astype(float) if uj is None else np.full(len(tasks), float(uj))
        shares_uj = np.column_stack((package_uj, package_uj / 4))
        self.ledger.credit(tasks, attribution(shares_uj), **options)

    def interval(self, *records, uj=None, seconds=1.0, owing=False) -> None:
        """Credit *records* as ``credit`` does, and close the interval."""
        self.credit(*records, uj=uj)
        self.now_s += seconds
        self.ledger.end_interval(self.now_s, owing=owing)

    @property
    def processes(self):
        return self.ledger.views().processes

    @property
    def containers(self):
        return self.ledger.views().containers

    @property
    def pods(self):
        return self.ledger.views().pods

    @property
    def vms(self):
        return self.ledger.views().vms


def attribution(shares_uj) -> Attribution:
    """Return an attribution whose active energy is *shares_uj* and 10 µJ more, twice that idle."""
    active_uj = shares_uj.sum(axis=0) + 10.0
    return Attribution(
        kinds=("package", "dram"),
        shares_uj=shares_uj,
        active_uj=active_uj,
        idle_uj=active_uj * 2,
        unattributed_uj=np.full(2, 10.0),
    )


def listed(view) -> dict[Any, float]:
    """Return the package µJ of each row that is not a gap, by label."""
    return {
        label: float(uj)
        for label, uj in zip(view.labels, view.energy_uj[:, 0], strict=True)
        if label is not None
    }


def by(view, attribute: str) -> dict[Any, tuple[float, int, int]]:
    """Return (package µJ, CPU ns, state) of each row, by one attribute of its label."""
    rows = zip(view.labels, view.energy_uj[:, 0], view.cpu_ns, view.state, strict=True)
    return {
        getattr(label, attribute): (float(uj), int(cpu_ns), int(state))
        for label, uj, cpu_ns, state in rows
        if label is not None
    }


def everything(view) -> tuple[np.ndarray, int]:
    """Return the energy by kind and the CPU ns of the rows and the retired together."""
    return view.energy_uj.sum(axis=0) + view.retired_uj, int(
        view.cpu_ns.sum()
    ) + view.retired_cpu_ns
