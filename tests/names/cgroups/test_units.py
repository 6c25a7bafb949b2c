"""Systemd unit and Slurm step from a cgroup path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.model.workloads import UnitLabels
from kepler_ebpf.names.cgroups.units import match_unit

ID = "0123456789abcdef" * 4
UID = "6a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
SLUID = "/system.slice/slurmstepd.scope/s5K1KKYAYG5D00"
MANAGER = "/user.slice/user-1000.slice/user@1000.service"

SYSTEMD = {
    "/system.slice/cron.service": "cron.service",
    "/system.slice/cron.service/worker": "cron.service",
    "/init.scope": "init.scope",
    "/user.slice/user-0.slice/session-3.scope": "session-3.scope",
    f"{MANAGER}/app.slice/build.service": "user@1000.service/build.service",
    f"{MANAGER}/init.scope": "user@1000.service/init.scope",
    r"/system.slice/dev-disk\x2d1.swap.service": r"dev-disk\x2d1.swap.service",
    r"/machine.slice/machine-qemu\x2d1\x2dweb.scope/libvirt/emulator": (
        r"machine-qemu\x2d1\x2dweb.scope"
    ),
    f"{MANAGER}/user.slice/libpod-{ID}.scope/container": "user@1000.service",
    f"/system.slice/containerd.service/kubepods-pod{UID}.slice:cri-containerd:{ID}": (
        "containerd.service"
    ),
    "/system.slice/slurmstepd.scope/system": "slurmstepd.scope",
}

SLURM = {
    "/slurm/uid_1000/job_12/step_0/task_3": "12.0",
    "/slurm/uid_1000/job_12/step_batch": "12.batch",
    "/slurm/uid_1000/job_12": "12",
    "/slurm_node7/uid_1000/job_12/step_extern": "12.extern",
    "/system.slice/slurmstepd.scope/job_12/step_0/user/task_0": "12.0",
    "/system.slice/node7_slurmstepd.scope/job_12/step_interactive/slurm": "12.interactive",
    "/system.slice/slurmstepd.scope/job_12/step_0+1/user": "12.0+1",
    f"/system.slice/slurmstepd.scope/job_12/step_0/user/libpod-{ID}.scope": "12.0",
    "/system.slice/slurmstepd.scope/job_12_3/step_0/user": "12_3.0",
    "/system.slice/slurmstepd.scope/s5k1kkyayg5d00/step_0/user": "s5k1kkyayg5d00.0",
    "/slurm/job_12/step_0": "12.0",
    f"{SLUID}/step_0/user/task_0": "s5K1KKYAYG5D00.0",
    f"{SLUID}/step_batch/slurm": "s5K1KKYAYG5D00.batch",
    SLUID: "s5K1KKYAYG5D00",
    "/system.slice/node7_slurmstepd.scope/s5K1KKYB00QX00/step_0": "s5K1KKYB00QX00.0",
    "/slurm/uid_1000/s5K1KKYB00QX00/step_extern/task_0": "s5K1KKYB00QX00.extern",
    "/slurm_node7/uid_1000/s5K1KKYB00QX00/step_1": "s5K1KKYB00QX00.1",
    f"{SLUID}/step_0/user/task_0/slurmstepd.scope/job_7/step_1/user": "7.1",
}

NONE = (
    "/",
    "/system.slice",
    f"/system.slice/docker-{ID}.scope",
    f"/docker/{ID}/system.slice/cron.service",
    f"/kubepods.slice/kubepods-pod{UID}.slice/cri-containerd-{ID}.scope",
    f"/kubepods.slice/kubepods-pod{UID}.slice/crio-conmon-{ID}.scope",
    "/machine.slice/systemd-nspawn@web.service/payload/system.slice/cron.service",
    "/job_12/step_0",
    "/slurmy/uid_1000/job_12",
    "/slurm/uid_1000",
    "/a.services/b.scoped",
)


@pytest.mark.parametrize(("path", "unit"), SYSTEMD.items())
def test_systemd_unit(path: str, unit: str) -> None:
    """The innermost service or scope that is no container, behind the one that manages it."""
    assert match_unit(path) == UnitLabels(unit, "systemd")


@pytest.mark.parametrize(("path", "step"), SLURM.items())
def test_slurm_step(path: str, step: str) -> None:
    """Steps are named as Slurm names them, in the cgroups of either version."""
    assert match_unit(path) == UnitLabels(step, "slurm")


@pytest.mark.parametrize("path", NONE)
def test_no_unit(path: str) -> None:
    """A slice is no unit, and what a container or pod has inside is not the host's."""
    assert match_unit(path) is None


PIECES = st.sampled_from(
    [
        "slurm",
        "slurmstepd.scope",
        "uid_1",
        "job_1",
        "s5K1KKYAYG5D00",
        "step_0",
        "a.service",
        ".scope",
        "/",
        ID,
        "pod",
    ]
)


@given(st.lists(PIECES | st.text(max_size=5), max_size=15).map("/".join))
def test_any_path_is_a_unit_or_none(path: str) -> None:
    """No path raises, and a unit has a name."""
    match = match_unit(path)
    assert match is None or match.unit
