"""The path of a real cgroup from its inode, by handle and by walking."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies

from kepler_ebpf.names.cgroups.kernfs import (
    WALK_INTERVAL_S,
    HandleResolver,
    Resolver,
    WalkResolver,
    make_resolver,
    path_of_fd,
)

HIERARCHIES = hierarchies()


@pytest.fixture(params=HIERARCHIES, ids=lambda hierarchy: hierarchy.name)
def tree(request: pytest.FixtureRequest) -> Iterator[CgroupTree]:
    """Give real cgroups in each hierarchy of this host."""
    with cgroup_tree(request.param) as made:
        yield made


@pytest.fixture(params=[HandleResolver, WalkResolver])
def resolver(request: pytest.FixtureRequest, tree: CgroupTree) -> Iterator[Resolver]:
    """Give each way of finding a path."""
    made: Resolver = request.param(root_of(tree))
    yield made
    made.close()


def root_of(tree: CgroupTree) -> str:
    """Return where the tree's hierarchy is mounted."""
    return tree.hierarchy.v1_root or tree.hierarchy.v2_root or ""


def inode_of(directory: Path) -> int:
    """Return what the kernel calls a cgroup by."""
    return directory.stat().st_ino


def test_path_of_a_cgroup(tree: CgroupTree, resolver: Resolver) -> None:
    """An inode leads to the path below the mount point."""
    cgroup = tree.make("/docker/a b")
    assert resolver.path(inode_of(cgroup.directory)) == cgroup.path


def test_path_of_the_root(tree: CgroupTree, resolver: Resolver) -> None:
    """The root's path is a slash."""
    assert resolver.path(inode_of(Path(root_of(tree)))) == "/"


def test_a_name_that_is_no_text(tree: CgroupTree, resolver: Resolver) -> None:
    """Bytes that are no UTF-8 become replacement characters, and the cgroup is still found."""
    cgroup = tree.make("/" + os.fsdecode(b"x\xff"))
    assert resolver.path(inode_of(cgroup.directory)) == cgroup.path[:-1] + "�"
    assert resolver.exists(inode_of(cgroup.directory), 0.0)


def test_a_removed_cgroup_has_no_path(tree: CgroupTree, resolver: Resolver) -> None:
    """A cgroup that is gone is not found and known to be gone."""
    cgroup = tree.make("/gone")
    inode = inode_of(cgroup.directory)
    cgroup.remove()
    assert not resolver.exists(inode, 0.0)
    assert resolver.path(inode) is None


def test_root_may_find_by_handle(tree: CgroupTree) -> None:
    """With CAP_DAC_READ_SEARCH the tree is not walked."""
    resolver = make_resolver(root_of(tree))
    assert isinstance(resolver, HandleResolver)
    resolver.close()


def test_without_the_capability_the_tree_is_walked(tree: CgroupTree, checkout: Path) -> None:
    """A process without CAP_DAC_READ_SEARCH finds the same path."""
    cgroup = tree.make("/docker/abc")
    code = (
        "from kepler_ebpf.names.cgroups.kernfs import make_resolver;"
        f"found = make_resolver({root_of(tree)!r});"
        f"print(type(found).__name__, found.path({inode_of(cgroup.directory)}))"
    )
    drop = ["setpriv", "--bounding-set=-dac_read_search", "--inh-caps=-dac_read_search"]
    done = subprocess.run(
        [*drop, sys.executable, "-c", code],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"WalkResolver {cgroup.path}\n"


def test_a_tree_is_walked_at_most_once_a_second(tree: CgroupTree) -> None:
    """A cgroup younger than the walk is found by the next one, and not called gone before."""
    now_s = [0.0]
    resolver = WalkResolver(root_of(tree), lambda: now_s[0])
    assert resolver.path(inode_of(Path(root_of(tree)))) == "/"
    cgroup = tree.make("/young")
    inode = inode_of(cgroup.directory)
    assert resolver.path(inode) is None
    assert resolver.exists(inode, 0.0)
    now_s[0] += WALK_INTERVAL_S
    assert resolver.path(inode) == cgroup.path


@pytest.mark.parametrize("root", ["/nonexistent", "/proc/version"])
def test_without_a_mounted_hierarchy_nothing_is_known(root: str) -> None:
    """A root that is not there gives no path, and no certainty that anything is gone."""
    resolver = make_resolver(root)
    assert (resolver.path(1), resolver.exists(1, 0.0)) == (None, True)
    resolver.close()


def test_another_file_system_is_walked(tmp_path: Path) -> None:
    """Where handles lead nowhere (a copied tree) walking still works."""
    (tmp_path / "docker").mkdir()
    resolver = make_resolver(str(tmp_path))
    assert resolver.path(inode_of(tmp_path / "docker")) == "/docker"
    assert isinstance(resolver, WalkResolver)


def test_a_cgroup_removed_while_being_read(tree: CgroupTree) -> None:
    """An open directory tells its old name after its removal, without the kernel's mark."""
    cgroup = tree.make("/brief")
    fd = os.open(cgroup.directory, os.O_PATH)
    cgroup.remove()
    assert path_of_fd(fd) == os.fsencode(cgroup.directory)
    os.close(fd)


def test_a_cgroup_may_be_called_deleted(tree: CgroupTree, resolver: Resolver) -> None:
    """A living cgroup whose name ends like the kernel's mark keeps its name."""
    cgroup = tree.make("/old (deleted)")
    assert resolver.path(inode_of(cgroup.directory)) == cgroup.path
