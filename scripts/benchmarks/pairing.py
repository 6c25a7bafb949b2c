"""`scripts/bench --base DIR`: what another checkout costs and what this one does, turn by turn.

A host's speed changes by the hour, so only what was measured in one run compares. Everything is
measured from outside of the programs, which may be of any age: the base runs with its own
interpreter, and only ``run``, its arguments and its metric page have to be the same.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks import memory, pages, product_lines, rate, startup, switch_cost, tick_cost, wakeups
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.processes import OURS, Checkout

NOT_WORSE = 1.05
"""No change, as far as this can be measured."""

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """What to measure of a checkout, by name; and which part of the base's figures is allowed."""

    sample: Callable[[Checkout], Mapping[str, float]]
    bar: float = NOT_WORSE
    rounds: int = ROUNDS


PAIRS: dict[str, Pair] = {
    "product_lines": Pair(product_lines.sample, 1.0, rounds=1),
    "bpf_ns_per_switch": Pair(switch_cost.sample, rounds=2 * ROUNDS),
    "pages_per_interval": Pair(pages.sample),
    "wakeups_per_s": Pair(wakeups.sample),
    "rate_100hz": Pair(rate.sample, 0.6),
    "tick_cpu_ms": Pair(tick_cost.sample, 0.5),
    "rss_mb": Pair(memory.sample),
    "first_metrics_s": Pair(startup.sample),
}


def compare(name: str, base: Checkout) -> Iterator[Figure]:
    """Measure the base and this checkout in turn; yield each ratio of this one's to the base's."""
    pair = PAIRS[name]
    rounds = [(pair.sample(base), pair.sample(OURS)) for _ in range(pair.rounds)]
    for part in rounds[0][0]:
        old, new = ([sample[part] for sample in samples] for samples in zip(*rounds, strict=True))
        ratios = [after / before for before, after in zip(old, new, strict=True)]
        details: Details = {
            "of": part,
            "new": rounded(statistics.median(new)),
            "base": rounded(statistics.median(old)),
            "ratios": [rounded(ratio) for ratio in ratios],
        }
        yield Figure(name, statistics.median(ratios), "of the base", Bar(pair.bar), details)
