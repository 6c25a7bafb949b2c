"""What the host can refuse or take from the program: descriptors, memory, threads, CPU time."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bed import Bed
from controllers import limited
from fault import fault, total
from limits import soft_limit
from running import GIVE_UP_S
from workers import worker

MISSED = total("kepler_ebpf_missed_ticks_total")
NEW_CONTAINERS = 20


def free_descriptor(pid: int) -> int:
    """Return the lowest descriptor that a process does not have open."""
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return min(set(range(len(used) + 1)) - used)


def newcomers(bed: Bed, number: int = NEW_CONTAINERS) -> None:
    """Have processes and containers come and go, which must be named."""
    with worker(bed.folder, "newcomer") as new:
        home = bed.cgroups.make("/home")
        for index in range(number):
            made = bed.cgroups.make(f"/docker/{index:064x}")
            made.enter(new.pid)
            new.spin(100)
            home.enter(new.pid)
            made.remove()


@fault("rapl", "connections wait; what is new has no name", serves=False)
def descriptors_run_out(bed: Bed) -> Iterator[None]:
    """No further file can be opened (EMFILE)."""
    with soft_limit(bed.pid, "nofile", free_descriptor(bed.pid)):
        newcomers(bed)
        yield


@fault("rapl", "connections are closed", serves=False)
def memory_runs_out(bed: Bed) -> Iterator[None]:
    """No further memory can be mapped (ENOMEM)."""
    with soft_limit(bed.pid, "as", 1 << 20):
        newcomers(bed)
        yield


@fault("rapl", "connections are closed", serves=False)
def threads_run_out(bed: Bed) -> Iterator[None]:
    """No further thread can be started."""
    with limited("pids.max", bed.pid) as cgroup:
        cgroup.write("pids.max", "1")
        newcomers(bed)
        yield
        cgroup.write("pids.max", "max")


@fault("rapl", "intervals are longer; the instants that were missed are counted", counted=MISSED)
def cpu_time_is_rationed(bed: Bed) -> Iterator[None]:
    """The program gets 5 % of a CPU."""
    with limited("cpu.max", bed.pid) as cgroup:
        cgroup.write("cpu.max", "5000 100000")
        yield
        cgroup.write("cpu.max", "max")


@fault("rapl", "file pages are read again")
def memory_is_short(bed: Bed) -> Iterator[None]:
    """Its memory is limited to what it has, and 2 MiB."""
    with limited("memory.max", bed.pid) as cgroup:
        cgroup.write("memory.max", str(cgroup.read("memory.current") + (2 << 20)))
        newcomers(bed)
        yield
        cgroup.write("memory.max", "max")


@fault("rapl", "intervals come late")
def priority_is_taken(bed: Bed) -> Iterator[None]:
    """The program has the lowest priority beside busy processes."""
    tasks = [int(path.name) for path in Path(f"/proc/{bed.pid}/task").iterdir()]
    before = {tid: os.getpriority(os.PRIO_PROCESS, tid) for tid in tasks}
    with worker(bed.folder, "rival") as one, worker(bed.folder, "rival") as other:
        for each in (one, other):
            each.start(10**9)
        for tid in tasks:
            os.setpriority(os.PRIO_PROCESS, tid, 19)
        yield
    for tid, niceness in before.items():
        os.setpriority(os.PRIO_PROCESS, tid, niceness)


# --- stops ------------------------------------------------------------------------------------

STOP_S = 0.5


@fault(
    "rapl",
    "one long interval; the instants that were missed are counted, no CPU time is lost",
    counted=MISSED,
    measures=False,
    serves=False,
)
def program_is_stopped(bed: Bed) -> Iterator[None]:
    """SIGSTOP for ten intervals, then SIGCONT."""
    bed.run.process.send_signal(signal.SIGSTOP)
    bed.canary.spin()
    time.sleep(STOP_S)
    yield
    bed.run.process.send_signal(signal.SIGCONT)


@fault("rapl", "as with SIGSTOP", counted=MISSED, measures=False, serves=False)
def program_is_frozen(bed: Bed) -> Iterator[None]:
    """Its cgroup is frozen for ten intervals, as by `docker pause`."""
    with limited("cgroup.freeze", bed.pid) as cgroup:
        cgroup.write("cgroup.freeze", "1")
        try:
            bed.canary.spin()
            time.sleep(STOP_S)
            yield
        finally:
            cgroup.write("cgroup.freeze", "0")


def signalled(bed: Bed, signum: signal.Signals) -> Iterator[None]:
    """Send the program a signal."""
    bed.run.process.send_signal(signum)
    yield


@fault("rapl", "they are ignored")
def harmless_signals(bed: Bed) -> Iterator[None]:
    """SIGPIPE, SIGURG, SIGWINCH and SIGCONT come."""
    for signum in (signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT):
        bed.run.process.send_signal(signum)
    yield


@fault("rapl", "the settings are read anew")
def program_is_hung_up(bed: Bed) -> Iterator[None]:
    """SIGHUP."""
    yield from signalled(bed, signal.SIGHUP)


# --- ends -------------------------------------------------------------------------------------

LITTLE_MB = 32
NOTHING_LEFT = "it ends; the kernel has nothing left of it, and a new start measures"


@fault("rapl", NOTHING_LEFT, ends=True)
def program_is_killed(bed: Bed) -> Iterator[None]:
    """SIGKILL."""
    yield from signalled(bed, signal.SIGKILL)


@fault("rapl", NOTHING_LEFT, ends=True)
def program_crashes(bed: Bed) -> Iterator[None]:
    """SIGSEGV."""
    yield from signalled(bed, signal.SIGSEGV)


@fault("rapl", NOTHING_LEFT, ends=True)
def program_is_killed_for_memory(bed: Bed) -> Iterator[None]:
    """The OOM killer takes it, at the limit of its cgroup."""
    with limited("memory.max", bed.pid) as cgroup:
        # The first to go, before who needs the memory.
        Path(f"/proc/{bed.pid}/oom_score_adj").write_text("1000")
        cgroup.write("memory.max", str(LITTLE_MB << 20))
        command = f"echo 0 >{cgroup.directory}/cgroup.procs; head -c {LITTLE_MB}M /dev/zero | tail"
        subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL, check=False)
        bed.run.process.wait(GIVE_UP_S)
    assert bed.run.process.returncode == -signal.SIGKILL
    yield


@fault("rapl", "it measures on")
def own_cgroup_is_removed(bed: Bed) -> Iterator[None]:
    """The program's own cgroup is removed after it was moved away."""
    cgroup = bed.cgroups.make("/own")
    away = bed.cgroups.make("/away")
    cgroup.enter(bed.pid)
    away.enter(bed.pid)
    cgroup.remove()
    yield
    (away.directory.parents[1] / "cgroup.procs").write_text(str(bed.pid))
    away.remove()
