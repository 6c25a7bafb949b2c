"""The perf meter, over the real system call.

The host need not have a power PMU: the tree names the kernel's software PMU in its place, whose
CPU clock counts nanoseconds on any machine and whose dummy event counts nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from descriptors import open_files
from meter_requests import Cpus, request_for

from kepler_ebpf.meters.counter_meter import CounterMeter
from kepler_ebpf.meters.perf import find_counters, open_meter
from kepler_ebpf.meters.request import MeterRefusedError, ZonesUnavailableError

SOFTWARE_PMU = 1
CPU_CLOCK = "event=0x00"
DUMMY = "event=0x09"
NO_SUCH_EVENT = "event=0xfe"
WATTS = 10.0

Build = Callable[..., str]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Return a builder of sysfs trees with a power PMU of the named events."""

    def make(events: dict[str, str], cpus: str = "0", packages: tuple[int, ...] = (0,)) -> str:
        pmu = tmp_path / "bus/event_source/devices/power"
        (pmu / "events").mkdir(parents=True)
        (pmu / "type").write_text(f"{SOFTWARE_PMU}\n")
        (pmu / "cpumask").write_text(f"{cpus}\n")
        for event, config in events.items():
            (pmu / "events" / event).write_text(f"{config}\n")
            (pmu / "events" / f"{event}.scale").write_text(f"{WATTS / 1e9:.10e}\n")
            (pmu / "events" / f"{event}.unit").write_text("Joules\n")
        for cpu, package in enumerate(packages):
            topology = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
            topology.mkdir(parents=True)
            (topology / "physical_package_id").write_text(f"{package}\n")
        return str(tmp_path)

    return make


def replace_event_by_empty_file() -> None:
    """Make the one open event end, as the kernel ends it when its CPU goes away."""
    (event,) = (
        int(path.name)
        for path in Path("/proc/self/fd").iterdir()
        if path.is_symlink() and "perf_event" in str(path.readlink())
    )
    with Path("/dev/null").open() as empty:
        os.dup2(empty.fileno(), event)


def unproved(sysfs: object, **wishes: Any) -> CounterMeter:
    """Return a meter that has not been read yet."""
    return CounterMeter("perf", find_counters(request_for(sysfs, **wishes)), Cpus())


def opened(sysfs: object, *wanted: str) -> CounterMeter:
    """Open the meter of a one-socket host in real time."""
    return open_meter(request_for(sysfs, rapl_zones=wanted), Cpus(), time.sleep)


def zones_of(meter: CounterMeter) -> list[tuple[str, int | None]]:
    """Return each zone's kind and socket."""
    return [(zone.kind, zone.socket) for zone in meter.zones]


def test_events_become_zones(build: Build) -> None:
    """Each energy event is a zone of the kind that RAPL calls it."""
    events = ("energy-pkg", "energy-cores", "energy-gpu", "energy-ram", "energy-psys")
    meter = unproved(build(dict.fromkeys(events, CPU_CLOCK)))
    assert zones_of(meter) == [
        ("package", 0), ("core", 0), ("uncore", 0), ("dram", 0), ("psys", None),
    ]  # fmt: skip


def test_each_cpu_of_the_mask_is_a_socket_or_die(build: Build) -> None:
    """The mask names one CPU for each package; the platform is read on the first only."""
    sysfs = build({"energy-pkg": CPU_CLOCK, "energy-psys": CPU_CLOCK}, "0-1", (0, 3))
    meter = unproved(sysfs, package_ids=(0, 3))
    assert zones_of(meter) == [("package", 0), ("package", 1), ("psys", None)]
    assert len({zone.path for zone in meter.zones}) == 3


def test_counts_are_scaled_to_microjoules(build: Build) -> None:
    """A clock that counts nanoseconds, at 10 nJ each, is 10 W."""
    meter = unproved(build({"energy-pkg": CPU_CLOCK}))
    started_ns = time.monotonic_ns()
    first = meter.read()
    time.sleep(0.02)
    last = meter.read()
    meter.close()
    spent_j = (last.energy_uj[0] - first.energy_uj[0]) / 1e6
    # The time between the two counts lies within the time the two readings took.
    assert WATTS * 0.02 <= spent_j <= WATTS * (time.monotonic_ns() - started_ns) / 1e9


