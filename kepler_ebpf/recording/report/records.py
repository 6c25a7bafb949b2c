"""A report for programs: CSV, JSON, and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from kepler_ebpf.exporters.workload_text import clean
from kepler_ebpf.model.bounds import no_formula
from kepler_ebpf.model.workloads import (
    ContainerLabels,
    PodLabels,
    ProcessLabels,
    TaskLabels,
    UnitLabels,
    VmLabels,
)
from kepler_ebpf.recording.report.view import View, labels_of, name_of, spans

LABELS: Mapping[str, tuple[str, ...]] = {
    "process": tuple(each.name for each in fields(ProcessLabels) if each.name != "type"),
    "cgroup": ("path", "container_id", "pod_id"),
    **{
        by: tuple(each.name for each in fields(labels))
        for by, labels in (
            ("task", TaskLabels),
            ("container", ContainerLabels),
            ("pod", PodLabels),
            ("unit", UnitLabels),
            ("vm", VmLabels),
        )
    },
}
"""The columns that rows of a kind have beside their name."""

INTEGERS = ("pid", "start_ns", "tgid", "process_start_ns")


def records(view: View) -> Iterator[dict[str, Any]]:
    """Yield a record for each row and each other part of the zone's energy, of each span of time.

    Their joules add up to the meter's. What is not known is None.
    """
    known = {row.title: row for row in view.rows}
    source, names = view.source, LABELS.get(view.report.by, ())
    for began_s, ended_s, length_s, sums in spans(view):
        parts = [("workload", title, joules) for title, joules in sums.rows.items()]
        parts += [(part, "", joules) for part, joules in sums.rest.items()]
        for part, title, joules in parts:
            row = known.get(title) if part == "workload" else None
            labels = labels_of(row.labels) if row else {}
            yield {
                "begin_s": began_s,
                "end_s": ended_s,
                "row": part,
                "name": clean(name_of(title)),
                **{name: _value(labels.get(name)) for name in names},
                "zone": view.zone,
                "joules": joules,
                "watts": joules / length_s,
                "cpu_seconds": row.cpu_s if row and not view.by_step else None,
                "meter": source.meter,
                "estimate": source.is_estimate,
            }


def csv_text(view: View) -> str:
    """Return the records as CSV; what is not known is empty, and true is 1.

    A text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    text, writer = io.StringIO(), None
    for record in records(view):
        if writer is None:
            writer = csv.DictWriter(text, list(record), lineterminator="\n")
            writer.writeheader()
        cells = {
            name: no_formula(value) if isinstance(value, str) else value
            for name, value in record.items()
        }
        writer.writerow({**cells, "estimate": int(record["estimate"])})
    return text.getvalue()


def json_text(view: View) -> str:
    """Return the records and what they are of as one JSON object in ASCII."""
    report, source = view.report, view.source
    each = zip(report.kinds, *(part.tolist() for part in report.parts), strict=True)
    shown = {
        "recording": clean(source.path),
        "node": clean(source.node),
        "by": report.by,
        "begin_s": report.began_s,
        "end_s": report.ended_s,
        "length_s": report.length_s,
        "intervals": report.intervals,
        "unread_intervals": report.unread,
        "step_s": report.step_s if view.by_step else None,
        "meter": source.meter,
        "estimate": source.is_estimate,
        "problems": list(map(clean, source.problems)),
        "zones": {
            kind: {"joules": energy_j, "idle_joules": idle_j, "no_owner_joules": no_owner_j}
            for kind, energy_j, idle_j, no_owner_j in each
        },
        "rows": list(records(view)),
    }
    return json.dumps(shown, indent=1) + "\n"


def parquet(view: View) -> bytes:
    """Return the records as a Parquet file, whose pages have checksums."""
    import pyarrow as pa  # noqa: PLC0415  it is there: the recording was read with it
    import pyarrow.parquet as pq  # noqa: PLC0415  heavy, and for this form alone

    found = list(records(view))
    floats = ("begin_s", "end_s", "joules", "watts", "cpu_seconds")
    types = {
        **{name: pa.string() for name in found[0]},
        **{name: pa.uint64() for name in INTEGERS if name in found[0]},
        **{name: pa.float64() for name in floats},
        "estimate": pa.bool_(),
    }
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(found, pa.schema([(name, types[name]) for name in found[0]]))
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def _value(label: Any) -> Any:
    return clean(label) if isinstance(label, str) else label
