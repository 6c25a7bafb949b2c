"""The few calls of the system's libbpf that we use, through ctypes, with its errors as ours.

Nothing here depends on our programs: objects, maps, batches, test runs and BTF only.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

import numpy as np

from kepler_ebpf.errors import ReadError, SetupError

LIBRARY = "libbpf.so.1"
_RUN_ON_CPU = 1
_PRINTER = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

_POINTER_CALLS = {
    "bpf_object__open_file": [c_char_p, c_void_p],
    "bpf_object__find_map_by_name": [c_void_p, c_char_p],
    "bpf_object__find_program_by_name": [c_void_p, c_char_p],
    "btf__load_vmlinux_btf": [],
    "btf__parse_elf": [c_char_p, c_void_p],
    "btf__type_by_id": [c_void_p, c_uint32],
    "btf__name_by_offset": [c_void_p, c_uint32],
}
_INT_CALLS = {
    "bpf_object__load": [c_void_p],
    "bpf_map__set_max_entries": [c_void_p, c_uint32],
    "bpf_map__set_autocreate": [c_void_p, c_bool],
    "bpf_map__set_initial_value": [c_void_p, c_void_p, c_size_t],
    "bpf_map__fd": [c_void_p],
    "bpf_program__fd": [c_void_p],
    "bpf_program__set_autoload": [c_void_p, c_bool],
    "bpf_map_update_elem": [c_int, c_void_p, c_void_p, c_uint64],
    "bpf_map_lookup_elem": [c_int, c_void_p, c_void_p],
    "bpf_map_get_next_key": [c_int, c_void_p, c_void_p],
    "bpf_map_delete_elem": [c_int, c_void_p],
    "bpf_raw_tracepoint_open": [c_char_p, c_int],
    "bpf_prog_test_run_opts": [c_int, c_void_p],
    "bpf_obj_get_info_by_fd": [c_int, c_void_p, POINTER(c_uint32)],
    "bpf_enable_stats": [c_int],
    "bpf_map_lookup_and_delete_batch": [c_int, *[c_void_p] * 4, POINTER(c_uint32), c_void_p],
    "btf__find_by_name_kind": [c_void_p, c_char_p, c_uint32],
}
_VOID_CALLS = {"bpf_object__close": [c_void_p], "btf__free": [c_void_p]}


class _TestRunOpts(ctypes.Structure):
    """``struct bpf_test_run_opts`` of libbpf 1.x."""

    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


@cache
def library() -> ctypes.CDLL:
    """The system's libbpf with typed calls; SetupError where it is not installed."""
    try:
        lib = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError as error:
        raise SetupError(
            f"{LIBRARY} cannot be loaded: {error}",
            "install the distribution's libbpf 1.x (Debian: libbpf1)",
        ) from error
    for result, calls in ((c_void_p, _POINTER_CALLS), (c_int, _INT_CALLS), (None, _VOID_CALLS)):
        for name, arguments in calls.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    lib.libbpf_set_print(_QUIET)
    return lib


def _quiet(_level: int, _text: bytes, _arguments: int) -> int:
    """Drop libbpf's messages: what matters comes back as an errno."""
    return 0


_QUIET = _PRINTER(_quiet)
"""Kept for good: libbpf calls it for each message."""


def last_errno() -> int:
    """The errno of the last failed call on this thread."""
    return ctypes.get_errno()


def describe_errno(code: int) -> str:
    """The name and text of an errno, as ``EPERM, Operation not permitted``."""
    return f"{errno.errorcode.get(code, code)}, {os.strerror(code)}"


