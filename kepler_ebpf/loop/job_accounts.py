"""What the loop needs of the jobs that other processes have measured here."""

from __future__ import annotations

from typing import Protocol

from kepler_ebpf.model.attributed import Attribution
from kepler_ebpf.model.usage import Measured


class JobAccounts(Protocol):
    """Sums what jobs use; both methods are for the loop's thread, and do not wait."""

    def credit(self, measured: Measured, attribution: Attribution) -> None:
        """Add what the ledger is credited with, to the jobs that are open."""

    def turn(self, cost_s: float) -> None:
        """Begin and end jobs at this instant: all before it is credited, at a cost of *cost_s*."""
