"""What `check` says about the kernel, this process's rights and the ways into the kernel."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kepler_ebpf.check.finding import CheckContext, Finding, Status, from_error
from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import KeplerError, SetupError
from kepler_ebpf.host import facts
from kepler_ebpf.host.topology import Topology
from kepler_ebpf.kernel import libbpf, programs
from kepler_ebpf.kernel.loaders import bcc, co_re
from kepler_ebpf.names.cgroups.paths import CgroupHierarchy
from kepler_ebpf.wiring.tracker import choose_hierarchy, open_account, start_account

OLDEST_KERNEL = (5, 10)
CHARGED_MAPS_KERNEL = (5, 11)
"""From here on BPF maps count as the cgroup's memory; before, as locked memory."""


# --- the kernel and this process's rights -------------------------------------------------------


def kernel(context: CheckContext) -> Finding:
    """Judge the kernel's age."""
    oldest = ".".join(map(str, OLDEST_KERNEL))
    if context.kernel >= OLDEST_KERNEL:
        return Finding("kernel", Status.OK, f"{context.release} ({oldest} or later is needed)")
    return Finding(
        "kernel",
        Status.LACK,
        f"{context.release} is too old",
        f"Linux {oldest} or later: it runs a BPF program on a chosen CPU, which closes intervals",
        required=True,
    )


@dataclass(frozen=True, slots=True)
class Need:
    """What a capability is for; ``required`` ones may be replaced by CAP_SYS_ADMIN."""

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


def capabilities(context: CheckContext) -> list[Finding]:
    """Judge each capability by what it is for."""
    return [_capability(context, need) for need in NEEDS] + [_administrator(context)]


def _capability(context: CheckContext, need: Need) -> Finding:
    if need.capability in context.capabilities:
        return Finding(need.capability, Status.OK, f"held, to {need.purpose}", "", need.required)
    if need.required and context.may(need.capability):
        return Finding(need.capability, Status.OK, "CAP_SYS_ADMIN includes it", "", need.required)
    return Finding(
        need.capability,
        Status.LACK,
        f"not held: {need.without}",
        f"run as root, or grant {need.capability} to {need.purpose}",
        need.required,
    )


def _administrator(context: CheckContext) -> Finding:
    name, purpose = "CAP_SYS_ADMIN", "turn on the kernel's BPF statistics (--bpf-stats)"
    if name in context.capabilities:
        return Finding(name, Status.OK, f"held; needed only to {purpose}")
    detail = f"not held; needed only to {purpose}"
    if not context.config.bpf_stats:
        return Finding(name, Status.NOTE, detail)
    remedy = "grant it, or set the sysctl kernel.bpf_stats_enabled=1 and leave --bpf-stats out"
    return Finding(name, Status.LACK, detail, remedy, required=True)


def user_namespace(context: CheckContext) -> Finding:
    """Judge whether this process's capabilities are the host's: BPF counts no others."""
    if facts.is_host_user_namespace(context.config.procfs):
        return Finding("user namespace", Status.OK, "the host's", required=True)
    return Finding(
        "user namespace",
        Status.LACK,
        "not the host's: capabilities held here are not valid for BPF",
        "run outside of it: as the host's root, or in a container that is not rootless",
        required=True,
    )


def unprivileged_bpf(context: CheckContext) -> Finding:
    """Tell the host's policy on BPF, which does not bind who holds CAP_BPF."""
    path = Path(context.config.procfs, "sys/kernel/unprivileged_bpf_disabled")
    meanings = {"0": "anyone may use BPF", "1": "CAP_BPF needed", "2": "CAP_BPF needed"}
    value = facts.read_text(path) or "unreadable"
    meaning = meanings.get(value, "policy unknown")
    detail = f"{value} ({meaning}); kepler-ebpf needs CAP_BPF in any case"
    return Finding("unprivileged BPF", Status.NOTE, detail)


def tracefs(context: CheckContext) -> Finding:
    """Tell whether tracefs is there, which is not needed."""
    where = next(facts.mount_points(context.config.procfs, "tracefs"), None)
    detail = f"mounted at {where}" if where else "not mounted"
    return Finding("tracefs", Status.NOTE, f"{detail}; not needed, raw tracepoints do without")


