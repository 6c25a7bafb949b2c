"""The metrics page: families of few samples by prometheus_client, those of workloads as text.

A page is made from one Snapshot, so the figures on it belong together.
"""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as TEXT_TYPE
from prometheus_client.exposition import generate_latest as plain_text
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.registry import Collector, CollectorRegistry

from kepler_ebpf.exporters import catalog
from kepler_ebpf.exporters.accept import accepted
from kepler_ebpf.exporters.exported import exported
from kepler_ebpf.exporters.metric import Host, Metric, Samples
from kepler_ebpf.exporters.workload_text import WorkloadText, clean
from kepler_ebpf.model.snapshot import Snapshot

GZIP_WBITS = 31
"""zlib's code of a gzip stream with the largest window."""

GZIP_LEVEL = 1
"""The page repeats itself so much that a higher level only costs CPU."""

PAUSE_S = 50e-6
"""Pause between two pieces of a page, in which a waiting loop gets the GIL."""

EOF = b"# EOF\n"

OPENMETRICS = "application/openmetrics-text"
OLD_VERSION = re.compile(r"version=(?![1-9])")
TEXT = frozenset({"text/plain", "text/*", "*/*"})
"""In an Accept header: OpenMetrics, its versions before 1.0, and what allows plain text."""


class Page(NamedTuple):
    """A rendered page; ``body`` is gzipped where that was requested."""

    content_type: str
    body: bytearray


class MetricsPage(Collector):
    """Renders the metrics page. Threads take turns, so many readers cost no more than one.

    As a collector it has the metrics of few samples; before a page was rendered, the host's only.
    """

    def __init__(
        self,
        host: Host,
        debug_collectors: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare the page of *host*; *debug_collectors* may name ``process`` and ``go``.

        ``go`` is Kepler's word for the language runtime: here Python and its garbage collector.
        *clock* gives the Unix time against which the age of a snapshot is measured.
        """
        self._lock = threading.Lock()
        self._host = host
        self._clock = clock
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

    def render(
        self,
        snapshot: Snapshot | None,
        accept: str = "",
        *,
        compress: bool = False,
        names: frozenset[str] = frozenset(),
    ) -> Page:
        """Render *snapshot* in the format that the *accept* header prefers.

        *names* keeps only these metrics (sample names); empty keeps all. Changes no figure.
        """
        with self._lock:
            self._snapshot = snapshot and exported(snapshot, self._host.levels)
            openmetrics = _prefers_openmetrics(accept)
            chunks = self._chunks(names, openmetrics=openmetrics)
            body = _joined(chunks, compress=compress)
            return Page(OPENMETRICS_TYPE if openmetrics else TEXT_TYPE, body)

    def _chunks(self, names: frozenset[str], *, openmetrics: bool) -> Iterator[bytes]:
        snapshot = self._snapshot
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
        for metric, samples in catalog.read_samples(self._host, self._snapshot, self._clock()):
            yield self._family(metric, samples)

    def _family(self, metric: Metric, samples: Samples) -> Family:
        node = {"node_name": clean(self._host.node_name)} if metric.node_name else {}
        kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
        family = kind(metric.family, metric.help, labels=[*node, *metric.labels])
        for labels, value in samples:
            family.add_metric([*node.values(), *map(clean, labels)], value)
        return family


def _prefers_openmetrics(accept: str) -> bool:
    """Whether a client accepts OpenMetrics of version 1.0 or later no less than plain text."""
    entries = accepted(accept)
    text_quality = max((item.quality for item in entries if item.name in TEXT), default=0.0)
    wanted = (item for item in entries if item.name == OPENMETRICS)
    return any(i.quality >= text_quality and not OLD_VERSION.search(i.text) for i in wanted)


def _joined(chunks: Iterable[bytes], *, compress: bool) -> bytearray:
    """Join the chunks, compressed piece by piece: the whole text is not held beside that."""
    packer = zlib.compressobj(level=GZIP_LEVEL, wbits=GZIP_WBITS) if compress else None
    body = bytearray()
    for chunk in chunks:
        body += packer.compress(chunk) if packer else chunk
    return body + packer.flush() if packer else body
