"""Counters with several names are counted once; counters that only look alike are not dropped."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meter_requests import Cpus, request_for
from powercap import PowercapTree, ZoneSpec

from kepler_ebpf.meters.counter_meter import CounterMeter
from kepler_ebpf.meters.counter_zone import CounterSource, CounterZone
from kepler_ebpf.meters.energy_counter import EnergyCounter
from kepler_ebpf.meters.rapl import open_meter
from kepler_ebpf.model.energy import Zone

J = 1e6
DIES = ("intel-rapl:0", "intel-rapl:1")
DRAMS = ("intel-rapl:0:0", "intel-rapl:1:0")


class Source(CounterSource):
    """A counter of some kind that shows what a test sets."""

    def __init__(self, *, counts_from_opening: bool = False) -> None:
        self.counts_from_opening = counts_from_opening
        self.energy_uj = 0.0

    def read_uj(self) -> float:
        return self.energy_uj

    def close(self) -> None:
        pass


def meter_of(*sources: Source) -> CounterMeter:
    """Return a meter of zones of one kind and package, read once."""
    zones = [
        CounterZone(
            zone=Zone("package", 0, f"/die-{die}"),
            names={f"package-0-die-{die}"},
            package=0,
            source=source,
            counter=EnergyCounter(bound_w=1e9),
        )
        for die, source in enumerate(sources)
    ]
    cpus = Cpus()
    meter = CounterMeter("m", zones, cpus, cpus.clock)
    meter.read()
    return meter


def host(sysfs: Path, dies: int = 2, first_uj: float = 1e9) -> PowercapTree:
    """Return a tree of one package whose dies, each with dram, all start at one value."""
    tree = PowercapTree(sysfs, [])
    for die in range(dies):
        tree.add(ZoneSpec(f"intel-rapl:{die}", f"package-0-die-{die}"), first_uj)
        tree.add(ZoneSpec(f"intel-rapl:{die}:0", "dram"), first_uj)
    return tree


def opened(tree: PowercapTree, step_uj: dict[str, float] | float, *wanted: str) -> CounterMeter:
    """Open the rapl meter while the tree counts so much at each wait."""
    asked = request_for(tree.sysfs, rapl_zones=wanted)
    return open_meter(asked, Cpus(), lambda _: tree.advance(step_uj))


def entries(meter: CounterMeter) -> list[str]:
    """Return the directories of the meter's zones."""
    return [Path(zone.path).name for zone in meter.zones]


@pytest.mark.parametrize("dies", [2, 4])
def test_dies_that_show_one_counter_are_one_zone(tmp_path: Path, dies: int) -> None:
    """Package and dram of a first-generation EPYC appear once."""
    meter = opened(host(tmp_path, dies), 0.5 * J)
    assert entries(meter) == [DIES[0], DRAMS[0]]


def test_mirrored_counter_may_wrap_meanwhile(tmp_path: Path) -> None:
    """Equal values stay equal where the range ends."""
    tree = host(tmp_path)
    for entry in tree.entries:
        tree.set(entry, 262_143_328_850 - J)
    assert entries(opened(tree, 0.5 * J)) == [DIES[0], DRAMS[0]]


def test_mirrored_platform_is_one_zone(tmp_path: Path) -> None:
    """The kernel shows the platform's counter on every package."""
    tree = PowercapTree(tmp_path, [])
    for index, name in enumerate(("psys", "psys-1")):
        tree.add(ZoneSpec(f"intel-rapl:{index}", name))
    assert entries(opened(tree, J)) == ["intel-rapl:0"]


def test_dies_with_their_own_counters_stay_two(tmp_path: Path) -> None:
    """Equal power is not one counter, nor is an equal start."""
    tree = PowercapTree(tmp_path / "power", "dual_die")
    meter = open_meter(request_for(tree.sysfs, 2), Cpus(2), lambda _: tree.advance(J))
    assert len(meter.zones) == 8
    tree = host(tmp_path / "start", first_uj=0)
    steps = {entry: J + index for index, entry in enumerate(tree.entries)}
    assert len(opened(tree, steps).zones) == 4


