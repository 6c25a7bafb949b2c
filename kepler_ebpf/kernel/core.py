"""The default loader: the object compiled at build time, fitted to this kernel by CO-RE."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path
from typing import TYPE_CHECKING

from kepler_ebpf.errors import SetupError
from kepler_ebpf.kernel.libbpf import describe_errno, last_errno, library
from kepler_ebpf.kernel.programs import HOOKS, MAPS, ON_DEMAND, LoadRequest, Programs, bpf_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

OBJECT = "kepler.bpf.o"
KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")

_HINTS = {
    errno.EPERM: "run as root, or with CAP_BPF and CAP_PERFMON",
    errno.EACCES: "the verifier refused a program: please report the kernel version",
    errno.ENOMEM: "lower ebpf.mapEntries, or raise the memory limit",
    errno.EINVAL: "Linux 5.10 or later is needed",
    errno.ESRCH: "a tracepoint or type is missing in this kernel: Linux 5.10 or later is needed",
}


def unusable_reason(path: Path | None = None) -> str | None:
    """Why this loader cannot work here, None if it can."""
    if not KERNEL_BTF.exists():
        return f"the kernel has no type information ({KERNEL_BTF} is missing)"
    path = path or bpf_directory() / OBJECT
    if not path.exists():
        return f"the compiled BPF object {path} is missing (scripts/build-bpf makes it)"
    return None


def load(request: LoadRequest) -> Programs:
    """Load the compiled object; SetupError says what the kernel or the host lacks."""
    reason = unusable_reason()
    if reason:
        raise SetupError(f"the CO-RE loader cannot be used: {reason}")
    path = bpf_directory() / OBJECT
    lib = library()
    handle = lib.bpf_object__open_file(str(path).encode(), None)
    if not handle:
        raise SetupError(f"{path} is not a BPF object ({describe_errno(last_errno())}): rebuild it")
    try:
        _configure(handle, request)
        _load(handle)
        maps = _descriptors(handle, MAPS, lib.bpf_object__find_map_by_name, lib.bpf_map__fd)
        names = (*HOOKS, *ON_DEMAND)
        find = lib.bpf_object__find_program_by_name
        programs = _descriptors(handle, names, find, lib.bpf_program__fd)
    except SetupError:
        lib.bpf_object__close(handle)
        raise
    return Programs(
        loader="core",
        maps=maps,
        programs=programs,
        by_type_info=frozenset({"on_switch"}),
        unload=lambda: lib.bpf_object__close(handle),
    )


def _configure(handle: int, request: LoadRequest) -> None:
    lib = library()
    sizes = {
        "slots": request.cpus,
        "tasks_0": request.task_entries,
        "tasks_1": request.task_entries,
    }
    for name, entries in sizes.items():
        found = lib.bpf_object__find_map_by_name(handle, name.encode())
        lib.bpf_map__set_max_entries(found, entries)
    if request.v1_subsys is not None:
        knob = ctypes.c_uint32(request.v1_subsys)
        found = lib.bpf_object__find_map_by_name(handle, b".rodata.knobs")
        lib.bpf_map__set_initial_value(found, ctypes.byref(knob), ctypes.sizeof(knob))


def _load(handle: int) -> None:
    if library().bpf_object__load(handle):
        code = last_errno()
        hint = _HINTS.get(code, "see `kepler-ebpf check`")
        raise SetupError(
            f"the kernel refuses the BPF programs ({describe_errno(code)}): {hint}"
        )


def _descriptors(
    handle: int, names: Iterable[str], find: ctypes._CFuncPtr, descriptor: ctypes._CFuncPtr
) -> dict[str, int]:
    return {name: descriptor(find(handle, name.encode())) for name in names}
