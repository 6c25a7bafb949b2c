"""The names of the host's workloads, as a configuration wants them."""

from __future__ import annotations

from contextlib import ExitStack

from kepler_ebpf.config.options import Config
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.names.kubernetes.pod_infos import PodSource
from kepler_ebpf.names.naming import HostNaming, NamingOptions


def open_naming(
    stack: ExitStack, config: Config, hierarchy: CgroupHierarchy
) -> tuple[HostNaming, PodSource | None]:
    """Return what names the cgroups of *hierarchy*, and where it learns of pods.

    *stack* closes both. Raises KeplerError.
    """
    pods = _pods(stack, config)
    options = NamingOptions(
        procfs=config.procfs,
        host_root=config.host_root,
        retention_s=config.terminated_retention_s,
        levels=config.levels,
    )
    names = HostNaming(hierarchy, options, pods)
    stack.callback(names.close)
    return names, pods


def _pods(stack: ExitStack, config: Config) -> PodSource | None:
    """Follow the node's pods; the Kubernetes client is imported only here, when it is wanted."""
    if not config.kube_enabled:
        return None
    # Heavy, and wanted on few hosts.
    from kepler_ebpf.names.kubernetes.start import start_pod_source  # noqa: PLC0415
    from kepler_ebpf.wiring.kubernetes import pod_source_options  # noqa: PLC0415

    source = start_pod_source(pod_source_options(config))
    stack.callback(source.close)
    return source
