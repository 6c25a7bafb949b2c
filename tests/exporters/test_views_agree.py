"""What every exporter says of the same snapshots of a ledger, whatever happens to that."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from ledger_lives import PLACES, RETENTIONS, SELECTIONS, STEPS
from ledger_world import World
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from snapshots import HOST, snapshot

from kepler_ebpf.exporters.history import History
from kepler_ebpf.exporters.otlp import Messages
from kepler_ebpf.exporters.otlp_names import WORKLOAD_ATTRIBUTES, ZONE
from kepler_ebpf.exporters.page import Variant
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.model.levels import LEVELS, WORKLOAD_LEVELS
from kepler_ebpf.model.snapshot import Snapshot

Key = tuple[str, frozenset[tuple[str, str]]]
"""A level, and the attributes of a series with their values."""


def shown(world: World, at_s: float) -> Snapshot:
    """Return the snapshot of a ledger at *at_s*."""
    made, node = snapshot(at_s=at_s, end_s=at_s), world.ledger.node(0.5)
    return replace(made, node=node, workloads=world.ledger.views(), pod_infos=())


def on_page(text: str) -> Iterator[tuple[Key, float]]:
    """Yield the joules of each series of workloads, with the attributes that OTLP has."""
    names = {
        f"{level.prefix}_{level.name}_cpu_joules_total": level.name
        for level in WORKLOAD_LEVELS.values()
    }
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if level := names.get(sample.name):
                attributes = {**WORKLOAD_ATTRIBUTES[level], "zone": ZONE}
                pairs = ((attributes.get(name), text) for name, text in sample.labels.items())
                yield (
                    (level, frozenset((key, text) for key, text in pairs if key and text)),
                    (sample.value),
                )


def in_messages(messages: Iterator[bytes]) -> Iterator[tuple[Key, tuple[int, int, float]]]:
    """Yield the start, the time and the joules of each series of workloads."""
    names = {f"kepler_ebpf.{level}.energy": level for level in WORKLOAD_LEVELS}
    for message in messages:
        request = ExportMetricsServiceRequest.FromString(message)
        for metric in request.resource_metrics[0].scope_metrics[0].metrics:
            if level := names.get(metric.name):
                for point in metric.sum.data_points:
                    values = ((each.key, each.value) for each in point.attributes)
                    pairs = (
                        (key, str(getattr(value, value.WhichOneof("value"))))
                        for key, value in values
                    )
                    times = point.start_time_unix_nano, point.time_unix_nano
                    yield (level, frozenset(pairs)), (*times, point.as_double)


@given(st.lists(STEPS, max_size=12), RETENTIONS, PLACES, SELECTIONS)
def test_page_messages_and_history_agree(steps, retention, most, selection):
    """Each series is in the page and the messages, and rises there; points are what was used."""
    world, at_s = World(retention, 1_000.0, most, selection), time.time() + 1
    page, messages, history = MetricsPage(HOST), Messages({}, frozenset(LEVELS)), History(["vm"])
    before: dict[Key, float] = {}
    sent: dict[Key, tuple[int, int, float]] = {}
    world.credit()
    history.take(shown(world, at_s))
    for number, step in enumerate(steps, 1):
        step(world)
        made = shown(world, at_s + number)
        rows = list(on_page(bytes(page.render(made, Variant()).body).decode()))
        points = list(in_messages(messages.of(made)))
        now, new = dict(rows), dict(points)
        assert len(now) == len(rows) == len(points)
        assert {key: joules for key, (_, _, joules) in new.items()} == now
        assert all(now.get(key, joules) >= joules for key, joules in before.items())
        for key, (start_ns, _, joules) in new.items():
            began_ns, until_ns, had = sent.get(key, (start_ns, 0, 0.0))
            assert joules >= had if start_ns == began_ns else start_ns >= until_ns
        before, sent = now, sent | new
        history.take(made)
    kept = history.points(level="vm")
    assert kept
    assert not (kept.uj < 0).any()
    active_uj = world.ledger.node(0.0).active_uj
    np.testing.assert_allclose(kept.active_uj.sum(axis=0), active_uj - 10.0, rtol=1e-9)
