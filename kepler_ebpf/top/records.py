"""The rows of an interval for programs: a line of JSON, and lines of CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

from kepler_ebpf.exporters.frame import Frame
from kepler_ebpf.exporters.query import Picture, Query, picture
from kepler_ebpf.exporters.records import parts_record, row_record
from kepler_ebpf.exporters.workload_text import clean
from kepler_ebpf.model.bounds import no_formula


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
            **parts_record(found),
        },
        "other_rows": found.others,
        "rows": [row_record(frame, row) for row in found.rows],
    }
    return json.dumps(record, separators=(",", ":")) + "\n"


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
        name = no_formula(clean(row.name).strip())
        yield "workload", name, row.state, watts, joules, row.cpu_s
    for name, watts in parts_record(found).items():
        if name not in {"watts", "rows_watts"} and watts is not None:
            yield name.removesuffix("_watts"), "", "", watts, None, None
