"""What this host offers and lacks, each lack with its remedy: the work of `kepler-ebpf check`.

One small function for each finding. Nothing is changed on the host; the BPF programs are loaded
and run, and the addresses bound, for a moment: only the kernel knows whether it allows that.
"""

from __future__ import annotations

from collections.abc import Callable

from kepler_ebpf import check_kernel, host
from kepler_ebpf.account_choice import choose_hierarchy
from kepler_ebpf.config import Config
from kepler_ebpf.errors import KeplerError, SetupError
from kepler_ebpf.exporters.listen import open_listeners
from kepler_ebpf.findings import Facts, Finding, Status, from_error
from kepler_ebpf.meter_choice import meter_request
from kepler_ebpf.meters import MeterProbe, probe_meters
from kepler_ebpf.topology import Topology, read_cpu_info


def gather(config: Config) -> list[Finding]:
    """Look at everything that `run` with this *config* would use."""
    facts = Facts(config, host.release(), host.effective_capabilities(config.procfs))
    return [
        check_kernel.kernel(facts),
        *check_kernel.capabilities(facts),
        *(check(facts) for check in CHECKS),
        *meters(facts),
    ]


def cpus(facts: Facts) -> Finding:
    """Judge whether the host's CPUs and sockets can be read."""
    try:
        with Topology(facts.config.sysfs) as topology:
            detail = f"{len(topology.online())} online on {topology.sockets} socket(s)"
        read_cpu_info(facts.config.procfs, facts.config.sysfs)
    except SetupError as error:
        return from_error("CPUs", error)
    return Finding("CPUs", Status.OK, detail, required=True)


def cgroup_hierarchy(facts: Facts) -> Finding:
    """Tell in which hierarchy containers are looked for."""
    try:
        chosen = choose_hierarchy(facts.config)
    except SetupError as error:
        return from_error("cgroups", error)
    where = chosen.v1_root or chosen.v2_root
    if where is None:
        remedy = "mount the host's /sys/fs/cgroup here"
        return Finding("cgroups", Status.LACK, "none mounted: containers have no names", remedy)
    kind = "v2" if chosen.v1_root is None else f"v1 controller {chosen.name}"
    return Finding("cgroups", Status.OK, f"{kind} at {where}")


def process_view(facts: Facts) -> Finding:
    """Judge whether procfs shows the host's processes, whose PIDs the kernel side reports."""
    procfs = facts.config.procfs
    if _is_host_view(procfs):
        return Finding("host PIDs", Status.OK, f"{procfs} shows the host's processes")
    return Finding(
        "host PIDs",
        Status.LACK,
        f"{procfs} shows a container's processes: others have only their short name",
        "share the host's PID namespace (hostPID: true, --pid=host), or mount the host's /proc "
        "and name it with --host.procfs",
    )


def _is_host_view(procfs: str) -> bool:
    of_init = host.pid_namespace(procfs, "1")
    if of_init is not None:
        return of_init == host.INITIAL_PID_NAMESPACE
    # Some hosts let nobody read that of PID 1. Ours decides if this procfs is of our namespace.
    is_ours = len(host.own_pids(procfs)) == 1
    if is_ours and host.pid_namespace(procfs, "self") == host.INITIAL_PID_NAMESPACE:
        return True
    return host.shows_kernel_threads(procfs)


def kubernetes(facts: Facts) -> Finding:
    """Judge whether there are credentials to learn of pods with; the server is not asked."""
    config = facts.config
    if not config.kube_enabled:
        return Finding("Kubernetes", Status.NOTE, "not asked for (--kube.enable)")
    # Heavy, and wanted on few hosts.
    from kepler_ebpf.pod_choice import pod_source_options  # noqa: PLC0415
    from kepler_ebpf.workloads.pod_sources import server_address  # noqa: PLC0415

    try:
        address = server_address(pod_source_options(config))
    except KeplerError as error:
        return from_error("Kubernetes", error)
    detail = f"credentials for {address}, mode {config.kube_mode}"
    return Finding("Kubernetes", Status.OK, detail, required=True)


def addresses(facts: Facts) -> Finding:
    """Judge whether metrics can be served where they should be; each address is bound briefly."""
    config = facts.config
    if not config.prometheus_enabled:
        return Finding("addresses", Status.NOTE, "none wanted (--no-exporter.prometheus)")
    try:
        listeners = open_listeners(config.listen_addresses)
    except KeplerError as error:
        return from_error("addresses", error)
    for _, listener in listeners:
        listener.close()
    free = ", ".join(config.listen_addresses)
    return Finding("addresses", Status.OK, f"{free} can be served on", required=True)


def meters(facts: Facts) -> list[Finding]:
    """Judge each meter; a measuring one is missed only where it was asked for by name."""
    try:
        info = read_cpu_info(facts.config.procfs, facts.config.sysfs)
        with Topology(facts.config.sysfs) as topology:
            request = meter_request(facts.config, topology, info)
    except SetupError as error:
        return [from_error("meters", error)]
    return [
        _meter(probe, required=probe.name == facts.config.meter) for probe in probe_meters(request)
    ]


def _meter(probe: MeterProbe, *, required: bool) -> Finding:
    absent = Status.LACK if required else Status.NOTE
    status = Status.OK if probe.available else absent
    return Finding(f"meter {probe.name}", status, probe.detail, probe.remedy, required)


CHECKS: tuple[Callable[[Facts], Finding], ...] = (
    check_kernel.user_namespace,
    check_kernel.unprivileged_bpf,
    check_kernel.tracefs,
    check_kernel.locked_memory,
    check_kernel.kernel_types,
    check_kernel.libbpf_library,
    check_kernel.bpf_object,
    check_kernel.bcc_module,
    check_kernel.headers,
    check_kernel.clang,
    check_kernel.bpf_programs,
    cpus,
    cgroup_hierarchy,
    process_view,
    addresses,
    kubernetes,
)
