"""`run` over a powercap tree whose energy the test decides, against truth from the scheduler."""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cgroup_tree import cgroup_tree, hierarchies
from powercap import CpuModel, PowercapTree, ZoneSpec, driven
from running import Page, Run, assert_conserved, refused, running, stepping
from truth import Stopwatch
from workers import Worker, worker

PACKAGE, DRAM = "intel-rapl:0", "intel-rapl:0:2"
"""Zones of the single-socket machine."""

OTHER_PACKAGE = "intel-rapl:1"
UNCORE = "intel-rapl:0:1"
PSYS = "intel-rapl:9"
CONTAINER = "c0" * 32
J = 1e6
PROBE_PERIOD_S = 0.005
AT_LEAST_ONE_WRAP_S = 1.5
"""In this time a platform's counter of 3 kJ may have wrapped more than once."""

SHORT_S = 0.1
"""Long enough for the energy that a test adds to be a power that hardware can draw."""

STALE_S = 0.15
"""A page older than the 100 ms of ``stepping`` is too old for a reader."""


@pytest.fixture
def tree(tmp_path: Path) -> PowercapTree:
    """Return a single-socket machine with this host's CPUs."""
    return machine(tmp_path / "sys", "single_socket")


def machine(sysfs: Path, kind: str | list[ZoneSpec]) -> PowercapTree:
    """Return a powercap tree of a kind of machine or of zones, in a sysfs with this host's CPUs."""
    (sysfs / "devices/system").mkdir(parents=True)
    (sysfs / "devices/system/cpu").symlink_to("/sys/devices/system/cpu")
    return PowercapTree(sysfs, kind)


@contextmanager
def metered(
    folder: Path, tree: PowercapTree, *, moved: Iterable[str] = (), config: str = ""
) -> Iterator[Run]:
    """Run in steps over *tree*, which moves by itself only until the meter has started."""
    sysfs = str(tree.sysfs)
    with moving(tree, moved or tree.entries):
        started = stepping(folder, "--meter", "rapl", "--host.sysfs", sysfs, config=config)
        run = started.__enter__()
    try:
        run.step()
        yield run
    finally:
        started.__exit__(None, None, None)


@contextmanager
def moving(tree: PowercapTree, entries: Iterable[str]) -> Iterator[None]:
    """Let these counters move a little, as a meter expects at its start."""
    stop = threading.Event()

    def move() -> None:
        while not stop.wait(PROBE_PERIOD_S):
            tree.advance(dict.fromkeys(entries, 0.05 * J))

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def node_j(page: Page, zone: str = "package") -> float:
    """Return all that a zone drew."""
    return page.total("kepler_node_cpu_joules_total", zone=zone)


def process_j(page: Page, comm: str, zone: str = "package") -> float:
    """Return the energy of the processes of that name."""
    return page.total("kepler_process_cpu_joules_total", zone=zone, comm=comm)


def window_s(before: Page, after: Page) -> float:
    """Return the CPU time that existed between two pages of one configured interval."""
    cpus = len(after.find("kepler_node_cpu_info"))
    name = "kepler_ebpf_interval_duration_seconds"
    return (after.total(name) - before.total(name)) * cpus


def errors(page: Page, entry: str, reason: str) -> float:
    """Return how often a zone failed for that reason."""
    found = page.find("kepler_ebpf_meter_errors_total", reason=reason)
    return sum(each.value for each in found if each.labels["path"].endswith(f"/{entry}"))


# --- truth ------------------------------------------------------------------------------------


