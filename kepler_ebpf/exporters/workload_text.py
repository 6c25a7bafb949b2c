"""Text of the workload families, whose size follows the workloads: 100,000 samples and more.

The label part of a line is rendered once for each labels object and joined with fresh values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from kepler_ebpf.exporters.catalog import POD_INFO, WORKLOADS, Metric
from kepler_ebpf.exporters.values import workloads
from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J
from kepler_ebpf.model.pods import PodInfo, exported_label
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import State, WorkloadView

CHUNK_LINES = 256
"""Lines joined at once: near 64 kB of text, and a fraction of a millisecond under the GIL."""

_SPECIAL = re.compile(r'[\\"\n\0]')
_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\0": "\N{REPLACEMENT CHARACTER}"}
"""What a label value may not hold as it is. Prometheus reads NUL as the end of the page."""


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

    def __init__(self, node_name: str, levels: frozenset[str]) -> None:
        """Choose the *levels* to render; *node_name* is a label of every line."""
        wanted = [metric for metric in WORKLOADS if metric.level in levels]
        self._tables = {
            level: _Table(node_name, [metric for metric in wanted if metric.level == level])
            for level in dict.fromkeys(metric.level for metric in wanted)
        }
        self._pods = _PodInfo(node_name) if POD_INFO.level in levels else None

    def chunks(
        self, snapshot: Snapshot, *, openmetrics: bool, names: frozenset[str]
    ) -> Iterator[str]:
        """Yield the page piece by piece; *names* keeps only these metrics, empty keeps all."""
        views = dict(workloads(snapshot))
        for level, table in self._tables.items():
            texts = table.label_texts(views[level].labels)
            for metric in table.metrics:
                if not names or metric.name in names:
                    yield header(metric, openmetrics=openmetrics)
                    yield from _family(metric, texts, views[level], snapshot)
        if self._pods and snapshot.pod_infos and (not names or POD_INFO.name in names):
            yield header(POD_INFO, openmetrics=openmetrics)
            yield self._pods.text(snapshot.pod_infos)


class _PodInfo:
    """The lines of POD_INFO, rendered once for each tuple of pods."""

    def __init__(self, node_name: str) -> None:
        self._values = attrgetter(*POD_INFO.labels)
        self._constant = ("node_name", node_name)
        self._infos: tuple[PodInfo, ...] = ()
        self._text = ""

    def text(self, infos: tuple[PodInfo, ...]) -> str:
        """Return a line for each of *infos*."""
        if infos is not self._infos:
            self._infos, self._text = infos, "".join(map(self._line, infos))
        return self._text

    def _line(self, info: PodInfo) -> str:
        own = zip(POD_INFO.labels, self._values(info), strict=True)
        chosen = ((exported_label(name), value) for name, value in info.labels)
        pairs = (f'{name}="{escape(value)}"' for name, value in (self._constant, *own, *chosen))
        return f"{POD_INFO.name}{{{','.join(pairs)}}} 1.0\n"


class _Table:
    """The metrics of one level and the rendered labels of its rows."""

    def __init__(self, node_name: str, metrics: Sequence[Metric]) -> None:
        self.metrics = metrics
        self._names = tuple(name for name in metrics[0].labels if name not in {"state", "zone"})
        self._values = attrgetter(*self._names)
        self._constant = f'node_name="{escape(node_name)}"'
        self._labels: tuple[Any, ...] = ()
        self._texts: list[str] = []

    def label_texts(self, labels: tuple[Any, ...]) -> list[str]:
        """Return the label text of each row, rendering only the rows whose object is new."""
        if labels is not self._labels:
            known = min(len(labels), len(self._labels))
            kept = zip(labels[:known], self._labels, self._texts, strict=False)
            texts = [text if new is old else self._render(new) for new, old, text in kept]
            texts += [self._render(new) for new in labels[known:]]
            self._labels, self._texts = labels, texts
        return self._texts

    def _render(self, labels: object | None) -> str:
        if labels is None:
            return ""
        pairs = zip(self._names, self._values(labels), strict=True)
        return ",".join([self._constant, *(f'{name}="{escape(str(v))}"' for name, v in pairs)])


def _family(
    metric: Metric, texts: list[str], view: WorkloadView, snapshot: Snapshot
) -> Iterator[str]:
    values = _values(metric, view, snapshot.interval_s)
    zones = [f',zone="{kind}"' for kind in snapshot.kinds] if "zone" in metric.labels else [""]
    for state_label, rows in _groups(metric, view):
        series, sums = _merged(texts, rows, values)
        for column, zone_label in enumerate(zones):
            if metric.name.endswith("_watts") and snapshot.kinds[column] in snapshot.unread_kinds:
                continue
            tail = f"{state_label}{zone_label}}} "
            yield from _lines(f"{metric.name}{{", series, tail, sums[:, column])


def _values(metric: Metric, view: WorkloadView, interval_s: float) -> Floats:
    """Return the family's figures in its own unit, one row per workload, one column per zone."""
    if metric.name.endswith("_seconds_total"):
        return view.cpu_ns[:, np.newaxis] / NS_PER_S
    if metric.name.endswith("_joules_total"):
        return view.energy_uj / UJ_PER_J
    watts = np.zeros_like(view.energy_uj)
    watts[view.ran_rows] = view.ran_uj / (UJ_PER_J * interval_s)
    return watts


def _groups(metric: Metric, view: WorkloadView) -> Iterator[tuple[str, Ints]]:
    if "state" not in metric.labels:
        yield "", np.flatnonzero(view.state != State.FREE)
        return
    for state in (State.RUNNING, State.TERMINATED):
        yield f',state="{state.name.lower()}"', np.flatnonzero(view.state == state)


def _merged(texts: list[str], rows: Ints, values: Floats) -> tuple[list[str], Floats]:
    """Return the label text and figures of each series, adding up rows that show the same labels.

    A reused pid or a container that came back can look like the one listed as ended. One page
    must not have a series twice, and no joule may be left out, so such rows are one series.
    """
    index: dict[str, int] = {}
    places = [index.setdefault(texts[row], len(index)) for row in rows.tolist()]
    if len(index) == len(places):
        return list(index), values[rows]
    sums = np.zeros((len(index), values.shape[1]))
    np.add.at(sums, places, values[rows])
    return list(index), sums


def _lines(head: str, series: list[str], tail: str, column: Floats) -> Iterator[str]:
    figures = column.tolist()
    for start in range(0, len(series), CHUNK_LINES):
        part = slice(start, start + CHUNK_LINES)
        pairs = zip(series[part], figures[part], strict=True)
        yield "".join([f"{head}{labels}{tail}{figure!r}\n" for labels, figure in pairs])
