"""The metrics page: families of few samples by prometheus_client, those of workloads as text.

A page is made from one Snapshot, so the figures on it belong together.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.registry import Collector, CollectorRegistry

from kepler_ebpf.exporters import catalog
from kepler_ebpf.exporters.accept import accepted
from kepler_ebpf.exporters.exported import exported
from kepler_ebpf.exporters.http import Page
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
TEXT = frozenset({"text/plain", "text/*", "*/*"})
"""Names in an Accept header that allow OpenMetrics, and plain text."""


class SnapshotCollector(Collector):
    """Collects the metrics of few samples from the snapshot of the last call of ``show``."""

    def __init__(self, host: Host, clock: Callable[[], float] = time.time) -> None:
        """Collect from *host* and, once ``show`` was called, from a snapshot.

        *clock* gives the Unix time against which the snapshot's age is measured.
        """
        self._host = host
        self._clock = clock
        self._snapshot: Snapshot | None = None

    def show(self, snapshot: Snapshot | None) -> None:
        """Collect from *snapshot* from now on; None leaves the metrics of the host only."""
        self._snapshot = snapshot

    def describe(self) -> Iterator[Family]:
        """Yield every family without samples, so that a name taken twice is an error at once."""
        for metric in catalog.selected(catalog.SAMPLED, self._host.levels):
            yield _family(metric)

    def collect(self) -> Iterator[Family]:
        """Yield the families whose source exists."""
        for metric, samples in catalog.read_samples(self._host, self._snapshot, self._clock()):
            yield self._filled(metric, samples)

    def _filled(self, metric: Metric, samples: Samples) -> Family:
        family = _family(metric)
        node = (clean(self._host.node_name),) if metric.node_name else ()
        for labels, value in samples:
            family.add_metric([*node, *map(clean, labels)], value)
        return family


class MetricsPage:
    """Renders the metrics page. Threads take turns, so many readers cost no more than one."""

    def __init__(
        self,
        host: Host,
        debug_collectors: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare the page of *host*; *debug_collectors* may name ``process`` and ``go``.

        ``go`` is Kepler's word for the language runtime: here Python and its garbage collector.
        """
        self._lock = threading.Lock()
        self._levels = host.levels
        self._collector = SnapshotCollector(host, clock)
        self._workloads = WorkloadText(
            host.node_name,
            catalog.selected(catalog.WORKLOADS, host.levels),
            *catalog.selected([catalog.POD_INFO], host.levels),
        )
        self._registry = CollectorRegistry(auto_describe=True)
        self._registry.register(self._collector)
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
            snapshot = snapshot and exported(snapshot, self._levels)
            self._collector.show(snapshot)
            content_type, chunks = self._chunks(snapshot, accept, names)
            return Page(content_type, _gzipped(chunks) if compress else _joined(chunks))

    def _chunks(
        self, snapshot: Snapshot | None, accept: str, names: frozenset[str]
    ) -> tuple[str, Iterator[bytes]]:
        encode, content_type = _negotiate(accept)
        openmetrics = content_type == OPENMETRICS_TYPE
        registry = self._registry.restricted_registry(names) if names else self._registry

        def chunks() -> Iterator[bytes]:
            yield encode(registry).removesuffix(EOF)
            if snapshot is not None:
                pieces = self._workloads.chunks(snapshot, openmetrics=openmetrics, names=names)
                for piece in pieces:
                    yield piece.encode()
                    time.sleep(PAUSE_S)
            if openmetrics:
                yield EOF

        return content_type, chunks()


def _negotiate(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    wanted = accepted(accept)
    text_quality = max((item.quality for item in wanted if item.name in TEXT), default=0.0)
    # prometheus_client ignores the quality of OpenMetrics.
    usable = (item for item in wanted if item.name != OPENMETRICS or item.quality >= text_quality)
    try:
        encode, content_type = choose_encoder(",".join(item.text for item in usable))
    except TypeError:
        # A version that is not a number, which prometheus_client compares with one.
        encode, content_type = choose_encoder("")
    if content_type.startswith(OPENMETRICS):
        # It returns the requested version, whichever that is; the page is in version 1.0.
        encode, content_type = choose_encoder(OPENMETRICS)
    return encode, content_type


def _family(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    labels = ["node_name", *metric.labels] if metric.node_name else list(metric.labels)
    if metric.type == "counter":
        return CounterMetricFamily(metric.family, metric.help, labels=labels)
    return GaugeMetricFamily(metric.family, metric.help, labels=labels)


def _joined(chunks: Iterator[bytes]) -> bytearray:
    body = bytearray()
    for chunk in chunks:
        body += chunk
    return body


def _gzipped(chunks: Iterator[bytes]) -> bytearray:
    """Compress piece by piece, so that the whole text is never held."""
    packer = zlib.compressobj(level=GZIP_LEVEL, wbits=GZIP_WBITS)
    body = bytearray()
    for chunk in chunks:
        body += packer.compress(chunk)
    return body + packer.flush()
