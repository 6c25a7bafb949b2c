"""The rapl meter over real powercap trees in a directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from powercap import DRAM_RANGE_UJ, MACHINES, PowercapTree, ZoneSpec

from kepler_ebpf.meters.counter_meter import CounterMeter, MeterRefusedError
from kepler_ebpf.meters.powercap import BOUND_W, find_zones
from kepler_ebpf.meters.rapl import open_rapl
from kepler_ebpf.model.energy import Zone

J = 1e6
SECOND_NS = 1_000_000_000
PACKAGE, DRAM = "intel-rapl:0", "intel-rapl:0:0"


def open_files() -> int:
    """Count this process's descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))


class Bench:
    """A tree, the meter over it, and the clock between them."""

    def __init__(self, sysfs: Path, machine: str, wanted: tuple[str, ...] = ()) -> None:
        self.now_ns = 0
        self.tree = PowercapTree(sysfs, machine)
        self.meter = open_rapl(str(sysfs), wanted, clock=lambda: self.now_ns)

    def index(self, entry: str) -> int:
        """Give the place of a zone in a reading."""
        paths = [zone.path for zone in self.meter.zones]
        return paths.index(str(self.tree.directory(entry)))

    def read(self, entry: str, after_s: float = 1) -> tuple[float, bool]:
        """Let time pass, read, and give a zone's joules and validity."""
        self.now_ns += round(after_s * SECOND_NS)
        reading = self.meter.read()
        index = self.index(entry)
        return reading.energy_uj[index] / J, bool(reading.valid[index])

    def faults(self, entry: str) -> dict[str, int]:
        """Give a zone's fault counts, those above zero."""
        path = str(self.tree.directory(entry))
        return {why: n for (where, why), n in self.meter.errors.items() if where == path and n}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Give a dual-socket machine with package and dram zones, read once."""
    made = Bench(tmp_path, "dual_socket")
    made.read(PACKAGE, after_s=0)
    yield made
    made.meter.close()


def zones_of(
    sysfs: Path, machine: str, socket_of: dict[int, int] | None = None
) -> list[tuple[str, int | None]]:
    """Build a machine and give each zone's kind and socket."""
    PowercapTree(sysfs, machine)
    meter = open_rapl(str(sysfs), socket_of=socket_of)
    return [(zone.kind, zone.socket) for zone in meter.zones]


