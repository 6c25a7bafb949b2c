"""Which process runs which VM: ids that are not shared, children, helper threads."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from processes import waiting_shell

from kepler_ebpf.model.workloads import VmLabels
from kepler_ebpf.names.processes.procfs import ProcessInfo, find_process, read_cmdline
from kepler_ebpf.names.processes.vm_ids import MAX_VMS, ProcessId, VmIds

Found = tuple[ProcessId, ProcessInfo, tuple[str, ...]]
"""A process with what /proc has of it."""

DAEMONIZE = """
import os, sys
if not os.fork():
    os.setsid()
    if os.fork():
        os._exit(0)
    print(os.getpid(), flush=True)
sys.stdin.read()
"""


class Hypervisors:
    """Real processes that call themselves QEMU and wait."""

    def __init__(self) -> None:
        self._running = ExitStack()

    def start(self, *options: str) -> Found:
        """Start one and return its pid and what /proc tells of it."""
        shell = waiting_shell(*options, name="qemu-system-x86_64")
        return found(self._running.enter_context(shell))

    def start_in_background(self, *options: str) -> tuple[Found, Found]:
        """Start one as QEMU's -daemonize does; return who was started and who stays."""
        process = self._running.enter_context(
            subprocess.Popen(
                ["qemu-system-x86_64", "-c", DAEMONIZE, *options, "-daemonize"],
                executable=sys.executable,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        self._running.callback(process.kill)
        assert process.stdout
        daemon = int(process.stdout.readline())
        return found(process.pid), found(daemon)

    def stop(self) -> None:
        """End and reap all of them."""
        self._running.close()


def found(pid: int) -> Found:
    """Read a live process."""
    process = find_process(pid)
    assert process is not None
    tgid, info = process
    return (tgid, 1), info, read_cmdline(tgid, info.start_ticks)


@pytest.fixture
def hypervisors() -> Iterator[Hypervisors]:
    """Start hypervisors as a test needs them; none outlives it."""
    running = Hypervisors()
    yield running
    running.stop()


def id_of(labels: VmLabels | None) -> str:
    """Return the VM's id."""
    assert labels is not None
    return labels.vm_id


def test_a_vm_keeps_the_id_it_was_given(hypervisors: Hypervisors) -> None:
    """A name given once is the id, and the hypervisor and name come along."""
    labels = VmIds().of_process(*hypervisors.start("-name", "web"))
    assert labels == VmLabels("web", "web", "kvm")


def test_two_vms_with_one_name_have_two_ids(hypervisors: Hypervisors) -> None:
    """The second of two running VMs with one name gets an id of its own, and keeps it."""
    vms = VmIds()
    first, second = hypervisors.start("-name", "web"), hypervisors.start("-name", "web", "-m", "1")
    ids = [id_of(vms.of_process(*process)) for process in (first, second, first, second)]
    assert ids[:2] == ids[2:]
    assert ids[0] == "web" != ids[1]
    assert ids[1].startswith("web-")


def test_a_restarted_vm_keeps_its_id(hypervisors: Hypervisors) -> None:
    """An id is free again once the VM that had it is gone."""
    vms = VmIds()
    vms.of_process(*hypervisors.start("-name", "web"))
    hypervisors.stop()
    assert id_of(vms.of_process(*hypervisors.start("-name", "web"))) == "web"


def test_what_a_daemon_leaves_behind_is_the_same_vm(hypervisors: Hypervisors) -> None:
    """A QEMU that goes into the background is not two VMs, and two of them are two."""
    vms = VmIds()
    started = [hypervisors.start_in_background("-name", "web") for _ in range(2)]
    launchers, daemons = zip(*started, strict=True)
    first, second = (id_of(vms.of_process(*each)) for each in launchers)
    assert first == "web" != second
    assert [id_of(vms.of_process(*each)) for each in daemons] == [first, second]


def test_daemon_whose_launcher_has_ended_has_the_name(hypervisors: Hypervisors) -> None:
    """A launcher that waits to be reaped is no conflict for what it left behind."""
    vms = VmIds()
    launcher, daemon = hypervisors.start_in_background("-name", "web")
    vms.of_process(*launcher)
    pid = launcher[0][0]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert id_of(vms.of_process(*daemon)) == "web"


def test_a_child_before_its_exec_is_the_same_vm(hypervisors: Hypervisors) -> None:
    """A fork of the hypervisor that still has its command line is no VM of its own."""
    vms = VmIds()
    (tgid, start), info, cmdline = hypervisors.start("-m", "512")
    parent = vms.of_process((tgid, start), info, cmdline)
    child = ProcessInfo(info.exe, tgid, info.start_ticks + 500)
    assert vms.of_process((tgid + 1, start), child, cmdline) == parent


def test_a_process_that_is_no_vm_any_more_has_none(hypervisors: Hypervisors) -> None:
    """After exec of another program the process has no VM, and the id is free."""
    vms = VmIds()
    process_id, info, cmdline = hypervisors.start("-name", "web")
    vms.of_process(process_id, info, cmdline)
    after = ProcessInfo("/bin/true", info.parent, info.start_ticks)
    assert vms.of_process(process_id, after, ("true",)) is None
    assert id_of(vms.of_process(*hypervisors.start("-name", "web"))) == "web"


def test_a_vm_is_known_by_its_process(hypervisors: Hypervisors) -> None:
    """Once found it is known without its command line, and not under a pid that is used again."""
    vms = VmIds()
    process_id, info, cmdline = hypervisors.start("-m", "512")
    assert vms.known(process_id[0], info.start_ticks) is None
    labels = vms.of_process(process_id, info, cmdline)
    assert vms.known(process_id[0], info.start_ticks) == labels
    assert vms.known(process_id[0], info.start_ticks + 1) is None


UUID = "11111111-2222-3333-4444-555555555555"
LINE = ("qemu-system-x86_64", "-uuid", UUID)


def live(number: int, exe: str = "/home/u/idle") -> tuple[ProcessId, ProcessInfo]:
    """Return a process that counts as alive in the procfs of ``everlasting``."""
    return (number, 7), ProcessInfo(exe, 0, 7)


@pytest.fixture
def everlasting(tmp_path: Path) -> VmIds:
    """Give VMs in a procfs where every process up to the limit lives."""
    for number in range(1, MAX_VMS + 10):
        (tmp_path / str(number)).mkdir()
    return VmIds(str(tmp_path))


def test_id_that_is_claimed_is_that_of_the_hypervisor(everlasting: VmIds) -> None:
    """A process that only calls itself so loses the id to one whose executable is QEMU."""
    fake = everlasting.of_process(*live(1), LINE)
    real = everlasting.of_process(*live(2, "/usr/bin/qemu-system-x86_64"), (*LINE, "-m", "1"))
    assert id_of(fake) == id_of(real) == UUID
    renamed = everlasting.take_renamed()
    assert list(renamed) == [(1, 7)]
    assert (renamed[1, 7].exe, id_of(renamed[1, 7].vm)) == ("/home/u/idle", f"{UUID}-1-7")
    assert id_of(everlasting.known(1, 7)) == f"{UUID}-1-7"
    late = everlasting.of_process(*live(3), (*LINE, "-m", "2"))
    assert id_of(late) == f"{UUID}-3-7"


def test_remembered_vms_are_bounded(everlasting: VmIds) -> None:
    """However many call themselves one: those with a hypervisor's executable go first."""
    for number in range(1, MAX_VMS + 5):
        everlasting.of_process(*live(number), ("qemu-system-x86_64", "-uuid", str(number)))
    assert len(everlasting) == MAX_VMS
    assert everlasting.known(MAX_VMS + 4, 7) is None
    assert everlasting.of_process(*live(MAX_VMS + 5, "/usr/bin/qemu-system-x86_64"), LINE)
    assert len(everlasting) == MAX_VMS


def test_vms_that_are_gone_are_forgotten() -> None:
    """A host that starts VMs all day does not remember each of them."""
    vms = VmIds("/nonexistent")
    for pid in range(1, 1000):
        cmdline = ("firecracker", "--id", f"fc-{pid}")
        assert id_of(vms.of_process((pid, 7), ProcessInfo("", 1, pid), cmdline)) == f"fc-{pid}"
    assert len(vms) < 100


def test_vms_that_are_gone_are_forgotten_in_time() -> None:
    """Also where no new one comes."""
    vms = VmIds("/nonexistent")
    vms.of_process((1, 7), ProcessInfo("", 1, 7), ("firecracker",))
    vms.prune()
    assert len(vms) == 0
