"""Programs for the CPU time tracker to watch: each burns CPU, forks, execs or exits in one odd way.

Run as ``python loads.py NAME``. A load prints a line where it waits, and goes on when it is sent
one, so that a test decides in which interval what happens.
"""

import ctypes
import mmap
import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

CLONE_VM = 0x100
CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
PR_SET_TIMERSLACK = 29
SYS_CLONE3 = 435
SYS_EXIT = {"x86_64": 60, "aarch64": 93}[platform.machine()]
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[platform.machine()]
SLICE_S = 0.03
"""CPU time that is burnt in one go."""

LIBC = ctypes.CDLL(None, use_errno=True)
LOADS: dict[str, Callable[[], None]] = {}


def load(function: Callable[[], None]) -> Callable[[], None]:
    """Make a load runnable by its name."""
    LOADS[function.__name__] = function
    return function


def wait(said: object = "") -> None:
    """Tell the test something and wait for its line; leave with the test when that is gone."""
    sys.stdout.write(f"{said}\n")
    sys.stdout.flush()
    if not sys.stdin.readline():
        os._exit(1)


def burn(cpu_s: float = SLICE_S) -> None:
    """Use CPU time in this thread."""
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        pass


@load
def spin() -> None:
    """Burn until killed."""
    wait()
    while True:
        pass


@load
def spin_and_tell() -> None:
    """Burn until killed, with the CPU time used so far always in the file that is named."""
    with open(sys.argv[2], "r+b") as file, mmap.mmap(file.fileno(), 8) as shared:  # noqa: PTH123
        told = memoryview(shared).cast("Q")
        wait()
        while True:
            told[0] = time.thread_time_ns()


@load
def spin_unpreempted() -> None:
    """Burn until killed in the first thread or, if so named, in the second."""

    def spin_on() -> None:
        _refuse_preemption()
        while True:
            pass

    wait()
    if sys.argv[2] == "second":
        threading.Thread(target=spin_on).start()
        threading.Event().wait()
    spin_on()


@load
def move_itself() -> None:
    """Burn, go into the cgroup whose cgroup.procs is named, burn, all without a pause.

    Tells the CPU time when it went, when it was there, and in the end, in ns since it was told to.
    """
    with open(sys.argv[2], "wb", buffering=0) as procs:  # noqa: PTH123
        wait()
        _refuse_preemption()
        told_ns = [time.thread_time_ns()]
        burn()
        told_ns.append(time.thread_time_ns())
        procs.write(b"0")
        told_ns.append(time.thread_time_ns())
        burn()
        told_ns.append(time.thread_time_ns())
        wait(" ".join(str(each - told_ns[0]) for each in told_ns[1:]))


@load
def wake_often() -> None:
    """Sleep for a tenth of a millisecond at a time until killed."""
    LIBC.prctl(PR_SET_TIMERSLACK, 1)
    wait()
    while True:
        time.sleep(1e-4)


@load
def burn_once() -> None:
    """Burn one slice and exit."""
    wait()
    burn()


@load
def burn_twice() -> None:
    """Burn a slice, wait, burn another one, wait, exit."""
    for _ in range(2):
        wait()
        burn()
    wait()


@load
def thread_then_exit() -> None:
    """Burn in a second thread, which ends; wait, burn in the first and exit."""
    wait()
    second = threading.Thread(target=burn)
    second.start()
    second.join()
    wait()
    burn()


@load
def leader_dies_first() -> None:
    """End the first thread alone; the second waits, burns, waits, burns and ends."""

    def survive() -> None:
        first_is_dead.wait()
        for _ in range(2):
            wait()
            burn()
        LIBC.syscall(SYS_EXIT, 0)

    first_is_dead = threading.Event()
    wait()
    threading.Thread(target=survive).start()
    first_is_dead.set()
    LIBC.syscall(SYS_EXIT, 0)


@load
def exec_burner() -> None:
    """Burn, wait, become another program by exec in the first thread, which burns and exits."""
    wait()
    burn()
    wait()
    _exec("burn_once")


@load
def exec_from_thread() -> None:
    """Burn in a second thread and exec from there at once, so that one slice has both."""

    def become() -> None:
        burn()
        _exec("exit_at_once")

    wait()
    threading.Thread(target=become).start()
    threading.Event().wait()


