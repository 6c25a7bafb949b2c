"""Text of the workload families, whose size follows the workloads: 100,000 samples and more.

The label part of a line is rendered once for each labels object, and a figure once for as long as
it stays the same: the cost follows the workloads that ran.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from operator import attrgetter
from typing import Any

import numpy as np

from kepler_ebpf.exporters.metric import Metric, WorkloadMetric
from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.model.pods import PodInfo, exported_label
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import State, WorkloadView

CHUNK_LINES = 4096
"""Lines of one piece: about 700 kB of text, and a millisecond or less under the GIL."""

_SPECIAL = re.compile(r'[\\"\n\0]')
_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\0": "\N{REPLACEMENT CHARACTER}"}
"""Characters of a label value that need an escape. Prometheus reads NUL as the end of a page."""


def clean(value: str) -> str:
    """Return *value* with each undecodable byte (surrogateescape) as U+FFFD: valid UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def escape(value: str) -> str:
    """Return *value* as it stands between the quotes of a label, in either text format."""
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], clean(value))


def header(metric: Metric, *, openmetrics: bool) -> str:
    """Return the HELP and TYPE lines of a family."""
    name = metric.family if openmetrics else metric.name
    return f"# HELP {name} {metric.help}\n# TYPE {name} {metric.type}\n"


class WorkloadText:
    """Renders the families of workloads and of pods. Not for two threads at once."""

    def __init__(
        self,
        node_name: str,
        metrics: Iterable[WorkloadMetric[Snapshot]],
        pod_info: Metric | None = None,
    ) -> None:
        """Render *metrics* and *pod_info*; *node_name* is a label of every line."""
        self._metrics = tuple(metrics)
        self._labels = {metric.level: _LabelTexts(node_name, metric) for metric in self._metrics}
        self._figures: dict[tuple[str, str], _FigureTexts] = defaultdict(_FigureTexts)
        self._pod_info = pod_info and (pod_info, _LabelTexts(node_name, pod_info))

    def chunks(
        self, snapshot: Snapshot, *, openmetrics: bool, names: frozenset[str]
    ) -> Iterator[str]:
        """Yield the page piece by piece; *names* keeps only these metrics, empty keeps all."""
        for metric in self._metrics:
            if not names or metric.name in names:
                view = snapshot.workloads[metric.level]
                yield header(metric, openmetrics=openmetrics)
                yield from self._family(metric, snapshot, view)
        if self._pod_info and snapshot.pod_infos:
            info, labels = self._pod_info
            if not names or info.name in names:
                yield header(info, openmetrics=openmetrics)
                texts = labels.of(snapshot.pod_infos)
                yield from _lines(f"{info.name}{{", texts, "} ", ["1.0"] * len(texts))

    def _family(
        self, metric: WorkloadMetric[Snapshot], snapshot: Snapshot, view: WorkloadView
    ) -> Iterator[str]:
        labels = self._labels[metric.level].of(view.labels)
        head, groups = f"{metric.name}{{", []
        for state_label, rows in _groups(metric, view):
            listed = rows.tolist()
            groups.append((state_label, listed, [labels[row] for row in listed]))
        for kind, column in metric.read(snapshot, view):
            figures, zone_label = self._figures[metric.name, kind].of(column), ""
            if kind:
                zone_label = f',zone="{kind}"'
            for state_label, listed, series in groups:
                tail = f"{state_label}{zone_label}}} "
                yield from _lines(head, series, tail, [figures[row] for row in listed])


class _LabelTexts:
    """The rendered labels of a table's rows, the same for each metric of its level.

    Pods have the labels beside these that Kubernetes gave them.
    """

    def __init__(self, node_name: str, metric: Metric) -> None:
        self._names = tuple(name for name in metric.labels if name not in {"state", "zone"})
        self._values = attrgetter(*self._names)
        self._constant = f'node_name="{escape(node_name)}"'
        self._labels: tuple[Any, ...] = ()
        self._texts: list[str] = []

    def of(self, rows: tuple[Any, ...]) -> list[str]:
        """Return the label text of each row, rendering only the rows whose object is new."""
        if rows is not self._labels:
            labels, texts = chain(self._labels, repeat(None)), chain(self._texts, repeat(""))
            known = zip(rows, labels, texts, strict=False)
            self._texts = [text if new is old else self._render(new) for new, old, text in known]
            self._labels = rows
        return self._texts

    def _render(self, labels: object | None) -> str:
        if labels is None:
            return ""
        own = zip(self._names, self._values(labels), strict=True)
        given = labels.labels if isinstance(labels, PodInfo) else ()
        pairs = (*own, *((exported_label(name), value) for name, value in given))
        return ",".join([self._constant, *(f'{name}="{escape(str(v))}"' for name, v in pairs)])


class _FigureTexts:
    """The text of each figure of a column (rows,), rendered where the figure is a new one."""

    def __init__(self) -> None:
        self._figures: Floats = np.zeros(0)
        self._texts: list[str] = []

    def of(self, figures: Floats) -> list[str]:
        """Return the text of each figure. It is valid until the next call."""
        texts, rows = self._texts, len(figures)
        before = np.zeros(rows)
        kept = self._figures[:rows]
        before[: len(kept)] = kept
        texts[len(kept) :] = ["0.0"] * (rows - len(kept))
        is_new = figures != before
        for row, figure in zip(is_new.nonzero()[0].tolist(), figures[is_new].tolist(), strict=True):
            texts[row] = repr(figure)
        self._figures = figures
        return texts


def _groups(metric: Metric, view: WorkloadView) -> Iterator[tuple[str, Ints]]:
    if "state" not in metric.labels:
        yield "", np.flatnonzero(view.state != State.FREE)
        return
    for state in (State.RUNNING, State.TERMINATED):
        yield f',state="{state.name.lower()}"', np.flatnonzero(view.state == state)


def _lines(head: str, series: list[str], tail: str, figures: list[str]) -> Iterator[str]:
    for start in range(0, len(series), CHUNK_LINES):
        part = slice(start, start + CHUNK_LINES)
        pairs = zip(series[part], figures[part], strict=True)
        yield "".join([f"{head}{labels}{tail}{figure}\n" for labels, figure in pairs])
