"""What the ledger does with arrays."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.model.arrays import Bools, Floats, Ints

Array = TypeVar("Array", bound=NDArray[Any])


def frozen(array: Array) -> Array:
    """Return *array*, read-only from now on."""
    array.setflags(write=False)
    return array


def run_starts(*ordered: NDArray[Any]) -> Ints:
    """Return where each run of equal entries begins; *ordered* are sorted columns, not empty."""
    first: Bools = np.ones(len(ordered[0]), np.bool_)
    np.not_equal(ordered[0][1:], ordered[0][:-1], out=first[1:])
    for column in ordered[1:]:
        first[1:] |= column[1:] != column[:-1]
    return first.nonzero()[0]


def sum_by_row(rows: Ints, weights: Floats) -> tuple[Ints, Floats]:
    """Sum *weights* (records, columns) by row: the distinct rows in order, and their sums."""
    if not len(rows):
        return rows, weights
    order = rows.argsort(kind="stable")
    ordered = rows[order]
    starts = run_starts(ordered)
    return ordered[starts], np.add.reduceat(weights[order], starts, axis=0)
