"""What other programs of the host do: processes and cgroups with odd names, and in odd numbers."""

# ruff: noqa: PTH102, PTH106 - names that are no text

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bed import Bed
from fault import fault, total
from running import running
from silent_files import holding_its_lock, silent_files
from trackers import Load
from workers import worker

WEIRD = b'a"} 1\n# EOF\nkepler_node_cpu_joules_total 9e99\n\xff\xfe\\{\x1b[31m\xe2\x80\xa8'
MEASURES = "it measures on"


@fault("rapl", MEASURES)
def process_has_a_hostile_name(bed: Bed) -> Iterator[None]:
    """A process whose name and arguments are quotes, line breaks, no text."""
    name = WEIRD.replace(b"/", b"")
    with worker(bed.folder, name, b"-uuid", b"\n" * 100, WEIRD) as odd:
        odd.spin()
        yield


@fault("rapl", MEASURES)
def processes_pretend_to_be_vms(_: Bed) -> Iterator[None]:
    """100 processes that seem to be virtual machines, with names of 60 kB."""
    with ExitStack() as stack:
        for number in range(100):
            command = ["qemu-system-x86_64", "60", "-uuid", f"u{number}", "-name", "n" * 60_000]
            process = subprocess.Popen(command, executable="/bin/sleep", stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@fault(
    "rapl",
    "the read is given up, and counted; the process has no command line",
    counted=total("kepler_ebpf_given_up_reads_total"),
)
def process_hangs_its_readers(bed: Bed) -> Iterator[None]:
    """The program starts beside a process that holds its own mmap lock for ever."""
    folder = bed.folder / f"silent-{len(list(bed.folder.glob('silent-*')))}"
    with silent_files(folder) as files, holding_its_lock(files):
        bed.restart()
        yield


@fault("rapl", MEASURES)
def processes_are_zombies(_: Bed) -> Iterator[None]:
    """100 processes that are stopped or dead and not reaped."""
    dead = [os.posix_spawn("/bin/true", ["true"], {}) for _ in range(50)]
    held = [os.posix_spawn("/bin/sleep", ["sleep", "60"], {}) for _ in range(50)]
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in held:
        os.kill(pid, signal.SIGKILL)
    for pid in (*dead, *held):
        os.waitpid(pid, 0)


@fault("rapl", MEASURES)
def executable_is_replaced(bed: Bed) -> Iterator[None]:
    """An executable is removed and replaced while it runs."""
    with worker(bed.folder, "replaced") as one:
        (bed.folder / "replaced").unlink()
        with worker(bed.folder, "replaced") as other:
            one.spin()
            other.spin()
            yield
    (bed.folder / "replaced").unlink()


@fault("rapl", MEASURES)
def commands_and_threads_come_in_a_storm(_: Bed) -> Iterator[None]:
    """300 commands one after the other, beside a storm of threads."""
    storm = "import threading\nfor _ in range(20000):\n threading.Thread(target=int).start()"
    threads = subprocess.Popen(["python3", "-ISSc", storm])
    load = Load("fork_storm")
    try:
        load.step()
        load.step()
        yield
    finally:
        load.close()
        threads.kill()
        threads.wait()


@fault("rapl", MEASURES)
def cgroup_is_remade(bed: Bed) -> Iterator[None]:
    """A cgroup is removed and made again under its name, 100 times."""
    home = bed.cgroups.make("/home")
    with worker(bed.folder, "mover") as mover:
        for _ in range(100):
            made = bed.cgroups.make("/docker/" + "0a" * 32)
            made.enter(mover.pid)
            mover.spin(100)
            home.enter(mover.pid)
            made.remove()
    yield


@fault("rapl", MEASURES)
def cgroup_has_a_hostile_path(bed: Bed) -> Iterator[None]:
    """A cgroup whose path has more than 4 kB, and one of no text."""
    base = bed.cgroups.make("/deep").directory
    before = os.open(".", os.O_RDONLY)
    depth = 20
    try:
        os.chdir(base)
        for _ in range(depth):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        name = b"\xff" + WEIRD.replace(b"\n", b"").replace(b"/", b"")
        os.mkdir(name)
        with worker(bed.folder, "diver") as deep, worker(bed.folder, "oddity") as odd:
            Path("cgroup.procs").write_text(str(deep.pid))
            with open(name + b"/cgroup.procs", "w") as procs:  # noqa: PTH123
                procs.write(str(odd.pid))
            deep.spin()
            odd.spin()
            yield
        wait_for_removal(name)
        for _ in range(depth):
            os.chdir("..")
            wait_for_removal("d" * 250)
    finally:
        os.fchdir(before)
        os.close(before)


def wait_for_removal(name: str | bytes) -> None:
    """Remove a cgroup whose processes have just ended."""
    while True:
        try:
            os.rmdir(name)
        except OSError:
            time.sleep(0.001)
        else:
            return


@fault("rapl", "both measure all")
def program_is_not_alone(bed: Bed) -> Iterator[None]:
    """A second program measures the same host, and is killed."""
    with running(bed.folder, "--meter", "fake", "--interval", "50ms") as other:
        bed.canary.spin()
        seconds = "kepler_process_cpu_seconds_total"
        other.until(lambda page: page.total(seconds, comm="canary") > 0)
        yield
        other.end(signal.SIGKILL)
