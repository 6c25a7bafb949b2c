"""The choice of a meter, and the reasons against the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from descriptors import open_files
from meter_requests import Cpus, request_for
from powercap import CpuModel, PowercapTree, driven, host_busy_s

from kepler_ebpf.errors import SetupError
from kepler_ebpf.meters import MEASURING, choice
from kepler_ebpf.meters.choice import open_meter, probe_meters
from kepler_ebpf.meters.request import MeterRequest
from kepler_ebpf.model.energy import Meter


@pytest.fixture
def asked(tmp_path: Path) -> MeterRequest:
    """Return a request for a one-socket host whose sysfs is empty."""
    return request_for(tmp_path)


def opened(asked: MeterRequest, wait: Callable[[float], None] = lambda _: None) -> Meter:
    """Open the meter and close it again."""
    meter = open_meter(asked, Cpus(), wait)
    meter.close()
    return meter


def moving(asked: MeterRequest) -> Callable[[float], None]:
    """Make a powercap tree for the host, and return a wait during which it counts."""
    tree = PowercapTree(Path(asked.sysfs), "single_socket")
    return lambda _: tree.advance(1e6)


def test_auto_takes_rapl_where_it_moves(asked: MeterRequest) -> None:
    """Real counters come first."""
    meter = opened(asked, moving(asked))
    assert (meter.stats.name, meter.stats.is_estimate) == ("rapl", False)


def test_auto_falls_back_to_the_estimate_and_logs_why(
    asked: MeterRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """Every refused meter gives its reason, and the estimate is announced."""
    caplog.set_level(logging.INFO)
    meter = opened(asked)
    assert (meter.stats.name, meter.stats.is_estimate) == ("estimate", True)
    log = caplog.text
    assert "the rapl meter does not work here: there is no RAPL zone" in log
    assert "the perf meter does not work here: there is no power PMU" in log
    assert "estimate from CPU use" in log


def test_auto_skips_counters_that_stand_still(asked: MeterRequest) -> None:
    """A tree that does not move is no meter."""
    PowercapTree(Path(asked.sysfs), "single_socket")
    assert opened(asked).stats.name == "estimate"


def test_rapl_by_name_and_absent_is_an_error(asked: MeterRequest) -> None:
    """An estimate does not replace a measurement."""
    with pytest.raises(SetupError, match=r"the rapl meter does not work here: .*\n.*modprobe"):
        opened(replace(asked, meter="rapl"))


def test_refused_meter_leaves_nothing_open(asked: MeterRequest) -> None:
    """A tree that was tried and refused is closed."""
    PowercapTree(Path(asked.sysfs), "single_socket")
    before = open_files()
    opened(asked)
    assert open_files() == before


def test_fake_switched_on_in_the_configuration_comes_first(asked: MeterRequest) -> None:
    """As in Kepler, the development key wins over the hardware."""
    wish = replace(asked, fake_enabled=True, fake_zones=("package",))
    meter = opened(wish, moving(asked))
    assert meter.stats.name == "fake"
    assert [zone.kind for zone in meter.zones] == ["package"]


def test_preferred_meters_come_first(asked: MeterRequest) -> None:
    """In the order of the configuration."""
    wish = replace(asked, preferred_meters=("fake", "rapl"))
    assert opened(wish, moving(asked)).stats.name == "fake"


@pytest.mark.parametrize("name", ["rapl", "estimate", "fake"])  # Not every kernel has perf's PMU.
def test_meter_of_the_registry_opens_by_name(asked: MeterRequest, name: str) -> None:
    """A line in the registry and a module of that name are enough."""
    assert opened(replace(asked, meter=name), moving(asked)).stats.name == name


def test_every_measuring_meter_is_opened_as_itself(
    asked: MeterRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more in the registry is tried in its turn."""
    monkeypatch.setattr(choice, "MEASURING", ("fake", *MEASURING))
    assert opened(asked, moving(asked)).stats.name == "fake"


# --- wanted zones -----------------------------------------------------------------------------


def test_auto_takes_no_other_meter_in_place_of_wanted_zones(
    asked: MeterRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """Working counters are not left for an estimate of another zone: the error names both."""
    wish = replace(asked, rapl_zones=("psys",))
    with pytest.raises(SetupError, match=r"no psys here, only core, dram, .*\n.*rapl\.zones"):
        opened(wish, moving(asked))
    assert "WARNING" in caplog.text


def test_meter_by_name_without_the_wanted_zones_is_an_error(asked: MeterRequest) -> None:
    """The message has the meter and the zones."""
    wish = replace(asked, meter="rapl", rapl_zones=("psys",))
    with pytest.raises(SetupError, match=r"the rapl meter does not work here: .*no psys here"):
        opened(wish, moving(asked))


def test_estimate_names_the_wanted_zones_it_lacks(
    asked: MeterRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """Without any counter the estimate measures packages, whatever is wanted."""
    assert opened(replace(asked, rapl_zones=("psys", "package"))).stats.name == "estimate"
    assert "the estimate has no zone psys, only package" in caplog.text


def test_probe_requires_the_wanted_zones(asked: MeterRequest) -> None:
    """It foresees that a run would refuse to start."""
    wish = replace(asked, rapl_zones=("psys",))
    probe = probe_meters(wish, moving(asked))[0]
    assert (probe.available, probe.is_required) == (False, True)
    assert not probe_meters(replace(wish, fake_enabled=True), lambda _: None)[0].is_required


def test_probe_requires_the_meter_by_name_only(asked: MeterRequest) -> None:
    """What automatic choice can replace is not required."""
    assert not any(probe.is_required for probe in probe_meters(asked, lambda _: None))
    probes = probe_meters(replace(asked, meter="perf"), lambda _: None)
    assert [probe.name for probe in probes if probe.is_required] == ["perf"]


def test_probes_have_the_reason_and_the_remedy(asked: MeterRequest) -> None:
    """On a bare host only the estimate is available."""
    probes = {probe.name: probe for probe in probe_meters(asked, lambda _: None)}
    assert [name for name, probe in probes.items() if probe.available] == ["estimate"]
    assert "modprobe" in probes["rapl"].remedy
    assert "modprobe" in probes["perf"].remedy
    assert probes["estimate"].detail.startswith("0.5 W idle to 2.0 W busy")


def test_probe_of_a_meter_that_works_has_its_zones(asked: MeterRequest) -> None:
    """What is there is named with its socket."""
    rapl = probe_meters(asked, moving(asked))[0]
    assert (rapl.available, rapl.remedy) == (True, "")
    assert rapl.detail == "package (socket 0), core (socket 0), uncore (socket 0), dram (socket 0)"


def test_driven_tree_works_with_real_time(asked: MeterRequest) -> None:
    """A tree driven from the host's CPU use passes the probe as hardware does."""
    tree = PowercapTree(Path(asked.sysfs), "dual_socket")
    with driven(tree, CpuModel(20.0, 10.0, host_busy_s)):
        meter = open_meter(asked, Cpus())
        reading = meter.read()
        meter.close()
    assert meter.stats.name == "rapl"
    assert all(reading.valid)
    assert sum(meter.stats.errors.values()) == 0
