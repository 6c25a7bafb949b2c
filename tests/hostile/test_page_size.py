"""How long the page gets where a local user chooses all names, and makes as many as he can."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from running import Page, stepping
from workers import SHELL, worker

PROCESSES, VMS, CGROUPS = 40, 40, 120
MAX_RATIO = 4
LONGEST_PATH = 3_900
LONG_ARGUMENT = 30_000
LONG_NAME = 220
SHORT_LOOPS = 300


@contextmanager
def workloads(folder: Path, *, are_long: bool) -> Iterator[None]:
    """Run processes, machines, containers and units, with names as long as they can be, or not."""
    program, argument, name = folder / "program", "", ""
    if are_long:
        while len(str(folder)) < LONGEST_PATH - LONG_NAME:
            folder /= "d" * LONG_NAME
        folder.mkdir(parents=True)
        program, argument, name = folder / "e", "u" * LONG_ARGUMENT, "x" * LONG_NAME
    program.write_bytes(Path(SHELL).read_bytes())
    program.chmod(0o755)
    commands = [[str(program), "-c", "read _"]] * PROCESSES + [
        ["qemu-system-x86_64", "-c", "read _", "-uuid", f"{number}{argument}", "-name", argument]
        for number in range(VMS)
    ]
    with ExitStack() as stack:
        for command in commands:
            path = SHELL if command[0].startswith("qemu") else command[0]
            waiting = subprocess.Popen(command, executable=path, stdin=subprocess.PIPE)
            stack.enter_context(waiting)
            stack.callback(waiting.kill)
        tree = stack.enter_context(cgroup_tree(hierarchies()[0]))
        _visit(tree, program.parent, name)
        yield


def _visit(tree: CgroupTree, folder: Path, name: str) -> None:
    """Lead one process through containers and units, which stay."""
    home = tree.make("/home")
    with worker(folder, "w") as visitor:
        # Where the kernel hides the switch between two visits, the second place has no time.
        for number in (*range(CGROUPS), *range(CGROUPS)):
            tree.make(f"/lxc.payload.{number}{name}").enter(visitor.pid)
            visitor.spin(SHORT_LOOPS)
            tree.make(f"/{number}{name}.service/{name}.scope").enter(visitor.pid)
            visitor.spin(SHORT_LOOPS)
        home.enter(visitor.pid)


def page_beside(folder: Path, *, are_long: bool) -> Page:
    """Return a page that has all of the workloads."""
    folder.mkdir()
    with stepping(folder, "--meter", "fake", "--units") as run:
        with workloads(folder, are_long=are_long):
            page = run.step()
        assert run.process.poll() is None
    return page


def listed(page: Page) -> dict[str, int]:
    """Return how many workloads of each kind the page lists."""
    names = {
        "process": "kepler_process_cpu_watts",
        "container": "kepler_container_cpu_watts",
        "vm": "kepler_vm_cpu_watts",
        "unit": "kepler_ebpf_unit_cpu_watts",
    }
    return {kind: len(page.find(name, zone="package")) for kind, name in names.items()}


def test_long_names_do_not_make_a_long_page(tmp_path: Path) -> None:
    """It has four times the bytes of an honest one at most, and lists as many workloads."""
    honest, hostile = (
        page_beside(tmp_path / str(are_long), are_long=are_long) for are_long in (False, True)
    )
    counts = listed(hostile)
    assert counts["vm"] >= VMS
    assert counts["container"] >= CGROUPS
    assert counts["unit"] >= CGROUPS
    assert counts["process"] >= PROCESSES + VMS
    assert len(hostile.text) <= MAX_RATIO * len(honest.text)
    assert hostile.total("kepler_ebpf_limited_total", limit="label_bytes") > 0


def test_an_owner_of_many_cgroups_does_not_push_out_others(tmp_path: Path) -> None:
    """He has half of the places at most; the rest of what he makes is one row."""
    with (
        stepping(tmp_path, "--meter", "fake", "--max-workloads", "100") as run,
        cgroup_tree(hierarchies()[0]) as tree,
        worker(tmp_path) as visitor,
    ):
        home = tree.make("/home")
        for number in range(CGROUPS):
            tree.make(f"/user-1000.slice/user@1000.service/lxc.payload.fake{number}").enter(
                visitor.pid
            )
            visitor.spin(SHORT_LOOPS)
        home.enter(visitor.pid)
        run.step()
        real = tree.make(f"/docker/{os.getpid():064x}")
        real.enter(visitor.pid)
        visitor.spin()
        page = run.step()
        home.enter(visitor.pid)
    name = "kepler_container_cpu_joules_total"
    rows = page.find(name, zone="package")
    assert page.total(name, zone="package", container_id="[others]") > 0
    assert page.total(name, zone="package", container_id=f"{os.getpid():064x}") > 0
    assert len(rows) <= 100 + 1
