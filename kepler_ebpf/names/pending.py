"""Names that are still to be found, in one queue of bounded length."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice

from kepler_ebpf.names.kubernetes.index import PodIndex

MAX_PENDING = 20_000
"""Names that may be pending; beyond it some are dropped, see ``PendingNames``."""

AT_ONCE, ON_CHANGE = -math.inf, math.inf
"""Times of a retry that are none: now, and when the index of pods has changed."""


class Priority(IntEnum):
    """What is done first. Of one priority the oldest is first, of processes the newest."""

    PREFETCH = 0
    LIVE = 1
    ENDED = 2
    PROCESS = 3


@dataclass(slots=True)
class PendingName:
    """A name that *attempt* finds, or adds another entry for.

    It is due at ``retry_at_s``, or as soon as ``is_known`` is true of the index of pods. It is
    dropped at ``give_up_at_s``, at the latest ``patience_s`` after the first change of the index
    that did not help.
    """

    key: Hashable
    attempt: Callable[[], None]
    priority: Priority
    retry_at_s: float = AT_ONCE
    give_up_at_s: float = math.inf
    patience_s: float = math.inf
    is_known: Callable[[PodIndex], object] | None = None


class PendingNames:
    """The queue. Beyond its limit the oldest processes make room first, then what has ended.

    What is alive is never dropped for want of room.
    """

    def __init__(
        self,
        has_ended: Callable[[Hashable], bool],
        index: PodIndex | None = None,
        limit: int = MAX_PENDING,
    ) -> None:
        """*has_ended* is called with keys of priority LIVE, *index* is that of the pods."""
        self._has_ended = has_ended
        self._index = index
        self._limit = limit
        self._make_room_at = limit
        self._waiting: OrderedDict[Hashable, PendingName] = OrderedDict()
        self._due = {priority: OrderedDict[Hashable, PendingName]() for priority in Priority}
        self._retry_at_s = math.inf
        self._version = 0

    def __len__(self) -> int:
        """How many names are pending."""
        return len(self._waiting) + sum(map(len, self._due.values()))

    def add(self, entry: PendingName) -> None:
        """Let a name be found. It replaces an older entry of its key."""
        self.discard(entry.key)
        if entry.retry_at_s == AT_ONCE:
            self._due[entry.priority][entry.key] = entry
        else:
            self._waiting[entry.key] = entry
            self._retry_at_s = min(self._retry_at_s, entry.retry_at_s)
        if len(self) > self._make_room_at:
            self._make_room()

    def discard(self, key: Hashable) -> None:
        """Drop the entry of *key*, if there is one."""
        for entries in (self._waiting, *self._due.values()):
            entries.pop(key, None)

    def has_due(self, now_s: float) -> bool:
        """Whether there is anything to ``take`` after a ``wake``. Cheap."""
        return any(self._due.values()) or bool(self._waiting and self._is_time(now_s))

    def wake(self, now_s: float) -> None:
        """Make due what is to be tried again now, and what the changed index knows."""
        if not self._is_time(now_s):
            return
        is_changed = self._version != self._index_version
        self._version = self._index_version
        for key, entry in list(self._waiting.items()):
            if is_changed and self._is_known(entry, now_s):
                self._make_due(self._waiting.pop(key))
            elif now_s >= entry.give_up_at_s:
                del self._waiting[key]
            elif now_s >= entry.retry_at_s:
                self._make_due(self._waiting.pop(key))
        self._retry_at_s = min((it.retry_at_s for it in self._waiting.values()), default=math.inf)

    def take(self, *priorities: Priority) -> PendingName | None:
        """Take the first that is due out of the queue; None where there is none."""
        for priority in priorities or Priority:
            if self._due[priority]:
                return self._due[priority].popitem(last=priority is Priority.PROCESS)[1]
        return None

    @property
    def _index_version(self) -> int:
        return self._index.version if self._index else 0

    def _is_time(self, now_s: float) -> bool:
        return now_s >= self._retry_at_s or self._version != self._index_version

    def _is_known(self, entry: PendingName, now_s: float) -> bool:
        """Whether the index has what *entry* waits for; if not, its patience begins to run out."""
        if self._index is None or entry.is_known is None:
            return False
        if entry.is_known(self._index):
            return True
        entry.give_up_at_s = min(entry.give_up_at_s, now_s + entry.patience_s)
        return False

    def _make_due(self, entry: PendingName) -> None:
        has_ended = entry.priority is Priority.LIVE and self._has_ended(entry.key)
        self._due[Priority.ENDED if has_ended else entry.priority][entry.key] = entry

    def _make_room(self) -> None:
        surplus = len(self) - self._limit
        for priority in (Priority.PROCESS, Priority.PREFETCH):
            for _ in range(min(surplus, len(self._due[priority]))):
                self._due[priority].popitem(last=False)
                surplus -= 1
        if surplus > 0:
            self._drop_ended(surplus + self._limit // 8)
        self._make_room_at = max(self._limit, len(self) + (self._limit // 8 if surplus > 0 else 0))

    def _drop_ended(self, count: int) -> None:
        """Drop up to *count*. Many at once, since this looks at all that wait."""
        for entries in (self._waiting, self._due[Priority.LIVE], self._due[Priority.ENDED]):
            ended = list(islice(filter(self._has_ended, entries), count))
            count -= len(ended)
            for key in ended:
                del entries[key]
