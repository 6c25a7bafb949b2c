"""The latest snapshot: swapped by reference, made anew for a reader who would find it old."""

import threading
from collections.abc import Callable

import pytest
from snapshots import snapshot

from kepler_ebpf.loop.publisher import Publisher
from kepler_ebpf.model.snapshot import Snapshot

STALENESS_S = 5.0
READERS = 8


class Loop:
    """A loop in a thread that measures and publishes when a reader asks, on a clock of its own."""

    def __init__(self, made: Callable[[], Snapshot] | None = None) -> None:
        self.now_s = 1000.0
        self.publisher = Publisher(STALENESS_S, self._refresh, lambda: self.now_s)
        self.requests = 0
        self._made = made

    def publish(self) -> Snapshot:
        """Measure and publish now."""
        made = snapshot()
        self.publisher.measured()
        self.publisher.publish(made, closed=True)
        return made

    def _refresh(self) -> None:
        self.requests += 1
        if self._made:
            arguments = {"closed": False}
            threading.Thread(
                target=self.publisher.publish, args=(self._made(),), kwargs=arguments
            ).start()


def test_latest_is_the_last_published() -> None:
    """It is the very object; before the first there is none."""
    loop = Loop()
    assert loop.publisher.latest() is None
    loop.publish()
    last = loop.publish()
    assert loop.publisher.latest() is last


def test_subscribers_see_every_closed_interval() -> None:
    """Each is called once for each in order, and not for what a reader asked for in between."""
    loop = Loop()
    seen: list[Snapshot] = []
    loop.publisher.subscribe(seen.append)
    first = loop.publish()
    loop.publisher.publish(snapshot(), closed=False)
    second = loop.publish()
    assert [one is other for one, other in zip(seen, (first, second), strict=True)] == [True, True]
    loop.publisher.unsubscribe(seen.append)
    loop.publish()
    assert len(seen) == 2
    assert not loop.publisher.has_subscribers


def test_followers_see_all_that_is_published() -> None:
    """Also what a reader asked for; and no interval is accounted for alone because of them."""
    loop = Loop()
    seen: list[Snapshot] = []
    loop.publisher.follow(seen.append)
    loop.publish()
    loop.publisher.publish(snapshot(), closed=False)
    assert len(seen) == 2
    assert loop.publisher.wants(is_batch=True)
    assert not loop.publisher.wants(is_batch=False)
    assert not loop.publisher.has_subscribers


def test_fresh_snapshot_is_served_as_it_is() -> None:
    """No reader disturbs the loop for figures that are young enough."""
    loop = Loop()
    loop.publish()
    loop.now_s += STALENESS_S
    loop.publisher.refresh()
    assert loop.requests == 0


def test_old_snapshot_is_replaced_before_it_is_served() -> None:
    """The reader who finds it waits for a new one."""
    loop = Loop(made=snapshot)
    old = loop.publish()
    loop.now_s += STALENESS_S + 1
    assert loop.publisher.is_stale
    loop.publisher.refresh()
    assert loop.publisher.latest() is not old


def test_measured_interval_is_shown_however_young_the_snapshot_is() -> None:
    """Intervals are accounted for in batches; a reader sees the last one all the same."""
    loop = Loop(made=snapshot)
    old = loop.publish()
    loop.now_s += STALENESS_S / 10
    loop.publisher.measured()
    assert not loop.publisher.is_stale
    loop.publisher.refresh()
    assert loop.publisher.latest() is not old


def test_readers_get_no_figures_of_a_shorter_time_than_the_least() -> None:
    """Whatever is published meanwhile, and however often they come."""
    now_s, requests = [0.0], list[float]()
    publisher = Publisher(0.0, lambda: requests.append(now_s[0]), lambda: now_s[0], min_step_s=1.0)
    publisher.publish(first := snapshot(), closed=False)
    for now_s[0] in (0.2, 0.4, 0.8):
        publisher.measured()
        publisher.refresh()
        publisher.publish(snapshot(), closed=True)
        assert publisher.latest() is first
    assert requests == []
    now_s[0] = 1.0
    publisher.publish(second := snapshot(), closed=True)
    assert publisher.latest() is second


def test_first_reader_gets_the_first_snapshot() -> None:
    """With none there yet, a reader does not wait for a long interval to end."""
    loop = Loop(made=snapshot)
    loop.publisher.refresh()
    assert loop.publisher.latest() is not None


def test_reader_gives_up_on_a_loop_that_is_busy() -> None:
    """Old figures are better than none: the wait is bounded."""
    loop = Loop()
    old = loop.publish()
    loop.now_s += STALENESS_S + 1
    loop.publisher.refresh()
    assert loop.requests == 1
    assert loop.publisher.latest() is old


def test_last_interval_is_when_it_was_measured() -> None:
    """Whether or not it was published; before the first there is none."""
    loop = Loop()
    assert loop.publisher.last_interval_s() is None
    loop.publisher.measured()
    assert loop.publisher.last_interval_s() == pytest.approx(1000.0)


def test_many_readers_share_a_refresh() -> None:
    """All of them are served the new snapshot, whoever asked for it."""
    loop = Loop(made=snapshot)
    old = loop.publish()
    loop.now_s += STALENESS_S + 1
    served: list[Snapshot | None] = []

    def read() -> None:
        loop.publisher.refresh()
        served.append(loop.publisher.latest())

    readers = [threading.Thread(target=read) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(served) == READERS
    assert all(each is not old for each in served)
