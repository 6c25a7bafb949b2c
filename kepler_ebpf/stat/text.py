"""The result for people, and for programs that read lines: CSV and the form of Go's benchmarks."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence

from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J, primary_kind
from kepler_ebpf.stat.result import Result, Run, ZoneEnergy
from kepler_ebpf.stat.tally import JOB, Span

MIN_UNTRACKED_S = 0.001
"""Less than this is not worth a line."""

LEAST = 1e-7
"""Less than this is shown as 0."""

UNRELIABLE = 0.05
"""An error above this part of the joules is said in words."""


def table(result: Result) -> str:
    """Return the result for people, as lines of text."""
    if len(result.runs) == 1:
        return "\n".join(_lines(result, result.runs[0])) + "\n"
    return "\n".join(_summary(result)) + "\n"


# --- one run ----------------------------------------------------------------------------------


def _lines(result: Result, run: Run) -> Iterator[str]:
    rows = [
        (
            f" {kind}",
            joules(zone.joules, zone.error_joules),
            "J" + _error(zone, is_estimate=result.estimate),
            _part_of_node(zone),
            f"{_digits(zone.mean_watts, 3)} W mean, {_digits(zone.peak_watts, 3)} W peak",
        )
        for kind, zone in run.zones.items()
    ]
    running = f", {run.running} still running" if run.running else ""
    yield from aligned(rows)
    yield (
        f" CPU {run.cpu_s:.3f} s in {counted(run.tasks, 'task')}{running}"
        f", {counted(run.switches, 'context switch', 'es')}; "
        f"{run.cpu_s / run.wall_s:.2f} CPUs over {_digits(run.wall_s, 4)} s"
    )
    kind = primary(run)
    zone = run.zones[kind]
    rest = zone.rest_active_joules, zone.idle_joules, zone.unowned_joules
    names = ("active", "idle", "without an owner")
    if None not in rest:
        parts = (f"{joules(uj or 0.0)} J {name}" for uj, name in zip(rest, names, strict=True))
        yield f" rest of the machine ({kind}): {', '.join(parts)}"
    yield from _notes(result, run)


def _part_of_node(zone: ZoneEnergy) -> str:
    if zone.node_joules is None:
        return ""
    return f"{percent(zone.joules, zone.node_joules)} of the node's {joules(zone.node_joules)} J"


def _notes(result: Result, run: Run) -> Iterator[str]:
    if result.estimate:
        yield (
            f" The energy is an estimate (meter {result.meter}): it follows CPU time alone, "
            "and nothing was measured."
        )
    elif run.zones[primary(run)].error_joules is None:
        yield " A zone could not be read at one end: how far its figure is off is not known."
    elif any((z.error_joules or 0.0) > UNRELIABLE * z.joules for z in run.zones.values()):
        yield " Too short to be exact: measure longer, or repeat inside of one command."
    if run.untracked_s > MIN_UNTRACKED_S:
        yield (
            f" {run.untracked_s:.3f} s of the machine's CPU time could not be tracked by task: "
            "some of it may belong here."
        )


def _error(zone: ZoneEnergy, *, is_estimate: bool) -> str:
    if is_estimate:
        return " estimate"
    return "" if zone.error_joules is None else f" ± {_rounded(zone.error_joules)}"


# --- repeated runs ----------------------------------------------------------------------------


def _summary(result: Result) -> Iterator[str]:
    # It takes time to import, and a single run has none of it.
    from kepler_ebpf.stat.statistics import CONFIDENCE, spread  # noqa: PLC0415

    runs = result.runs
    yield f" {len(runs)} runs of: {result.subject}"
    header = ("", "mean", "", "standard deviation", f"{CONFIDENCE:.0%} interval of the mean")
    figures: list[tuple[str, str, Callable[[Run], float]]] = [
        (kind, "J estimate" if result.estimate else "J", _joules_of(kind)) for kind in runs[0].zones
    ]
    figures += [("CPU", "s", lambda run: run.cpu_s), ("time", "s", lambda run: run.wall_s)]
    rows = [header]
    for name, unit, figure in figures:
        mean, deviation, half = spread([figure(run) for run in runs])
        rows.append(
            (
                f" {name}",
                _digits(mean, 4),
                unit,
                f"{_rounded(deviation)} ({percent(deviation, mean)})",
                f"{_digits(mean - half, 4)} … {_digits(mean + half, 4)}",
            )
        )
    yield from aligned(rows)
    if result.estimate:
        yield from _notes(result, runs[0])
    failed = sum(run.exit_status not in {None, 0} for run in runs)
    if failed:
        yield f" {failed} of the runs ended with a status other than 0"


def _joules_of(kind: str) -> Callable[[Run], float]:
    return lambda run: run.zones[kind].joules


# --- intervals --------------------------------------------------------------------------------


def interval_row(at_s: float, span: Span, kinds: tuple[str, ...], *, is_estimate: bool) -> str:
    """Return one interval as a line: when it ended, and what was used in it."""
    unit = "J estimate" if is_estimate else "J"
    figures = (
        f"{kind} {uj / UJ_PER_J:9.4f} {unit} {uj / UJ_PER_J / span.length_s:8.3f} W"
        for kind, uj in zip(kinds, span.energy_uj[JOB].tolist(), strict=True)
    )
    return "  ".join((f"{at_s:10.3f} s", *figures, f"CPU {span.cpu_ns / NS_PER_S:.3f} s"))


# --- for programs -----------------------------------------------------------------------------

COLUMNS = ("joules", "error_joules", "rest_joules", "mean_watts", "peak_watts")


def separated(result: Result, separator: str) -> str:
    """Return a line for each run and kind of zone, with a header, joined by *separator*."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    of_run = ("wall_s", "cpu_s", "tasks", "switches", "running", "untracked_s", "exit_status")
    writer.writerow(("run", "zone", *COLUMNS, *of_run, "meter", "estimate"))
    for number, run in enumerate(result.runs, 1):
        for kind, zone in run.zones.items():
            figures = [getattr(zone, name) for name in COLUMNS]
            shared = [getattr(run, name) for name in of_run]
            line = (number, kind, *figures, *shared, result.meter, int(result.estimate))
            writer.writerow("" if value is None else value for value in line)
    return text.getvalue()


