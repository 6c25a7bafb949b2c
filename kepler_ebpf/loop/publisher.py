"""The last Snapshot, for every reader: swapped by reference, never waited for by the loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kepler_ebpf.config.options import Config
from kepler_ebpf.model.snapshot import Snapshot

REFRESH_WAIT_S = 0.25
FIRST_WAIT_S = 1.0
"""A scrape waits no longer than this for the fresh sample it asked for, or for the first one."""


class Publisher:
    """Keeps the latest Snapshot, and has a new one taken where it is older than allowed."""

    def __init__(self, config: Config, want_now: Callable[[], None]) -> None:
        """*want_now* makes the loop take a sample at once."""
        self._staleness_s = config.staleness_s
        # On a grid finer than that, the next sample is about to come anyway.
        self._refreshes = config.interval_s > config.staleness_s
        self._want_now = want_now
        self._latest: Snapshot | None = None
        self._published = threading.Condition()
        self._subscribers: list[Callable[[Snapshot], None]] = []

    def subscribe(self, take: Callable[[Snapshot], None]) -> None:
        """Have *take* called with every snapshot, by the sampling thread."""
        self._subscribers.append(take)

    def publish(self, snapshot: Snapshot) -> None:
        """Make *snapshot* the latest. For the sampling thread."""
        with self._published:
            self._latest = snapshot
            self._published.notify_all()
        for take in self._subscribers:
            take(snapshot)

    def latest(self) -> Snapshot | None:
        """Return the last snapshot, None before the first."""
        return self._latest

    def refresh(self) -> None:
        """Wait a little for a new snapshot where the last is stale; many readers share one.

        The first reader does not wait for the first interval to end: it ends it.
        """
        stale = self._latest
        if stale is None:
            self._want_newer_than(None, FIRST_WAIT_S)
        elif self._refreshes and self._is_stale(stale):
            self._want_newer_than(stale, REFRESH_WAIT_S)

    def _want_newer_than(self, last: Snapshot | None, wait_s: float) -> None:
        with self._published:
            self._want_now()
            self._published.wait_for(lambda: self._latest is not last, wait_s)

    def _is_stale(self, snapshot: Snapshot) -> bool:
        return time.time() - snapshot.at_s > self._staleness_s
