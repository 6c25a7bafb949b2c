"""Processes without a row: what they used, and which of them get one.

They cost a few numbers in each batch in which they run; none is named or shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kepler_ebpf.ledger.records import pid_of
from kepler_ebpf.model.arrays import Bools, Floats, Ints
from kepler_ebpf.model.selection import Selection

HALF_LIFE_S = 120.0
"""In the score that ranks processes, energy counts half after so long."""

MARGIN = 1.5
"""A process takes the place of another when its score is so many times as high."""

REST_S = 600.0
"""A pid whose row was given to another gets none for so long, whichever process has it.

Its series starts at 0 then. That is after Prometheus has forgotten the earlier series (5 minutes).
"""

MAX_CANDIDATES = 20_000
"""Beyond it the half that used least lately is forgotten: those begin at 0 again."""

SCORE, TOTAL_UJ, AT_S = 0, 1, 2
"""Columns of ``Candidates``: the score as it was at a time, and the energy in all."""


class Chosen(NamedTuple):
    """Which candidates (processes,) get a row, and how many of the lowest listed lose theirs."""

    enters: Bools
    leaving: int


class Candidates:
    """What processes without a row used, by identity; a *selection* chooses among them."""

    def __init__(self, selection: Selection) -> None:
        self._top_n, self._min_uj = selection.top_n, selection.min_uj
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._figures: Floats = np.zeros((0, 3))
        self._resting: dict[int, float] = {}
        self._now_s = 0.0

    def begin(self, now_s: float) -> float:
        """Start a batch that ends at *now_s*; return the factor by which scores fall by then."""
        elapsed_s, self._now_s = now_s - self._now_s, now_s
        return float(0.5 ** (elapsed_s / HALF_LIFE_S))

    def rested(self, identities: list[int]) -> Bools:
        """Return which processes may have a row as far as their pid had one before."""
        until, now_s = self._resting.get, self._now_s
        return np.array([until(pid_of(one), 0.0) <= now_s for one in identities], np.bool_)

    def choose(
        self,
        identities: list[int],
        energy_uj: Floats,
        may_enter: Bools,
        succeeds: Bools,
        listed: Floats,
    ) -> Chosen:
        """Add *energy_uj* (processes,), and choose those that get a row.

        One that *succeeds* a listed process takes no other's place. *listed* are the scores of all
        rows, in rising order, but ``inf`` for one that stays.
        """
        slots = self._slots_of(identities)
        figures = self._figures[slots]
        figures[:, SCORE] *= 0.5 ** ((self._now_s - figures[:, AT_S]) / HALF_LIFE_S)
        figures[:, [SCORE, TOTAL_UJ]] += energy_uj[:, np.newaxis]
        figures[:, AT_S] = self._now_s
        self._figures[slots] = figures
        enters = may_enter & (figures[:, TOTAL_UJ] >= self._min_uj)
        if not self._top_n:
            return Chosen(enters, 0)
        competes = enters & ~succeeds
        scores = np.where(competes, figures[:, SCORE], 0.0)
        ranked = np.argsort(-scores, kind="stable")[: np.count_nonzero(competes)]
        free = max(self._top_n - len(listed), 0)
        # Those that succeed may be listed beside the earlier ones: the lowest make room later.
        beyond = min(max(len(listed) - self._top_n, 0), int(np.isfinite(listed).sum()))
        listed = listed[beyond:]
        waiting = ranked[free : free + len(listed)]
        is_higher = scores[waiting] > MARGIN * listed[: len(waiting)]
        replaced = int(np.count_nonzero(is_higher))
        enters[ranked[free + replaced :]] = False
        return Chosen(enters, beyond + replaced)

    def take(self, identity: int) -> float:
        """Return the score of a process that gets a row, and count it here no longer."""
        slot = self._slots.get(identity)
        score = 0.0 if slot is None else float(self._figures[slot, SCORE])
        self._resting.pop(pid_of(identity), None)
        self.forget([identity])
        return score

    def rest(self, identities: Iterable[int]) -> None:
        """Note processes that have lost their row."""
        for pid in map(pid_of, identities):
            self._resting.pop(pid, None)  # The dictionary is in order of the time.
            self._resting[pid] = self._now_s + REST_S
        while len(self._resting) > MAX_CANDIDATES:
            del self._resting[next(iter(self._resting))]

    def forget(self, identities: Iterable[int]) -> None:
        """Note processes that have ended, or have a row."""
        for identity in identities:
            slot = self._slots.pop(identity, None)
            if slot is not None:
                self._figures[slot] = 0.0
                self._free.append(slot)

    def _slots_of(self, identities: list[int]) -> Ints:
        """Return where the figures of each process are, with room made for new ones."""
        slots = self._slots
        new = [identity for identity in identities if identity not in slots]
        if len(slots) + len(new) > MAX_CANDIDATES:
            self._forget_half()
            new = [identity for identity in identities if identity not in slots]
        lacking = len(new) - len(self._free)
        if lacking > 0:
            size = len(self._figures)
            more = max(lacking, size)
            self._figures = np.concatenate((self._figures, np.zeros((more, 3))))
            self._free.extend(range(size, size + more))
        slots.update((identity, self._free.pop()) for identity in new)
        return np.array([slots[identity] for identity in identities], np.int64)

    def _forget_half(self) -> None:
        known, at = list(self._slots), np.array(list(self._slots.values()), np.int64)
        age_s = self._now_s - self._figures[at, AT_S]
        order = np.argsort(self._figures[at, SCORE] * 0.5 ** (age_s / HALF_LIFE_S))
        for index in order[: len(known) // 2].tolist():
            slot = self._slots.pop(known[index])
            self._figures[slot] = 0.0
            self._free.append(slot)