def locked_memory(context: CheckContext) -> Finding:
    """Judge the limit of locked memory, which binds BPF maps on old kernels."""
    limit = facts.locked_memory_limit_bytes()
    if context.kernel >= CHARGED_MAPS_KERNEL:
        return Finding("locked memory", Status.NOTE, "its limit does not bind BPF on this kernel")
    if limit is None or context.may("CAP_SYS_RESOURCE"):
        return Finding("locked memory", Status.OK, "no limit, or one that may be raised")
    return Finding(
        "locked memory",
        Status.LACK,
        f"limited to {limit} bytes, which binds BPF maps on this kernel",
        "raise it (ulimit -l unlimited, LimitMEMLOCK=infinity), or grant CAP_SYS_RESOURCE",
        required=True,
    )


# --- the ways into the kernel -------------------------------------------------------------------


def kernel_types(context: CheckContext) -> Finding:
    """Judge the kernel's type information, which fits the compiled programs to it."""
    if co_re.KERNEL_BTF.exists():
        return Finding("kernel BTF", Status.OK, str(co_re.KERNEL_BTF))
    return Finding(
        "kernel BTF",
        Status.LACK,
        f"{co_re.KERNEL_BTF} is missing",
        "a kernel with CONFIG_DEBUG_INFO_BTF, or --bpf-loader bcc with this kernel's headers",
        required=context.config.bpf_loader == "core",
    )


def libbpf_library(_: CheckContext) -> Finding:
    """Judge the C library that both loaders work through."""
    try:
        libbpf.library()
    except SetupError as error:
        return from_error("libbpf", error)
    return Finding("libbpf", Status.OK, libbpf.LIBRARY, required=True)


def bpf_object(context: CheckContext) -> Finding:
    """Judge whether the programs were compiled when this was installed."""
    path = programs.bpf_directory() / co_re.OBJECT
    if path.exists():
        return Finding("BPF object", Status.OK, str(path))
    return Finding(
        "BPF object",
        Status.LACK,
        f"{path} is missing",
        "compile it with scripts/build-bpf, or use --bpf-loader bcc",
        required=context.config.bpf_loader == "core",
    )


def bcc_module(context: CheckContext) -> Finding:
    """Judge bcc, which only the other loader uses; it is not imported."""
    reason = bcc.unusable_reason()
    if reason is None:
        return Finding("bcc", Status.OK, "importable, for --bpf-loader bcc")
    wanted = context.config.bpf_loader == "bcc"
    status = Status.LACK if wanted else Status.NOTE
    return Finding("bcc", status, f"{reason}; needed only for --bpf-loader bcc", required=wanted)


def headers(_: CheckContext) -> Finding:
    """Tell whether kernel headers are there, which only bcc without BTF needs."""
    directory = bcc.headers_directory()
    detail = str(directory) if directory else "not installed"
    return Finding("kernel headers", Status.NOTE, f"{detail}; bcc needs them only without BTF")


def clang(_: CheckContext) -> Finding:
    """Tell whether clang is there, which only compiling the BPF object needs."""
    path = shutil.which("clang") or "not installed"
    return Finding("clang", Status.NOTE, f"{path}; needed only to compile the BPF object")


def bpf_programs(context: CheckContext) -> Finding:
    """Load, attach and run the programs for a moment, all being chosen as `run` does."""
    try:
        used = _try_programs(context.config)
    except KeplerError as error:
        return from_error("BPF programs", error)
    return Finding("BPF programs", Status.OK, f"loaded, attached and run by {used}", required=True)


def _try_programs(config: Config) -> str:
    with ExitStack() as stack:
        topology = stack.enter_context(Topology(config.sysfs))
        hierarchy = _hierarchy(config)
        account, used = open_account(stack, config, topology, hierarchy)
        start_account(account, config, hierarchy)
    return used


def _hierarchy(config: Config) -> CgroupHierarchy:
    try:
        return choose_hierarchy(config)
    except SetupError:
        # A finding of its own tells it: here it is of interest whether all else would work.
        return CgroupHierarchy("v2", None, None)
