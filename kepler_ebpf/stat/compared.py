"""Two results side by side, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kepler_ebpf.errors import ConfigError
from kepler_ebpf.stat import text
from kepler_ebpf.stat.comparison import Ratio, Verdict, paired, unpaired
from kepler_ebpf.stat.result import Result, Run, ZoneEnergy

MIN_RUNS = 2
BUSY_REST = 0.1
"""Other tasks that use more than this part of the active energy are worth a line."""

STEADY_GOVERNOR = "performance"
"""Any other moves the frequency of the CPUs with the load."""

SAME_KEYS = ("meter", "estimate")
"""Results that differ in one of these, or in the CPU, are not compared."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Results A and B with their ratios; the verdict is that of *zone* alone.

    Too few pairs, of runs that were interrupted, have no ratios and no verdict.
    """

    a: Result
    b: Result
    zone: str
    least: float
    interleaved: bool
    ratios: dict[str, Ratio]

    @property
    def verdict(self) -> Verdict | None:
        """What can be said about the joules of the zone."""
        return self.ratios["joules"].verdict(self.least) if self.ratios else None

    @property
    def is_interrupted(self) -> bool:
        """Whether there are fewer pairs than were planned."""
        return self.interleaved and self.a.is_cut

    @property
    def pairs(self) -> str:
        """How many of the planned pairs there are, in words."""
        return f"{len(self.a.runs)} of {self.a.planned_runs} pairs"


def compared(a: Result, b: Result, *, zone: str, least: float, interleaved: bool) -> Compared:
    """Compare two results; *least* is the least difference that matters, as a part.

    Raises ConfigError where they cannot be compared.
    """
    _refuse_other_worlds(a, b)
    if interleaved and len(a.runs) < MIN_RUNS:
        return Compared(a, b, zone, least, interleaved, {})
    for name, result in (("A", a), ("B", b)):
        if len(result.runs) < MIN_RUNS:
            raise ConfigError(f"{name} has {len(result.runs)} run(s)", "measure with -r 5 or more")
        if not all(run.zones for run in result.runs):
            problem = f"{name} has a run that ended before it was counted"
            raise ConfigError(problem, "measure with a shorter --delay")
    kind = zone or text.primary(a.runs[0])
    if any(kind not in run.zones for run in (*a.runs, *b.runs)):
        have = ", ".join(a.runs[0].zones)
        raise ConfigError(f"--zone: there is no zone {kind!r}", f"choose one of {have}")
    figures: dict[str, Callable[[Run], float]] = {
        "joules": lambda run: run.zones[kind].joules,
        "cpu_s": lambda run: run.cpu_s,
        "joules_per_cpu_s": lambda run: run.zones[kind].joules / run.cpu_s,
        "wall_s": lambda run: run.wall_s,
    }
    compare = paired if interleaved else unpaired
    ratios = {}
    for name, figure in figures.items():
        try:
            ratios[name] = compare([figure(r) for r in a.runs], [figure(r) for r in b.runs], least)
        except (ValueError, ZeroDivisionError):
            problem = f"a run has no {name} in zone {kind}: it is too short to be compared"
            raise ConfigError(problem, "compare commands that run for longer") from None
    return Compared(a, b, kind, least, interleaved, ratios)


def read(path: str) -> Result:
    """Read what `stat --json` wrote. Raises ConfigError where *path* is something else."""
    try:
        record: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
        runs = [
            Run(**{**run, "zones": _zones(run["zones"]), "intervals": ()})
            for run in record.pop("runs")
        ]
        record.pop("cut", None)
        record["host"] = {str(key): str(value) for key, value in record["host"].items()}
        return Result(**{**record, "command": tuple(record["command"]), "runs": tuple(runs)})
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "name a result") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problem = f"{path} is no result of `stat --json`: {error}"
        raise ConfigError(problem, "write it with stat --json -o FILE") from None


def _zones(record: dict[str, Any]) -> dict[str, ZoneEnergy]:
    return {kind: ZoneEnergy(**figures) for kind, figures in record.items()}


def _refuse_other_worlds(a: Result, b: Result) -> None:
    pairs = {key: (getattr(a, key), getattr(b, key)) for key in SAME_KEYS}
    pairs["cpu"] = a.host.get("cpu"), b.host.get("cpu")
    for key, (one, other) in pairs.items():
        if one != other:
            problem = f"A and B cannot be compared: {key} is {one!r} there and {other!r} here"
            raise ConfigError(problem, "measure both on one host with one meter")


# --- for people -------------------------------------------------------------------------------

TITLES = {
    "joules": "J",
    "cpu_s": "CPU s",
    "joules_per_cpu_s": "J per CPU s",
    "wall_s": "time s",
}


def table(result: Compared) -> str:
    """Return the comparison as lines of text, the verdict first."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Compared) -> Iterator[str]:
    if result.verdict is None:
        yield f" no verdict: interrupted after {result.pairs}, and it takes {MIN_RUNS}"
        return
    ratio, least = result.ratios["joules"], f"{100 * result.least:g} %"
    words = {
        Verdict.DIFFERENT: f"different: B uses {_percent(ratio.more)} joules",
        Verdict.SAME: f"same within {least}",
        Verdict.OPEN: "cannot tell: the difference could be up to "
        f"{100 * max(abs(ratio.low), abs(ratio.high)):.1f} %",
    }
    estimate = ["estimate"] * result.a.estimate
    notes = [result.zone, *estimate, *[result.pairs] * result.is_interrupted]
    yield f" {words[result.verdict]} ({', '.join(notes)})"
    yield f" A: {result.a.subject}"
    yield f" B: {result.b.subject}"
    rows: list[Sequence[str]] = [("", "B to A", "", "95% interval", "")]
    for name, each in result.ratios.items():
        interval = f"{_percent(each.low)} … {_percent(each.high)}"
        label = f" {result.zone} {TITLES[name]}" if "joules" in name else f" {TITLES[name]}"
        rows.append((label, _percent(each.more), "", interval, each.verdict(result.least).value))
    yield from text.aligned(rows)
    yield (
        f" {len(result.a.runs)} and {len(result.b.runs)} runs: four of five such comparisons find "
        f"a difference of {100 * ratio.smallest:.1f} %; less than {least} does not matter"
    )
    yield from _conditions(result)


