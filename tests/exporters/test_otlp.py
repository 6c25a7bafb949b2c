"""Messages of the OpenTelemetry protocol: names, sums, and when each series begins."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from snapshots import INTERVAL_S, POD_ID, Row, container, process, snapshot

from kepler_ebpf.exporters import otlp
from kepler_ebpf.exporters.otlp import Messages
from kepler_ebpf.model.levels import LEVELS
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import State

NS = 1_000_000_000
ALL = frozenset(LEVELS)


@dataclass(frozen=True)
class Point:
    """A data point as a receiver has it."""

    name: str
    unit: str
    is_sum: bool
    start_ns: int
    time_ns: int
    value: float
    attributes: dict[str, Any] = field(default_factory=dict)


def read(messages: Iterator[bytes]) -> list[Point]:
    """Parse messages; each sum must be cumulative and monotonic."""
    points = []
    for message in messages:
        (of_resource,) = ExportMetricsServiceRequest.FromString(message).resource_metrics
        (of_scope,) = of_resource.scope_metrics
        for metric in of_scope.metrics:
            is_sum = metric.WhichOneof("data") == "sum"
            if is_sum:
                assert (metric.sum.aggregation_temporality, metric.sum.is_monotonic) == (2, True)
            points += [
                Point(
                    metric.name,
                    metric.unit,
                    is_sum,
                    point.start_time_unix_nano,
                    point.time_unix_nano,
                    point.as_double,
                    plain(point.attributes),
                )
                for point in (metric.sum if is_sum else metric.gauge).data_points
            ]
    return points


def plain(attributes: Any) -> dict[str, Any]:
    """Return attributes as a dictionary."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def now_s() -> float:
    """Return a time after which messages may be made."""
    return time.time() + 1


def messages() -> Messages:
    """Return a maker of messages with a resource."""
    return Messages({"host.name": "node-1", "k8s.node.name": ""}, ALL)


def named(points: list[Point], name: str, **attributes: Any) -> list[Point]:
    """Return the points of a metric with attributes, whose dots are written as underscores."""
    return [
        point
        for point in points
        if point.name == name
        and all(point.attributes.get(key) == value for key, value in attributes.items())
    ]


def test_energy_and_power_of_the_hardware_have_the_names_of_the_conventions() -> None:
    """With the parts of a package below it, and in joules and watts."""
    points = read(messages().of(snapshot(at_s=now_s())))
    energy = {point.attributes["hw.id"]: point for point in named(points, "hw.energy")}
    package = energy["/sys/class/powercap/intel-rapl:1#1"]
    assert (package.value, package.unit, package.is_sum) == (20.0, "J", True)
    assert package.attributes["hw.type"] == "cpu"
    assert energy["/sys/class/powercap/intel-rapl:0:0"].attributes["hw.type"] == "memory"
    power = named(points, "hw.power", **{"hw.name": "dram"})[0]
    assert (power.value, power.unit, power.is_sum) == (0.5 / INTERVAL_S, "W", False)


def test_workloads_have_the_attributes_of_the_conventions() -> None:
    """What is empty is left out; a pod's owner is named by its kind."""
    points = read(messages().of(snapshot(at_s=now_s())))
    of_zone = {"kepler_ebpf.zone": "package"}
    (of_process,) = named(points, "kepler_ebpf.process.energy", **of_zone)
    assert of_process.attributes == {
        "process.pid": 100,
        "kepler_ebpf.process.comm": "worker",
        "process.executable.path": "/usr/bin/worker",
        **of_zone,
    }
    (of_container,) = named(points, "kepler_ebpf.container.energy", **of_zone)
    assert of_container.attributes["k8s.pod.uid"] == POD_ID
    assert of_container.attributes["container.runtime.name"] == "docker"
    (of_pod,) = named(points, "kepler_ebpf.pod.energy", **of_zone)
    assert of_pod.attributes == {
        "k8s.pod.uid": POD_ID,
        "k8s.pod.name": "shop-0",
        "k8s.namespace.name": "retail",
        "k8s.deployment.name": "shop",
        **of_zone,
    }
    (cpu_time,) = named(points, "kepler_ebpf.process.cpu.time")
    assert (cpu_time.value, cpu_time.unit) == (1.5, "s")


def test_the_resource_is_the_node_and_says_how_the_energy_is_known() -> None:
    """An estimate is an estimate here too."""
    shown = snapshot(at_s=now_s())
    meter = replace(shown.stats.meter, is_estimate=True)
    shown = replace(shown, stats=replace(shown.stats, meter=meter))
    (message,) = messages().of(shown)
    resource = ExportMetricsServiceRequest.FromString(message).resource_metrics[0].resource
    assert plain(resource.attributes) == {
        "host.name": "node-1",
        "kepler_ebpf.meter": "rapl",
        "kepler_ebpf.meter.estimate": True,
    }


def test_our_own_figures_go_along() -> None:
    """Counters as sums, and the others as gauges."""
    points = read(messages().of(snapshot(at_s=now_s())))
    (lost,) = named(points, "kepler_ebpf.lost_cpu_seconds")
    assert (lost.value, lost.is_sum) == (7.0, True)
    (fill,) = named(points, "kepler_ebpf.map_fill_ratio")
    assert (fill.value, fill.is_sum) == (0.09, False)