def test_energy_goes_on_after_a_failure(build: Build) -> None:
    """The event is opened anew and starts again at zero; the figure does not fall."""
    meter = unproved(build({"energy-pkg": CPU_CLOCK}))
    meter.read()
    time.sleep(0.005)
    before = meter.read()
    replace_event_by_empty_file()
    failed = meter.read()
    again = meter.read()
    time.sleep(0.005)
    after = meter.read()
    meter.close()
    assert (failed.valid[0], again.valid[0], after.valid[0]) == (False, True, True)
    assert failed.energy_uj == again.energy_uj == before.energy_uj
    assert after.energy_uj[0] > before.energy_uj[0]
    assert again.gaps[0] == before.gaps[0] + 1
    assert meter.stats.errors[meter.zones[0].path, "read"] == 1


def test_event_that_cannot_be_opened_fails_alone(build: Build) -> None:
    """The kernel refuses one event; the other is read."""
    meter = unproved(build({"energy-pkg": CPU_CLOCK, "energy-ram": NO_SUCH_EVENT}))
    assert meter.read().valid == (True, False)
    assert meter.stats.errors[meter.zones[1].path, "read"] == 1
    meter.close()


def test_pmu_that_counts_nothing_is_refused(build: Build) -> None:
    """On virtual hosts the PMU can be there and stay at zero."""
    before = open_files()
    with pytest.raises(MeterRefusedError, match=r"do not move.*\n.*modprobe rapl"):
        opened(build({"energy-psys": DUMMY}))
    assert open_files() == before


def test_event_that_counts_nothing_is_a_zone_at_zero(build: Build) -> None:
    """It may begin to count later."""
    meter = opened(build({"energy-pkg": CPU_CLOCK, "energy-psys": DUMMY}))
    reading = meter.read()
    assert zones_of(meter) == [("package", 0), ("psys", None)]
    assert (reading.energy_uj[1], reading.valid) == (0, (True, True))
    meter.close()


@pytest.mark.parametrize(
    ("wanted", "kinds"), [("core", ["core"]), ("package-0", ["package"]), ("package", ["package"])]
)
def test_only_wanted_zones_are_kept(build: Build, wanted: str, kinds: list[str]) -> None:
    """The configuration names kinds and kernel names for every meter that measures."""
    meter = opened(build({"energy-pkg": CPU_CLOCK, "energy-cores": CPU_CLOCK}), wanted)
    assert [zone.kind for zone in meter.zones] == kinds
    meter.close()


def test_wanted_zone_that_is_no_event_is_refused(build: Build) -> None:
    """The error names the zone and the events that there are."""
    with pytest.raises(ZonesUnavailableError, match="no psys here, only package-0"):
        opened(build({"energy-pkg": CPU_CLOCK}), "psys")


def test_dies_of_a_package_have_names(build: Build) -> None:
    """The mask names one CPU of each die."""
    sysfs = build({"energy-pkg": CPU_CLOCK}, "0-2", (0, 0, 1))
    names = [item.names for item in find_counters(request_for(sysfs, sockets=2))]
    assert names == [{"package-0-die-0"}, {"package-0-die-1"}, {"package-1"}]


def test_close_gives_every_descriptor_back(build: Build) -> None:
    """Nothing stays open."""
    before = open_files()
    meter = unproved(build({"energy-pkg": CPU_CLOCK, "energy-ram": CPU_CLOCK}))
    meter.read()
    assert open_files() == before + 2
    meter.close()
    assert open_files() == before


def test_host_without_the_pmu_is_refused(tmp_path: Path) -> None:
    """The reason names the place, the remedy the driver."""
    with pytest.raises(MeterRefusedError, match=r"no power PMU in .*\n.*modprobe rapl"):
        find_counters(request_for(tmp_path))


def test_pmu_without_energy_events_is_refused(build: Build) -> None:
    """A PMU of another make is not taken."""
    with pytest.raises(MeterRefusedError, match="names no energy event"):
        find_counters(request_for(build({})))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pmu: (pmu / "type").write_text("x"),
        lambda pmu: (pmu / "cpumask").write_text(""),
        lambda pmu: (pmu / "events/energy-pkg").write_text("umask=1"),
        lambda pmu: (pmu / "events/energy-pkg.scale").unlink(),
    ],
    ids=["type", "cpumask", "event", "scale"],
)
def test_pmu_of_the_wrong_shape_is_refused(
    build: Build, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    """A file that is missing or makes no sense is a reason, not a traceback."""
    sysfs = build({"energy-pkg": CPU_CLOCK})
    spoil(tmp_path / "bus/event_source/devices/power")
    with pytest.raises(MeterRefusedError, match="cannot use"):
        find_counters(request_for(sysfs))