def test_energy_of_an_interval_is_shared_by_cpu_time(
    tmp_path: Path, tree: PowercapTree, stopwatch: Stopwatch
) -> None:
    """A process's share of the joules is its share of all CPUs' time."""
    with worker(tmp_path, "hog") as hog, metered(tmp_path, tree) as run:
        before = run.step()
        used_s = hog.spin()
        tree.advance({PACKAGE: 40 * J, DRAM: 10 * J})
        after = run.step()
    for zone, energy_j in (("package", 40), ("dram", 10)):
        assert node_j(after, zone) - node_j(before, zone) == pytest.approx(energy_j, rel=1e-6)
        given_j = process_j(after, "hog", zone) - process_j(before, "hog", zone)
        assert stopwatch.agree(given_j / energy_j * window_s(before, after), used_s)


def test_constant_power_is_shared_by_cpu_time(
    tmp_path: Path, tree: PowercapTree, stopwatch: Stopwatch
) -> None:
    """Over many intervals each process has the power times its rusage, per CPU."""
    power_w = 60.0
    arguments = ("--meter", "rapl", "--host.sysfs", str(tree.sysfs), "--interval", "100ms")
    config = "monitor: {minTerminatedEnergyThreshold: 0}\n"
    with (
        driven(tree, CpuModel(power_w, 0.0, lambda: 0.0)),
        worker(tmp_path, "once") as once,
        worker(tmp_path, "twice") as twice,
        running(tmp_path, *arguments, config=config) as run,
    ):
        for each in (once, once, once, once, *8 * [twice]):
            each.spin()
        truth_s = {"once": once.end(), "twice": twice.end()}
        seen = run.scrape().intervals
        page = run.until(lambda page: page.intervals > seen + 2)
    cpus = len(page.find("kepler_node_cpu_info"))
    for comm, used_s in truth_s.items():
        assert stopwatch.agree(process_j(page, comm) / power_w * cpus, used_s)


def test_energy_of_a_socket_goes_to_its_own_processes(tmp_path: Path) -> None:
    """A process on one socket gets nothing of what the other one drew."""
    cpus = sorted(os.sched_getaffinity(0))
    tree = two_sockets(tmp_path / "sys", cpus)
    with worker(tmp_path, "on-first") as first, worker(tmp_path, "on-second") as second:
        os.sched_setaffinity(first.pid, cpus[:1])
        os.sched_setaffinity(second.pid, cpus[-1:])
        with metered(tmp_path, tree) as run:
            before = run.step()
            spin_both(first, second)
            tree.advance({PACKAGE: 30 * J})
            after = run.step()
    given_j = {
        comm: process_j(after, comm) - process_j(before, comm) for comm in ("on-first", "on-second")
    }
    assert given_j["on-first"] > 1
    assert given_j["on-second"] == pytest.approx(0, abs=0.01)
    sockets = after.find("kepler_ebpf_zone_joules_total", zone="package", split="active")
    assert [each.labels["socket"] for each in sockets] == ["0", "1"]


def two_sockets(sysfs: Path, cpus: list[int]) -> PowercapTree:
    """Return a machine whose last CPU sits on a socket of its own."""
    real, made = Path("/sys/devices/system/cpu"), sysfs / "devices/system/cpu"
    for cpu in cpus:
        topology = made / f"cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{int(cpu == cpus[-1])}\n")
    for name in ("online", "possible"):
        (made / name).write_text((real / name).read_text())
    return PowercapTree(sysfs, "dual_socket")


def spin_both(*workers: Worker) -> None:
    """Let all count at the same time."""
    for each in workers:
        each.start()
    for each in workers:
        each.await_done()


# --- zones that fail --------------------------------------------------------------------------


def vanish(tree: PowercapTree, entry: str) -> None:
    """Remove a counter. As in a real sysfs, who has it open reads nothing more."""
    tree.show(entry, "")
    tree.vanish(entry)


def block(tree: PowercapTree, entry: str) -> None:
    """Make a counter unreadable even for root, also for who has it open."""
    tree.show(entry, "")
    tree.block(entry)


FAULTS = {
    "unreadable": block,
    "gone": vanish,
    "empty": lambda tree, entry: tree.show(entry, ""),
    "not a number": lambda tree, entry: tree.show(entry, "0x12cafe"),
}
REPAIRS = {"unreadable": PowercapTree.unblock}


