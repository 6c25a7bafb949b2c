"""One system call: ``perf_event_open``, which the C library does not wrap."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

_SYSCALL_NUMBERS: Final = {"x86_64": 298, "i686": 336, "aarch64": 241, "riscv64": 241}
_FLAG_CLOEXEC: Final = 8
_ALL_PROCESSES: Final = -1
_NO_GROUP: Final = -1

_ATTRIBUTES: Final = struct.Struct("=IIQQ40x")
"""``struct perf_event_attr`` in its first published size, which every kernel accepts: type, size,
config and period; the rest is zero."""


def open_event(pmu_type: int, config: int, cpu: int, period: int = 0) -> int:
    """Open an event for all processes on one CPU and return its file descriptor.

    It counts, and with a *period* it fires each time that it has counted so far. Raises OSError
    with the kernel's errno; ENOSYS on an architecture whose number is not known.
    """
    number = _SYSCALL_NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    attributes = ctypes.create_string_buffer(
        _ATTRIBUTES.pack(pmu_type, _ATTRIBUTES.size, config, period), _ATTRIBUTES.size
    )
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = map(ctypes.c_long, (_ALL_PROCESSES, cpu, _NO_GROUP, _FLAG_CLOEXEC))
    fd: int = libc.syscall(ctypes.c_long(number), attributes, *numbers)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd
