"""What `check` judges of the kernel, the rights of this process, and the loading of programs."""

from __future__ import annotations

import dataclasses
import resource
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kepler_ebpf.check.finding import CheckContext, Finding, lack, note, ok
from kepler_ebpf.errors import SetupError
from kepler_ebpf.host import facts
from kepler_ebpf.host.topology import Topology
from kepler_ebpf.kernel import libbpf, programs
from kepler_ebpf.kernel.loaders import bcc, co_re
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.wiring.measuring import choose_hierarchy, open_tracker, start_tracker

MIN_KERNEL = (5, 10)
CHARGED_MAPS_KERNEL = (5, 11)
"""From this version BPF maps count as the cgroup's memory; before, as locked memory."""


# --- the kernel and this process's rights -------------------------------------------------------


def kernel(context: CheckContext) -> Finding:
    """Judge the kernel's version."""
    oldest = ".".join(map(str, MIN_KERNEL))
    if context.kernel >= MIN_KERNEL:
        return ok(f"{context.release} ({oldest} or later is needed)")
    return lack(
        f"{context.release} is too old",
        f"use Linux {oldest} or later: it can run a BPF program on a chosen CPU, which closes "
        "intervals",
        required=True,
    )


@dataclass(frozen=True, slots=True)
class Need:
    """What a capability is for; CAP_SYS_ADMIN may replace a ``required`` one."""

    capability: str
    purpose: str
    without: str
    required: bool = False


NEEDS = (
    Need("CAP_BPF", "load BPF programs and maps", "nothing can be measured", required=True),
    Need(
        "CAP_PERFMON",
        "attach to the scheduler's tracepoints and read the power PMU",
        "nothing can be measured",
        required=True,
    ),
    Need(
        "CAP_DAC_READ_SEARCH",
        "find a cgroup by its id at once, and read RAPL counters when not root",
        "the cgroup tree is walked instead, and RAPL counters are for root only",
    ),
    Need(
        "CAP_SYS_PTRACE",
        "read which executable a process of another user runs",
        "processes of other users have only their short name",
    ),
)


def capability(need: Need, context: CheckContext) -> Finding:
    """Judge a capability by its purpose."""
    if need.capability in context.capabilities:
        return ok(f"held, to {need.purpose}", required=need.required)
    if need.required and context.may(need.capability):
        return ok("CAP_SYS_ADMIN includes it", required=True)
    return lack(
        f"not held: {need.without}",
        f"run as root, or grant {need.capability} to {need.purpose}",
        required=need.required,
    )


def administrator(context: CheckContext) -> Finding:
    """Judge CAP_SYS_ADMIN, which only the kernel's statistics need."""
    purpose = "needed only to turn on the kernel's BPF statistics (--bpf-stats)"
    if "CAP_SYS_ADMIN" in context.capabilities:
        return ok(f"held; {purpose}")
    if not context.config.bpf_stats:
        return note(f"not held; {purpose}")
    remedy = "grant it, or set the sysctl kernel.bpf_stats_enabled=1 and leave --bpf-stats out"
    return lack(f"not held; {purpose}", remedy, required=True)


def profile(context: CheckContext) -> Finding:
    """Show what this process's rights mean for a host that tenants share."""
    ways = {"CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"} & context.capabilities
    if "CAP_SYS_ADMIN" in context.capabilities:
        return _advice(
            "privileged: who takes this process over has the host",
            "least-privilege is enough (deploy/README.md); multi-tenant where tenants share a host",
        )
    if ways:
        return _advice(
            "least-privilege: who takes this process over reads all files and memory of the host",
            "where tenants share the host, the profile multi-tenant (deploy/README.md)",
        )
    return ok(
        "multi-tenant: who takes this process over reads no files of others, but all memory by BPF"
        " until it measures; as user 0 it writes into processes of root's without capabilities"
    )


def _advice(detail: str, remedy: str) -> Finding:
    return dataclasses.replace(note(detail), remedy=remedy)


def user_namespace(context: CheckContext) -> Finding:
    """Judge whether this process's capabilities are the host's: BPF needs those."""
    if facts.is_host_user_namespace(context.config.procfs):
        return ok("the host's", required=True)
    return lack(
        "not the host's: capabilities of another one are not valid for BPF",
        "run outside of it: as the host's root, or in a container that is not rootless",
        required=True,
    )


