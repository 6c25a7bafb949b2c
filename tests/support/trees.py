"""Programs that start trees of tasks in odd ways, for what is measured with all that it starts.

Run as ``python trees.py NAME COUNT``. Every task burns a few milliseconds of CPU time.
"""

import ctypes
import mmap
import os
import platform
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from loads import LIBC, SYS_CLONE3, burn

CLONE_PARENT = 0x8000
SYS_EXIT_GROUP = {"x86_64": 231, "aarch64": 94}[platform.machine()]
SYS_IO_URING_SETUP, SYS_IO_URING_ENTER = 425, 426
IO_URING_PARAMS_BYTES, IO_URING_SQ_TAIL = 120, 44
IO_URING_ENTRIES_OFFSET = 0x10000000
IO_URING_READ, IO_URING_IN_A_THREAD, IO_URING_WAIT = 22, 1 << 4, 1
TASK_S = 0.002
READ_BYTES = 1 << 22
TREES: dict[str, Callable[[int], None]] = {}


def tree(function: Callable[[int], None]) -> Callable[[int], None]:
    """Make a tree runnable by its name."""
    TREES[function.__name__] = function
    return function


def in_child(work: Callable[[], object]) -> int:
    """Do *work* in a child, which ends after it; return its pid."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


@tree
def forks(count: int) -> None:
    """One child after the other."""
    for _ in range(count):
        os.waitpid(in_child(lambda: burn(TASK_S)), 0)


@tree
def spawns(count: int) -> None:
    """Programs started with vfork and exec."""
    for _ in range(count):
        subprocess.run(["/bin/true"], check=True)


@tree
def threads(count: int) -> None:
    """Threads of the first process, eight at a time."""
    for _ in range(count // 8):
        group = [threading.Thread(target=burn, args=(TASK_S,)) for _ in range(8)]
        for thread in group:
            thread.start()
        for thread in group:
            thread.join()


@tree
def daemons(count: int) -> None:
    """Grandchildren in sessions of their own, whose parents have ended."""

    def leave() -> None:
        os.setsid()
        in_child(lambda: burn(TASK_S))

    for _ in range(count):
        os.waitpid(in_child(leave), 0)


@tree
def generations(count: int) -> None:
    """Each is the only child of the one before it, and outlives it."""
    for _ in range(count):
        burn(TASK_S)
        if os.fork():
            os._exit(0)


@tree
def sisters(count: int) -> None:
    """Children that are given the parent of the one that makes them."""
    for _ in range(count):
        arguments = CLONE_PARENT.to_bytes(8, "little") + bytes(80)
        if LIBC.syscall(SYS_CLONE3, arguments, 88) == 0:
            burn(TASK_S)
            LIBC.syscall(SYS_EXIT_GROUP, 0)


@tree
def namespaces(count: int) -> None:
    """A PID namespace whose processes start others."""
    loop = f"for i in $(seq {count}); do /bin/true; done"
    subprocess.run(["unshare", "--pid", "--fork", "sh", "-c", loop], check=True)


@tree
def movers(count: int) -> None:
    """Children that leave their cgroup for another in the middle of their work."""
    other = Path(os.environ["OTHER_CGROUP"], "cgroup.procs")

    def move() -> None:
        burn(TASK_S)
        other.write_text("0")
        burn(TASK_S)

    for _ in range(count):
        os.waitpid(in_child(move), 0)


@tree
def thread_execs(count: int) -> None:
    """Programs that a thread executes which is not its process's first."""

    def replace() -> None:
        def run() -> None:
            burn(TASK_S)
            os.execl("/bin/true", "true")  # noqa: S606

        threading.Thread(target=run).start()
        burn(10.0)

    for _ in range(count):
        os.waitpid(in_child(replace), 0)


@tree
def rings(count: int) -> None:
    """Children that let threads of the kernel's read for them, through io_uring."""
    zeros = os.open("/dev/zero", os.O_RDONLY)
    target = ctypes.create_string_buffer(READ_BYTES)

    def read() -> None:
        parameters = ctypes.create_string_buffer(IO_URING_PARAMS_BYTES)
        ring = LIBC.syscall(SYS_IO_URING_SETUP, 1, parameters)
        if ring < 0:
            raise OSError(ctypes.get_errno(), "io_uring is refused here")
        queue = mmap.mmap(ring, mmap.PAGESIZE)
        entries = mmap.mmap(ring, mmap.PAGESIZE, offset=IO_URING_ENTRIES_OFFSET)
        what = (IO_URING_READ, IO_URING_IN_A_THREAD, 0, zeros, 0, ctypes.addressof(target))
        struct.pack_into("=BBHiQQI", entries, 0, *what, READ_BYTES)
        (tail,) = struct.unpack_from("=I", parameters, IO_URING_SQ_TAIL)
        struct.pack_into("=I", queue, tail, 1)
        LIBC.syscall(SYS_IO_URING_ENTER, ring, 1, 1, IO_URING_WAIT, None, 0)

    for _ in range(count):
        os.waitpid(in_child(read), 0)


if __name__ == "__main__":
    TREES[sys.argv[1]](int(sys.argv[2]))
