"""What a host with v1 hierarchies cannot show: cgroups in the unified hierarchy alone."""

from cgroup_tree import cgroup_tree
from trackers import of, settled

from kepler_ebpf.names.cgroups.hierarchy import discover
from kepler_ebpf.names.cgroups.paths import CgroupPaths


def test_v2_is_chosen_where_it_is_alone():
    """No controller is looked for where there is none to be found."""
    hierarchy = discover()
    assert (hierarchy.name, hierarchy.v1_root) == ("v2", None)


def test_time_is_charged_to_the_directory_by_its_inode(tracker, start):
    """The id of a task's cgroup is the inode of the directory, which its handle leads back to."""
    hierarchy, load = discover(), start("burn_twice")
    paths = CgroupPaths(hierarchy)
    with cgroup_tree(hierarchy) as tree:
        container = tree.make("/kubepods.slice/pod/container")
        container.enter(load.pid)
        settled(tracker)
        load.step()
        (mine,) = of(settled(tracker).tasks, tgid=load.pid)
        assert mine["cgroup_id"] == container.id == container.directory.stat().st_ino
        assert paths.lookup(int(mine["cgroup_id"])) == container.path
        load.close()
    paths.close()


def test_container_that_came_and_went_is_named(tracker, start):
    """A cgroup made, used and removed within one interval has its time and its name."""
    hierarchy, load = discover(), start("burn_once")
    paths = CgroupPaths(hierarchy)
    settled(tracker)
    with cgroup_tree(hierarchy) as tree:
        container = tree.make("/short")
        container.enter(load.pid)
        load.go()
        load.end()
        container.remove()
        usage = settled(tracker)
        paths.learn(tracker.cgroup_events())
        assert of(usage.tasks, tgid=load.pid, cgroup_id=container.id)["cpu_ns"].sum() > 0
        assert paths.lookup(container.id) == container.path
        assert paths.is_ended(container.id)
    paths.close()