def test_resting_dies_stay_two(tmp_path: Path) -> None:
    """Equal values of counters at rest prove nothing."""
    tree = host(tmp_path)
    steps = {DIES[0]: J, DIES[1]: 2 * J}
    assert entries(opened(tree, steps)) == [DIES[0], DRAMS[0], DIES[1], DRAMS[1]]


def test_packages_are_never_one(tmp_path: Path) -> None:
    """Two sockets have two counters, whatever they show."""
    tree = PowercapTree(tmp_path, [])
    for package in range(2):
        tree.add(ZoneSpec(f"intel-rapl:{package}", f"package-{package}"))
    meter = open_meter(request_for(tmp_path, 2), Cpus(2), lambda _: tree.advance(J))
    assert len(meter.zones) == 2


def test_counter_may_be_wanted_by_its_second_name(tmp_path: Path) -> None:
    """It is measured once, under its first name."""
    meter = opened(host(tmp_path), 0.5 * J, "package-0-die-1")
    assert entries(meter) == [DIES[0]]


def test_mirror_that_wakes_late_is_never_counted_twice(tmp_path: Path) -> None:
    """The second name stays a zone of every reading, and its energy stays 0."""
    tree = host(tmp_path)
    meter = opened(tree, {DIES[0]: J, DIES[1]: 2 * J})
    first, second = (entries(meter).index(entry) for entry in DRAMS)
    for readings in range(1, 10):
        tree.advance(dict.fromkeys(DRAMS, 3 * J))
        reading = meter.read()
        assert (reading.energy_uj[first], reading.energy_uj[second]) == (readings * 3 * J, 0)
        assert reading.valid == (True,) * 4
    tree.advance({DRAMS[1]: J})
    assert meter.read().energy_uj[second] == 0


def test_energy_of_a_suspect_is_credited_once_it_differs() -> None:
    """Equal for one reading by chance: nothing is lost."""
    sources = Source(), Source()
    meter = meter_of(*sources)
    for values in ((5.0, 5.0), (7.0, 9.0)):
        for source, value in zip(sources, values, strict=True):
            source.energy_uj = value
        reading = meter.read()
    assert reading.energy_uj == (7.0, 9.0)


def test_events_that_count_one_counter_are_one() -> None:
    """A refresh between their openings leaves a constant difference."""
    sources = Source(counts_from_opening=True), Source(counts_from_opening=True)
    meter = meter_of(*sources)

    def count(_: float) -> None:
        sources[0].energy_uj += 61.0
        sources[1].energy_uj = sources[0].energy_uj - 7.0

    meter.prove(count, "")
    assert [zone.path for zone in meter.zones] == ["/die-0"]


def test_files_with_a_constant_difference_are_two() -> None:
    """Two parts of equal power count alike from different values."""
    sources = Source(), Source()
    sources[1].energy_uj = 7.0
    meter = meter_of(*sources)

    def count(_: float) -> None:
        for source in sources:
            source.energy_uj += 61.0

    meter.prove(count, "")
    assert len(meter.zones) == 2


rises = st.lists(st.integers(0, 1000), min_size=1, max_size=40)


@given(rises=rises)
def test_mirrors_together_have_the_energy_of_one(rises: list[int]) -> None:
    """Whenever they move, however often they are read."""
    sources = Source(), Source(), Source()
    meter = meter_of(*sources)
    for total in accumulate(rises):
        for source in sources:
            source.energy_uj = float(total)
        assert sum(meter.read().energy_uj) == total


@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_energy_of_counters_that_meet_now_and_then_is_kept(pairs: list[tuple[int, int]]) -> None:
    """No total falls, and two counters that differ in the end have all their energy."""
    sources = Source(), Source()
    meter = meter_of(*sources)
    last: tuple[float, ...] = (0.0, 0.0)
    for step, rise in enumerate(pairs):
        # The second one falls behind every second time, as two parts drift apart.
        sources[0].energy_uj += 4 + rise[0]
        sources[1].energy_uj += rise[1] if step % 2 else 4 + rise[0]
        energy_uj = meter.read().energy_uj
        assert energy_uj >= last
        assert energy_uj[1] >= last[1]
        last = energy_uj
    if sources[0].energy_uj != sources[1].energy_uj and len(meter._live) == 2:  # noqa: SLF001
        assert meter.read().energy_uj == (sources[0].energy_uj, sources[1].energy_uj)