def unprivileged_bpf(context: CheckContext) -> Finding:
    """Show the host's policy on BPF, which does not bind a process with CAP_BPF."""
    path = Path(context.config.procfs, "sys/kernel/unprivileged_bpf_disabled")
    meanings = {"0": "any process may use BPF", "1": "CAP_BPF needed", "2": "CAP_BPF needed"}
    value = facts.read_text(path) or "unreadable"
    meaning = meanings.get(value, "policy unknown")
    return note(f"{value} ({meaning}); kepler-ebpf needs CAP_BPF in any case")


def tracefs(context: CheckContext) -> Finding:
    """Show whether tracefs is mounted, which is not needed."""
    where = facts.mount_point(context.config.procfs, "tracefs")
    detail = f"mounted at {where}" if where else "not mounted"
    return note(f"{detail}; raw tracepoints do not need it")


def locked_memory(context: CheckContext) -> Finding:
    """Judge the limit of locked memory, which binds BPF maps on old kernels."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if context.kernel >= CHARGED_MAPS_KERNEL:
        return note("its limit does not bind BPF on this kernel")
    if limit == resource.RLIM_INFINITY or context.may("CAP_SYS_RESOURCE"):
        return ok("no limit, or one that may be raised")
    return lack(
        f"limited to {limit} bytes, which binds BPF maps on this kernel",
        "raise it (ulimit -l unlimited, LimitMEMLOCK=infinity), or grant CAP_SYS_RESOURCE",
        required=True,
    )


# --- loading the programs -----------------------------------------------------------------------


def kernel_types(context: CheckContext) -> Finding:
    """Judge the kernel's type information, by which the compiled programs are fitted to it."""
    remedy = "use a kernel with CONFIG_DEBUG_INFO_BTF, or --bpf-loader bcc with its headers"
    return _needed_by_core(context, co_re.KERNEL_BTF, remedy)


def libbpf_library(_: CheckContext) -> Finding:
    """Judge the C library that both loaders use."""
    libbpf.library()
    return ok(libbpf.LIBRARY, required=True)


def bpf_object(context: CheckContext) -> Finding:
    """Judge whether the programs were compiled when this was installed."""
    remedy = "compile it with scripts/build-bpf, or use --bpf-loader bcc"
    return _needed_by_core(context, programs.bpf_directory() / co_re.OBJECT, remedy)


def _needed_by_core(context: CheckContext, path: Path, remedy: str) -> Finding:
    if path.exists():
        return ok(str(path))
    is_needed = context.config.bpf_loader == "core"
    return lack(f"{path} is missing", remedy, required=is_needed)


def bcc_module(context: CheckContext) -> Finding:
    """Judge bcc, which only its own loader needs; it is not imported."""
    reason = bcc.unusable_reason()
    if reason is None:
        return ok("importable, for --bpf-loader bcc")
    detail = f"{reason}; needed only for --bpf-loader bcc"
    if context.config.bpf_loader != "bcc":
        return note(detail)
    return lack(detail, "install it, or use --bpf-loader core", required=True)


def headers(_: CheckContext) -> Finding:
    """Show whether kernel headers are installed, which only bcc without BTF needs."""
    return note(f"{bcc.headers_directory() or 'not installed'}; bcc needs them only without BTF")


def clang(_: CheckContext) -> Finding:
    """Show whether clang is installed, which only the compilation of the BPF object needs."""
    path = shutil.which("clang") or "not installed"
    return note(f"{path}; needed only to compile the BPF object")


def bpf_programs(context: CheckContext) -> Finding:
    """Load, attach and run the programs for a moment, with the loader that `run` would choose."""
    config = context.config
    with ExitStack() as stack:
        topology = stack.enter_context(Topology(config.sysfs))
        try:
            hierarchy = choose_hierarchy(config)
        except SetupError:
            # "cgroups" is a finding of its own; this one is whether all else works.
            hierarchy = CgroupHierarchy("v2", None, None)
        tracker = open_tracker(stack, config, topology, hierarchy)
        start_tracker(tracker, config, hierarchy)
    return ok(f"loaded, attached and run by {tracker.loader}", required=True)
