"""A report for people, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from kepler_ebpf.config.moment import moment_text
from kepler_ebpf.model.levels import WORKLOAD_LEVELS
from kepler_ebpf.recording.report.view import (
    IDLE,
    NO_OWNER,
    REST,
    Sums,
    View,
    name_of,
    off_j,
    spans,
)

HIGHEST = 3
"""Rows that the line of a step names."""

LEAST = 1e-6


def text(view: View) -> str:
    """Return the rows, or a line for each step, below what they are of and what they add up to."""
    lines = _of_steps(view) if view.by_step else _of_rows(view)
    return "\n".join([*heading(view), *lines]) + "\n"


def heading(view: View) -> list[str]:
    """Return when it was, how that was measured, and the sum."""
    report, source, sums = view.report, view.source, view.sums
    parts = [f"{len(sums.rows)} rows {sum(sums.rows.values()):.3f}"]
    parts += [f"{REST[name]} {joules:z.3f}" for name, joules in sums.rest.items()]
    off = off_j(sums)
    is_off = abs(off) > LEAST * max(1.0, sums.energy_j)
    lines = [
        (
            f"{moment_text(report.began_s)} to {moment_text(report.ended_s)}, "
            f"{report.length_s:.1f} s in {report.intervals:,} intervals of node "
            f"{source.node or 'unknown'}"
        ),
        (
            f"meter {source.meter} ({source.kind}), zone {view.zone}, "
            f"{sums.energy_j / report.length_s:.3f} W mean"
        ),
        f"{sums.energy_j:.3f} J = {' + '.join(parts)}" + (f" (off by {off:.6f})" if is_off else ""),
    ]
    if report.unread:
        lines.append(f"in {report.unread:,} intervals a zone could not be read, or not in time")
    return lines


def plural(by: str) -> str:
    """Return the word for many of a kind of rows."""
    return WORKLOAD_LEVELS[by].plural if by in WORKLOAD_LEVELS else f"{by}s"


def _of_rows(view: View) -> Iterator[str]:
    report, energy_j = view.report, view.sums.energy_j
    yield f"{'JOULES':>12} {'WATTS':>9} {'SHARE':>7} {'CPU S':>10}  {plural(report.by).upper()}"
    for row in view.rows:
        joules = row.joules[view.column]
        share = f"{100 * joules / energy_j if energy_j else 0:.1f} %"
        watts = joules / report.length_s
        yield f"{joules:>12.3f} {watts:>9.3f} {share:>7} {row.cpu_s:>10.3f}  {name_of(row.title)}"


def _of_steps(view: View) -> Iterator[str]:
    highest = f"HIGHEST {plural(view.report.by).upper()}"
    yield f"{'TIME':<19} {'WATTS':>9} {'IDLE':>9} {'NO OWNER':>9}  {highest}"
    for began_s, _, length_s, sums in spans(view):
        watts = (sums.energy_j, sums.rest[IDLE], sums.rest[NO_OWNER])
        figures = " ".join(f"{joules / length_s:>z9.3f}" for joules in watts)
        yield f"{moment_text(began_s)} {figures}  {_highest(sums, length_s)}"


def _highest(sums: Sums, length_s: float) -> str:
    highest = sorted(sums.rows.items(), key=lambda row: -row[1])[:HIGHEST]
    return ", ".join(f"{name_of(title)} {joules / length_s:.3f}" for title, joules in highest)
