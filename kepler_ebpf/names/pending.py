"""Cgroups and pods whose names are still to be found, in one queue of bounded length."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import islice

from kepler_ebpf.names.kubernetes.index import PodIndex


@dataclass(slots=True)
class PendingName:
    """A name that *attempt* finds, or adds another entry for.

    It is due at ``retry_at_s``, or as soon as ``is_known`` is true of the index of pods. It is
    dropped at ``give_up_at_s``, at the latest ``patience_s`` after the first change of the index
    that did not help.
    """

    attempt: Callable[[], None]
    retry_at_s: float = math.inf
    give_up_at_s: float = math.inf
    patience_s: float = math.inf
    is_known: Callable[[PodIndex], object] | None = None


class PendingNames:
    """The queue. What is alive is first, and is never dropped for want of room."""

    def __init__(
        self,
        has_ended: Callable[[Hashable], bool],
        index: PodIndex,
        limit: int,
    ) -> None:
        """*has_ended* is called with the keys of entries, *index* is that of the pods."""
        self._has_ended = has_ended
        self._index = index
        self._limit = self._make_room_at = limit
        self._waiting: OrderedDict[Hashable, PendingName] = OrderedDict()
        self._due_live: OrderedDict[Hashable, PendingName] = OrderedDict()
        self._due_ended: OrderedDict[Hashable, PendingName] = OrderedDict()
        self._all = self._waiting, self._due_live, self._due_ended
        self._retry_at_s = math.inf
        self._version = 0

    def __len__(self) -> int:
        """How many names are pending."""
        return sum(map(len, self._all))

    def add(self, key: Hashable, entry: PendingName) -> None:
        """Let a name be found. It replaces an older entry of its key."""
        for entries in self._all:
            entries.pop(key, None)
        self._waiting[key] = entry
        self._retry_at_s = min(self._retry_at_s, entry.retry_at_s)
        if len(self) > self._make_room_at:
            self._make_room()

    def has_due(self, now_s: float) -> bool:
        """Whether there is anything to ``take`` after a ``wake``. Cheap."""
        return bool(self._due_live or self._due_ended or (self._waiting and self._is_time(now_s)))

    def wake(self, now_s: float) -> None:
        """Make due what is to be tried again now, and what the changed index knows."""
        if not self._is_time(now_s):
            return
        # Read once, and before any look-up: another thread changes it.
        version = self._index.version
        is_changed, self._version = self._version != version, version
        for key, entry in list(self._waiting.items()):
            if (is_changed and self._is_known(entry, now_s)) or (
                entry.retry_at_s <= now_s < entry.give_up_at_s
            ):
                due = self._due_ended if self._has_ended(key) else self._due_live
                due[key] = self._waiting.pop(key)
            elif now_s >= entry.give_up_at_s:
                del self._waiting[key]
        self._retry_at_s = min((it.retry_at_s for it in self._waiting.values()), default=math.inf)

    def take(self) -> PendingName | None:
        """Take the first that is due out of the queue; None where there is none."""
        entries = self._due_live or self._due_ended
        return entries.popitem(last=False)[1] if entries else None

    def _is_time(self, now_s: float) -> bool:
        return now_s >= self._retry_at_s or self._version != self._index.version

    def _is_known(self, entry: PendingName, now_s: float) -> bool:
        """Whether the index has what *entry* waits for; if not, its patience begins to run out."""
        if entry.is_known is None:
            return False
        if entry.is_known(self._index):
            return True
        entry.give_up_at_s = min(entry.give_up_at_s, now_s + entry.patience_s)
        return False

    def _make_room(self) -> None:
        """Drop the oldest that have ended. Many at once, since this looks at all that wait."""
        slack = self._limit // 8
        count = len(self) - self._limit + slack
        for entries in self._all:
            ended = list(islice(filter(self._has_ended, entries), count))
            count -= len(ended)
            for key in ended:
                del entries[key]
        self._make_room_at = max(self._limit, len(self) + slack)