@load
def exec_in_mounts() -> None:
    """Exec the shell that is named below the folder that is named, with mounts of its own.

    The shell waits. Where the host refuses such mounts, one line has the reason.
    """
    kind, folder, shell = sys.argv[2], Path(sys.argv[3]), sys.argv[4]
    parts = {name: folder / name for name in ("lower", "upper", "work", "mounted")}
    for part in parts.values():
        part.mkdir()
    shutil.copy(shell, parts["lower"] / "copy")
    try:
        program = _mount(kind, parts, shell)
    except OSError as error:
        wait(f"refused {kind}: {error.strerror}")
        return
    os.execv(program, [str(program), "-c", "echo; read line"])  # noqa: S606


def _mount(kind: str, parts: dict[str, Path], shell: str) -> Path:
    """Mount in a new namespace; return the program to exec there."""
    mounted, lower = parts["mounted"], parts["lower"]
    _call("unshare", CLONE_NEWNS)
    _call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    if kind == "bind":
        _call("mount", bytes(lower), bytes(mounted), None, MS_BIND, None)
    elif kind == "tmpfs":
        _call("mount", b"none", bytes(mounted), b"tmpfs", 0, None)
        shutil.copy(shell, mounted / "copy")
    elif kind == "overlay":
        _call("mount", b"none", bytes(parts["work"]), b"tmpfs", 0, None)
        for name in ("upper", "work"):
            (parts["work"] / name).mkdir()
        options = f"lowerdir={lower},upperdir={parts['work']}/upper,workdir={parts['work']}/work"
        _call("mount", b"none", bytes(mounted), b"overlay", 0, options.encode())
    else:
        _call("mount", b"/", bytes(mounted), None, MS_BIND | MS_REC, None)
        os.chdir(mounted)
        if kind == "pivot_root":
            _call("syscall", SYS_PIVOT_ROOT, b".", b".")
            _call("umount2", b".", MNT_DETACH)
        os.chroot(".")
        return Path(shell)
    return mounted / "copy"


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library that returns 0; OSError where it does not."""
    if LIBC[name](*arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@load
def exit_at_once() -> None:
    """Do nothing."""


@load
def run_true() -> None:
    """Run /bin/true as a child and wait for it."""
    wait()
    child = os.posix_spawn("/bin/true", ["/bin/true"], {})
    os.waitpid(child, 0)
    wait(child)


@load
def fork_storm() -> None:
    """Run three hundred short commands, one after the other."""
    wait()
    for _ in range(300):
        os.waitpid(os.posix_spawn("/bin/true", ["/bin/true"], {}), 0)
    wait()


@load
def same_pid_twice() -> None:
    """Burn in two processes, one after the other, that both have the same pid."""
    wait()
    first = _burn_in_child(0)
    second = _burn_in_child(first)
    wait(f"{first} {second}")


@load
def many_tasks() -> None:
    """Start a hundred thousand processes that exit at once."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    stacks, size, ring = ctypes.create_string_buffer(1 << 24), 4096, 4000
    start = ctypes.addressof(stacks) + size & ~15
    LIBC.clone.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    end = ctypes.cast(LIBC["_exit"], ctypes.c_void_p)
    wait()
    for number in range(100_000):
        top = start + (number % ring + 1) * size
        while LIBC.clone(end, top, CLONE_VM | signal.SIGCHLD, None) < 0:
            time.sleep(0.001)  # too many that have not been reaped yet
    wait()


class CloneArguments(ctypes.Structure):
    """``struct clone_args`` of Linux 5.5."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size"),
            *("tls", "set_tid", "set_tid_size"),
        )
    )


def _burn_in_child(pid: int) -> int:
    """Burn in a child whose pid is *pid*, 0 for any; return the pid it had."""
    wanted = ctypes.c_int(pid)
    arguments = CloneArguments(
        exit_signal=signal.SIGCHLD,
        set_tid=ctypes.addressof(wanted) if pid else 0,
        set_tid_size=1 if pid else 0,
    )
    child: int = LIBC.syscall(SYS_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    if child == 0:
        burn()
        os._exit(0)
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone3")
    os.waitpid(child, 0)
    return child


def _refuse_preemption() -> None:
    """Put this thread before all ordinary tasks."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def _exec(name: str) -> None:
    os.execv(sys.executable, [sys.executable, "-ISS", __file__, name])  # noqa: S606


if __name__ == "__main__":
    LOADS[sys.argv[1]]()
