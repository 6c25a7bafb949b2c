"""The hybrid layout on other kernels: a v1 controller beside the unified hierarchy."""

from cgroup_tree import cgroup_tree
from trackers import HIERARCHIES, of, opened, settled

from kepler_ebpf.names.cgroups.hierarchy import discover
from kepler_ebpf.names.cgroups.paths import CgroupPaths


def test_v1_controller_is_chosen():
    """Where a v1 controller is mounted as well, it is the one to count by."""
    hierarchy = discover()
    assert (hierarchy.name, HIERARCHIES) == ("cpuacct", ("cpuacct", "v2"))


def test_time_is_charged_to_the_v1_directory(start):
    """The id of a task's v1 cgroup leads back to its directory."""
    hierarchy, load = discover(), start("burn_twice")
    paths = CgroupPaths(hierarchy)
    with cgroup_tree(hierarchy) as tree, opened("core", hierarchy="cpuacct") as tracker:
        container = tree.make("/docker/container")
        container.enter(load.pid)
        settled(tracker)
        load.step()
        (mine,) = of(settled(tracker).tasks, tgid=load.pid)
        assert mine["cgroup_id"] == container.id
        paths.learn(tracker.cgroup_events())
        assert paths.lookup(container.id) == container.path
        load.close()
    paths.close()
