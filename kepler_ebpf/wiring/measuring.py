"""A tracker and a meter, as a configuration and a host want them.

Where every verb that measures begins: ``open_measuring`` and then ``Measuring.start``.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.facts import has_host_clocks
from kepler_ebpf.host.topology import CpuInfo, Topology
from kepler_ebpf.kernel import cgroup_v1
from kepler_ebpf.kernel.loaders import choice
from kepler_ebpf.kernel.programs import LoadRequest
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.loop.measurer import Measurer
from kepler_ebpf.meters.choice import open_meter
from kepler_ebpf.meters.request import BusyTime, MeterRequest
from kepler_ebpf.model.energy import Meter
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy, discover


def choose_hierarchy(config: Config) -> CgroupHierarchy:
    """Choose the cgroups to count by, of those that the host's procfs shows as mounted."""
    mountinfo = f"{config.procfs}/self/mountinfo"
    return discover(config.cgroup_hierarchy, config.sysfs, mountinfo)


def require_host_clocks(procfs: str) -> None:
    """Raise SetupError in a time namespace: the kernel side has times of the host's clocks."""
    if not has_host_clocks(procfs):
        raise SetupError(
            "the clocks of this time namespace differ from the host's",
            "start it outside of the namespace, as with nsenter --target 1 --time",
        )


def meter_request(config: Config, topology: Topology, cpus: tuple[CpuInfo, ...]) -> MeterRequest:
    """Put together what ``open_meter`` and ``probe_meters`` need to know."""
    return MeterRequest(
        package_ids=topology.package_ids,
        cpus_per_socket=topology.cpus_per_socket,
        cpu_vendor=cpus[0].vendor_id if cpus else "",
        meter=config.meter,
        preferred_meters=config.preferred_meters,
        sysfs=config.sysfs,
        rapl_zones=config.rapl_zones,
        fake_enabled=config.fake_enabled,
        fake_zones=config.fake_zones,
    )


def open_tracker(
    stack: ExitStack,
    config: Config,
    topology: Topology,
    hierarchy: CgroupHierarchy,
    *,
    with_jobs: bool = False,
    samples_bytes: int = 0,
) -> CpuTimeTracker:
    """Load the programs, and return their tracker, still to be started; *stack* closes both."""
    count = len(topology.socket_of)
    entries = choice.task_entries(config.map_entries, count, config.interval_s)
    subsys = cgroup_v1.subsys_index(hierarchy.name, config.procfs) if hierarchy.v1_root else None
    request = LoadRequest(count, entries, subsys, with_jobs, samples_bytes)
    programs = choice.load(config.bpf_loader, request)
    stack.callback(programs.close)
    tracker = CpuTimeTracker(programs, topology, entries)
    stack.callback(tracker.close)
    return tracker


def start_tracker(tracker: CpuTimeTracker, config: Config, hierarchy: CgroupHierarchy) -> None:
    """Attach the programs, and run once those that close an interval."""
    tracker.start(cgroup_v1.hierarchy_id(hierarchy.name, config.procfs) if hierarchy.v1_root else 0)


@dataclass(frozen=True, slots=True)
class Measuring:
    """What measures, still to be started."""

    config: Config
    hierarchy: CgroupHierarchy
    tracker: CpuTimeTracker
    meter: Meter

    def start(self) -> Measurer:
        """Count from now on. Raises SetupError where the kernel refuses."""
        start_tracker(self.tracker, self.config, self.hierarchy)
        return Measurer(self.tracker, self.meter)


def open_measuring(
    stack: ExitStack,
    config: Config,
    cpus: tuple[CpuInfo, ...],
    *,
    with_jobs: bool = False,
    samples_bytes: int = 0,
) -> Measuring:
    """Load the programs and open the meter; *stack* takes both down again.

    The tracker has ``jobs`` where it is opened *with_jobs*, and ``samples`` in a ring of
    *samples_bytes* where that is not 0. Raises KeplerError.
    """
    require_host_clocks(config.procfs)
    topology = stack.enter_context(Topology(config.sysfs))
    hierarchy = choose_hierarchy(config)
    tracker = open_tracker(
        stack, config, topology, hierarchy, with_jobs=with_jobs, samples_bytes=samples_bytes
    )
    meter = open_meter(meter_request(config, topology, cpus), lambda: BusyTime(*tracker.busy))
    stack.callback(meter.close)
    return Measuring(config, hierarchy, tracker, meter)
