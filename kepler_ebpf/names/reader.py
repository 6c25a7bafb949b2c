"""Reads that may never return, each by a thread that can be given up.

The command line of a process is behind a lock that the process itself may hold, and the files of a
container runtime may be on a file system that hangs. The loop does not wait for them: it requests
a read, and uses the result when that is there. A thread lives as long as there is anything to read.
"""

from __future__ import annotations

import _thread
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

LOG = logging.getLogger(__name__)

GIVE_UP_S = 1.0
"""A read that takes longer is given up: another thread goes on with the next one."""

MAX_STUCK = 4
"""With so many reads given up that have not returned, nothing more is read."""

MAX_WAITING = 20_000
"""Reads that may wait for their turn; beyond it the oldest are dropped."""

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Read:
    key: Hashable
    read: Callable[[], Any]
    use: Callable[[Any], None]
    began_s: float = 0.0
    has_begun: bool = False
    is_given_up: bool = False
    is_wanted: bool = True
    result: Any = None
    error: Exception | None = None


class Reader:
    """Reads one thing after the other. All methods are for one thread, the loop's."""

    def __init__(
        self,
        what: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        """*what* is read is named in the log; a read that takes *give_up_s* is given up."""
        self.given_up = 0
        self._give_up_s = give_up_s
        self._what = what
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: OrderedDict[Hashable, _Read] = OrderedDict()
        self._running: list[_Read] = []
        self._done: dict[Hashable, _Read] = {}
        self._is_fresh = False

    def request(self, key: Hashable, read: Callable[[], T], use: Callable[[T], None]) -> None:
        """Have *read* called by a thread, and *use* with its result by ``deliver``.

        It replaces an earlier request of *key*.
        """
        with self._changed:
            self._drop(key)
            self._waiting[key] = _Read(key, read, use)
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
            self._is_fresh = True
            self._go_on()

    def cancel(self, key: Hashable) -> None:
        """Do not use what is read for *key*."""
        if self._waiting or self._running or self._done:
            with self._changed:
                self._drop(key)

    def deliver(self, wait_s: float = 0.0) -> None:
        """Use the results that are there; wait at most *wait_s* for those requested since.

        Raises what a read raised.
        """
        if not (self._waiting or self._running or self._done):
            return
        with self._changed:
            if self._is_fresh:
                self._changed.wait_for(lambda: not self._is_reading, wait_s)
            self._is_fresh = False
            self._go_on()
        while self._done:
            with self._changed:
                done = self._done.pop(next(iter(self._done)))
            if done.error:
                raise done.error
            done.use(done.result)

    @property
    def threads(self) -> int:
        """How many threads read."""
        return len(self._running)

    # --- inside, with the lock held

    @property
    def _is_reading(self) -> bool:
        return any(not each.is_given_up for each in self._running)

    def _drop(self, key: Hashable) -> None:
        self._waiting.pop(key, None)
        self._done.pop(key, None)
        for each in self._running:
            each.is_wanted &= each.key != key

    def _go_on(self) -> None:
        """Give up a read that takes too long, and start a thread where none reads."""
        for each in tuple(self._running):
            if each.is_given_up or self._clock() - each.began_s <= self._give_up_s:
                continue
            if not each.has_begun:
                self._not_begun(each, "it has ended at once")
            else:
                each.is_given_up = True
                self.given_up += 1
                LOG.warning(
                    "A read of %s did not return within %g s: it is given up",
                    self._what,
                    self._give_up_s,
                )
        if not self._waiting or self._is_reading or len(self._running) >= MAX_STUCK:
            return
        read = self._begin()
        try:
            # A Thread waits for its start, and for ever where that fails for want of memory.
            _thread.start_new_thread(self._read, (read,))
        except (RuntimeError, MemoryError) as error:
            self._not_begun(read, error)

    def _not_begun(self, read: _Read, why: object) -> None:
        """Let a read wait again whose thread has not begun."""
        LOG.warning("No thread to read %s: %s", self._what, why)
        self._running.remove(read)
        if read.is_wanted:
            self._waiting[read.key] = read

    def _begin(self) -> _Read:
        _, read = self._waiting.popitem(last=False)
        read.began_s, read.has_begun = self._clock(), False
        self._running.append(read)
        return read

    # --- inside, a thread

    def _read(self, first: _Read) -> None:
        with self._changed:
            if first not in self._running:  # Too late: it waits for another thread.
                return
            first.has_begun = True
        read: _Read | None = first
        while read:
            try:
                read.result = read.read()
            except Exception as error:  # noqa: BLE001  raised by deliver
                read.error = error
            read = self._after(read)

    def _after(self, read: _Read) -> _Read | None:
        """Hand a read over, and return the next; None where another thread reads, or none is."""
        with self._changed:
            self._running.remove(read)
            if read.is_wanted:
                self._done[read.key] = read
            if self._waiting and not self._is_reading:
                following = self._begin()
                following.has_begun = True
                return following
            self._changed.notify_all()
            return None
