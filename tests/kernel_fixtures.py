"""Fixtures of the tests on the real kernel, each of which runs over both loaders.

A plugin: ``pytest_plugins = ["kernel_fixtures"]`` in a test module makes them known there.
"""

from collections.abc import Callable, Iterator

import pytest
from accounts import LOADERS, Cgroup, Load, opened

from kepler_ebpf.kernel.account import KernelAccount


@pytest.fixture(scope="session", params=LOADERS)
def account(request) -> Iterator[KernelAccount]:
    """Give one running account for each loader, shared by all tests; its interval is new."""
    with opened(request.param) as shared:
        yield shared


@pytest.fixture(params=LOADERS)
def loader_name(request) -> str:
    """Name each loader in turn."""
    name: str = request.param
    return name


@pytest.fixture
def start() -> Iterator[Callable[[str], Load]]:
    """Start loads by name; whatever still runs when the test ends is killed."""
    loads: list[Load] = []

    def begin(name: str) -> Load:
        loads.append(Load(name))
        return loads[-1]

    yield begin
    for load in loads:
        load.close()


@pytest.fixture
def make_cgroup(start) -> Iterator[Callable[[str], Cgroup]]:
    """Make cgroups by hierarchy; they are removed after the loads in them were killed."""
    made: list[Cgroup] = []

    def make(hierarchy: str) -> Cgroup:
        made.append(Cgroup(hierarchy))
        return made[-1]

    yield make
    # start is torn down after this: move what is left out of the way.
    for cgroup in made:
        if cgroup.directory.exists():
            for pid in (cgroup.directory / "cgroup.procs").read_text().split():
                cgroup.release(int(pid))
            cgroup.remove()
