"""A fault of naming costs names: no method of it raises."""

import logging
from pathlib import Path

import pytest

from kepler_ebpf.model.names import CgroupEvent, ProcessIdentity, ProcessName
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.names.kubernetes.index import NamedContainer, PodIndex
from kepler_ebpf.names.naming import RETRY_S, HostNaming, NamingOptions

ID = "0123456789abcdef" * 4


class BrokenPods:
    """A source of pods that fails when it is asked, until it is mended."""

    def __init__(self) -> None:
        self.index = PodIndex()
        self.error: Exception | None = OSError("disk on fire")

    def find(self, container_id: str) -> NamedContainer | None:
        if self.error:
            raise self.error
        return self.index.find(container_id)


class World:
    """A naming with a broken source of pods, on a clock that a test moves."""

    def __init__(self, root: Path) -> None:
        self.now_s = 0.0
        self.pods = BrokenPods()
        options = NamingOptions(procfs=str(root), host_root=str(root))
        hierarchy = CgroupHierarchy("v2", None, None)
        self.naming = HostNaming(hierarchy, options, self.pods, lambda: self.now_s)
        self.naming.learn_cgroups([CgroupEvent(7, f"/docker/{ID}", removed=False)])


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a naming that has one cgroup."""
    return World(tmp_path)


def test_cgroup_that_cannot_be_named_is_named_later(world: World) -> None:
    """It has no name at first, and its own when the fault has gone."""
    assert world.naming.cgroup(7).path == ""
    world.now_s += RETRY_S
    assert world.naming.updates().cgroups == {}
    world.pods.error = None
    world.now_s += RETRY_S
    assert world.naming.updates().cgroups[7].container_id == ID


def test_named_cgroup_keeps_its_name(world: World) -> None:
    """A fault while a better name is looked for takes nothing away."""
    world.pods.error = None
    assert world.naming.cgroup(7).container_id == ID
    world.pods.error = ValueError("broken")
    world.pods.index.remove("any")
    world.now_s += RETRY_S
    assert world.naming.updates().cgroups == {}


def test_faults_are_counted_and_each_kind_is_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """With its traceback: it is a bug of ours, or a host as nobody knew it."""
    for _ in range(3):
        world.naming.cgroup(7)
    world.pods.error = ValueError("broken")
    world.naming.cgroup(7)
    assert world.naming.stats.faults == 4
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_fault_of_a_process_costs_its_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known by what the kernel has."""

    def fail(*_: object) -> None:
        raise OSError("no more memory")

    monkeypatch.setattr("kepler_ebpf.names.processes.process_names.read_process", fail)
    world.naming.begin_batch(1.0)
    assert world.naming.process(ProcessIdentity(1, 1, 1, "init")) == ProcessName()
    world.naming.begin_batch(0.0)
    world.naming.process(ProcessIdentity(1, 1, 1, "init"))
    world.naming.work(lambda: 1.0)
    assert world.naming.stats.faults == 2
