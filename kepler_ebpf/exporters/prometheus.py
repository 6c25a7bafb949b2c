"""The metrics page: node, health and info families through prometheus_client, workloads as text.

A page is made from one Snapshot, so the figures on it belong together.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.registry import Collector, CollectorRegistry

from kepler_ebpf.exporters import catalog
from kepler_ebpf.exporters.accept import accepted
from kepler_ebpf.exporters.values import Host, snapshot_samples, static_samples
from kepler_ebpf.exporters.workload_text import WorkloadText, clean
from kepler_ebpf.model.snapshot import Snapshot

GZIP_WBITS = 31
"""zlib's name for a gzip stream with the largest window."""

GZIP_LEVEL = 1
"""The page repeats itself so much that more effort only costs CPU."""

PAUSE_S = 50e-6
"""Long enough that a waiting sampling loop gets the GIL between two pieces of a page."""

EOF = b"# EOF\n"

OPENMETRICS = "application/openmetrics-text"
TEXT = frozenset({"text/plain", "text/*", "*/*"})
"""Names in an Accept header: what it must list for that format, and what plain text is among."""


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page; ``body`` is gzipped where that was asked for."""

    content_type: str
    body: bytearray


class SnapshotCollector(Collector):
    """Shows the figures that do not grow with the workloads of the snapshot it was last given."""

    def __init__(self, host: Host, clock: Callable[[], float] = time.time) -> None:
        """Show *host* and, once ``show`` was called, a snapshot; *clock* tells its age."""
        self._host = host
        self._clock = clock
        self._metrics = [
            metric
            for metric in catalog.selected(catalog.METRICS, host.levels)
            if metric not in catalog.AS_TEXT
        ]
        self._snapshot: Snapshot | None = None

    def show(self, snapshot: Snapshot | None) -> None:
        """Take *snapshot* as what is collected from now on; None shows the build and CPUs only."""
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        """Yield every family without samples, so that a name taken twice is seen at once."""
        for metric in self._metrics:
            yield _family(metric)

    def collect(self) -> Iterator[Metric]:
        """Yield the families that have something to say."""
        samples = static_samples(self._host)
        if self._snapshot is not None:
            age_s = max(0.0, self._clock() - self._snapshot.at_s)
            samples |= snapshot_samples(self._snapshot, self._host.levels, age_s)
        for metric in self._metrics:
            if metric.name in samples:
                yield self._filled(metric, samples[metric.name])

    def _filled(
        self, metric: catalog.Metric, samples: Iterable[tuple[tuple[str, ...], float]]
    ) -> Metric:
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
        self._collector = SnapshotCollector(host, clock)
        self._workloads = WorkloadText(host.node_name, host.levels)
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
        """Render *snapshot* in the format that the *accept* header asks for.

        *names* keeps only these metrics (sample names); empty keeps all. Changes no figure.
        """
        with self._lock:
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
    text_quality = max((each.quality for each in wanted if each.name in TEXT), default=0.0)
    # prometheus_client does not ask how much OpenMetrics is wanted.
    heard = (each for each in wanted if each.name != OPENMETRICS or each.quality >= text_quality)
    try:
        encode, content_type = choose_encoder(",".join(each.text for each in heard))
    except TypeError:
        # A version that is not a number, which prometheus_client compares with one.
        encode, content_type = choose_encoder("")
    if content_type.startswith(OPENMETRICS):
        # It answers with whatever version was asked for; what we write is 1.0.
        encode, content_type = choose_encoder(OPENMETRICS)
    return encode, content_type


def _family(metric: catalog.Metric) -> CounterMetricFamily | GaugeMetricFamily:
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