class TestTrees:
    """Which zones are found on which machine."""

    def test_single_socket(self, tmp_path: Path) -> None:
        """A client part shows a package and what is in it."""
        assert zones_of(tmp_path, "single_socket") == [
            ("package", 0), ("core", 0), ("uncore", 0), ("dram", 0),
        ]  # fmt: skip

    def test_dual_socket_subzones_have_their_parents_socket(self, tmp_path: Path) -> None:
        """A dram zone says its own kind only; the socket is its parent's."""
        assert zones_of(tmp_path, "dual_socket") == [
            ("package", 0), ("dram", 0), ("package", 1), ("dram", 1),
        ]  # fmt: skip

    def test_dies_are_zones_of_their_socket(self, tmp_path: Path) -> None:
        """Two dies of a package are two zones of one socket, none a duplicate."""
        found = zones_of(tmp_path, "dual_die")
        assert found == [(kind, socket) for socket in (0, 0, 1, 1) for kind in ("package", "dram")]

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
        assert [zone.kind for zone in open_rapl(str(tmp_path)).zones] == ["psys"]

    def test_mmio_twin_is_left_out(self, tmp_path: Path) -> None:
        """Of the same counter shown by two drivers, the msr driver's is read."""
        PowercapTree(tmp_path, "laptop")
        paths = [Path(zone.path).name for zone in open_rapl(str(tmp_path)).zones]
        assert "intel-rapl:0" in paths
        assert "intel-rapl-mmio:0" not in paths

    def test_mmio_alone_is_used(self, tmp_path: Path) -> None:
        """A host with only the mmio driver has a meter."""
        PowercapTree(tmp_path, [ZoneSpec("intel-rapl-mmio:0", "package-0")])
        assert [zone.kind for zone in open_rapl(str(tmp_path)).zones] == ["package"]

    def test_package_ids_map_to_socket_indexes(self, tmp_path: Path) -> None:
        """Physical ids may have gaps; socket indexes have none."""
        PowercapTree(tmp_path, [ZoneSpec("intel-rapl:0", "package-2")])
        assert open_rapl(str(tmp_path), socket_of={0: 0, 2: 1}).zones[0].socket == 1

    def test_package_without_a_cpu_belongs_to_the_node(self, tmp_path: Path) -> None:
        """A socket nobody runs on cannot be split by its own use."""
        assert zones_of(tmp_path, "dual_socket", socket_of={0: 0})[2:] == [
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
        assert len(open_rapl(str(tmp_path)).zones) == 2

    def test_ten_sockets_are_listed_in_number_order(self, tmp_path: Path) -> None:
        """Zone 10 comes after zone 9, not after zone 1."""
        PowercapTree(tmp_path, [ZoneSpec(f"intel-rapl:{n}", f"package-{n}") for n in range(12)])
        assert [zone.socket for zone in open_rapl(str(tmp_path)).zones] == list(range(12))

    def test_path_is_the_zones_directory(self, tmp_path: Path) -> None:
        """The path label is the sysfs directory under the root that was given."""
        tree = PowercapTree(tmp_path, "amd")
        assert open_rapl(str(tmp_path)).zones[0] == Zone("package", 0, str(tree.directory(PACKAGE)))


class TestLimits:
    """What a zone can draw at most."""

    def bound_w(self, sysfs: Path, max_power_uw: int | None) -> float:
        """Give the bound of a package with this constraint file."""
        PowercapTree(sysfs, [ZoneSpec("intel-rapl:0", "package-0", max_power_uw=max_power_uw)])
        return find_zones(str(sysfs), {})[0].bound_w

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
        assert self.bound_w(tmp_path, max_power_uw) == bound_w

    def test_jump_beyond_the_bound_is_rejected_and_counted(self, bench: Bench) -> None:
        """A counter that leaps by hours of energy credits nothing."""
        bench.tree.advance(50_000 * J)
        assert bench.read(PACKAGE) == (0, False)
        assert bench.faults(PACKAGE) == {"jump": 1}

    def test_wrap_uses_the_zones_own_range(self, tmp_path: Path) -> None:
        """A zone wraps where its file says."""
        spec = ZoneSpec("intel-rapl:0", "package-0", range_uj=1_000_000_000)
        tree = PowercapTree(tmp_path, [spec], energy_uj=999 * J)
        meter = open_rapl(str(tmp_path))
        meter.read()
        tree.advance(3 * J)
        assert meter.read().energy_uj[0] == 3 * J

    def test_zone_with_the_smallest_range_for_its_power_sets_the_wait(self, tmp_path: Path) -> None:
        """A platform of 6 kW passes a range of 65 kJ in 11 s: it is read in half of that."""
        psys = ZoneSpec("intel-rapl:1", "psys", range_uj=DRAM_RANGE_UJ)
        PowercapTree(tmp_path, [ZoneSpec("intel-rapl:0", "package-0"), psys])
        assert open_rapl(str(tmp_path)).max_wait_s == pytest.approx(65_713 / 6_000 / 2, rel=1e-3)


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

    def test_reading_carries_the_clocks_time(self, bench: Bench) -> None:
        """The instant is the meter's clock."""
        bench.now_ns = 77
        assert bench.meter.read().at_ns == 77

    @pytest.mark.parametrize("wanted", ["package", "PACKAGE"])
    def test_filter_keeps_kinds(self, tmp_path: Path, wanted: str) -> None:
        """A kind in rapl.zones keeps its zones on every socket, in any case of letters."""
        zones = Bench(tmp_path, "dual_socket", (wanted,)).meter.zones
        assert [(zone.kind, zone.socket) for zone in zones] == [("package", 0), ("package", 1)]

    def test_filter_keeps_kernel_names(self, tmp_path: Path) -> None:
        """A kernel name keeps one zone."""
        zones = Bench(tmp_path, "dual_socket", ("package-1",)).meter.zones
        assert [(zone.kind, zone.socket) for zone in zones] == [("package", 1)]

    def test_filter_that_leaves_nothing_names_what_there_is(self, tmp_path: Path) -> None:
        """The error lists the zones to choose from."""
        with pytest.raises(MeterRefusedError, match=r"psys.*\n.*dram, package-0, package-1"):
            Bench(tmp_path, "dual_socket", ("psys",))

    def test_no_tree_is_refused(self, tmp_path: Path) -> None:
        """A root without powercap gives the reason and the remedy."""
        with pytest.raises(MeterRefusedError, match=r"no RAPL zone in .*\n.*modprobe"):
            open_rapl(str(tmp_path))

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
        assert (bench.meter.read().gaps - gaps).tolist() == [1, 0, 0, 0]
        bench.tree.advance({PACKAGE: 30 * J})
        assert bench.read(PACKAGE) == (30, True)

    @pytest.mark.parametrize("name", ["energy_uj", "max_energy_range_uj", "name"])
    def test_fifo_in_the_place_of_a_file_is_not_waited_for(self, tmp_path: Path, name: str) -> None:
        """Nobody will ever write to it: that zone has no reading, or is none."""
        tree = PowercapTree(tmp_path, "amd")
        path = tree.directory(DRAM) / name
        path.unlink()
        os.mkfifo(path)
        meter = open_rapl(str(tmp_path))
        assert meter.read().valid[0]
        assert meter.errors.get((str(tree.directory(DRAM)), "read"), 0) == (name == "energy_uj")

    def test_counter_at_rest_is_counted_as_stuck_and_valid(self, bench: Bench) -> None:
        """A still counter is a reading of no energy, and is counted."""
        assert bench.read(PACKAGE, after_s=2) == (0, True)
        assert bench.faults(PACKAGE) == {"stuck": 1}

    def test_gap_too_long_to_unwrap_is_said(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Energy that nobody can know is counted and told, never made up."""
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
        assert set(bench.meter.errors.values()) == {0}
        assert len(bench.meter.errors) == 4 * len(bench.meter.zones)


def proved(tree: PowercapTree, joules: dict[str, float]) -> CounterMeter:
    """Open a meter and prove it while the tree counts so much at each wait."""
    meter = open_rapl(str(tree.sysfs))
    meter.prove(lambda _: tree.advance(joules), "a remedy")
    return meter


class TestProof:
    """What is found out before a meter is used."""

    def test_zone_that_reads_zero_is_left_out(self, tmp_path: Path) -> None:
        """A psys or uncore counter that nothing feeds is no zone of this host."""
        tree = PowercapTree(tmp_path, "laptop")
        tree.set("intel-rapl:1", 0)
        kinds = [zone.kind for zone in proved(tree, {PACKAGE: J}).zones]
        assert kinds == ["package", "core", "uncore"]

    def test_zone_at_rest_is_kept(self, tmp_path: Path) -> None:
        """A counter that holds something may move later."""
        tree = PowercapTree(tmp_path, "laptop")
        assert len(proved(tree, {PACKAGE: J}).zones) == 4

    def test_zone_that_cannot_be_read_is_kept(self, tmp_path: Path) -> None:
        """It may come back."""
        tree = PowercapTree(tmp_path, "amd")
        tree.show(DRAM, "nonsense")
        assert len(proved(tree, {PACKAGE: J}).zones) == 2

    def test_still_counters_are_refused(self, tmp_path: Path) -> None:
        """A meter that does not move measures nothing."""
        with pytest.raises(MeterRefusedError, match=r"do not move.*\na remedy"):
            proved(PowercapTree(tmp_path, "amd"), {})

    def test_unreadable_counters_are_refused_with_the_systems_reason(self, tmp_path: Path) -> None:
        """The error of the file is in the message."""
        tree = PowercapTree(tmp_path, "amd")
        for entry in tree.entries:
            tree.block(entry)
        with pytest.raises(MeterRefusedError, match="Is a directory"):
            proved(tree, {})


def test_every_machine_of_the_helper_has_a_meter(tmp_path: Path) -> None:
    """The trees that other tests build are all understood."""
    for machine in MACHINES:
        PowercapTree(tmp_path / machine, machine)
        meter = open_rapl(str(tmp_path / machine))
        assert np.all(meter.read().valid)
        meter.close()
