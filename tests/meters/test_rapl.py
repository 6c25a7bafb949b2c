"""The rapl meter over real powercap trees in a directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from descriptors import open_files
from meter_requests import SECOND_NS, Cpus, request_for
from powercap import DRAM_RANGE_UJ, MACHINES, PowercapTree, ZoneSpec

from kepler_ebpf.meters.counter_meter import CounterMeter
from kepler_ebpf.meters.counter_zone import BOUND_W
from kepler_ebpf.meters.rapl import find_counters, open_meter
from kepler_ebpf.meters.request import MeterRefusedError, ZonesUnavailableError
from kepler_ebpf.model.energy import MeterReading, Zone

J = 1e6
PACKAGE, DRAM = "intel-rapl:0", "intel-rapl:0:0"


class Bench:
    """A tree, the meter over it, and the clock between them."""

    def __init__(self, sysfs: Path, machine: str) -> None:
        self.cpus = Cpus(sockets=2)
        self.tree = PowercapTree(sysfs, machine)
        self.meter = unproved(sysfs, self.cpus)

    def index(self, entry: str) -> int:
        """Return the index of a zone in a reading."""
        paths = [zone.path for zone in self.meter.zones]
        return paths.index(str(self.tree.directory(entry)))

    def read(self, entry: str, after_s: float = 1) -> tuple[float, bool]:
        """Let time pass with both CPUs busy, read, and return a zone's joules and validity."""
        self.cpus.now_ns += round(after_s * SECOND_NS)
        self.cpus.busy_ns = [self.cpus.now_ns] * 2
        reading = self.meter.read()
        index = self.index(entry)
        return reading.energy_uj[index] / J, reading.valid[index]

    def faults(self, entry: str) -> dict[str, int]:
        """Return a zone's fault counts, those above zero."""
        path = str(self.tree.directory(entry))
        errors = self.meter.stats.errors
        return {
            reason: count for (where, reason), count in errors.items() if where == path and count
        }


