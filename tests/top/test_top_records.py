"""The rows of `top` for programs."""

import csv
import io
from dataclasses import replace

from snapshots import Row, process, view
from top_frames import closed

from kepler_ebpf.exporters.query import Query
from kepler_ebpf.exporters.reduced import frame_of
from kepler_ebpf.model.workloads import UnitLabels
from kepler_ebpf.top.records import CSV_HEADER, csv_lines, json_line


def test_no_name_is_a_formula():
    """A spreadsheet would run it in CSV; JSON has the name as it is."""
    units = view([Row(UnitLabels("=1+1", "systemd"))])
    whole = closed([Row(process())])
    frame = frame_of(replace(whole, workloads={**whole.workloads, "unit": units}))
    query = Query(view="unit")
    lines = io.StringIO(CSV_HEADER + csv_lines(frame, query))
    names = {row["name"] for row in csv.DictReader(lines)}
    assert "'=1+1" in names
    assert '"=1+1"' in json_line(frame, query)
