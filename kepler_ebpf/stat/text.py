"""The result for people, and in the form of Go's benchmarks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from kepler_ebpf.model.energy import primary_kind
from kepler_ebpf.stat.result import Interval, Result, Run, ZoneEnergy

MIN_UNTRACKED_S = 0.001
"""Less than this is not worth a line."""

LEAST = 1e-7
"""Less than this is shown as 0."""

UNRELIABLE = 0.05
"""An error above this part of the joules is said in words."""


def table(result: Result) -> str:
    """Return the result for people, as lines of text."""
    runs = [run for run in result.runs if run.zones]
    lines: Iterator[str] = iter(())
    if len(runs) > 1:
        lines = _summary(result, runs)
    elif runs:
        lines = _figures(result, runs[0])
    early = [f" ended early: {len(result.runs)} of {result.planned_runs} runs are whole"]
    return "\n".join([*early * result.is_cut, *lines, *_notes(result)]) + "\n"


# --- one run ----------------------------------------------------------------------------------


def _figures(result: Result, run: Run) -> Iterator[str]:
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


def _part_of_node(zone: ZoneEnergy) -> str:
    if zone.node_joules is None:
        return ""
    return f"{percent(zone.joules, zone.node_joules)} of the node's {joules(zone.node_joules)} J"


def _error(zone: ZoneEnergy, *, is_estimate: bool) -> str:
    if is_estimate:
        return " estimate"
    return "" if zone.error_joules is None else f" ± {_rounded(zone.error_joules)}"


# --- repeated runs ----------------------------------------------------------------------------


def _summary(result: Result, runs: Sequence[Run]) -> Iterator[str]:
    # It takes time to import, and a single run has none of it.
    from kepler_ebpf.stat.statistics import CONFIDENCE, mean_run, spread  # noqa: PLC0415

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
    highest = "peak" if result.estimate else "± and peak"
    yield f" means of the runs, with the highest {highest} of one run:"
    yield from _figures(result, mean_run(runs))


def _joules_of(kind: str) -> Callable[[Run], float]:
    return lambda run: run.zones[kind].joules


# --- notes ------------------------------------------------------------------------------------


def _notes(result: Result) -> Iterator[str]:
    """Yield what must be known beside the figures, and of how many runs."""
    if result.estimate:
        yield (
            f" The energy is an estimate (meter {result.meter}): it follows CPU time alone, "
            "and nothing was measured."
        )
    total = len(result.runs)
    for note, applies in _sentences(result):
        if count := sum(map(applies, result.runs)):
            yield f" {note} ({count} of {total} runs)." if total > 1 else f" {note}."


def _sentences(result: Result) -> Iterator[tuple[str, Callable[[Run], bool]]]:
    """Yield notes, each with the runs to which it applies."""
    yield (
        "Nothing was counted: the end came before the delay (-D) was over",
        lambda run: not run.zones,
    )
    yield (
        f"No task of {result.subject} ran: there was none, or all of them slept",
        lambda run: bool(run.zones) and not run.tasks,
    )
    yield (
        "A zone could not be read at one end: how far its figure is off is not known",
        lambda run: not result.estimate and None in _errors(run).values(),
    )
    yield (
        "Too short to be exact: measure longer, or repeat inside of one command",
        lambda run: any(
            (error or 0.0) > UNRELIABLE * run.zones[kind].joules
            for kind, error in _errors(run).items()
        ),
    )
    most_s = max(run.untracked_s for run in result.runs)
    words = "s of the machine's CPU time could not be tracked by task: some of it may belong here"
    yield (
        f"{'Up to ' if len(result.runs) > 1 else ''}{most_s:.3f} {words}",
        lambda run: run.untracked_s > MIN_UNTRACKED_S,
    )
    if len(result.runs) > 1:
        yield "The exit status was not 0", lambda run: run.exit_status not in {None, 0}


def _errors(run: Run) -> dict[str, float | None]:
    return {kind: zone.error_joules for kind, zone in run.zones.items()}


# --- intervals --------------------------------------------------------------------------------


def interval_row(interval: Interval, *, is_estimate: bool) -> str:
    """Return one interval as a line: when it ended, and what was used in it."""
    cells = [f"{interval.at_s:10.3f} s"]
    for kind, zone in interval.zones.items():
        error = "" if zone.error_joules is None else f" ± {zone.error_joules:.4f}"
        unit = "J estimate" if is_estimate else f"J{error}"
        cells.append(f"{kind} {zone.joules:9.4f} {unit} {zone.mean_watts:8.3f} W")
    if interval.untracked_s > MIN_UNTRACKED_S:
        cells.append(f"untracked {interval.untracked_s:.3f} s")
    return "  ".join((*cells, f"CPU {interval.cpu_s:.3f} s")) + "\n"


# --- for programs -----------------------------------------------------------------------------


def go_benchmark(result: Result) -> str:
    """Return a line for each run as Go's benchmarks print it, for benchstat."""
    runs = [run for run in result.runs if run.zones]
    kinds = tuple(runs[0].zones) if runs else ()
    suffix = "-J-estimated" if result.estimate else "-J"
    lines = [f"Unit {kind}{suffix} better=lower" for kind in kinds]
    lines += ["Unit cpu-sec better=lower", "Unit sec better=lower"]
    name = re.sub(r"[^\w./=-]+", "_", result.subject).strip("_") or "command"
    for run in runs:
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
