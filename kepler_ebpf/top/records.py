"""The rows of an interval for programs: a line of JSON, and lines of CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from kepler_ebpf.exporters.workload_text import clean
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.top.frame import Frame
from kepler_ebpf.top.query import Picture, Query, Row, picture, title


def json_line(frame: Frame, query: Query) -> str:
    """Return the rows of a frame as one JSON object in one line of ASCII.

    Watts are null for a zone that could not be read. The figures of "zone" add up to its "watts".
    """
    found = picture(frame, query)
    record = {
        "at_s": frame.at_s,
        "interval_s": frame.interval_s,
        "meter": frame.meter,
        "estimate": frame.is_estimate,
        "usage_ratio": frame.usage_ratio,
        "view": query.view,
        "sort": query.sort,
        "zone": {
            "kind": found.zone,
            "watts": found.meter_w,
            **(dict.fromkeys(_PARTS) if found.meter_w is None else _parts(found)),
        },
        "other_rows": found.others,
        "rows": [_record(frame, row) for row in found.rows],
    }
    return json.dumps(record, separators=(",", ":")) + "\n"


_PARTS = ("rows_watts", "other_rows_watts", "outside_watts", "no_owner_watts", "idle_watts")


def _parts(found: Picture) -> dict[str, float]:
    watts = (
        found.shown_w,
        found.other_w,
        found.outside_w,
        found.unattributed_w,
        found.idle_w,
    )
    return dict(zip(_PARTS, watts, strict=True))


def _record(frame: Frame, row: Row) -> dict[str, Any]:
    watts = dict(zip(frame.kinds, row.watts, strict=True))
    return {
        **_labels(row.labels),
        "state": row.state,
        "watts": {k: None if k in frame.unread_kinds else w for k, w in watts.items()},
        "joules": dict(zip(frame.kinds, row.joules, strict=True)),
        "cpu_seconds": row.cpu_s,
    }


def _labels(labels: Any) -> dict[str, Any]:
    names: dict[str, Any]
    if isinstance(labels, CgroupName):
        names = {"path": labels.path, "container_id": labels.container_id, "pod_id": labels.pod_id}
    else:
        names = {field.name: getattr(labels, field.name) for field in fields(labels)}
    return {name: clean(v) if isinstance(v, str) else v for name, v in names.items()}


CSV_HEADER = "at_s,interval_s,view,row,name,state,zone,watts,joules,cpu_seconds,meter,estimate\n"


def csv_lines(frame: Frame, query: Query) -> str:
    """Return a line for each row, and one for each other part of the meter; "row" tells which."""
    found, text = picture(frame, query), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row, name, state, *figures in _csv_rows(frame, found):
        shown = ["" if figure is None else figure for figure in figures]
        line = (frame.at_s, frame.interval_s, query.view, row, name, state, found.zone, *shown)
        writer.writerow((*line, frame.meter, int(frame.is_estimate)))
    return text.getvalue()


def _csv_rows(frame: Frame, found: Picture) -> Iterator[tuple[str | float | None, ...]]:
    index = frame.kinds.index(found.zone) if found.zone in frame.kinds else None
    for row in found.rows:
        watts = None if index is None or found.meter_w is None else row.watts[index]
        joules = None if index is None else row.joules[index]
        name = clean(title(row.labels)).strip()
        yield "workload", name, row.state, watts, joules, row.cpu_s
    if found.meter_w is not None:
        for name, watts in _parts(found).items():
            if name != "rows_watts":
                yield name.removesuffix("_watts"), "", "", watts, None, None
