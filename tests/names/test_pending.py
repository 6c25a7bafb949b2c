"""Pending names: what is tried when, and what makes room."""

import math
from collections.abc import Hashable
from functools import partial

from kepler_ebpf.model.pods import PodInfo
from kepler_ebpf.names.kubernetes.index import PodIndex
from kepler_ebpf.names.pending import ON_CHANGE, PendingName, PendingNames, Priority


def pending(limit: int = 10, *ended: Hashable) -> PendingNames:
    """Return a queue for which the owners of these keys have ended."""
    return PendingNames(lambda key: key in ended, limit=limit)


def entry(
    key: Hashable, priority: Priority = Priority.LIVE, retry_at_s: float = -math.inf
) -> PendingName:
    """Return an entry that finds nothing."""
    return PendingName(key, lambda: None, priority, retry_at_s)


def taken(names: PendingNames, now_s: float = 0.0) -> list[Hashable]:
    """Take all that is due then, in order."""
    names.wake(now_s)
    return [found.key for found in iter(names.take, None)]


def test_order_of_priorities() -> None:
    """Names whose files may go are first, then what lives, then what ended, then processes."""
    names = pending(10, "ended")
    for key in ("ended", "live"):
        names.add(entry(key, retry_at_s=1.0))
    for process in ("old", "new"):
        names.add(entry(process, Priority.PROCESS))
    names.add(entry("prefetch", Priority.PREFETCH))
    assert taken(names, 1.0) == ["prefetch", "live", "ended", "new", "old"]


def test_nothing_is_due_before_its_time() -> None:
    """A retry waits for its time, and nothing is due twice."""
    names = pending()
    names.add(entry("a", retry_at_s=2.0))
    assert (names.has_due(1.0), taken(names, 1.0)) == (False, [])
    assert (names.has_due(2.0), taken(names, 2.0)) == (True, ["a"])
    assert (names.has_due(3.0), taken(names, 3.0)) == (False, [])


def test_a_key_is_pending_once() -> None:
    """A newer entry replaces an older one, and a discarded one is gone."""
    names = pending()
    names.add(entry("a", retry_at_s=2.0))
    names.add(entry("a"))
    names.add(entry("b"))
    names.discard("b")
    assert taken(names, 2.0) == ["a"]


def test_a_retry_is_given_up() -> None:
    """An entry is dropped when its time is over, without another try."""
    names = pending()
    names.add(PendingName("a", lambda: None, Priority.LIVE, 2.0, give_up_at_s=2.0))
    assert (taken(names, 2.0), len(names)) == ([], 0)


def test_what_waits_for_the_index_is_due_when_it_is_known() -> None:
    """Only a change of the index has it looked at."""
    index = PodIndex()
    names = PendingNames(lambda _: False, index)
    for uid in ("a", "b"):
        waiting = entry(uid, retry_at_s=ON_CHANGE)
        waiting.is_known = partial(PodIndex.knows, container_id="", pod_id=uid)
        names.add(waiting)
    assert not names.has_due(1.0)
    index.apply(PodInfo("b", "web", "shop", "b", "", "", "", "", ()))
    assert names.has_due(1.0)
    assert taken(names, 1.0) == ["b"]


def test_oldest_processes_make_room_first() -> None:
    """Of processes the newest stay; cgroups, living or not, are not dropped for them."""
    names = pending(4, "ended")
    names.add(entry("ended"))
    for number in range(5):
        names.add(entry(number, Priority.PROCESS))
    assert taken(names) == ["ended", 4, 3, 2]


def test_what_lives_never_makes_room() -> None:
    """Cgroups that have ended are dropped, the first ones first; the living all stay."""
    names = pending(8, *range(100, 200))
    for number in (*range(6), *range(100, 104), *range(6, 12)):
        names.add(entry(number, retry_at_s=1.0))
    assert taken(names, 1.0) == list(range(12))
