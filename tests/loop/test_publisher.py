"""The latest snapshot: swapped by reference, refreshed for a reader who finds it old."""

import threading
import time
from collections.abc import Callable

import pytest
from snapshots import snapshot

from kepler_ebpf.config.options import Config
from kepler_ebpf.loop.publisher import Publisher
from kepler_ebpf.model.snapshot import Snapshot

SLOW = Config(interval_s=60.0, staleness_s=5.0)
LONG_AGO_S = 1_000.0
READERS = 8


class Loop:
    """A sampling loop in a thread: takes a snapshot when it is wanted."""

    def __init__(self, config: Config = SLOW, taken: Callable[[], Snapshot] | None = None) -> None:
        self.publisher = Publisher(config, self._want)
        self.wanted = 0
        self._taken = taken

    def _want(self) -> None:
        self.wanted += 1
        if self._taken:
            taken = self._taken()
            threading.Thread(target=self.publisher.publish, args=(taken,)).start()


def fresh() -> Snapshot:
    """Return a snapshot that was taken now."""
    return snapshot(at_s=time.time())


def old() -> Snapshot:
    """Return a snapshot that no reader should be content with."""
    return snapshot(at_s=time.time() - LONG_AGO_S)


def test_latest_is_the_last_published() -> None:
    """It is the very object; before the first there is none."""
    publisher = Loop().publisher
    assert publisher.latest() is None
    first, second = fresh(), fresh()
    publisher.publish(first)
    publisher.publish(second)
    assert publisher.latest() is second


def test_subscribers_see_every_snapshot() -> None:
    """Each subscriber is called once for each, in order."""
    publisher = Loop().publisher
    seen: list[Snapshot] = []
    publisher.subscribe(seen.append)
    made = [fresh(), fresh()]
    for each in made:
        publisher.publish(each)
    assert [one is other for one, other in zip(seen, made, strict=True)] == [True, True]


def test_fresh_snapshot_is_served_as_it_is() -> None:
    """Nobody disturbs the loop for figures that are young enough."""
    loop = Loop()
    loop.publisher.publish(fresh())
    loop.publisher.refresh()
    assert loop.wanted == 0


def test_old_snapshot_is_replaced_before_it_is_served() -> None:
    """The reader who finds it waits for a new one."""
    loop = Loop(taken=fresh)
    stale = old()
    loop.publisher.publish(stale)
    loop.publisher.refresh()
    assert loop.publisher.latest() is not stale


def test_first_reader_has_the_first_snapshot_taken() -> None:
    """With none there yet, a reader does not wait for a long interval to end."""
    loop = Loop(taken=fresh)
    loop.publisher.refresh()
    assert loop.publisher.latest() is not None


def test_reader_gives_up_on_a_loop_that_is_busy() -> None:
    """Old figures are better than none: the wait is bounded."""
    loop = Loop()
    stale = old()
    loop.publisher.publish(stale)
    loop.publisher.refresh()
    assert loop.wanted == 1
    assert loop.publisher.latest() is stale


@pytest.mark.parametrize("interval_s", [0.01, 5.0])
def test_fine_grid_is_not_disturbed(interval_s: float) -> None:
    """Where the next sample is about to come anyway, a reader asks for none."""
    loop = Loop(Config(interval_s=interval_s, staleness_s=5.0))
    loop.publisher.publish(old())
    loop.publisher.refresh()
    assert loop.wanted == 0


def test_many_readers_share_a_refresh() -> None:
    """All of them are served the new snapshot, whoever asked for it."""
    loop = Loop(taken=fresh)
    stale = old()
    loop.publisher.publish(stale)
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
    assert all(each is not stale for each in served)
