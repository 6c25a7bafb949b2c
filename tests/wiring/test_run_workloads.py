"""Virtual machines, systemd units and Slurm steps in a live `run`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from kube_runs import JOULES, cgroupfs
from running import Page, stepping
from workers import worker

ID = "0123456789abcdef" * 4
UID = f"6a1b2c3d-4e5f-6071-8293-{os.getpid():012x}"
QEMU = "qemu-system-x86_64"
UUID = f"11111111-2222-3333-4444-{os.getpid():012x}"


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    """Give a test its cgroups, where this host's are counted."""
    with cgroup_tree(hierarchies()[0]) as made:
        yield made


def joules(page: Page, level: str, **labels: str) -> dict[str, float]:
    """Return the joules of a workload by zone, its rows added up."""
    return {
        zone: page.total(f"kepler_{level}_{JOULES}", zone=zone, **labels) for zone in page.zones()
    }


def test_machine_has_its_process_and_its_name(tmp_path: Path) -> None:
    """A process with QEMU's command line is a machine by its uuid, and the machine's is its."""
    options = ("-name", "guest=web,debug-threads=on", "-uuid", UUID, "-machine", "q35,accel=kvm")
    with worker(tmp_path, QEMU, *options) as qemu, stepping(tmp_path, "--meter", "fake") as run:
        qemu.spin()
        page = run.step()
        machine = joules(page, "vm", vm_id=UUID, vm_name="web", hypervisor="kvm", state="running")
        qemu.end()
        ended = run.until(
            lambda page: page.find(f"kepler_vm_{JOULES}", vm_id=UUID, state="terminated")
        )
    assert min(machine.values()) > 0
    process = joules(page, "process", vm_id=UUID, type="vm", pid=str(qemu.pid), container_id="")
    assert machine == pytest.approx(process, rel=1e-9)
    assert page.find("kepler_vm_cpu_watts", vm_id=UUID)
    assert min(joules(ended, "vm", vm_id=UUID).values()) >= min(machine.values())


def test_machines_without_a_name_are_told_apart(tmp_path: Path) -> None:
    """Two that were given neither uuid nor name have an id each."""
    with (
        worker(tmp_path, QEMU, "-m", "1G") as one,
        worker(tmp_path, QEMU, "-m", "1G") as two,
        stepping(tmp_path, "--meter", "fake") as run,
    ):
        for each in (one, two):
            each.spin()
        page = run.step()
    ids = [
        {each.labels["vm_id"] for each in page.find(f"kepler_process_{JOULES}", pid=str(it.pid))}
        for it in (one, two)
    ]
    assert [len(each) for each in ids] == [1, 1]
    assert ids[0].isdisjoint(ids[1])
    assert "" not in ids[0] | ids[1]


def test_machine_in_a_pod_is_counted_once_at_each_level(tmp_path: Path, tree: CgroupTree) -> None:
    """KubeVirt's QEMU is a machine, and part of its container and its pod."""
    cgroup = tree.make(cgroupfs(UID, ID))
    with (
        worker(tmp_path, QEMU, "-uuid", UUID) as qemu,
        worker(tmp_path, "virt-launcher") as launcher,
        stepping(tmp_path, "--meter", "fake") as run,
    ):
        for each in (qemu, launcher):
            cgroup.enter(each.pid)
            each.spin()
        page = run.step()
    machine, pod = joules(page, "vm", vm_id=UUID), joules(page, "pod", pod_id=UID)
    # The label of a process in a container is container, as with Kepler; its machine is told too.
    qemu_labels = {"vm_id": UUID, "container_id": ID, "type": "container"}
    assert machine == pytest.approx(joules(page, "process", **qemu_labels), rel=1e-9)
    assert pod == pytest.approx(joules(page, "process", container_id=ID), rel=1e-9)
    assert pod == pytest.approx(joules(page, "container", pod_id=UID), rel=1e-9)
    assert all(0 < machine[zone] < pod[zone] for zone in page.zones())


# --- units ------------------------------------------------------------------------------------

UNIT_JOULES = "kepler_ebpf_unit_cpu_joules_total"


def test_units_are_exported_when_asked_for(tmp_path: Path, tree: CgroupTree) -> None:
    """A service with its own helper cgroup, and a Slurm step, each with what its processes used."""
    service = f"web-{os.getpid()}.service"
    paths = (f"/system.slice/{service}", f"/system.slice/{service}/helper")
    step = f"/slurm/uid_0/job_{os.getpid()}/step_batch/task_0"
    with (
        worker(tmp_path, "main") as main,
        worker(tmp_path, "helper") as helper,
        worker(tmp_path, "task") as task,
        stepping(tmp_path, "--meter", "fake", "--units") as run,
    ):
        tree.make(step).enter(task.pid)
        for path, each in zip(paths, (main, helper), strict=True):
            tree.make(path).enter(each.pid)
        for each in (main, helper, task):
            each.spin()
        page = run.step()
    systemd = {"unit": service, "kind": "systemd", "state": "running"}
    slurm = {"unit": f"{os.getpid()}.batch", "kind": "slurm", "state": "running"}
    for zone in page.zones():
        of_service = [
            page.total(f"kepler_process_{JOULES}", zone=zone, pid=str(each.pid))
            for each in (main, helper)
        ]
        of_task = page.total(f"kepler_process_{JOULES}", zone=zone, pid=str(task.pid))
        assert page.total(UNIT_JOULES, zone=zone, **systemd) == pytest.approx(
            sum(of_service), rel=0.2
        )
        assert page.total(UNIT_JOULES, zone=zone, **slurm) == pytest.approx(of_task, rel=0.2)
        assert of_task > 0
    assert page.total("kepler_ebpf_unit_cpu_seconds_total", **slurm) > 0
    assert page.find("kepler_ebpf_unit_cpu_watts", **systemd)


def test_units_are_off_at_first(tmp_path: Path) -> None:
    """Nobody gets series that were not asked for."""
    with stepping(tmp_path, "--meter", "fake") as run:
        assert "kepler_ebpf_unit" not in run.step().text
