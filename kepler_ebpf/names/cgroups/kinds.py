"""The kinds of workloads that are found in the path of a cgroup, whatever else the cgroup is in.

A new kind is its matcher in a module beside this one, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable

from kepler_ebpf.names.cgroups.units import match_unit

MATCHERS: dict[str, Callable[[str], Hashable | None]] = {"unit": match_unit}
"""By level: from a path to the labels of the innermost workload of that kind, None for none."""


def match_kinds(path: str, levels: Collection[str]) -> tuple[tuple[str, Hashable], ...]:
    """Return the workloads of *levels* that *path* is in: level and labels of each."""
    found = ((level, match(path)) for level, match in MATCHERS.items() if level in levels)
    return tuple((level, labels) for level, labels in found if labels is not None)
