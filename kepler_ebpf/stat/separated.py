"""The result as lines with a separator: CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from kepler_ebpf.stat.result import Interval, Run

OF_ZONE = ("joules", "error_joules", "rest_joules", "mean_watts", "peak_watts")
OF_RUN = ("wall_s", "cpu_s", "tasks", "switches", "running", "untracked_s", "exit_status")


@dataclass(slots=True)
class Separated:
    """Makes the lines, with a header before the first.

    With intervals the first column is ``at_s``: it is empty for a whole run, and an interval has
    no figure for what only a run has.
    """

    separator: str
    with_intervals: bool
    _is_begun: bool = False

    def lines(self, number: int, measured: Run | Interval, meter: str, *, is_estimate: bool) -> str:
        """Return a line for each kind of zone of the run *number*, or of an interval of it.

        What was not counted has one line without a zone.
        """
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.separator, lineterminator="\n")
        columns = (*(("at_s",) if self.with_intervals else ()), "run", "zone", *OF_ZONE, *OF_RUN)
        if not self._is_begun:
            writer.writerow((*columns, "meter", "estimate"))
            self._is_begun = True
        for kind, zone in measured.zones.items() or [("", None)]:
            figures = {name: getattr(measured, name, None) for name in ("at_s", *OF_RUN)}
            figures |= {"run": number, "zone": kind}
            figures |= {name: getattr(zone, name, None) for name in OF_ZONE}
            line = (*(figures[name] for name in columns), meter, int(is_estimate))
            writer.writerow("" if value is None else value for value in line)
        return text.getvalue()
