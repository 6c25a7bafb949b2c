"""One system call: ``perf_event_open``, which the C library does not wrap."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from typing import Final

_SYSCALL_NUMBERS: Final = {"x86_64": 298, "i686": 336, "aarch64": 241, "riscv64": 241}
_FLAG_CLOEXEC: Final = 8
_ALL_PROCESSES: Final = -1
_NO_GROUP: Final = -1


class _Attributes(ctypes.Structure):
    """``struct perf_event_attr`` in its first published size, which every kernel accepts."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("bp_addr", ctypes.c_uint64),
    )


def open_event(pmu_type: int, config: int, cpu: int) -> int:
    """Open a counting event for all processes on one CPU and return its file descriptor.

    Raises OSError with the kernel's errno; ENOSYS on an architecture whose number is not known.
    """
    number = _SYSCALL_NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    attributes = _Attributes(type=pmu_type, size=ctypes.sizeof(_Attributes), config=config)
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (number, ctypes.addressof(attributes), _ALL_PROCESSES, cpu, _NO_GROUP)
    fd: int = libc.syscall(*(ctypes.c_long(item) for item in (*arguments, _FLAG_CLOEXEC)))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd
