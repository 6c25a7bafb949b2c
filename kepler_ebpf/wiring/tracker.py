"""The CPU time tracker as a configuration and a host together ask for it."""

from __future__ import annotations

from contextlib import ExitStack

from kepler_ebpf.config.options import Config
from kepler_ebpf.host.topology import Topology
from kepler_ebpf.kernel import cgroup_v1
from kepler_ebpf.kernel.loaders import choice
from kepler_ebpf.kernel.programs import LoadRequest
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy, discover


def choose_hierarchy(config: Config) -> CgroupHierarchy:
    """Choose the cgroups to count by, of those that the host's procfs shows as mounted."""
    mountinfo = f"{config.procfs}/self/mountinfo"
    return discover(config.cgroup_hierarchy, config.sysfs, mountinfo)


def open_tracker(
    stack: ExitStack, config: Config, topology: Topology, hierarchy: CgroupHierarchy
) -> tuple[CpuTimeTracker, str]:
    """Load the programs, and return their tracker, still to be started, and the loader's name.

    *stack* takes both down again.
    """
    count = len(topology.socket_of)
    entries = choice.task_entries(config.map_entries, count, config.interval_s)
    subsys = cgroup_v1.subsys_index(hierarchy.name, config.procfs) if hierarchy.v1_root else None
    programs = choice.load(config.bpf_loader, LoadRequest(count, entries, subsys))
    stack.callback(programs.close)
    tracker = CpuTimeTracker(programs, topology, entries)
    stack.callback(tracker.close)
    return tracker, programs.loader


def start_tracker(tracker: CpuTimeTracker, config: Config, hierarchy: CgroupHierarchy) -> None:
    """Attach the programs, and run once those that close an interval."""
    tracker.start(cgroup_v1.hierarchy_id(hierarchy.name, config.procfs) if hierarchy.v1_root else 0)