class TestRun:
    """Runs one raw-tracepoint program on demand, on this CPU or, by interrupt, on another."""

    __test__ = False

    def __init__(self, program_fd: int) -> None:
        self._fd = program_fd
        self._call = library().bpf_prog_test_run_opts
        self._here = _TestRunOpts(sz=ctypes.sizeof(_TestRunOpts))
        self._there = _TestRunOpts(sz=ctypes.sizeof(_TestRunOpts), flags=_RUN_ON_CPU)
        self._there_ref = byref(self._there)

    def on_cpu(self, cpu: int) -> bool:
        """Run it on *cpu*; False where that CPU is not online."""
        self._there.cpu = cpu
        if self._call(self._fd, self._there_ref) == 0:
            return True
        if last_errno() == errno.ENXIO:
            return False
        raise ReadError(f"cannot close the interval on CPU {cpu}: {describe_errno(last_errno())}")

    def here(self) -> None:
        """Run it in the calling thread."""
        if self._call(self._fd, byref(self._here)):
            raise SetupError(
                "the kernel refuses to run a BPF program on demand "
                f"({describe_errno(last_errno())})",
                "use Linux 5.10 or later, as root or with CAP_BPF and CAP_PERFMON",
            )


class MapDrain:
    """Moves the entries of maps of one kind into ``keys`` and ``values``, of *rows* rows each.

    A map is longer than its limit by the entries that came while it is read: the arrays must be,
    too. They stay where they are, so that a call needs their addresses only.
    """

    def __init__(self, fds: list[int], key: np.dtype[Any], value: np.dtype[Any], rows: int) -> None:
        self.keys, self.values = np.empty(rows, key), np.empty(rows, value)
        self._fds = fds
        self._addresses = self.keys.ctypes.data, self.values.ctypes.data
        self._call = library().bpf_map_lookup_and_delete_batch
        self._token = byref((ctypes.c_uint8 * max(key.itemsize, 8))())
        self._count = c_uint32()
        self._count_ref = byref(self._count)

    def take(self, index: int = 0, start: int = 0) -> int:
        """Move what is in map *index* to the arrays from *start* on; return the row after the last.

        Where the kernel stops early, what has left the map is returned, and the rest comes with
        the next call. Raises ReadError only where nothing has left the map.
        """
        row, first, (keys, values) = start, None, self._addresses
        while row < len(self.keys):
            self._count.value = len(self.keys) - row
            failed = self._call(
                self._fds[index],
                first,
                self._token,
                keys + row * self.keys.itemsize,
                values + row * self.values.itemsize,
                self._count_ref,
                None,
            )
            code = last_errno() if failed else 0
            if code not in {0, errno.ENOENT, errno.ENOSPC} and row == start:
                raise ReadError(f"cannot drain a BPF map: {describe_errno(code)}")
            if code in {0, errno.ENOENT}:
                row += self._count.value
            if code:
                break
            first = self._token
        return row


_MAP_INFO_WORDS = 8
_MAX_ENTRIES_WORD = 4


def map_entries(map_fd: int) -> int:
    """Number of entries of a map, or of bytes of a ring buffer, from ``struct bpf_map_info``."""
    info = (c_uint32 * _MAP_INFO_WORDS)()
    size = c_uint32(ctypes.sizeof(info))
    if library().bpf_obj_get_info_by_fd(map_fd, byref(info), byref(size)):
        raise ReadError(f"cannot read a BPF map's size: {describe_errno(last_errno())}")
    return info[_MAX_ENTRIES_WORD]


_INFO_SIZE = 256
_RUN_TIME_OFFSET = 192


def program_figures(program_fds: Iterable[int]) -> list[int]:
    """The sums of run time in ns, run count and missed runs, from each ``struct bpf_prog_info``."""
    figures, first = [], _RUN_TIME_OFFSET // 8
    for program_fd in program_fds:
        # New for each: what is in it is a request for more.
        info, size = (c_uint64 * (_INFO_SIZE // 8))(), c_uint32(_INFO_SIZE)
        if library().bpf_obj_get_info_by_fd(program_fd, byref(info), byref(size)):
            raise ReadError(f"cannot read a BPF program's figures: {describe_errno(last_errno())}")
        figures.append(info[first : first + 3])
    return [sum(column) for column in zip(*figures, strict=True)]


def enable_stats() -> int:
    """Turn the kernel's BPF run statistics on while the returned descriptor is open."""
    descriptor: int = library().bpf_enable_stats(0)
    if descriptor < 0:
        raise SetupError(
            f"BPF statistics cannot be turned on ({describe_errno(last_errno())})",
            "grant CAP_SYS_ADMIN, or set the sysctl kernel.bpf_stats_enabled=1",
        )
    return descriptor
