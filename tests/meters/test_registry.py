"""Which meter is taken, and what is said about the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from powercap import CpuModel, PowercapTree, driven, host_busy_s

from kepler_ebpf.errors import ConfigError, SetupError
from kepler_ebpf.meters import BusyTime, MeterRequest, open_meter, probe_meters
from kepler_ebpf.model.energy import Meter


def no_busy_time() -> BusyTime:
    """Account for no CPU time."""
    return BusyTime(0, (0,))


@pytest.fixture
def request_for(tmp_path: Path) -> MeterRequest:
    """Give a request for a one-socket host whose sysfs is empty."""
    return MeterRequest(
        package_ids=(0,),
        cpus_per_socket=(2,),
        cpu_vendor="AuthenticAMD",
        cpu_architecture="x86_64",
        sysfs=str(tmp_path),
    )


def opened(asked: MeterRequest, wait: Callable[[float], None] = lambda _: None) -> Meter:
    """Open the meter and close it again."""
    meter = open_meter(asked, no_busy_time, wait)
    meter.close()
    return meter


def open_files() -> int:
    """Count this process's descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))


def moving(asked: MeterRequest) -> Callable[[float], None]:
    """Give the host a powercap tree and a wait during which it counts."""
    tree = PowercapTree(Path(asked.sysfs), "single_socket")
    return lambda _: tree.advance(1e6)


def test_auto_takes_rapl_where_it_moves(request_for: MeterRequest) -> None:
    """Real counters come first."""
    meter = opened(request_for, moving(request_for))
    assert (meter.name, meter.is_estimate) == ("rapl", False)


def test_auto_falls_back_to_the_estimate_and_says_so(
    request_for: MeterRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """Every refused meter gives its reason, and the estimate is announced."""
    caplog.set_level(logging.INFO)
    meter = opened(request_for)
    assert (meter.name, meter.is_estimate) == ("estimate", True)
    told = "\n".join(caplog.messages)
    assert "the rapl meter does not work here: there is no RAPL zone" in told
    assert "the perf meter does not work here: there is no power PMU" in told
    assert "estimate from CPU use" in told


def test_auto_passes_over_counters_that_stand_still(request_for: MeterRequest) -> None:
    """A tree that does not move is no meter."""
    PowercapTree(Path(request_for.sysfs), "single_socket")
    assert opened(request_for).name == "estimate"


def test_rapl_asked_for_by_name_and_absent_is_an_error(request_for: MeterRequest) -> None:
    """Nobody who asks for a measurement is given an estimate."""
    with pytest.raises(SetupError, match=r"the rapl meter does not work here: .*\n.*modprobe"):
        opened(replace(request_for, meter="rapl"))


def test_refused_meter_leaves_nothing_open(request_for: MeterRequest) -> None:
    """A tree that was tried and refused is closed."""
    PowercapTree(Path(request_for.sysfs), "single_socket")
    before = open_files()
    opened(request_for)
    assert open_files() == before


@pytest.mark.parametrize("name", ["estimate", "fake"])
def test_meter_asked_for_by_name(request_for: MeterRequest, name: str) -> None:
    """A name is taken at its word, even where RAPL works."""
    assert opened(replace(request_for, meter=name), moving(request_for)).name == name


def test_fake_switched_on_in_the_configuration_comes_first(request_for: MeterRequest) -> None:
    """As in Kepler, the development key wins over the hardware."""
    asked = replace(request_for, fake_enabled=True, fake_zones=("package",))
    meter = opened(asked, moving(request_for))
    assert meter.name == "fake"
    assert [zone.kind for zone in meter.zones] == ["package"]


def test_preferred_meters_come_first_and_unknown_ones_are_passed_over(
    request_for: MeterRequest,
) -> None:
    """A Kepler file that lists hwmon still works."""
    asked = replace(request_for, preferred_meters=("hwmon", "fake", "rapl"))
    assert opened(asked, moving(request_for)).name == "fake"


def test_unknown_meter_is_an_error_that_names_those_there_are(request_for: MeterRequest) -> None:
    """The name and what is allowed."""
    with pytest.raises(ConfigError, match=r"no meter 'sundial'\n.*auto, rapl"):
        opened(replace(request_for, meter="sundial"))


def test_probes_tell_what_is_missing_and_the_remedy(request_for: MeterRequest) -> None:
    """On a bare host only the estimate is available."""
    probes = {probe.name: probe for probe in probe_meters(request_for, lambda _: None)}
    assert [name for name, probe in probes.items() if probe.available] == ["estimate"]
    assert "modprobe" in probes["rapl"].remedy
    assert "modprobe" in probes["perf"].remedy
    assert probes["estimate"].detail.startswith("0.5 W idle to 2.0 W busy")


def test_probes_tell_the_zones_of_a_meter_that_works(request_for: MeterRequest) -> None:
    """What is there is named with its socket."""
    rapl = probe_meters(request_for, moving(request_for))[0]
    assert (rapl.available, rapl.remedy) == (True, "")
    assert rapl.detail == "package (socket 0), core (socket 0), uncore (socket 0), dram (socket 0)"


def test_driven_tree_works_with_real_time(request_for: MeterRequest) -> None:
    """A tree driven from the host's CPU use passes the probe as hardware does."""
    tree = PowercapTree(Path(request_for.sysfs), "dual_socket")
    with driven(tree, CpuModel(20.0, 10.0, host_busy_s)):
        meter = open_meter(request_for, no_busy_time)
        reading = meter.read()
        meter.close()
    assert meter.name == "rapl"
    assert reading.valid.all()
    assert sum(meter.errors.values()) == 0
