"""The other loader: bcc compiles the same source at start.

For kernels without BTF, and for changing a program in the field. bcc wants kernel headers; where
there are none it gets a tree of a few stand-in files, and the kernel structs we read with the
offsets that the running kernel's BTF gives. Headers of another kernel are never used: they
compile and then read the wrong fields.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from kepler_ebpf.errors import SetupError
from kepler_ebpf.kernel.btf import Btf
from kepler_ebpf.kernel.loaders.co_re import KERNEL_BTF
from kepler_ebpf.kernel.programs import (
    ON_TIMER,
    RIGHTS,
    LoadRequest,
    Programs,
    bpf_directory,
)

DISTRIBUTION_PACKAGES = "/usr/lib/python3/dist-packages"
_COMPILE_REMEDY = "use --bpf-loader core, or report this with the versions of bcc and the kernel"

_STAND_INS = {
    "linux/kconfig.h": "#define CONFIG_BPF_SYSCALL 1\n#define CONFIG_64BIT 1\n",
    "linux/types.h": "".join(
        f"typedef {kind} {name}; typedef {kind} __{name};\n"
        for name, kind in (
            ("u8", "unsigned char"),
            ("s8", "signed char"),
            ("u16", "unsigned short"),
            ("s16", "short"),
            ("u32", "unsigned int"),
            ("s32", "int"),
            ("u64", "unsigned long long"),
            ("s64", "long long"),
        )
    )
    + "".join(
        f"typedef __u{bits} __{order}{bits};\n" for bits in (16, 32, 64) for order in ("be", "le")
    )
    + "typedef __u16 __sum16; typedef __u32 __wsum; typedef __u64 __aligned_u64;\n"
    "typedef int pid_t; typedef unsigned long size_t, uintptr_t; typedef _Bool bool;\n"
    "#define true 1\n#define false 0\n#define NULL ((void *)0)\n"
    "#define __always_inline inline __attribute__((always_inline))\n",
    "linux/version.h": "#define LINUX_VERSION_CODE {version}\n"
    "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))\n",
}
_EMPTY_STAND_INS = (
    "linux/log2.h",
    "linux/bpf_common.h",
    "asm/page.h",
    "uapi/linux/bpf.h",
    "uapi/linux/if_packet.h",
    "uapi/linux/if_ether.h",
)

_HEADER_TYPES = "".join(
    f"#include <linux/{name}.h>\n"
    for name in ("sched", "cgroup", "kernfs", "fs", "dcache", "mount", "mm_types")
) + (
    "struct mount { struct hlist_node mnt_hash; struct mount *mnt_parent; "
    "struct dentry *mnt_mountpoint; struct vfsmount mnt; };\n"
)
"""The kernel's own types; struct mount is in none of its headers, and begins like this."""

_STRUCT = re.compile(r"^struct (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\t(.+?)(\w+)(\[\d+\])?;$", re.MULTILINE)
_OWN_INCLUDE = re.compile(r'^#include "(\w+\.h)"\n', re.MULTILINE)


def headers_directory() -> Path | None:
    """The headers built for exactly the running kernel, None if they are not installed."""
    path = Path("/lib/modules") / os.uname().release / "build"
    return path if (path / "include/linux/kconfig.h").exists() else None


def unusable_reason() -> str | None:
    """Why this loader cannot work here, None if it can. Does not import bcc, which costs 70 MB."""
    if not any(Path(root, "bcc", "__init__.py").exists() for root in _search_path()):
        return (
            "the Python module bcc is not installed "
            "(Debian: python3-bpfcc; the package of that name on PyPI is another project)"
        )
    if not KERNEL_BTF.exists() and headers_directory() is None:
        return (
            f"the kernel has neither type information ({KERNEL_BTF}) nor headers for "
            f"{os.uname().release} installed"
        )
    return None


def load(request: LoadRequest) -> Programs:
    """Compile and load the source with bcc; SetupError carries its message."""
    reason = unusable_reason()
    if reason:
        raise SetupError(
            f"the bcc loader cannot be used: {reason}", "install it, or use --bpf-loader core"
        )
    bcc = _import_bcc()
    with tempfile.TemporaryDirectory(prefix="kepler-ebpf-") as scratch:
        types = _kernel_types(Path(scratch))
        module = _compile(bcc, types + _flatten("kepler.bpf.c"), request)
        try:
            programs = {name: _load_program(bcc, module, name) for name in request.programs}
        except SetupError:
            module.cleanup()
            raise
    maps = {name: int(module[name.encode()].map_fd) for name in request.maps}
    return Programs("bcc", maps, programs, frozenset(), module.cleanup)


def _search_path() -> list[str]:
    return [*sys.path, DISTRIBUTION_PACKAGES]


