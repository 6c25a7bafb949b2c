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
from kepler_ebpf.names.processes.procfs import ProcessInfo, find_process
from kepler_ebpf.names.processes.vm_ids import VmIds

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

    def start(self, *options: str) -> tuple[int, ProcessInfo]:
        """Start one and return its pid and what /proc tells of it."""
        shell = waiting_shell(*options, name="qemu-system-x86_64")
        found = find_process(self._running.enter_context(shell))
        assert found is not None
        return found

    def start_in_background(
        self, *options: str
    ) -> tuple[tuple[int, ProcessInfo], tuple[int, ProcessInfo]]:
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
        found = [find_process(pid) for pid in (process.pid, int(process.stdout.readline()))]
        assert found[0] is not None
        assert found[1] is not None
        return found[0], found[1]

    def stop(self) -> None:
        """End and reap all of them."""
        self._running.close()


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
    first, second = (id_of(vms.of_process(*found)) for found in launchers)
    assert first == "web" != second
    assert [id_of(vms.of_process(*found)) for found in daemons] == [first, second]


def test_daemon_whose_launcher_has_ended_has_the_name(hypervisors: Hypervisors) -> None:
    """A launcher that waits to be reaped is no conflict for what it left behind."""
    vms = VmIds()
    launcher, daemon = hypervisors.start_in_background("-name", "web")
    vms.of_process(*launcher)
    os.kill(launcher[0], signal.SIGKILL)
    os.waitid(os.P_PID, launcher[0], os.WEXITED | os.WNOWAIT)
    assert id_of(vms.of_process(*daemon)) == "web"


def test_a_child_before_its_exec_is_the_same_vm(hypervisors: Hypervisors) -> None:
    """A fork of the hypervisor that still has its command line is no VM of its own."""
    vms = VmIds()
    tgid, info = hypervisors.start("-m", "512")
    parent = vms.of_process(tgid, info)
    child = ProcessInfo(info.exe, info.cmdline, tgid, info.start_ticks + 500)
    assert vms.of_process(tgid + 1, child) == parent


def test_a_process_that_is_no_vm_any_more_has_none(hypervisors: Hypervisors) -> None:
    """After exec of another program the process has no VM, and the id is free."""
    vms = VmIds()
    tgid, info = hypervisors.start("-name", "web")
    vms.of_process(tgid, info)
    after = ProcessInfo("/bin/true", ("true",), info.parent, info.start_ticks)
    assert vms.of_process(tgid, after) is None
    assert id_of(vms.of_process(*hypervisors.start("-name", "web"))) == "web"


def test_a_helper_thread_belongs_to_a_known_vm(hypervisors: Hypervisors) -> None:
    """vhost-PID is PID's VM."""
    vms = VmIds()
    tgid, info = hypervisors.start("-m", "512")
    assert vms.of_process(tgid, info) == vms.of_helper(f"vhost-{tgid}")


def test_a_helper_thread_seen_before_its_vm(hypervisors: Hypervisors) -> None:
    """A helper that ran first gets the very id that its VM gets later."""
    vms = VmIds()
    tgid, info = hypervisors.start("-m", "512")
    assert vms.of_helper(f"vhost-{tgid}") == vms.of_process(tgid, info)


def test_a_helper_named_after_a_thread_of_the_vm() -> None:
    """The number may be that of any thread of the hypervisor."""
    code = "import threading, sys; t = threading.Thread(target=sys.stdin.read); t.start(); t.join()"
    with subprocess.Popen(
        ["qemu-system-x86_64", "-c", code],
        executable=sys.executable,
        stdin=subprocess.PIPE,
    ) as process:
        tasks = Path(f"/proc/{process.pid}/task")
        while len(threads := [int(task.name) for task in tasks.iterdir()]) < 2:
            os.sched_yield()
        labels = VmIds().of_helper(f"vhost-{max(threads)}")
        process.kill()
    assert id_of(labels).startswith(f"kvm-{process.pid}-")


@pytest.mark.parametrize("comm", ["vhost-0", "vhost-4194304", "kworker/0:1"])
def test_a_helper_of_nobody(comm: str) -> None:
    """A helper without a live owner, and any other kernel thread, has no VM."""
    assert VmIds().of_helper(comm) is None


def test_vms_that_are_gone_are_forgotten() -> None:
    """A host that starts VMs all day does not remember each of them."""
    vms = VmIds("/nonexistent")
    for pid in range(1, 1000):
        info = ProcessInfo("", ("firecracker", "--id", f"fc-{pid}"), 1, pid)
        assert id_of(vms.of_process(pid, info)) == f"fc-{pid}"
    assert len(vms) < 100
