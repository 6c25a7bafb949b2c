"""Fixtures of the tests on the real kernel, each of which runs over both loaders.

A plugin: ``pytest_plugins = ["kernel_fixtures"]`` in a test module makes them known there.
"""

from collections.abc import Callable, Iterator

import pytest
from trackers import LOADERS, Cgroup, Load, Tracker, opened


@pytest.fixture(scope="session", params=LOADERS)
def tracker(request) -> Iterator[Tracker]:
    """Give one running tracker for each loader, shared by all tests."""
    with opened(request.param) as shared:
        yield shared


@pytest.fixture(params=LOADERS)
def loader_name(request) -> str:
    """Name each loader in turn."""
    name: str = request.param
    return name


@pytest.fixture
def start() -> Iterator[Callable[..., Load]]:
    """Start loads by name; whatever still runs when the test ends is killed."""
    loads: list[Load] = []

    def begin(name: str, *arguments: object) -> Load:
        loads.append(Load(name, *arguments))
        return loads[-1]

    yield begin
    for load in loads:
        load.close()


@pytest.fixture
def make_cgroup() -> Iterator[Callable[..., Cgroup]]:
    """Make cgroups by hierarchy; in the end they are removed."""
    made: list[Cgroup] = []

    def make(hierarchy: str, suffix: str = "") -> Cgroup:
        made.append(Cgroup(hierarchy, suffix))
        return made[-1]

    yield make
    # A load that still runs is killed later, by another fixture: it must not hold the cgroup.
    for cgroup in made:
        if cgroup.directory.exists():
            for pid in (cgroup.directory / "cgroup.procs").read_text().split():
                cgroup.release(int(pid))
            cgroup.remove()
