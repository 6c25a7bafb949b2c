"""The metrics page: families of few samples by prometheus_client, those of workloads as text.

A page is made from one Snapshot, so the figures on it belong together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as TEXT_TYPE
from prometheus_client.exposition import generate_latest as plain_text
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.registry import Collector, CollectorRegistry

from kepler_ebpf.exporters import catalog
from kepler_ebpf.exporters.exported import exported
from kepler_ebpf.exporters.metric import Host, Metric, Samples
from kepler_ebpf.exporters.page import PAUSE_S, Page, Variant, joined
from kepler_ebpf.exporters.web_config import WebReload
from kepler_ebpf.exporters.workload_text import WorkloadText, clean
from kepler_ebpf.model.snapshot import Snapshot

EOF = b"# EOF\n"


class MetricsPage(Collector):
    """Renders the metrics page. Not for two threads at once.

    As a collector it has the metrics of few samples; before a page was rendered, the host's only.
    """

    def __init__(
        self,
        host: Host,
        debug_collectors: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
        web: Callable[[], WebReload | None] = lambda: None,
    ) -> None:
        """Prepare the page of *host*; *debug_collectors* may name ``process`` and ``go``.

        ``go`` is Kepler's word for the language runtime: here Python and its garbage collector.
        *clock* is the monotonic clock, against which the age of a snapshot is measured.
        *web* returns how reading the web configuration went.
        """
        self._host = host
        self._clock = clock
        self._web = web
        self._snapshot: Snapshot | None = None
        self._workloads = WorkloadText(
            host.node_name,
            catalog.selected(catalog.WORKLOADS, host.levels),
            *catalog.selected([catalog.POD_INFO], host.levels),
        )
        self._registry = CollectorRegistry(auto_describe=True)
        self._registry.register(self)
        if "process" in debug_collectors:
            ProcessCollector(registry=self._registry)
        if "go" in debug_collectors:
            PlatformCollector(registry=self._registry)
            GCCollector(registry=self._registry)

    def render(self, snapshot: Snapshot | None, variant: Variant) -> Page:
        """Render *snapshot* as a page of this *variant*. Changes no figure."""
        self._snapshot = snapshot and exported(snapshot, self._host.levels)
        body = joined(self._chunks(variant), compress=variant.is_gzipped)
        return Page(OPENMETRICS_TYPE if variant.is_openmetrics else TEXT_TYPE, body)

    def _chunks(self, variant: Variant) -> Iterator[bytes]:
        snapshot, names, openmetrics = self._snapshot, variant.names, variant.is_openmetrics
        registry = self._registry.restricted_registry(names) if names else self._registry
        encode = openmetrics_text if openmetrics else plain_text
        yield encode(registry).removesuffix(EOF)
        if snapshot is not None:
            for piece in self._workloads.chunks(snapshot, openmetrics=openmetrics, names=names):
                yield piece.encode()
                time.sleep(PAUSE_S)
        if openmetrics:
            yield EOF

    def describe(self) -> Iterator[Family]:
        """Yield every family without samples, so that a name taken twice is an error at once."""
        for metric in catalog.selected(catalog.SAMPLED, self._host.levels):
            yield self._family(metric, ())

    def collect(self) -> Iterator[Family]:
        """Yield the families whose source exists."""
        now_s, web = self._clock(), self._web()
        for metric, samples in catalog.read_samples(self._host, web, self._snapshot, now_s):
            yield self._family(metric, samples)

    def _family(self, metric: Metric, samples: Samples) -> Family:
        node = {"node_name": clean(self._host.node_name)} if metric.node_name else {}
        kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
        family = kind(metric.family, metric.help, labels=[*node, *metric.labels])
        for labels, value in samples:
            family.add_metric([*node.values(), *map(clean, labels)], value)
        return family
