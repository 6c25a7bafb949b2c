"""The names of the host's workloads, as a configuration wants them."""

from __future__ import annotations

from contextlib import ExitStack

from kepler_ebpf.config.options import Config
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.names.naming import HostNaming, NamingOptions
from kepler_ebpf.names.resolver import PodDirectory


def open_naming(
    stack: ExitStack, config: Config, hierarchy: CgroupHierarchy, pods: PodDirectory | None
) -> HostNaming:
    """Return what names the cgroups of *hierarchy*, with what *pods* has; *stack* closes it."""
    options = NamingOptions(
        procfs=config.procfs,
        host_root=config.host_root,
        retention_s=config.terminated_retention_s,
        levels=config.levels,
    )
    names = HostNaming(hierarchy, options, pods)
    stack.callback(names.close)
    return names
