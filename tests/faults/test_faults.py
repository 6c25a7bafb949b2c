"""Each fault happens to the running program: it measures on, counts what is lost, and recovers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed import BEDS, Bed
from fault import Fault
from kube_server import wait_until
from running import GIVE_UP_S, in_kernel
from table import FAULTS, lines

FOLDER = Path(__file__).parent


class Beds:
    """Keeps one bed at a time; one that a test has spoilt is made anew."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._name, self._sound = "", False
        self._bed: Bed | None = None

    def get(self, name: str) -> Bed:
        """Return a bed of that kind."""
        if self._bed is None or name != self._name or not self._sound:
            self.close()
            self._bed, self._name = Bed(self._factory.mktemp(name), BEDS[name]), name
            self._bed.healthy()
        self._sound = False
        return self._bed

    def is_sound(self) -> None:
        """Note that the bed has passed its last test."""
        self._sound = True

    def close(self) -> None:
        """End what runs."""
        if self._bed is not None:
            self._bed.close()
        self._bed = None


@pytest.fixture(scope="module")
def beds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beds]:
    """Give the beds, one after the other."""
    made = Beds(tmp_path_factory)
    yield made
    made.close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_survives(fault: Fault, beds: Beds) -> None:
    """It measures on where it can, its sums are closed, the loss is counted, and it recovers."""
    bed = beds.get(fault.bed)
    before, objects = bed.page(), bed.run.kernel_objects()
    counted = fault.counted or (lambda page: page.intervals)
    with fault.injected(bed):
        if fault.ends:
            bed.run.process.wait(GIVE_UP_S)
        if fault.measures and not fault.ends:
            bed.measures_on()
        if fault.serves and not fault.ends:
            bed.until(lambda page: counted(page) > counted(before), "what is lost is counted")
    if fault.ends:
        assert "Traceback" not in bed.run.log
        wait_until(lambda: not left_in_kernel(objects))
        bed.restart()
    bed.served()
    after = bed.healthy()
    assert fault.ends or counted(after) > counted(before)
    beds.is_sound()


def left_in_kernel(objects: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Return those of the objects that there still are."""
    kinds = {kind for kind, _ in objects}
    return objects & {(kind, number) for kind in kinds for number in in_kernel(kind)}


def test_table_of_faults_is_up_to_date() -> None:
    """README.md and the command have a row for each fault."""
    printed = subprocess.run(
        [sys.executable, FOLDER / "render_table.py"], capture_output=True, text=True, check=True
    )
    assert printed.stdout.splitlines()[2:] == lines()[1:]
    assert printed.stdout in (FOLDER / "README.md").read_text("utf-8")