def extend(run: Run) -> Page:
    """Have the running interval measured, which goes on while a zone cannot be read."""
    time.sleep(STALE_S)
    return run.scrape()


@pytest.mark.parametrize("fault", FAULTS)
def test_energy_of_a_failing_zone_comes_late(
    tmp_path: Path, tree: PowercapTree, fault: str, stopwatch: Stopwatch
) -> None:
    """The interval goes on until the zone is read again: its energy goes to who ran in it."""
    with worker(tmp_path, "during") as during, metered(tmp_path, tree) as run:
        before = run.step()
        FAULTS[fault](tree, DRAM)
        used_s = during.spin()
        tree.advance({PACKAGE: 40 * J})
        failing = extend(run)
        during.end()
        REPAIRS.get(fault, lambda *_: None)(tree, DRAM)
        tree.advance({DRAM: 20 * J})
        after = run.step()
        log = run.log
    assert node_j(failing, "dram") == node_j(before, "dram")
    assert errors(after, DRAM, "read") >= 1
    assert errors(after, PACKAGE, "read") == 0
    for zone, energy_j in (("package", 40), ("dram", 20)):
        assert node_j(after, zone) - node_j(before, zone) == pytest.approx(energy_j, rel=1e-6)
        given_j = process_j(after, "during", zone) - process_j(before, "during", zone)
        assert stopwatch.agree(given_j / energy_j * window_s(before, after), used_s, within=0.15)
    assert log.count("gives no reading") == log.count("is read again") == 1
    assert_conserved(after)


def test_zone_that_stays_away_delays_no_other(tmp_path: Path, tree: PowercapTree) -> None:
    """The others go on without it; the energy that it shows at last has no owner."""
    with worker(tmp_path, "during") as during, metered(tmp_path, tree) as run:
        before = run.step()
        vanish(tree, DRAM)
        during.spin()
        tree.advance({PACKAGE: 40 * J})
        without = run.step()
        tree.advance({DRAM: 20 * J})
        after = run.step()
    assert node_j(without) - node_j(before) == pytest.approx(40, rel=1e-6)
    assert process_j(without, "during") > process_j(before, "during")
    assert node_j(without, "dram") == node_j(before, "dram")
    assert node_j(after, "dram") - node_j(before, "dram") == pytest.approx(20, rel=1e-6)
    assert process_j(after, "during", "dram") == process_j(before, "during", "dram")
    assert_conserved(without)
    assert_conserved(after)


def test_container_that_has_ended_gets_what_comes_late(tmp_path: Path, tree: PowercapTree) -> None:
    """It gets as much as its process, though its cgroup is long gone by then."""
    with cgroup_tree(hierarchies()[0]) as cgroups, metered(tmp_path, tree) as run:
        with worker(tmp_path, "in-container") as inner:
            cgroup = cgroups.make(f"/docker/{CONTAINER}")
            cgroup.enter(inner.pid)
            before = run.step()
            vanish(tree, PACKAGE)
            inner.spin()
            inner.end()
        cgroup.remove()
        extend(run)
        tree.advance({PACKAGE: 100 * J})
        after = run.step()
    given_j = [
        page.total("kepler_container_cpu_joules_total", container_id=CONTAINER, zone="package")
        for page in (before, after)
    ]
    gained_j = process_j(after, "in-container") - process_j(before, "in-container")
    assert gained_j > 1
    assert given_j[1] - given_j[0] == pytest.approx(gained_j, rel=1e-9)


