"""Rows of the same process and stack as one, and whole numbers that keep the sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.profile.model import Profile


@dataclass(frozen=True, slots=True)
class Merged:
    """One entry for each process and stack that was seen, in this order.

    Of shape (M,), and ``energy_uj`` (M, kinds); the meanings are those of ``Rows``.
    """

    process: Ints
    stack: Ints
    samples: Ints
    cpu_ns: Floats
    energy_uj: Floats


def merged(profile: Profile) -> Merged:
    """Return the rows with intervals and tasks added up."""
    rows = profile.rows
    width = max(1, len(profile.stacks))
    keys, group = np.unique(rows.process * width + rows.stack, return_inverse=True)
    energy_uj = np.zeros((len(keys), len(profile.kinds)))
    np.add.at(energy_uj, group, rows.energy_uj)
    return Merged(
        process=keys // width,
        stack=keys % width,
        samples=added(group, rows.samples, len(keys)).astype(np.int64),
        cpu_ns=added(group, rows.cpu_ns, len(keys)),
        energy_uj=energy_uj,
    )


def added(group: Ints, values: Ints | Floats, count: int) -> Floats:
    """Return the sum of the values of each group of *count*."""
    return np.bincount(group, values, minlength=count).astype(np.float64)


def whole(values: Floats) -> Ints:
    """Return the values as whole numbers, whose sum is the rounded sum of *values*.

    Each is rounded down, and the ones with the largest remainders are one more.
    """
    floor = np.floor(values).astype(np.int64)
    more = round(float(values.sum())) - int(floor.sum())
    largest = np.argsort(floor - values, kind="stable")
    floor[largest[:more]] += 1
    return floor
