"""The verb `check`: every finding about this host, each lack with its remedy.

The BPF programs are loaded and run, and the addresses bound, for a moment: only the kernel knows
whether it allows that.
"""

from __future__ import annotations

import dataclasses
import os
import ssl
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException

import click

from kepler_ebpf.check import finding, kernel
from kepler_ebpf.check.finding import CheckContext, Finding, Status, from_error, lack, note, ok
from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import KeplerError, ReadError, SetupError
from kepler_ebpf.exporters.listen import dial, open_listeners
from kepler_ebpf.host import facts
from kepler_ebpf.host.topology import Topology, read_cpu_info
from kepler_ebpf.meters.choice import MeterProbe, probe_meters
from kepler_ebpf.names.runtime_dirs import KINDS, directories
from kepler_ebpf.wiring.exporters import open_access
from kepler_ebpf.wiring.measuring import choose_hierarchy, meter_request, require_host_clocks
from kepler_ebpf.wiring.view import hidden_cgroups, hidden_processes

Check = Callable[[CheckContext], Finding]

ANSWER_S = 3.0
"""Seconds that an exporter on our address has to answer."""


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
    if problem := hidden_cgroups(chosen):
        return lack(problem.problem, problem.remedy)
    kind = "v2" if chosen.v1_root is None else f"v1 controller {chosen.name}"
    return ok(f"{kind} at {chosen.v1_root or chosen.v2_root}")


def process_view(context: CheckContext) -> Finding:
    """Judge whether procfs has the host's processes."""
    procfs = context.config.procfs
    if problem := hidden_processes(procfs):
        return lack(problem.problem, problem.remedy)
    return ok(f"{procfs} shows the host's processes")


def kubernetes(context: CheckContext) -> Finding:
    """Get the node's pods once: credentials, certificate and rights are judged by the server."""
    config = context.config
    if not config.kube_enabled:
        return note("not wanted (--kube.enable)")
    # Heavy, and wanted on few hosts.
    from kepler_ebpf.names.kubernetes.start import probe_pod_source  # noqa: PLC0415
    from kepler_ebpf.wiring.kubernetes import pod_source_options  # noqa: PLC0415

    try:
        url, pods = probe_pod_source(pod_source_options(config))
    except ReadError as error:
        # `run` starts all the same, and tries again.
        return lack(f"pods have no names: {error.problem}", error.remedy)
    node = config.kube_node_name
    if not pods:
        remedy = "give the name that `kubectl get nodes` shows (--kube.node-name)"
        return lack(f"{url} knows no pod on the node {node}", remedy)
    return ok(f"{url} knows {pods} pod(s) on the node {node}")


def addresses(context: CheckContext) -> Finding:
    """Bind each address on which metrics would be served, for a moment.

    One that a kepler-ebpf serves already is no lack: in its container that is the `run` beside us.
    """
    config = context.config
    if not config.prometheus_enabled:
        return note("none wanted (--no-exporter.prometheus)")
    open_access(config).close()
    if config.systemd_socket:
        return note("those of systemd's socket unit (--web.systemd-socket)")
    return ok("; ".join(map(_address, config.listen_addresses)), required=True)


def _address(address: str) -> str:
    """Return in words what becomes of *address*; raises as ``open_listeners`` does."""
    try:
        for _, listener in open_listeners([address]):
            listener.close()
    except SetupError:
        if not _serves_here(address):
            raise
        return f"{address} is served by a kepler-ebpf that runs now"
    return f"{address} can be served on"


def _serves_here(address: str) -> bool:
    """Whether a kepler-ebpf answers on *address*, without or with TLS."""
    # It only says what it is, and nothing is said to it.
    unverified = ssl._create_unverified_context()  # noqa: S323, SLF001
    for wrap in (lambda plain: plain, unverified.wrap_socket):
        with suppress(OSError, HTTPException), closing(HTTPConnection("localhost")) as connection:
            connection.sock = wrap(dial(address, ANSWER_S))
            connection.request("HEAD", "/healthz")
            if connection.getresponse().getheader("Server") == "kepler-ebpf":
                return True
    return False


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
