"""The last Snapshot, for every reader: swapped by reference. The loop waits for no reader.

A snapshot is made when a reader comes, and shared by all who come meanwhile.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from kepler_ebpf.model.snapshot import Snapshot

REFRESH_WAIT_S = 0.25
FIRST_WAIT_S = 1.0
"""A reader waits no longer than this for a snapshot made for it, or for the first one."""


EARLY_SHARE = 0.9
"""An interval that began late is as much shorter, and is shown nevertheless."""


class Publisher:
    """Keeps the latest Snapshot, and has a new one made where a reader would find an older.

    Readers get another snapshot no sooner than ``min_step_s`` after the last.
    """

    def __init__(
        self,
        staleness_s: float,
        request: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        min_step_s: float = 0.0,
    ) -> None:
        """*request* makes the loop publish; figures older than *staleness_s* are measured anew."""
        self._min_step_s = min_step_s * EARLY_SHARE
        self._staleness_s = staleness_s
        self._request = request
        self._clock = clock
        self._latest: Snapshot | None = None
        self._published_s = self._measured_s = -math.inf
        self._changed = threading.Condition()
        self._subscribers: tuple[Callable[[Snapshot], None], ...] = ()
        self._followers: tuple[Callable[[Snapshot], None], ...] = ()

    # --- the loop

    def measured(self) -> None:
        """Note that an interval was measured now."""
        self._measured_s = self._clock()

    @property
    def is_stale(self) -> bool:
        """Whether the last measured interval is too old for a reader."""
        return self._clock() - self._measured_s > self._staleness_s

    @property
    def has_subscribers(self) -> bool:
        """Whether every interval is wanted."""
        return bool(self._subscribers)

    def wants(self, *, is_batch: bool) -> bool:
        """Whether a snapshot is wanted of an interval that ended, maybe as the last of a batch."""
        return bool(self._subscribers or (is_batch and self._followers))

    def publish(self, snapshot: Snapshot, *, closed: bool) -> None:
        """Make *snapshot* the latest; subscribers get it where an interval was *closed*."""
        with self._changed:
            is_new = self._may_change()
            if is_new:
                self._latest, self._published_s = snapshot, self._clock()
            self._changed.notify_all()
        for take in self._followers if is_new else ():
            take(snapshot)
        for take in self._subscribers if closed else ():
            take(snapshot)

    def _may_change(self) -> bool:
        return self._clock() - self._published_s >= self._min_step_s

    # --- readers, any thread

    def subscribe(self, take: Callable[[Snapshot], None]) -> None:
        """Have *take* called with the snapshot of every interval, by the loop's thread."""
        with self._changed:
            self._subscribers = (*self._subscribers, take)

    def unsubscribe(self, take: Callable[[Snapshot], None]) -> None:
        """Undo ``subscribe``; a call that has begun is not waited for."""
        with self._changed:
            self._subscribers = tuple(each for each in self._subscribers if each != take)

    def follow(self, take: Callable[[Snapshot], None]) -> None:
        """Have *take* called with each snapshot that is made, one for each batch at least.

        It costs less than to subscribe: for nobody else's sake is an interval accounted for alone.
        """
        self._followers = (*self._followers, take)

    def latest(self) -> Snapshot | None:
        """Return the last snapshot, None before the first."""
        return self._latest

    def last_interval_s(self) -> float | None:
        """Return when the last interval was measured, on the monotonic clock; None before it."""
        return self._measured_s if self._measured_s > -math.inf else None

    def refresh(self) -> None:
        """Wait a little for a snapshot of all that was measured, made for all who wait.

        Where the last measured interval is stale, what was used since then is measured first. No
        configured interval gets shorter by that. The first reader does not wait for the first
        interval to end.
        """
        last = self._latest
        is_old = self._published_s < self._measured_s or self.is_stale
        if last is None or (is_old and self._may_change()):
            with self._changed:
                self._request()
                wait_s = REFRESH_WAIT_S if last else FIRST_WAIT_S
                self._changed.wait_for(lambda: self._latest is not last, wait_s)
