"""What a configuration and a host together ask of the meters."""

from __future__ import annotations

from kepler_ebpf.config.options import Config
from kepler_ebpf.host.topology import CpuInfo, Topology
from kepler_ebpf.meters.request import MeterRequest


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
