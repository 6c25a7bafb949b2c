"""The executable and the command line of a process, from /proc.

Owns the bounded, race-free reading of a process that may end at any moment, run a name made to
confuse a parser, or be closed even to root. None of these is an error here: what cannot be known
is empty. Another process that has got the same pid is never read.

The kernel answers all but the command line by itself. That is in the memory of the process, which
can have its reader wait for ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

NS_PER_TICK = 10_000_000
"""/proc counts start times in USER_HZ, which is 100 on every architecture we run on."""

CMDLINE_LIMIT = 8_192
MAX_ARGUMENTS = 512
"""Bytes and arguments of a command line that are read; what is beyond is not looked at."""

_STATUS_LIMIT = 4096
_STAT_LIMIT = 1024
_STATE = 3
_PARENT, _SESSION, _FLAGS, _THREADS, _START = (number - _STATE for number in (4, 6, 9, 20, 22))
"""Fields of a stat line, by their numbers in proc(5) less that of the first behind comm."""
_PF_KTHREAD = 0x0020_0000
_DEAD = frozenset((b"Z", b"X", b"x"))


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """What was readable of one process.

    ``exe`` is the kernel's path of the executable, "" when there is none (kernel thread), it may
    not be read, or the process ended meanwhile. A deleted file keeps the kernel's " (deleted)".
    It is always valid Unicode. ``parent`` is the parent's pid, ``session`` that of the session's
    leader, ``start_ticks`` the start time as /proc counts it.
    """

    exe: str
    parent: int
    start_ticks: int
    session: int = 0
    is_kernel_thread: bool = False


class _Stat(NamedTuple):
    state: bytes
    parent: int
    session: int
    flags: int
    threads: int
    start_ticks: int

    @property
    def leader_left(self) -> bool:
        """Whether the first thread has ended and others run on; /proc then shows none of it."""
        return self.state in _DEAD and self.threads > 1


def decode(raw: bytes) -> str:
    """Make text for a label of the kernel's bytes.

    Invalid UTF-8 becomes U+FFFD and not a lone surrogate: an exporter could not encode that again.
    """
    return raw.decode("utf-8", "replace")


def start_ticks(start_ns: int) -> int:
    """Convert to the start time as /proc shows it: whole clock ticks since boot."""
    return start_ns // NS_PER_TICK


def read_process(tgid: int, start_ns: int | None, procfs: str = "/proc") -> ProcessInfo | None:
    """Read the process *tgid* that started at *start_ns* (boot time), or whichever has it now.

    None when there is no such process (any more), also when *tgid* is by now another process.
    Never raises for what a process can do or be, and never waits for it.
    """
    with _pinned(tgid, None if start_ns is None else start_ticks(start_ns), procfs) as pinned:
        if pinned is None:
            return None
        process_fd, stat = pinned
        is_kernel_thread = bool(stat.flags & _PF_KTHREAD)
        exe = "" if is_kernel_thread else _read_exe(process_fd, stat)
        return ProcessInfo(exe, stat.parent, stat.start_ticks, stat.session, is_kernel_thread)


def read_cmdline(tgid: int, ticks: int, procfs: str = "/proc") -> tuple[str, ...]:
    """Read the first arguments of the process *tgid* that started at *ticks*, () for none.

    They are always valid Unicode. The process can have this wait for ever: see ``Reader``.
    """
    with _pinned(tgid, ticks, procfs) as pinned:
        if pinned is None:
            return ()
        process_fd, stat = pinned
        raw = _read(f"{_place(process_fd, stat)}cmdline", CMDLINE_LIMIT, process_fd)
    # Programs that write their title over their arguments leave a run of NULs at the end.
    text = decode(raw.rstrip(b"\0"))
    return tuple(text.split("\0", MAX_ARGUMENTS)[:MAX_ARGUMENTS]) if text else ()


def find_process(pid: int, procfs: str = "/proc") -> tuple[int, ProcessInfo] | None:
    """Read the process that the process or thread *pid* belongs to now: its tgid and more."""
    status = _read(f"{procfs}/{pid}/status", _STATUS_LIMIT)
    tgid = status.partition(b"\nTgid:")[2].partition(b"\n")[0].strip()
    info = read_process(int(tgid), None, procfs) if tgid.isdigit() else None
    return (int(tgid), info) if info else None


def is_alive(tgid: int, ticks: int | None, procfs: str = "/proc") -> bool:
    """Whether the process *tgid* with that start time (``start_ticks``) still runs; None for any.

    One that may not be looked at counts as alive, one that waits to be reaped does not.
    """
    stat = _parse_stat(_read(f"{procfs}/{tgid}/stat", _STAT_LIMIT))
    if stat is None:
        return os.access(f"{procfs}/{tgid}", os.F_OK)
    has_ended = stat.state in _DEAD and not stat.leader_left
    return ticks in {None, stat.start_ticks} and not has_ended


def parent_of(pid: int, procfs: str = "/proc") -> int | None:
    """Return the parent of *pid*, which may have ended and not been reaped; None if unknown."""
    stat = _parse_stat(_read(f"{procfs}/{pid}/stat", _STAT_LIMIT))
    return None if stat is None else stat.parent


@contextmanager
def _pinned(tgid: int, ticks: int | None, procfs: str) -> Iterator[tuple[int, _Stat] | None]:
    """Give the directory of a process and its stat; None where it is gone or another one."""
    try:
        # The directory pins the process: reads through it fail once the process is gone and
        # never reach a successor that got the same pid.
        process_fd = os.open(f"{procfs}/{tgid}", os.O_PATH | os.O_DIRECTORY)
    except OSError:
        yield None
        return
    try:
        stat = _parse_stat(_read("stat", _STAT_LIMIT, process_fd))
        is_it = stat is not None and ticks in {None, stat.start_ticks}
        yield (process_fd, stat) if stat and is_it else None
    finally:
        os.close(process_fd)


def _read_exe(process_fd: int, stat: _Stat) -> str:
    try:
        return decode(os.readlink(f"{_place(process_fd, stat)}exe".encode(), dir_fd=process_fd))
    except OSError:
        return ""


def _place(process_fd: int, stat: _Stat) -> str:
    """Return where the files of a process are that /proc shows of its living threads only."""
    return f"task/{_last_thread(process_fd)}/" if stat.leader_left else ""


def _last_thread(process_fd: int) -> str:
    """Return the thread that the kernel lists last; the first is the leader."""
    try:
        tasks_fd = os.open("task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=process_fd)
    except OSError:
        return ""
    try:
        with os.scandir(tasks_fd) as threads:
            return [thread.name for thread in threads][-1]
    except (OSError, IndexError):
        return ""
    finally:
        os.close(tasks_fd)


def _parse_stat(raw: bytes) -> _Stat | None:
    """Return what we need of a stat line, None when there is none or it is broken."""
    # comm may hold anything, brackets and newlines too; behind it there are only numbers.
    fields = raw[raw.rfind(b")") + 1 :].split(None, _START + 1)
    try:
        numbers = (_PARENT, _SESSION, _FLAGS, _THREADS, _START)
        return _Stat(fields[0], *(int(fields[number]) for number in numbers))
    except (IndexError, ValueError):
        return None


def _read(path: str, limit: int, dir_fd: int | None = None) -> bytes:
    """At most *limit* bytes of a /proc file; b"" when it is closed to us or gone.

    OSError as a whole, because a process in its last moments answers with many codes
    (ENOENT, ESRCH, EACCES, EPERM, EIO, ENOMEM) and all of them mean the same here.
    """
    try:
        fd = os.open(path, os.O_RDONLY, dir_fd=dir_fd)
    except OSError:
        return b""
    try:
        return os.read(fd, limit)
    except OSError:
        return b""
    finally:
        os.close(fd)
