"""What this host offers and lacks, each lack with its remedy: the work of `kepler-ebpf check`.

One small function for each finding. Nothing is changed on the host; the BPF programs are loaded
and run, and the addresses bound, for a moment: only the kernel knows whether it allows that.
"""

from __future__ import annotations

from collections.abc import Callable

from kepler_ebpf.check import kernel
from kepler_ebpf.check.finding import CheckContext, Finding, Status, from_error
from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import KeplerError, SetupError
from kepler_ebpf.exporters.listen import open_listeners
from kepler_ebpf.host import facts
from kepler_ebpf.host.topology import Topology, read_cpu_info
from kepler_ebpf.meters import MeterProbe, probe_meters
from kepler_ebpf.wiring.meter import meter_request
from kepler_ebpf.wiring.tracker import choose_hierarchy


def gather(config: Config) -> list[Finding]:
    """Look at everything that `run` with this *config* would use."""
    context = CheckContext(config, facts.release(), facts.effective_capabilities(config.procfs))
    return [
        kernel.kernel(context),
        *kernel.capabilities(context),
        *(check(context) for check in CHECKS),
        *meters(context),
    ]


def cpus(context: CheckContext) -> Finding:
    """Judge whether the host's CPUs and sockets can be read."""
    try:
        with Topology(context.config.sysfs) as topology:
            detail = f"{len(topology.online())} online on {topology.sockets} socket(s)"
        read_cpu_info(context.config.procfs, context.config.sysfs)
    except SetupError as error:
        return from_error("CPUs", error)
    return Finding("CPUs", Status.OK, detail, required=True)


def cgroup_hierarchy(context: CheckContext) -> Finding:
    """Tell in which hierarchy containers are looked for."""
    try:
        chosen = choose_hierarchy(context.config)
    except SetupError as error:
        return from_error("cgroups", error)
    where = chosen.v1_root or chosen.v2_root
    if where is None:
        remedy = "mount the host's /sys/fs/cgroup here"
        return Finding("cgroups", Status.LACK, "none mounted: containers have no names", remedy)
    kind = "v2" if chosen.v1_root is None else f"v1 controller {chosen.name}"
    return Finding("cgroups", Status.OK, f"{kind} at {where}")


def process_view(context: CheckContext) -> Finding:
    """Judge whether procfs shows the host's processes, whose PIDs the kernel side reports."""
    procfs = context.config.procfs
    if _is_host_view(procfs):
        return Finding("host PIDs", Status.OK, f"{procfs} shows the host's processes")
    return Finding(
        "host PIDs",
        Status.LACK,
        f"{procfs} shows a container's processes: others have only their short name",
        "share the host's PID namespace (hostPID: true, --pid=host), or mount the host's /proc "
        "and name it with --facts.procfs",
    )


def _is_host_view(procfs: str) -> bool:
    of_init = facts.pid_namespace(procfs, "1")
    if of_init is not None:
        return of_init == facts.INITIAL_PID_NAMESPACE
    # Some hosts let nobody read that of PID 1. Ours decides if this procfs is of our namespace.
    is_ours = len(facts.own_pids(procfs)) == 1
    if is_ours and facts.pid_namespace(procfs, "self") == facts.INITIAL_PID_NAMESPACE:
        return True
    return facts.shows_kernel_threads(procfs)


def kubernetes(context: CheckContext) -> Finding:
    """Judge whether there are credentials to learn of pods with; the server is not asked."""
    config = context.config
    if not config.kube_enabled:
        return Finding("Kubernetes", Status.NOTE, "not asked for (--kube.enable)")
    # Heavy, and wanted on few hosts.
    from kepler_ebpf.names.kubernetes.start import server_address  # noqa: PLC0415
    from kepler_ebpf.wiring.kubernetes import pod_source_options  # noqa: PLC0415

    try:
        address = server_address(pod_source_options(config))
    except KeplerError as error:
        return from_error("Kubernetes", error)
    detail = f"credentials for {address}, mode {config.kube_mode}"
    return Finding("Kubernetes", Status.OK, detail, required=True)


def addresses(context: CheckContext) -> Finding:
    """Judge whether metrics can be served where they should be; each address is bound briefly."""
    config = context.config
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


def meters(context: CheckContext) -> list[Finding]:
    """Judge each meter; a measuring one is missed only where it was asked for by name."""
    try:
        info = read_cpu_info(context.config.procfs, context.config.sysfs)
        with Topology(context.config.sysfs) as topology:
            request = meter_request(context.config, topology, info)
    except SetupError as error:
        return [from_error("meters", error)]
    return [
        _meter(probe, required=probe.name == context.config.meter)
        for probe in probe_meters(request)
    ]


def _meter(probe: MeterProbe, *, required: bool) -> Finding:
    absent = Status.LACK if required else Status.NOTE
    status = Status.OK if probe.available else absent
    return Finding(f"meter {probe.name}", status, probe.detail, probe.remedy, required)


CHECKS: tuple[Callable[[CheckContext], Finding], ...] = (
    kernel.user_namespace,
    kernel.unprivileged_bpf,
    kernel.tracefs,
    kernel.locked_memory,
    kernel.kernel_types,
    kernel.libbpf_library,
    kernel.bpf_object,
    kernel.bcc_module,
    kernel.headers,
    kernel.clang,
    kernel.bpf_programs,
    cpus,
    cgroup_hierarchy,
    process_view,
    addresses,
    kubernetes,
)