def go_benchmark(result: Result) -> str:
    """Return a line for each run as Go's benchmarks print it, for benchstat."""
    kinds = tuple(result.runs[0].zones) if result.runs else ()
    suffix = "-J-estimated" if result.estimate else "-J"
    lines = [f"Unit {kind}{suffix} better=lower" for kind in kinds]
    lines += ["Unit cpu-sec better=lower", "Unit sec better=lower"]
    name = re.sub(r"[^\w./=-]+", "_", result.subject).strip("_") or "command"
    for run in result.runs:
        figures = [f"{zone.joules:.6f} {kind}{suffix}" for kind, zone in run.zones.items()]
        figures += [f"{run.cpu_s:.6f} cpu-sec", f"{run.wall_s:.6f} sec"]
        lines.append(f"Benchmark{name[:1].upper()}{name[1:]} 1 " + " ".join(figures))
    return "\n".join(lines) + "\n"


# --- figures ----------------------------------------------------------------------------------


def primary(run: Run) -> str:
    """Return the kind of zone that speaks for the run; zones overlap, so there is no sum."""
    return primary_kind(tuple(run.zones))


def joules(value: float, error: float | None = None) -> str:
    """Return joules with the digits that *error* leaves, or with four that count."""
    if error:
        return f"{value:,.{_decimals(error)}f}"
    return _digits(value, 4)


def counted(count: int, noun: str, plural: str = "s") -> str:
    """Return so many of a thing, in the singular or with the ending of the *plural*."""
    return f"{count:,} {noun}{'' if count == 1 else plural}"


def percent(part: float, whole: float) -> str:
    """Return a part in per cent."""
    return f"{100 * part / whole:.3g} %" if whole else "- %"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with the second column to the right and the others to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, second, *rest in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(rest, widths[2:], strict=True)]
        yield f"{first:<{widths[0]}}  {second:>{widths[1]}} {'   '.join(cells)}".rstrip()


def _decimals(error: float) -> int:
    """Return the decimals that show two digits of *error*, at most 6."""
    exponent = int(f"{error:e}".partition("e")[2]) if error > 0 else 0
    return min(max(1 - exponent, 0), 6)


def _digits(value: float, count: int) -> str:
    """Return *value* with *count* digits that count, at most 6 decimals."""
    exponent = int(f"{abs(value):e}".partition("e")[2]) if abs(value) > LEAST else 0
    return f"{value:,.{min(max(count - 1 - exponent, 0), 6)}f}"


def _rounded(error: float) -> str:
    return f"{error:.{_decimals(error)}f}"