def _conditions(result: Compared) -> Iterator[str]:
    if result.a.estimate:
        yield " The energy is an estimate: J per CPU s is the model's figure, and was not measured."
    if not result.interleaved:
        yield " The runs were not interleaved: what changed between A and B is in the difference."
    yield from _early_ends(result)
    for key in ("node", "kernel"):
        one, other = result.a.host.get(key), result.b.host.get(key)
        if one != other:
            yield f" The {key} differs: {one} and {other}."
    governors = [each.host.get("governor", "") for each in (result.a, result.b)]
    if set(governors) - {"", STEADY_GOVERNOR}:
        one, other = (governor or "not known" for governor in governors)
        words = one if one == other else f"{one} for A and {other} for B"
        yield (
            f" The CPU frequency governor is {words}: a frequency that moves adds noise; "
            f"{STEADY_GOVERNOR} keeps it."
        )
    zones = [run.zones[result.zone] for run in (*result.a.runs, *result.b.runs)]
    rest = sum(zone.rest_active_joules or 0.0 for zone in zones)
    share = rest / max(rest + sum(zone.joules for zone in zones), 1e-9)
    if share > BUSY_REST:
        yield f" Other tasks used {100 * share:.0f} % of the active energy meanwhile."


def _early_ends(result: Compared) -> Iterator[str]:
    if result.is_interrupted:
        yield (
            f" It was interrupted, and {result.pairs} are whole. No figure was shown before: the "
            "interval is right for so many."
        )
        return
    for name, each in (("A", result.a), ("B", result.b)):
        if each.is_cut:
            yield f" {name} ended early: {len(each.runs)} of {each.planned_runs} runs are whole."


def _percent(part: float) -> str:
    return f"{100 * part:+.1f} %"


def to_json(result: Compared) -> str:
    """Return the comparison as one JSON object."""
    return json.dumps(
        {
            "verdict": result.verdict and result.verdict.value,
            "zone": result.zone,
            "least": result.least,
            "interleaved": result.interleaved,
            "cut": result.a.is_cut or result.b.is_cut,
            "estimate": result.a.estimate,
            "ratios": {name: asdict(ratio) for name, ratio in result.ratios.items()},
            "a": result.a.record,
            "b": result.b.record,
        },
        indent=1,
    )
