"""Snapshots as messages of the OpenTelemetry protocol: cumulative sums and gauges.

A series begins at a time of its own. At the message before the first one that has it, its value was
0: that is its start. A series that was gone and came back begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from kepler_ebpf import __version__
from kepler_ebpf.exporters import otlp_names as names
from kepler_ebpf.exporters.catalog import OTHERS
from kepler_ebpf.exporters.exported import exported
from kepler_ebpf.exporters.metric import SampledMetric
from kepler_ebpf.exporters.own_metrics import OWN_METRICS
from kepler_ebpf.exporters.page import PAUSE_S
from kepler_ebpf.exporters.workload_text import clean
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J
from kepler_ebpf.model.levels import NODE, WORKLOAD_LEVELS
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import State, WorkloadView

MAX_POINTS = 4_000
"""Data points of one message: about a megabyte; receivers refuse larger ones (20 MiB)."""

PIECE_POINTS = 256
"""Data points made under the GIL without a pause."""


class Point(NamedTuple):
    """One figure of one series."""

    family: names.Family
    attributes: list[KeyValue]
    start_ns: int
    value: float


class Series(NamedTuple):
    """What is kept of the workload of a row: its attributes, its start, and all that it had."""

    attributes: list[KeyValue]
    start_ns: int
    used: float


SeriesByKey = dict[tuple[Any, ...], Series]
"""By the level and all labels, and by what stays the same when a label changes."""


class Messages:
    """Makes the messages of one snapshot after the other. Not for two threads at once.

    It remembers the series of the last snapshot whose messages were all taken.
    """

    def __init__(self, resource: Mapping[str, Any], levels: frozenset[str]) -> None:
        """Begin at this moment; *levels* are exported, *resource* has the attributes of all."""
        self._resource = resource
        self._levels = levels
        self._start_ns = self._before_ns = time.time_ns()
        self._series: SeriesByKey = {}

    def of(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Yield the messages of *snapshot*, each with at most MAX_POINTS data points."""
        snapshot = exported(snapshot, self._levels)
        at_ns = int(snapshot.at_s * NS_PER_S)
        message, family, points = self._message(snapshot), None, 0
        known: SeriesByKey = {}
        for point in self._points(snapshot, known):
            if points == MAX_POINTS:
                yield message.SerializeToString()
                message, family, points = self._message(snapshot), None, 0
            if point.family is not family:
                family = point.family
                into = _add_family(message, family)
            into.add(
                attributes=point.attributes,
                start_time_unix_nano=min(point.start_ns, at_ns),
                time_unix_nano=at_ns,
                as_double=point.value,
            )
            points += 1
            if points % PIECE_POINTS == 0:
                # A waiting loop gets the interpreter.
                time.sleep(PAUSE_S)
        # Not before: where only the first messages were taken, no series of the others began anew.
        self._before_ns, self._series = at_ns, known
        yield message.SerializeToString()

    def _message(self, snapshot: Snapshot) -> ExportMetricsServiceRequest:
        meter, message = snapshot.stats.meter, ExportMetricsServiceRequest()
        about = {"kepler_ebpf.meter": meter.name, "kepler_ebpf.meter.estimate": meter.is_estimate}
        of_resource = message.resource_metrics.add()
        of_resource.resource.attributes.extend(key_values({**self._resource, **about}))
        scope = of_resource.scope_metrics.add().scope
        scope.name, scope.version = "kepler_ebpf", __version__
        return message

    # --- points

    def _points(self, snapshot: Snapshot, known: SeriesByKey) -> Iterator[Point]:
        if NODE in self._levels:
            yield from self._of_hardware(snapshot)
            yield from self._of_node(snapshot)
        for metrics, source in ((OTHERS, snapshot), (OWN_METRICS, snapshot.stats)):
            for metric in metrics:
                yield from self._of_metric(metric, source)
        for level in snapshot.workloads:
            yield from self._of_level(snapshot, level, known)

    def _of_hardware(self, snapshot: Snapshot) -> Iterator[Point]:
        """Yield energy and power of each zone, metric after metric."""
        node, powers = snapshot.node, []
        watts = node.interval_energy_uj / (UJ_PER_J * snapshot.interval_s)
        for row, zone in enumerate(node.zones):
            energy, power, attributes = names.hardware_of(zone, node.zones)
            pairs = key_values(attributes)
            yield Point(energy, pairs, self._start_ns, float(node.energy_uj[row]) / UJ_PER_J)
            if zone.kind not in snapshot.unread_kinds:
                powers.append(Point(power, pairs, 0, float(watts[row])))
        yield from powers

    def _of_node(self, snapshot: Snapshot) -> Iterator[Point]:
        node = snapshot.node
        for family, split, energy_uj in (
            (names.NODE_ENERGY, "active", node.active_uj),
            (names.NODE_ENERGY, "idle", node.idle_uj),
            (names.UNATTRIBUTED, "", node.unattributed_uj),
        ):
            for zone, uj in zip(node.zones, energy_uj.tolist(), strict=True):
                socket = "" if zone.socket is None else str(zone.socket)
                of_zone = {names.ZONE: zone.kind, names.SOCKET: socket, names.SPLIT: split}
                pairs = key_values({"kepler_ebpf.path": zone.path, **of_zone})
                yield Point(family, pairs, self._start_ns, uj / UJ_PER_J)

    def _of_metric(self, metric: SampledMetric[Any], source: object) -> Iterator[Point]:
        is_sum = metric.type == "counter"
        family = names.own_family(metric.name, metric.help, is_sum=is_sum)
        for labels, value in metric.read(source):
            pairs = zip(metric.labels, labels, strict=True)
            attributes = key_values({f"kepler_ebpf.{name}": text for name, text in pairs})
            yield Point(family, attributes, self._start_ns if is_sum else 0, value)

    # --- workloads

    def _of_level(self, snapshot: Snapshot, level: str, known: SeriesByKey) -> Iterator[Point]:
        view, owners = snapshot.workloads[level], {}
        if level == "pod":
            owners = {pod.pod_id: names.owner_of(pod) for pod in snapshot.pod_infos}
        rows = np.flatnonzero(view.state != State.FREE)
        series = [self._follow(level, view, row, known, owners) for row in rows.tolist()]
        energy = names.workload_family(level, is_energy=True)
        for kind, column in zip(snapshot.kinds, (view.energy_uj[rows] / UJ_PER_J).T, strict=True):
            of_zone = key_values({names.ZONE: kind})
            for (pairs, start_ns, _), joules in zip(series, column.tolist(), strict=True):
                yield Point(energy, pairs + of_zone, start_ns, joules)
        if WORKLOAD_LEVELS[level].seconds_labels is not None:
            cpu_time = names.workload_family(level, is_energy=False)
            seconds = (view.cpu_ns[rows] / NS_PER_S).tolist()
            for (pairs, start_ns, _), figure in zip(series, seconds, strict=True):
                yield Point(cpu_time, pairs, start_ns, figure)

    def _follow(
        self,
        level: str,
        view: WorkloadView,
        row: int,
        known: SeriesByKey,
        owners: Mapping[str, Mapping[str, str]],
    ) -> Series:
        """Return the series of a row, from now on *known*: that of before, or a new one.

        One that has a better name since has another key, and the start that it had.
        """
        attributes, labels = names.WORKLOAD_ATTRIBUTES[level], view.labels[row]
        values = attrgetter(*attributes)(labels)
        key, identity = (level, *values), names.identity_of(level, labels)
        used = float(view.energy_uj[row].sum() + view.cpu_ns[row])
        same = self._series.get(key)
        had = same or self._series.get(identity)
        start_ns = had.start_ns if had and had.used <= used else self._before_ns
        if same:
            pairs = same.attributes
        else:
            named = dict(zip(attributes.values(), values, strict=True))
            pairs = key_values({**named, **owners.get(values[0], {})})
        series = known[key] = known[identity] = Series(pairs, start_ns, used)
        return series


def key_values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    """Return attributes as the protocol has them; empty texts are left out."""
    return [KeyValue(key=key, value=_value(of)) for key, of in attributes.items() if of != ""]


def _value(value: object) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(string_value=clean(str(value)))


def _add_family(message: ExportMetricsServiceRequest, family: names.Family) -> Any:
    """Begin a metric, and return the list of its data points."""
    metric = message.resource_metrics[0].scope_metrics[0].metrics.add()
    metric.name, metric.description, metric.unit = family.name, family.description, family.unit
    if not family.is_sum:
        return metric.gauge.data_points
    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    metric.sum.is_monotonic = True
    return metric.sum.data_points