def gained(reading: MeterReading, gaps: tuple[int, ...]) -> list[int]:
    """Return how many gaps each zone has more than before."""
    return [new - old for new, old in zip(reading.gaps, gaps, strict=True)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a dual-socket machine with package and dram zones, read once."""
    made = Bench(tmp_path, "dual_socket")
    made.read(PACKAGE, after_s=0)
    yield made
    made.meter.close()


def unproved(sysfs: Path, cpus: Cpus, sockets: int = 2) -> CounterMeter:
    """Return a meter that has not been read yet."""
    return CounterMeter("rapl", find_counters(request_for(sysfs, sockets)), cpus, cpus.clock)


def zones_of(sysfs: Path, machine: str, sockets: int = 2) -> list[tuple[str, int | None]]:
    """Build a machine and return each zone's kind and socket."""
    PowercapTree(sysfs, machine)
    return [
        (item.zone.kind, item.zone.socket) for item in find_counters(request_for(sysfs, sockets))
    ]


def found(sysfs: Path, sockets: int = 2) -> list[Zone]:
    """Return the zones of a tree."""
    return [item.zone for item in find_counters(request_for(sysfs, sockets))]


class TestTrees:
    """The zones of each kind of machine."""

    def test_single_socket(self, tmp_path: Path) -> None:
        """A client part shows a package and what is in it."""
        assert zones_of(tmp_path, "single_socket") == [
            ("package", 0), ("core", 0), ("uncore", 0), ("dram", 0),
        ]  # fmt: skip

    def test_dual_socket_subzones_have_their_parents_socket(self, tmp_path: Path) -> None:
        """A dram zone has its kind only as a name; the socket is its parent's."""
        assert zones_of(tmp_path, "dual_socket") == [
            ("package", 0), ("dram", 0), ("package", 1), ("dram", 1),
        ]  # fmt: skip

    def test_dies_are_zones_of_their_socket(self, tmp_path: Path) -> None:
        """Two dies of a package are two zones of one socket."""
        assert zones_of(tmp_path, "dual_die") == [
            (kind, socket) for socket in (0, 0, 1, 1) for kind in ("package", "dram")
        ]

    def test_amd(self, tmp_path: Path) -> None:
        """AMD hosts show the same tree with package and core."""
        assert zones_of(tmp_path, "amd") == [("package", 0), ("core", 0)]

    def test_missing_dram(self, tmp_path: Path) -> None:
        """What a host lacks is not made up."""
        assert zones_of(tmp_path, "no_dram") == [("package", 0), ("core", 0), ("uncore", 0)]

    def test_psys_is_the_whole_node(self, tmp_path: Path) -> None:
        """The platform's zone belongs to no socket."""
        assert ("psys", None) in zones_of(tmp_path, "laptop")

    def test_psys_of_a_second_package_is_psys(self, tmp_path: Path) -> None:
        """The kernel adds the package's number to the platform zones after the first."""
        PowercapTree(tmp_path, [ZoneSpec("intel-rapl:3", "psys-1")])
        assert [zone.kind for zone in found(tmp_path)] == ["psys"]

    def test_mmio_twin_is_left_out(self, tmp_path: Path) -> None:
        """Of the same counter shown by two drivers, the msr driver's is read."""
        PowercapTree(tmp_path, "laptop")
        paths = [Path(zone.path).name for zone in found(tmp_path)]
        assert "intel-rapl:0" in paths
        assert "intel-rapl-mmio:0" not in paths

    def test_mmio_alone_is_used(self, tmp_path: Path) -> None:
        """A host with only the mmio driver has a meter."""
        PowercapTree(tmp_path, [ZoneSpec("intel-rapl-mmio:0", "package-0")])
        assert [zone.kind for zone in found(tmp_path)] == ["package"]

    def test_package_ids_map_to_socket_indexes(self, tmp_path: Path) -> None:
        """Physical ids may have gaps; socket indexes have none."""
        PowercapTree(tmp_path, [ZoneSpec("intel-rapl:0", "package-2")])
        asked = request_for(tmp_path, sockets=2, package_ids=(0, 2))
        assert find_counters(asked)[0].zone.socket == 1

    def test_package_without_a_cpu_belongs_to_the_node(self, tmp_path: Path) -> None:
        """A socket nobody runs on cannot be split by its own use."""
        assert zones_of(tmp_path, "dual_socket", sockets=1)[2:] == [
            ("package", None), ("dram", None),
        ]  # fmt: skip

    def test_what_is_no_rapl_zone_is_passed_over(self, tmp_path: Path) -> None:
        """Other control types, unknown kinds and nameless directories are not zones."""
        tree = PowercapTree(tmp_path, "amd")
        tree.add(ZoneSpec("dtpm:0", "package-0"))
        tree.add(ZoneSpec("intel-rapl:7", "mystery"))
        tree.add(ZoneSpec("intel-rapl:9:0", "dram"))
        tree.add(ZoneSpec("intel-rapl:8", "package-8"))
        (tree.directory("intel-rapl:8") / "name").write_bytes(b"\xff")
        assert len(found(tmp_path)) == 2

    def test_ten_sockets_are_listed_in_number_order(self, tmp_path: Path) -> None:
        """Zone 10 comes after zone 9, not after zone 1."""
        PowercapTree(tmp_path, [ZoneSpec(f"intel-rapl:{n}", f"package-{n}") for n in range(12)])
        assert [zone.socket for zone in found(tmp_path, 12)] == list(range(12))

    def test_path_is_the_zones_directory(self, tmp_path: Path) -> None:
        """The path label is the sysfs directory under the root that was given."""
        tree = PowercapTree(tmp_path, "amd")
        assert found(tmp_path)[0] == Zone("package", 0, str(tree.directory(PACKAGE)))


class TestLimits:
    """What a zone can draw at most."""

    def bound_w(self, sysfs: Path, max_power_uw: int | None) -> float:
        """Return the bound of a package with this constraint file."""
        spec = ZoneSpec("intel-rapl:0", "package-0", range_uj=10**9, max_power_uw=max_power_uw)
        PowercapTree(sysfs, [spec])
        # Half of the time in which the range of 1 kJ can pass.
        return 500 / find_counters(request_for(sysfs))[0].counter.max_wait_s

    @pytest.mark.parametrize(
        ("max_power_uw", "bound_w"),
        [
            (None, BOUND_W["package"]),
            (0, BOUND_W["package"]),
            (65_000_000, 520.0),
            (4_000_000, 100.0),
            (10**12, BOUND_W["package"]),
        ],
    )
    def test_bound(self, tmp_path: Path, max_power_uw: int | None, bound_w: float) -> None:
        """The constraint sets it with ample headroom, within sane limits; else a default."""
        assert self.bound_w(tmp_path, max_power_uw) == pytest.approx(bound_w)

    def test_jump_beyond_the_bound_is_rejected_and_counted(self, bench: Bench) -> None:
        """A counter that leaps by hours of energy credits nothing."""
        bench.tree.advance(50_000 * J)
        assert bench.read(PACKAGE) == (0, False)
        assert bench.faults(PACKAGE) == {"jump": 1}

    def test_wrap_uses_the_zones_own_range(self, tmp_path: Path) -> None:
        """A zone wraps where its file says."""
        spec = ZoneSpec("intel-rapl:0", "package-0", range_uj=1_000_000_000)
        tree = PowercapTree(tmp_path, [spec], energy_uj=999 * J)
        meter = unproved(tmp_path, Cpus())
        meter.read()
        tree.advance(3 * J)
        assert meter.read().energy_uj[0] == 3 * J

    def test_zone_with_the_smallest_range_for_its_power_sets_the_wait(self, tmp_path: Path) -> None:
        """A platform of 6 kW passes a range of 65 kJ in 11 s: it is read in half of that."""
        psys = ZoneSpec("intel-rapl:1", "psys", range_uj=DRAM_RANGE_UJ)
        PowercapTree(tmp_path, [ZoneSpec("intel-rapl:0", "package-0"), psys])
        meter = unproved(tmp_path, Cpus())
        assert meter.max_wait_s == pytest.approx(65_713 / 6_000 / 2, rel=1e-3)


class TestReading:
    """What a reading holds."""

    def test_first_reading_is_zero(self, bench: Bench) -> None:
        """The counters' past is not consumption."""
        assert bench.read(PACKAGE) == (0, True)

    def test_joules_are_cumulative(self, bench: Bench) -> None:
        """Each reading adds to the last, zone by zone."""
        bench.tree.advance({PACKAGE: 60 * J, DRAM: 5 * J})
        bench.read(PACKAGE)
        bench.tree.advance({PACKAGE: 40 * J})
        assert bench.read(PACKAGE) == (100, True)
        assert bench.read(DRAM, after_s=0) == (5, True)

    def test_no_tree_is_refused(self, tmp_path: Path) -> None:
        """A root without powercap gives the reason and the remedy."""
        with pytest.raises(MeterRefusedError, match=r"no RAPL zone in .*\n.*modprobe"):
            find_counters(request_for(tmp_path))

    def test_files_are_opened_once(self, bench: Bench) -> None:
        """Readings reuse the descriptors, and close gives them back."""
        before = open_files()
        bench.read(PACKAGE)
        assert open_files() == before
        bench.meter.close()
        assert open_files() == before - 4


class TestFaults:
    """A zone that fails alone, and comes back."""

    @pytest.mark.parametrize("text", ["", "  ", "nonsense", "-5", "1_000", "12.5", "0x10", "\0"])
    def test_unusable_text_makes_the_zone_invalid(self, bench: Bench, text: str) -> None:
        """A counter that is not a number is no reading, and is counted."""
        bench.tree.show(PACKAGE, text)
        assert bench.read(PACKAGE) == (0, False)
        assert bench.faults(PACKAGE) == {"read": 1}

    def test_other_zones_go_on(self, bench: Bench) -> None:
        """One zone's failure leaves the others' readings whole."""
        bench.tree.show(PACKAGE, "nonsense")
        bench.tree.advance({DRAM: 7 * J})
        assert bench.read(DRAM) == (7, True)
        assert bench.faults(DRAM) == {}

    def test_energy_of_a_failed_time_is_in_the_next_reading(self, bench: Bench) -> None:
        """The figure stands still while the zone fails and then catches up."""
        bench.tree.advance({PACKAGE: 10 * J})
        bench.read(PACKAGE)
        bench.tree.show(PACKAGE, "nonsense")
        assert bench.read(PACKAGE) == (10, False)
        bench.tree.advance({PACKAGE: 30 * J})
        assert bench.read(PACKAGE) == (40, True)

    def test_file_that_vanished_returns(self, bench: Bench) -> None:
        """A counter whose file went away and came back is opened anew."""
        bench.tree.show(PACKAGE, "")
        bench.read(PACKAGE)
        bench.tree.vanish(PACKAGE)
        assert bench.read(PACKAGE)[1] is False
        bench.tree.advance({PACKAGE: 30 * J})
        assert bench.read(PACKAGE) == (30, True)
        assert bench.faults(PACKAGE) == {"read": 2}

    def test_file_replaced_under_its_descriptor_is_found(self, bench: Bench) -> None:
        """The old file never moves again: stuck, then reopened."""
        bench.tree.vanish(PACKAGE)
        bench.tree.advance({PACKAGE: 30 * J})
        assert bench.read(PACKAGE, after_s=3) == (0, True)
        assert bench.faults(PACKAGE) == {"stuck": 1}
        assert bench.read(PACKAGE) == (30, True)

    def test_directory_in_the_place_of_the_file(self, tmp_path: Path) -> None:
        """A counter unreadable from the start is a zone without readings until it can be read."""
        bench = Bench(tmp_path, "dual_socket")
        bench.tree.block(PACKAGE)
        assert bench.read(PACKAGE) == (0, False)
        gaps = bench.meter.read().gaps
        bench.tree.unblock(PACKAGE)
        assert gained(bench.meter.read(), gaps) == [1, 0, 0, 0]
        bench.tree.advance({PACKAGE: 30 * J})
        assert bench.read(PACKAGE) == (30, True)

    @pytest.mark.parametrize("name", ["energy_uj", "max_energy_range_uj", "name"])
    def test_fifo_in_the_place_of_a_file_is_not_waited_for(self, tmp_path: Path, name: str) -> None:
        """Nobody will ever write to it: that zone has no reading, or is none."""
        tree = PowercapTree(tmp_path, "amd")
        path = tree.directory(DRAM) / name
        path.unlink()
        os.mkfifo(path)
        meter = unproved(tmp_path, Cpus())
        assert meter.read().valid[0]
        assert meter.stats.errors.get((str(tree.directory(DRAM)), "read"), 0) == (
            name == "energy_uj"
        )

    def test_gap_too_long_to_unwrap_is_logged(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Energy that is lost is counted and logged, never invented."""
        gaps = bench.meter.read().gaps
        bench.tree.advance({PACKAGE: 30 * J})
        assert bench.read(PACKAGE, after_s=3600) == (0, True)
        assert bench.faults(PACKAGE) == {"gap": 1}
        assert any("too long" in message for message in caplog.messages)
        assert bench.meter.read().gaps[bench.index(PACKAGE)] == gaps[bench.index(PACKAGE)] + 1

    def test_failure_is_logged_once(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        """A zone that fails at every reading does not fill the log."""
        bench.tree.show(PACKAGE, "nonsense")
        for _ in range(5):
            bench.read(PACKAGE)
        assert len(caplog.messages) == 1
        assert "nonsense" in caplog.messages[0]

    def test_every_fault_starts_at_zero(self, bench: Bench) -> None:
        """A series that is there from the start lets a first fault be seen as a rise."""
        assert set(bench.meter.stats.errors.values()) == {0}
        assert len(bench.meter.stats.errors) == 4 * len(bench.meter.zones)


def opened(tree: PowercapTree, joules: dict[str, float] | float, *wanted: str) -> CounterMeter:
    """Open the meter while the tree counts so much at each wait."""
    asked = request_for(tree.sysfs, sockets=2, rapl_zones=wanted)
    return open_meter(asked, Cpus(sockets=2), lambda _: tree.advance(joules))


def kinds_of(meter: CounterMeter) -> list[tuple[str, int | None]]:
    """Return each zone's kind and socket."""
    return [(zone.kind, zone.socket) for zone in meter.zones]


class TestProof:
    """Meters are tried before they are used."""

    def test_zone_that_reads_zero_counts_once_it_moves(self, tmp_path: Path) -> None:
        """A part that sleeps at the start is watched, and draws nothing until it wakes."""
        tree = PowercapTree(tmp_path, "laptop")
        tree.set("intel-rapl:0:1", 0)
        meter = opened(tree, {PACKAGE: J})
        index = kinds_of(meter).index(("uncore", 0))
        asleep = meter.read()
        tree.advance({"intel-rapl:0:1": 3 * J})
        awake = meter.read()
        assert (asleep.energy_uj[index], asleep.valid[index]) == (0, True)
        assert (awake.energy_uj[index], awake.valid[index]) == (3 * J, True)
        meter.close()

    def test_zone_at_rest_is_kept(self, tmp_path: Path) -> None:
        """A counter that holds a value may move later."""
        assert len(opened(PowercapTree(tmp_path, "laptop"), {PACKAGE: J}).zones) == 4

    def test_zone_that_cannot_be_read_is_kept(self, tmp_path: Path) -> None:
        """It may come back."""
        tree = PowercapTree(tmp_path, "amd")
        tree.show(DRAM, "nonsense")
        assert len(opened(tree, {PACKAGE: J}).zones) == 2

    def test_still_counters_are_refused(self, tmp_path: Path) -> None:
        """A meter that does not move measures nothing."""
        with pytest.raises(MeterRefusedError, match=r"do not move.*\n.*modprobe"):
            opened(PowercapTree(tmp_path, "amd"), 0)

    def test_unreadable_counters_are_refused_with_the_systems_reason(self, tmp_path: Path) -> None:
        """The error of the file is in the message."""
        tree = PowercapTree(tmp_path, "amd")
        for entry in tree.entries:
            tree.block(entry)
        with pytest.raises(MeterRefusedError, match="Is a directory"):
            opened(tree, {})


class TestWantedZones:
    """The zones that rapl.zones names."""

    @pytest.mark.parametrize("wanted", ["package", "PACKAGE"])
    def test_kind_keeps_its_zones_on_every_socket(self, tmp_path: Path, wanted: str) -> None:
        """In any case of letters."""
        meter = opened(PowercapTree(tmp_path, "dual_socket"), J, wanted)
        assert kinds_of(meter) == [("package", 0), ("package", 1)]

    def test_kernel_name_keeps_one_zone(self, tmp_path: Path) -> None:
        """The kernel numbers packages."""
        meter = opened(PowercapTree(tmp_path, "dual_socket"), J, "package-1")
        assert kinds_of(meter) == [("package", 1)]

    def test_package_has_all_its_dies(self, tmp_path: Path) -> None:
        """Who names a package means the whole of it."""
        meter = opened(PowercapTree(tmp_path, "dual_die"), J, "package-1")
        assert kinds_of(meter) == [("package", 1), ("package", 1)]

    def test_zone_that_the_host_lacks_is_named(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The zones that are there are measured, and a warning lists them."""
        meter = opened(PowercapTree(tmp_path, "dual_socket"), J, "psys", "dram")
        assert kinds_of(meter) == [("dram", 0), ("dram", 1)]
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "no psys here, only dram, package-0, package-1" in caplog.text

    def test_wish_for_absent_zones_only_is_refused(self, tmp_path: Path) -> None:
        """The error names them, and the zones to choose from; nothing stays open."""
        tree = PowercapTree(tmp_path, "dual_socket")
        before = open_files()
        with pytest.raises(ZonesUnavailableError, match="no psys or uncore here, only dram"):
            opened(tree, J, "psys", "uncore")
        assert open_files() == before

    def test_wanted_zone_may_rest(self, tmp_path: Path) -> None:
        """Another zone proves that the counters of this host move."""
        tree = PowercapTree(tmp_path, "single_socket")
        assert kinds_of(opened(tree, {PACKAGE: J}, "uncore")) == [("uncore", 0)]

    def test_wanted_zone_that_cannot_be_read_is_refused(self, tmp_path: Path) -> None:
        """A meter without a single reading is none."""
        tree = PowercapTree(tmp_path, "amd")
        tree.show(DRAM, "nonsense")
        with pytest.raises(ZonesUnavailableError, match="no counter can be read"):
            opened(tree, {PACKAGE: J}, "core")


def test_every_machine_of_the_helper_has_a_meter(tmp_path: Path) -> None:
    """The trees that other tests build are all understood."""
    for machine in MACHINES:
        PowercapTree(tmp_path / machine, machine)
        meter = unproved(tmp_path / machine, Cpus())
        assert all(meter.read().valid)
        meter.close()
