"""The default loader: the object compiled at build time, fitted to this kernel by CO-RE."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from kepler_ebpf.errors import SetupError
from kepler_ebpf.kernel.layout import KNOBS
from kepler_ebpf.kernel.libbpf import describe_errno, last_errno, library
from kepler_ebpf.kernel.programs import (
    OPTIONAL,
    OPTIONAL_MAPS,
    RIGHTS,
    LoadRequest,
    Programs,
    bpf_directory,
)

OBJECT = "kepler.bpf.o"
KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")

Find = Callable[[int, bytes], int | None]

_HINTS = {
    errno.EPERM: RIGHTS,
    errno.EACCES: "the verifier refuses a program: report this with the kernel's version",
    errno.ENOMEM: "lower ebpf.mapEntries, or raise the memory limit",
    errno.EINVAL: "use Linux 5.10 or later",
    errno.ESRCH: "use Linux 5.10 or later: this kernel lacks a tracepoint or a type",
}


def unusable_reason() -> str | None:
    """Why this loader cannot work here, None if it can."""
    if not KERNEL_BTF.exists():
        return f"the kernel has no type information ({KERNEL_BTF} is missing)"
    path = bpf_directory() / OBJECT
    if not path.exists():
        return f"the compiled BPF object {path} is missing (scripts/build-bpf makes it)"
    return None


def load(request: LoadRequest) -> Programs:
    """Load the compiled object; SetupError names what the kernel or the host lacks."""
    reason = unusable_reason()
    if reason:
        raise SetupError(f"the CO-RE loader cannot be used: {reason}", "use --bpf-loader bcc")
    path = bpf_directory() / OBJECT
    lib = library()
    handle = lib.bpf_object__open_file(str(path).encode(), None)
    if not handle:
        raise SetupError(
            f"{path} is not a BPF object ({describe_errno(last_errno())})",
            "rebuild it with scripts/build-bpf, or install the package again",
        )
    try:
        _configure(handle, request)
        _load(handle)
        maps = _descriptors(handle, request.maps, lib.bpf_object__find_map_by_name, lib.bpf_map__fd)
        find = lib.bpf_object__find_program_by_name
        programs = _descriptors(handle, request.programs, find, lib.bpf_program__fd)
    except SetupError:
        lib.bpf_object__close(handle)
        raise
    return Programs(
        loader="core",
        maps=maps,
        programs=programs,
        by_type_info=frozenset({"on_switch", "on_fork", "on_free"}),
        unload=lambda: lib.bpf_object__close(handle),
    )


def _configure(handle: int, request: LoadRequest) -> None:
    lib = library()
    sizes = {
        "slots": request.cpus,
        "tasks_0": request.task_entries,
        "tasks_1": request.task_entries,
        "execs": request.execs_bytes,
        "ends": request.ends_bytes,
        "jobs": request.job_entries,
    }
    find_map = lib.bpf_object__find_map_by_name
    if request.samples_bytes:
        sizes["samples"] = request.samples_bytes
    for name, entries in sizes.items():
        lib.bpf_map__set_max_entries(_found(handle, name, find_map), entries)
    for name in OPTIONAL_MAPS:
        lib.bpf_map__set_autocreate(_found(handle, name, find_map), bool(request.samples_bytes))
    for name in OPTIONAL:
        program = _found(handle, name, lib.bpf_object__find_program_by_name)
        lib.bpf_program__set_autoload(program, name in request.programs)
    knobs = np.array((request.subsys_word, request.cpus), KNOBS)
    constants = _found(handle, ".rodata.knobs", find_map)
    lib.bpf_map__set_initial_value(constants, knobs.ctypes.data, knobs.nbytes)


def _load(handle: int) -> None:
    if library().bpf_object__load(handle):
        code = last_errno()
        hint = _HINTS.get(code, "see `kepler-ebpf check`")
        raise SetupError(f"the kernel refuses the BPF programs ({describe_errno(code)})", hint)


def _descriptors(
    handle: int, names: Iterable[str], find: Find, descriptor: Callable[[int], int]
) -> dict[str, int]:
    return {name: descriptor(_found(handle, name, find)) for name in names}


def _found(handle: int, name: str, find: Find) -> int:
    """Return the map or program *name* of the object, which an older one may lack."""
    found = find(handle, name.encode())
    if not found:
        problem = f"{bpf_directory() / OBJECT} is of another version: it has no {name}"
        raise SetupError(problem, "rebuild it with scripts/build-bpf, or install the package again")
    return found
