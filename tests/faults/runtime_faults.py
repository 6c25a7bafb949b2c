"""Files of container runtimes that are not what they should be: only the name is lost."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from bed import Bed
from fault import fault
from running import Page
from workers import worker

NAMELESS = "the container has its id for a name"


def container(bed: Bed, number: int, make: Callable[[Path], object]) -> Iterator[None]:
    """Start a container of Docker whose file is made by *make*."""
    id_ = f"{number:02x}" + "fe" * 31
    path = bed.root / f"var/lib/docker/containers/{id_}/config.v2.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    with worker(bed.folder, "contained") as inner:
        cgroup = bed.cgroups.make(f"/docker/{id_}")
        cgroup.enter(inner.pid)
        inner.spin()

        def is_listed(page: Page) -> bool:
            found = page.find("kepler_container_cpu_joules_total", container_id=id_)
            return {each.labels["container_name"] for each in found} == {id_[:12]}

        bed.until(is_listed, "the container's id")
        yield
    cgroup.remove()


@fault("containers", NAMELESS)
def runtime_file_is_a_fifo(bed: Bed) -> Iterator[None]:
    """A runtime's file is a FIFO."""
    yield from container(bed, 1, os.mkfifo)


@fault("containers", NAMELESS)
def runtime_file_is_a_link(bed: Bed) -> Iterator[None]:
    """A runtime's file is a symbolic link to /dev/zero."""
    yield from container(bed, 2, lambda path: path.symlink_to("/dev/zero"))


@fault("containers", NAMELESS)
def runtime_file_is_huge(bed: Bed) -> Iterator[None]:
    """A runtime's file has a terabyte."""

    def make(path: Path) -> None:
        path.touch()
        os.truncate(path, 1 << 40)

    yield from container(bed, 3, make)


@fault("containers", NAMELESS)
def runtime_file_is_deep(bed: Bed) -> Iterator[None]:
    """A runtime's file is JSON of 100,000 levels."""
    yield from container(bed, 4, lambda path: path.write_text("[" * 100_000))


@fault("containers", NAMELESS)
def runtime_file_is_a_directory(bed: Bed) -> Iterator[None]:
    """A runtime's file is a directory."""
    yield from container(bed, 5, Path.mkdir)


@fault("containers", NAMELESS)
def runtime_file_is_no_text(bed: Bed) -> Iterator[None]:
    """A runtime's file is no text."""
    yield from container(bed, 6, lambda path: path.write_bytes(os.urandom(100_000)))
