"""Pending names: what is tried when, and what makes room."""

from collections.abc import Callable, Hashable
from functools import partial

import pytest

from kepler_ebpf.model.pods import PodInfo
from kepler_ebpf.names.kubernetes.index import PodIndex
from kepler_ebpf.names.pending import PendingName, PendingNames


class Queue:
    """A queue whose attempts note their keys."""

    def __init__(self, *ended: Hashable, index: PodIndex | None = None, limit: int = 10) -> None:
        """Begin empty; the owners of the keys *ended* have ended."""
        self.names = PendingNames(lambda key: key in ended, index or PodIndex(), limit)
        self.tried: list[Hashable] = []

    def add(
        self,
        key: Hashable,
        retry_at_s: float = 1.0,
        give_up_at_s: float = float("inf"),
        is_known: Callable[[PodIndex], object] | None = None,
    ) -> None:
        """Add a name that is never found."""
        entry = PendingName(partial(self._try, key), retry_at_s, give_up_at_s, is_known=is_known)
        self.names.add(key, entry)

    def _try(self, key: Hashable) -> None:
        self.tried.append(key)

    def taken(self, now_s: float = 1.0) -> list[Hashable]:
        """Take all that is due then, in order."""
        self.names.wake(now_s)
        for entry in iter(self.names.take, None):
            entry.attempt()
        tried, self.tried = self.tried, []
        return tried


def test_what_lives_is_before_what_has_ended() -> None:
    """Of each the oldest is first."""
    queue = Queue("ended")
    for key in ("ended", "live", "younger"):
        queue.add(key)
    assert queue.taken() == ["live", "younger", "ended"]


def test_nothing_is_due_before_its_time() -> None:
    """A retry waits for its time, and nothing is due twice."""
    queue = Queue()
    queue.add("a", 2.0)
    assert (queue.names.has_due(1.0), queue.taken(1.0)) == (False, [])
    assert (queue.names.has_due(2.0), queue.taken(2.0)) == (True, ["a"])
    assert (queue.names.has_due(3.0), queue.taken(3.0)) == (False, [])


def test_a_key_is_pending_once() -> None:
    """A newer entry replaces an older one."""
    queue = Queue()
    queue.add("a", 2.0)
    queue.add("a", 1.0)
    assert queue.taken(2.0) == ["a"]


def test_a_retry_is_given_up() -> None:
    """An entry is dropped when its time is over, without another try."""
    queue = Queue()
    queue.add("a", 2.0, give_up_at_s=2.0)
    assert (queue.taken(2.0), len(queue.names)) == ([], 0)


def knows(uid: str) -> Callable[[PodIndex], object]:
    """Return what is true of an index that has this pod."""
    return partial(PodIndex.knows, container_id="", pod_id=uid)


def pod(uid: str) -> PodInfo:
    """Return a pod."""
    return PodInfo(uid, "web", "shop", uid, "", "", "", "", ())


def test_what_waits_for_the_index_is_due_when_it_is_known() -> None:
    """Only a change of the index has it looked at."""
    index = PodIndex()
    queue = Queue(index=index)
    for uid in ("a", "b"):
        queue.add(uid, float("inf"), is_known=knows(uid))
    assert not queue.names.has_due(1.0)
    index.apply(pod("b"))
    assert queue.names.has_due(1.0)
    assert queue.taken() == ["b"]


def test_a_change_of_the_index_during_a_look_is_not_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What another thread adds between two reads of the version is found at the next look."""
    index = PodIndex()
    queue = Queue(index=index)
    queue.add("a", float("inf"), is_known=knows("a"))
    queue.add("retry", 1.0)
    versions = iter([0])

    def version(index: PodIndex) -> int:
        """Return the version; after the first read the pod is added."""
        for before in versions:
            return before
        index.apply(pod("a"))
        return index._version  # noqa: SLF001 - the property is this function

    monkeypatch.setattr(PodIndex, "version", property(version))
    assert sorted(map(str, queue.taken() + queue.taken())) == ["a", "retry"]


def test_what_lives_never_makes_room() -> None:
    """Cgroups that have ended are dropped, the first ones first; the living all stay."""
    queue = Queue(*range(100, 200), limit=8)
    for number in (*range(6), *range(100, 104), *range(6, 12)):
        queue.add(number)
    assert queue.taken() == list(range(12))
