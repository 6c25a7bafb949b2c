"""Paths as a tree: in which order they are shown, and what each counts for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kepler_ebpf.model.arrays import Floats, Ints

ROOT = "/"

MAX_INDENT = 12
"""Levels that are indented; deeper ones are not indented further."""


class Tree(NamedTuple):
    """What is shown of a tree: indexes of rows in its order, and the name of each.

    ``counted_uj`` (rows, kinds) is what a row has that no other row in ``order`` has.
    """

    order: Ints
    names: dict[int, str]
    counted_uj: Floats


def arranged(
    paths: Sequence[str], below_uj: Floats, weight: list[float] | list[str], folded: frozenset[str]
) -> Tree:
    """Return the *paths* as a tree: below each those with the lowest *weight* (paths,) first.

    ``below_uj`` (paths, kinds) is what each has with all that is below it. What is below a path in
    *folded* is not shown by itself. What has no path any more is counted in the nearest parent.
    """
    index = {path: row for row, path in enumerate(paths)}
    children: dict[str, list[int]] = defaultdict(list)
    for path, row in index.items():
        if path != ROOT:
            children[_above(path, index)].append(row)
    counted_uj = np.zeros_like(below_uj)
    order, names = [], {}
    waiting = [(index[ROOT], 0, "")] if ROOT in index else []
    while waiting:
        row, depth, above = waiting.pop()
        path = paths[row]
        inside = sorted(children[path], key=weight.__getitem__)
        mark = " " if not inside else "+" if path in folded else "-"
        shown = [] if path in folded else inside
        counted_uj[row] = below_uj[row] - below_uj[shown].sum(axis=0)
        order.append(row)
        name = path.removeprefix(above).lstrip("/") or ROOT
        names[row] = f"{'  ' * min(depth, MAX_INDENT)}{mark} {name}"
        waiting += [(child, depth + 1, path) for child in reversed(shown)]
    return Tree(np.array(order, np.int64), names, counted_uj)


def _above(path: str, index: dict[str, int]) -> str:
    """Return the nearest parent of *path* that there is."""
    path = path.rpartition("/")[0]
    while path and path not in index:
        path = path.rpartition("/")[0]
    return path or ROOT