def test_messages_are_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """No series is in two, and each message is whole in itself."""
    monkeypatch.setattr(otlp, "MAX_POINTS", 50)
    rows = [Row(process(pid)) for pid in range(1, 301)]
    parts = list(messages().of(snapshot(rows, at_s=now_s())))
    sizes = [len(read(iter([part]))) for part in parts]
    assert max(sizes) == 50
    pids = [
        (point.attributes["process.pid"], point.attributes["kepler_ebpf.zone"])
        for point in read(iter(parts))
        if point.name == "kepler_ebpf.process.energy"
    ]
    assert len(pids) == len(set(pids)) == 600


def starts(maker: Messages, shown: Snapshot) -> dict[int, int]:
    """Return when the series of each pid began."""
    points = read(maker.of(shown))
    return {
        point.attributes["process.pid"]: point.start_ns
        for point in named(points, "kepler_ebpf.process.cpu.time")
    }


def test_a_series_that_comes_later_begins_later() -> None:
    """At the time of the last message that did not have it; the first ones at the start."""
    maker, at_s = messages(), now_s()
    first = starts(maker, snapshot([Row(process(1))], at_s=at_s))
    assert first[1] < at_s * NS
    later = starts(maker, snapshot([Row(process(1)), Row(process(2))], at_s=at_s + 10))
    assert later == {1: first[1], 2: int(at_s * NS)}


def test_a_series_that_comes_back_begins_anew() -> None:
    """Where it was gone in a message, and where it fell between two."""
    maker, at_s = messages(), now_s()
    one = Row(process(1), cpu_ns=100)
    starts(maker, snapshot([one], at_s=at_s))
    starts(maker, snapshot([], at_s=at_s + 10))
    assert starts(maker, snapshot([one], at_s=at_s + 20)) == {1: int((at_s + 10) * NS)}
    fell = replace(one, cpu_ns=50)
    assert starts(maker, snapshot([fell], at_s=at_s + 30)) == {1: int((at_s + 20) * NS)}


def test_messages_that_were_not_taken_begin_no_series_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that goes away after those with the processes gets none of the containers."""
    monkeypatch.setattr(otlp, "MAX_POINTS", 1)
    maker, at_s, of_container = messages(), now_s(), "kepler_ebpf.container.energy"
    begun = named(read(maker.of(snapshot(at_s=at_s))), of_container)[0].start_ns
    sent = maker.of(snapshot(at_s=at_s + 10))
    while not named(read(iter([next(sent)])), "kepler_ebpf.process.energy"):
        pass
    after = named(read(maker.of(snapshot(at_s=at_s + 20))), of_container)[0]
    assert after.start_ns == begun


def test_a_better_name_does_not_change_when_a_series_began() -> None:
    """Its energy is all there under the new name."""
    maker, at_s = messages(), now_s()
    begun = starts(maker, snapshot([Row(process(1, "sh"))], at_s=at_s))
    assert starts(maker, snapshot([Row(process(1, "make"))], at_s=at_s + 10)) == begun
    of_container = "kepler_ebpf.container.energy"
    was = named(read(maker.of(snapshot(at_s=at_s + 20))), of_container)[0].start_ns
    renamed = snapshot(containers=[Row(container(name="api"))], at_s=at_s + 30)
    assert named(read(maker.of(renamed)), of_container)[0].start_ns == was


@given(
    st.lists(
        st.dictionaries(st.integers(1, 4), st.integers(0, 100), max_size=4), min_size=1, max_size=8
    )
)
def test_what_is_between_start_and_time_is_what_was_used_then(lives: list[dict[int, int]]) -> None:
    """Over any births, ends and returns: values rise from 0 at their start, which never lies."""
    maker, at_s = Messages({}, frozenset({"process"})), now_s()
    before: dict[int, tuple[int, float]] = {}
    for number, used in enumerate(lives):
        rows = [Row(process(pid), (0.0, 0.0), cpu_ns * NS) for pid, cpu_ns in used.items()]
        points = named(
            read(maker.of(snapshot(rows, at_s=at_s + number))), "kepler_ebpf.process.cpu.time"
        )
        now = {point.attributes["process.pid"]: (point.start_ns, point.value) for point in points}
        assert now.keys() == used.keys()
        for pid, (start_ns, value) in now.items():
            began_ns, had = before.get(pid, (None, 0.0))
            is_same = pid in before and value >= had
            assert start_ns == began_ns if is_same else start_ns >= (at_s + number - 1.5) * NS
        before = now


def test_what_is_remembered_does_not_grow_with_what_has_ended() -> None:
    """Only the series of the last message are."""
    maker, at_s = messages(), now_s()
    for number in range(20):
        rows = [Row(process(number * 10 + pid)) for pid in range(1, 11)]
        list(maker.of(snapshot(rows, at_s=at_s + number)))
    assert len(maker._series) <= 2 * (10 + 4)  # noqa: SLF001


def test_a_clock_that_was_set_back_makes_no_series_begin_in_the_future() -> None:
    """Receivers refuse those."""
    maker, at_s = messages(), now_s()
    list(maker.of(snapshot(at_s=at_s)))
    points = read(maker.of(snapshot([Row(process(5))], at_s=at_s - 10_000)))
    assert all(point.start_ns <= point.time_ns for point in points)


def test_ended_workloads_are_sent_as_long_as_they_are_listed() -> None:
    """Without a label for their state, which would make another series of the same energy."""
    ended = Row(process(1), state=State.TERMINATED)
    points = read(messages().of(snapshot([ended], at_s=now_s())))
    assert named(points, "kepler_ebpf.process.energy", **{"process.pid": 1})
