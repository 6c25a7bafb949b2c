"""Faults of procfs, as a program without rights over others' processes meets them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from bed import Bed
from fault import fault
from workers import worker


def mount(*arguments: str | Path) -> None:
    """Call mount or umount."""
    subprocess.run(arguments, check=True)


def new_processes(bed: Bed) -> None:
    """Have processes that must be named."""
    for number in range(5):
        with worker(bed.folder, f"new-{number}") as new:
            new.spin(1000)


@fault("procfs", "they have no executable")
def processes_are_hidden(bed: Bed) -> Iterator[None]:
    """Procfs hides the processes of others (hidepid=2)."""
    mount("mount", "-o", "remount,hidepid=2", bed.procfs)
    new_processes(bed)
    yield
    mount("mount", "-o", "remount,hidepid=0", bed.procfs)


@fault("procfs", "what is new has no executable")
def procfs_is_unmounted(bed: Bed) -> Iterator[None]:
    """Procfs is unmounted."""
    mount("umount", "--lazy", bed.procfs)
    new_processes(bed)
    yield
    mount("mount", "-t", "proc", "proc", bed.procfs)
