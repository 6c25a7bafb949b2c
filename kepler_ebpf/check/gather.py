"""The verb `check`: every finding about this host, each lack with its remedy.

The BPF programs are loaded and run, and the addresses bound, for a moment: only the kernel knows
whether it allows that.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import click

from kepler_ebpf.check import finding, kernel
from kepler_ebpf.check.finding import CheckContext, Finding, Status, from_error, lack, note, ok
from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import KeplerError
from kepler_ebpf.exporters.listen import open_listeners
from kepler_ebpf.host import facts
from kepler_ebpf.host.topology import Topology, read_cpu_info
from kepler_ebpf.meters.choice import MeterProbe, probe_meters
from kepler_ebpf.names.runtime_dirs import KINDS, directories
from kepler_ebpf.wiring.exporters import open_access
from kepler_ebpf.wiring.measuring import choose_hierarchy, meter_request, require_host_clocks

Check = Callable[[CheckContext], Finding]


def check(config: Config, *, as_json: bool) -> int:
    """Print the findings as a table or as JSON; return 0 where `run` can work, else 1."""
    findings = gather(config)
    click.echo(finding.to_json(findings) if as_json else finding.to_table(findings))
    return 0 if finding.can_run(findings) else 1


def gather(config: Config) -> list[Finding]:
    """Judge everything that `run` with this *config* would use."""
    context = CheckContext(config, os.uname().release, facts.effective_capabilities(config.procfs))
    return [
        *(judge(name, look, context, is_trial=False) for name, look in LOOKS.items()),
        *(judge(name, trial, context, is_trial=True) for name, trial in TRIALS.items()),
        *meters(context),
    ]


def judge(name: str, check: Check, context: CheckContext, *, is_trial: bool) -> Finding:
    """Make the finding *name*; an error in a trial keeps `run` from working."""
    try:
        return dataclasses.replace(check(context), name=name)
    except (KeplerError, OSError) as error:
        return from_error(name, error, required=is_trial)


def clocks(context: CheckContext) -> Finding:
    """Compare the clocks of this process with the kernel's."""
    require_host_clocks(context.config.procfs)
    return ok("the host's", required=True)


def cpus(context: CheckContext) -> Finding:
    """Read the host's CPUs and sockets."""
    read_cpu_info(context.config.procfs, context.config.sysfs)
    with Topology(context.config.sysfs) as topology:
        return ok(f"{len(topology.online())} online on {topology.sockets} socket(s)", required=True)


def cgroup_hierarchy(context: CheckContext) -> Finding:
    """Choose the hierarchy in which containers are looked for."""
    chosen = choose_hierarchy(context.config)
    where = chosen.v1_root or chosen.v2_root
    if where is None:
        remedy = "mount the host's /sys/fs/cgroup here"
        return lack("none mounted: containers have no names", remedy)
    try:
        os.scandir(where).close()
    except OSError as error:
        return lack(f"{where} cannot be read ({error.strerror}): containers have no names", remedy)
    kind = "v2" if chosen.v1_root is None else f"v1 controller {chosen.name}"
    return ok(f"{kind} at {where}")


def process_view(context: CheckContext) -> Finding:
    """Judge whether procfs has the host's processes: the kernel side counts by their PIDs."""
    procfs = context.config.procfs
    if facts.read_text(Path(procfs, "1/stat")) is None:
        return lack(
            f"{procfs} hides other users' processes: they have only their short name",
            "mount it without hidepid, or grant CAP_SYS_PTRACE",
        )
    if facts.shows_kernel_threads(procfs):
        return ok(f"{procfs} shows the host's processes")
    return lack(
        f"{procfs} shows a container's processes: others have only their short name",
        "share the host's PID namespace (hostPID: true, --pid=host), or mount the host's /proc "
        "and give it with --host.procfs",
    )


def kubernetes(context: CheckContext) -> Finding:
    """Judge whether there are credentials to learn of pods with; no request is sent."""
    config = context.config
    if not config.kube_enabled:
        return note("not wanted (--kube.enable)")
    # Heavy, and wanted on few hosts.
    from kepler_ebpf.names.kubernetes.start import server_address  # noqa: PLC0415
    from kepler_ebpf.wiring.kubernetes import pod_source_options  # noqa: PLC0415

    address = server_address(pod_source_options(config))
    return ok(f"credentials for {address}, mode {config.kube_mode}", required=True)


def addresses(context: CheckContext) -> Finding:
    """Bind each address on which metrics would be served, for a moment."""
    config = context.config
    if not config.prometheus_enabled:
        return note("none wanted (--no-exporter.prometheus)")
    open_access(config).close()
    for _, listener in open_listeners(config.listen_addresses):
        listener.close()
    return ok(f"{', '.join(config.listen_addresses)} can be served on", required=True)


def container_names(context: CheckContext) -> Finding:
    """Judge whether the files that container runtimes keep can be read: names are in them."""
    root, readable = context.config.host_root, []
    try:
        os.scandir(root).close()
        for directory in (item for kind in KINDS for item in directories(kind, root)):
            with suppress(FileNotFoundError, NotADirectoryError):
                os.scandir(directory).close()
                readable.append(directory)
    except OSError as error:
        return lack(
            f"{error.filename} cannot be read ({error.strerror}): containers have only a short id",
            "run as root, or grant CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH and lift AppArmor's "
            "profile from kepler-ebpf",
        )
    return ok(", ".join(readable)) if readable else note(f"no container runtime below {root}")


def meters(context: CheckContext) -> list[Finding]:
    """Judge each meter that this host may have; it is missed only where `run` must have it."""
    config = context.config
    try:
        with Topology(config.sysfs) as topology:
            request = meter_request(config, topology, read_cpu_info(config.procfs, config.sysfs))
        return [_meter(probe) for probe in probe_meters(request)]
    except (KeplerError, OSError) as error:
        return [from_error("meters", error, required=True)]


def _meter(probe: MeterProbe) -> Finding:
    absent = Status.LACK if probe.is_required else Status.NOTE
    status = Status.OK if probe.available else absent
    return Finding(f"meter {probe.name}", status, probe.detail, probe.remedy, probe.is_required)


LOOKS: dict[str, Check] = {
    "kernel": kernel.kernel,
    "user namespace": kernel.user_namespace,
    "unprivileged BPF": kernel.unprivileged_bpf,
    "tracefs": kernel.tracefs,
    "locked memory": kernel.locked_memory,
    "kernel BTF": kernel.kernel_types,
    "BPF object": kernel.bpf_object,
    "bcc": kernel.bcc_module,
    "kernel headers": kernel.headers,
    "clang": kernel.clang,
    "host PIDs": process_view,
    "container names": container_names,
    **{need.capability: partial(kernel.capability, need) for need in kernel.NEEDS},
    "CAP_SYS_ADMIN": kernel.administrator,
    "profile": kernel.profile,
}
"""Facts about the host, by the name of their finding."""

TRIALS: dict[str, Check] = {
    "libbpf": kernel.libbpf_library,
    "BPF programs": kernel.bpf_programs,
    "clocks": clocks,
    "CPUs": cpus,
    "cgroups": cgroup_hierarchy,
    "addresses": addresses,
    "Kubernetes": kubernetes,
}
"""What `run` does at its start, through the same code: an error here would end `run`."""