def test_all_zones_failing_lose_nothing(tmp_path: Path, tree: PowercapTree) -> None:
    """Without any reading the interval goes on, and all energy comes with the next one."""
    with worker(tmp_path, "during") as during, metered(tmp_path, tree) as run:
        before = run.step()
        for entry in tree.entries:
            vanish(tree, entry)
        during.spin()
        failing = extend(run)
        tree.advance(30 * J)
        after = run.step()
    assert node_j(failing) == node_j(before)
    assert process_j(failing, "during") == process_j(before, "during")
    assert node_j(after) - node_j(before) == pytest.approx(30, rel=1e-6)
    assert process_j(after, "during") > process_j(before, "during")
    assert after.total("kepler_ebpf_residual_ratio") <= 1e-9


def test_impossible_jump_is_refused_and_counted(tmp_path: Path, tree: PowercapTree) -> None:
    """A wild value is no energy; a counter that stays there is followed from there."""
    with metered(tmp_path, tree) as run:
        before = run.step()
        tree.advance({PACKAGE: 50_000 * J})
        wild = run.step()
        time.sleep(SHORT_S)
        tree.advance({PACKAGE: 5 * J})
        after = run.step()
    assert node_j(wild) == node_j(before)
    assert errors(wild, PACKAGE, "jump") >= 1
    assert node_j(after) - node_j(before) == pytest.approx(5, rel=1e-6)


def test_stuck_counter_is_counted(tmp_path: Path, tree: PowercapTree) -> None:
    """A counter that stands still while CPUs work is a fault, and costs the others nothing."""
    with metered(tmp_path, tree) as run:

        def is_stuck(page: Page) -> bool:
            tree.advance({PACKAGE: 0.1 * J})
            return errors(page, DRAM, "stuck") >= 1

        stuck = run.until(is_stuck)
        time.sleep(SHORT_S)
        tree.advance({DRAM: 3 * J})
        after = run.step()
    assert errors(stuck, PACKAGE, "stuck") == 0
    assert node_j(after, "dram") - node_j(stuck, "dram") == pytest.approx(3, rel=1e-6)


def test_counter_that_wraps_goes_on_rising(tmp_path: Path, tree: PowercapTree) -> None:
    """Passing the end of its range a counter restarts at zero; its total does not."""
    wraps_at_uj = int((tree.directory(PACKAGE) / "max_energy_range_uj").read_text())
    tree.set(PACKAGE, wraps_at_uj - 100 * J)
    with metered(tmp_path, tree) as run:
        before = run.step()
        time.sleep(SHORT_S)
        tree.advance({PACKAGE: 120 * J})
        after = run.step()
    assert int(tree.counter(PACKAGE).read_text()) < 120 * J
    assert node_j(after) - node_j(before) == pytest.approx(120, rel=1e-6)


def test_counter_that_wraps_within_an_interval_loses_nothing(tmp_path: Path) -> None:
    """It is read often enough for its range, however far apart the intervals end."""
    power_w, wraps_at_j = 1400.0, 3000.0
    tree = machine(tmp_path / "sys", "amd")
    tree.add(ZoneSpec(PSYS, "psys", range_uj=round(wraps_at_j * J)))
    arguments = ("--meter", "rapl", "--host.sysfs", str(tree.sysfs), "--interval", "4s")
    with (
        driven(tree, CpuModel(power_w, 0.0, lambda: 0.0)),
        running(tmp_path, *arguments, config="monitor: {staleness: 1h}\n") as run,
    ):
        before = run.until(lambda page: page.intervals >= 1)
        after = run.until(lambda page: page.intervals > before.intervals)
    assert errors(after, PSYS, "gap") == 0
    drawn_j = node_j(after, "psys") - node_j(before, "psys")
    interval_s = after.total("kepler_ebpf_interval_duration_seconds")
    assert drawn_j == pytest.approx(power_w * interval_s, rel=0.05)
    assert drawn_j > wraps_at_j


