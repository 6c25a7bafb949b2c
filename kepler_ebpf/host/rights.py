"""Rights that the program gives up once everything is open.

User and capabilities belong to a thread, and a new thread has those of the thread that starts it.
So each thread gives up what it does not need itself, as the first thing that it does; the main
thread when all is open.
"""

from __future__ import annotations

import ctypes
import logging
import os

LOG = logging.getLogger(__name__)

CAPABILITY_BITS = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
"""Bit numbers of the capabilities that matter here, from linux/capability.h."""

OTHER_USER = 2_000_028_282
"""A user and a group that own nothing: in no range that accounts, services or containers get."""

SYSTEM_CALLS = {"x86_64": (116, 119, 117), "aarch64": (159, 149, 147)}
"""The numbers of setgroups, setresgid and setresuid. The C library calls them in all threads, and
ends the program where one of these may do less than the others."""

PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 4, 8, 38
CAPABILITY_VERSION = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):
    """32 capabilities."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def give_up(keep: frozenset[str] = frozenset()) -> None:
    """Keep of the calling thread's capabilities those named *keep*, and gain no others again.

    Root becomes a user that owns nothing, where the thread needs no file or may read all of them.
    What the host does not let it give up stays.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header, halves = _Header(CAPABILITY_VERSION, 0), (_Half * 2)()
    libc.capget(ctypes.byref(header), halves)
    kept = sum(1 << CAPABILITY_BITS[name] for name in keep)
    for number, half in enumerate(halves):
        half.permitted &= kept >> 32 * number & 0xFFFFFFFF
    reads_all = halves[0].permitted >> CAPABILITY_BITS["CAP_DAC_READ_SEARCH"] & 1
    if os.getuid() == 0 and (reads_all or not keep):
        _become_other_user(libc)
    for half in halves:
        half.effective, half.inheritable = half.permitted, 0
    if libc.capset(ctypes.byref(header), halves):
        LOG.debug("A thread keeps its capabilities: %s", os.strerror(ctypes.get_errno()))


def _become_other_user(libc: ctypes.CDLL) -> None:
    numbers = SYSTEM_CALLS.get(os.uname().machine)
    if numbers is None:
        return
    setgroups, setresgid, setresuid = numbers
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    other = (OTHER_USER, OTHER_USER, OTHER_USER)
    if (
        libc.syscall(setgroups, 0, None)
        or libc.syscall(setresgid, *other)
        or libc.syscall(setresuid, *other)
    ):
        LOG.debug("A thread stays root's: %s", os.strerror(ctypes.get_errno()))
    # The program's files in procfs stay its own.
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