def _import_bcc() -> ModuleType:
    """Import the distribution's bcc, from a virtual environment too."""
    sys.path.append(DISTRIBUTION_PACKAGES)
    try:
        import bcc  # noqa: PLC0415
    except ImportError as error:
        raise SetupError(
            f"the Python module bcc does not load in Python {sys.version.split()[0]}: {error}",
            "install the distribution's python3-bpfcc and run with the distribution's Python",
        ) from error
    finally:
        sys.path.remove(DISTRIBUTION_PACKAGES)
    module: ModuleType = bcc
    return module


def _flatten(name: str) -> str:
    """Our source as one text: bcc rewrites only what stands in its main file."""
    text = (bpf_directory() / name).read_text()
    return _OWN_INCLUDE.sub(
        lambda match: (
            "" if match[1] in {"dialect_co_re.h", "kernel_types.h"} else _flatten(match[1])
        ),
        text,
    )


def _kernel_types(scratch: Path) -> str:
    headers = headers_directory()
    if headers is not None and not KERNEL_BTF.exists():
        os.environ["BCC_KERNEL_SOURCE"] = str(headers)
        return _HEADER_TYPES
    _write_stand_ins(scratch / "include")
    os.environ["BCC_KERNEL_SOURCE"] = str(scratch)
    with Btf.of_kernel() as btf:
        return types_with_offsets((bpf_directory() / "kernel_types.h").read_text(), btf)


def _write_stand_ins(include: Path) -> None:
    numbers = [int(part) for part in re.findall(r"\d+", os.uname().release)[:3]]
    version = (numbers[0] << 16) + (numbers[1] << 8) + min(numbers[2], 255)
    texts = dict.fromkeys(_EMPTY_STAND_INS, "") | _STAND_INS
    for name, text in texts.items():
        path = include / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#pragma once\n" + text.replace("{version}", str(version)))


def types_with_offsets(declarations: str, btf: Btf) -> str:
    """The structs of ``kernel_types.h`` with the fields where this kernel has them.

    Each field becomes a member of a union whose padding puts it at its offset, so the order of
    the declarations does not matter and nothing has to be sized. For a field that this kernel does
    not have ``NO_`` and its name is defined.
    """

    def struct(match: re.Match[str]) -> str:
        offsets = btf.offsets(match[1])
        fields = _FIELD.findall(match[2])
        missing = "".join(f"#define NO_{name}\n" for _, name, _ in fields if name not in offsets)
        members = "".join(
            f"\tstruct {{ char pad_{name}[{offsets[name]}]; {kind}{name}{array}; }}"
            " __attribute__((packed));\n"
            for kind, name, array in fields
            if name in offsets
        )
        return f"{missing}struct {match[1]} {{ union {{\n{members}}};\n}}"

    return _STRUCT.sub(struct, declarations).replace("#define CO_RE", "#define CO_RE //")


def _compile(bcc: ModuleType, source: str, request: LoadRequest) -> Any:
    flags = [
        "-DKEPLER_BCC",
        f"-DTASK_ENTRIES={request.task_entries}",
        f"-DCPU_ENTRIES={request.cpus}",
        f"-DEXECS_BYTES={request.execs_bytes}",
        f"-DENDS_BYTES={request.ends_bytes}",
        f"-DJOB_ENTRIES={request.job_entries}",
        f"-DV1_SUBSYS={request.subsys_word}u",
    ]
    if request.samples_bytes:
        flags.append(f"-DSAMPLES_BYTES={request.samples_bytes}")
    with _captured_stderr() as captured:
        try:
            return bcc.BPF(text=source.encode(), cflags=flags)
        except Exception as error:  # bcc raises bare Exception
            text = captured() or str(error)
            remedy = RIGHTS if os.strerror(errno.EPERM) in text else _COMPILE_REMEDY
            raise SetupError(f"bcc cannot make the programs: {_one_line(text)}", remedy) from error


def _load_program(bcc: ModuleType, module: Any, name: str) -> int:
    kind = bcc.BPF.PERF_EVENT if name in ON_TIMER else bcc.BPF.RAW_TRACEPOINT
    with _captured_stderr() as captured:
        try:
            return int(module.load_func(name.encode(), kind).fd)
        except Exception as error:  # bcc raises bare Exception
            text = _one_line(captured() or str(error))
            raise SetupError(
                f"the kernel refuses the BPF program {name}: {text}", RIGHTS
            ) from error


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Catch what the compiler writes to descriptor 2; yields a function that returns it."""
    with tempfile.TemporaryFile() as sink:
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)

        def captured() -> str:
            sink.seek(0)
            return sink.read().decode(errors="replace").strip()[:2000]

        try:
            yield captured
        finally:
            os.dup2(saved, 2)
            os.close(saved)