def test_energy_lost_in_a_gap_is_no_power(tmp_path: Path, tree: PowercapTree) -> None:
    """After a gap the zone's watts are unknown; the joules of before and after it are kept."""
    tree.add(ZoneSpec(PSYS, "psys", range_uj=3_000_000_000))
    arguments = ("--meter", "rapl", "--host.sysfs", str(tree.sysfs), "--interval", "2s")
    with moving(tree, tree.entries):
        started = running(tmp_path, *arguments)
        run = started.__enter__()
    try:

        def is_shown(page: Page) -> bool:
            tree.advance({PSYS: 0.1 * J})
            return node_j(page, "psys") > 0

        seen = run.until(is_shown).intervals
        before = run.until(lambda page: page.intervals > seen + 1)
        run.process.send_signal(signal.SIGSTOP)
        time.sleep(AT_LEAST_ONE_WRAP_S)
        tree.advance({PACKAGE: 30 * J, PSYS: 1 * J})
        run.process.send_signal(signal.SIGCONT)
        gap = run.until(lambda page: not page.find("kepler_node_cpu_watts", zone="psys"))
        tree.advance({PACKAGE: 30 * J, PSYS: 5 * J})
        after = run.until(lambda page: node_j(page, "psys") > node_j(gap, "psys"))
        known = run.until(lambda page: page.find("kepler_node_cpu_watts", zone="psys"))
    finally:
        started.__exit__(None, None, None)
    assert errors(gap, PSYS, "gap") >= 1
    assert gap.find("kepler_node_cpu_watts", zone="package") != []
    assert node_j(gap, "psys") == node_j(before, "psys")
    assert node_j(after, "psys") - node_j(gap, "psys") == pytest.approx(5, rel=1e-6)
    for page in (gap, after, known):
        assert_conserved(page)


# --- zones that a host has --------------------------------------------------------------------


def test_counter_with_two_names_is_counted_once(tmp_path: Path) -> None:
    """Two dies of a first-generation EPYC show the counter of their package."""
    tree = machine(tmp_path / "sys", [])
    for die in range(2):
        tree.add(ZoneSpec(f"intel-rapl:{die}", f"package-0-die-{die}"))
    with metered(tmp_path, tree) as run:
        before = run.step()
        tree.advance(10 * J)
        after = run.step()
    assert node_j(after) - node_j(before) == pytest.approx(10, rel=1e-6)
    paths = [each.labels["path"] for each in after.find("kepler_ebpf_zone_joules_total")]
    assert {Path(path).name for path in paths} == {PACKAGE}


def test_zone_that_sleeps_at_the_start_is_there_once_it_wakes(
    tmp_path: Path, tree: PowercapTree
) -> None:
    """A graphics part that draws nothing has no series and no fault."""
    tree.set(UNCORE, 0)
    others = [entry for entry in tree.entries if entry != UNCORE]
    with metered(tmp_path, tree, moved=others) as run:
        asleep = run.step()
        time.sleep(SHORT_S)
        tree.advance({UNCORE: 3 * J})
        awake = run.step()
    assert asleep.find("kepler_node_cpu_joules_total", zone="uncore") == []
    assert node_j(awake, "uncore") == pytest.approx(3, rel=1e-6)
    assert errors(awake, UNCORE, "stuck") == 0
    assert_conserved(awake)


def test_wanted_zone_that_the_host_lacks_is_refused(tmp_path: Path, tree: PowercapTree) -> None:
    """Its counters work: no other meter takes their place, and the error names both."""
    config = tmp_path / "config.yaml"
    config.write_text("rapl: {zones: [psys]}\n")
    with moving(tree, tree.entries):
        ended = refused("--host.sysfs", str(tree.sysfs), "--config.file", str(config))
    assert ended.returncode == 3
    assert "no psys here, only core, dram, package-0, uncore" in ended.stderr


def test_zone_may_be_wanted_by_its_kernel_name(tmp_path: Path, tree: PowercapTree) -> None:
    """Only that one is measured."""
    with metered(tmp_path, tree, config="rapl: {zones: [package-0]}\n") as run:
        page = run.step()
    assert page.zones() == ["package"]
