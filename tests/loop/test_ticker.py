"""The grid of instants: it does not drift, misses are counted, and every way to cut a wait."""

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.kernel.rings import CgroupNotifier
from kepler_ebpf.loop.ticker import DEBOUNCE_S, MAX_WAIT_S, MIN_WAIT_S, Tick, Ticker, Wake

INTERVAL_S = 0.5
LONG_S = 3600.0


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Loop:
    """A ticker on a clock of its own, whose waits pass at once."""

    def __init__(self, ticker: Ticker, clock: Clock) -> None:
        self.ticker = ticker
        self.clock = clock
        self._ticks = iter(ticker)

    def next(self) -> Tick:
        """Let the time until the next instant pass, and return its tick."""
        self.clock.now_s += self.ticker.remaining_s()
        return next(self._ticks)

    def first(self) -> Tick:
        """Start the grid and return its first tick, a whole interval later."""
        # A generator starts at its first next(): with the clock at the start, so one is wanted.
        self.ticker.refresh()
        assert next(self._ticks).wake is Wake.REFRESH
        return self.next()


@contextmanager
def loop(interval_s: float = INTERVAL_S) -> Iterator[Loop]:
    """Give a loop whose grid starts with its first tick."""
    clock = Clock()
    with closing(Ticker(interval_s, clock)) as ticker:
        yield Loop(ticker, clock)


# --- counters -----------------------------------------------------------------------------------


def test_counters_are_read_within_a_long_wait() -> None:
    """Between two instants far apart the loop reads what may wrap, and does no more."""
    with closing(Ticker(LONG_S)) as ticker:
        ticker.read_counters_within(MIN_WAIT_S)
        ticks, began_s = iter(ticker), time.monotonic()
        assert [next(ticks) for _ in range(3)] == [Tick(Wake.READ_COUNTERS)] * 3
        assert time.monotonic() - began_s >= 3 * MIN_WAIT_S


def test_refresh_does_not_keep_counters_from_being_read() -> None:
    """A reader may be served without any counter being read: it does not put the reading off."""
    clock = Clock()
    with closing(Ticker(LONG_S, clock)) as ticker:
        ticks = iter(ticker)
        ticker.refresh()
        next(ticks)
        clock.now_s += MAX_WAIT_S - 1
        ticker.refresh()
        assert next(ticks) == Tick(Wake.REFRESH)
        clock.now_s += 1
        assert next(ticks) == Tick(Wake.READ_COUNTERS)


def test_short_intervals_need_no_other_reading() -> None:
    """Instants of the grid come soon enough."""
    with closing(Ticker(MIN_WAIT_S / 10)) as ticker:
        ticker.read_counters_within(MIN_WAIT_S)
        ticks = iter(ticker)
        assert all(next(ticks).wake is Wake.INTERVAL for _ in range(30))


@pytest.mark.parametrize("longest_s", [0.0, math.inf])
def test_readings_are_neither_too_frequent_nor_too_rare(longest_s: float) -> None:
    """Whatever range a broken counter has, the time between two readings has bounds."""
    clock = Clock()
    with closing(Ticker(LONG_S, clock)) as ticker:
        ticker.read_counters_within(longest_s)
        ticks = iter(ticker)
        ticker.refresh()
        next(ticks)
        clock.now_s += MAX_WAIT_S
        assert next(ticks) == Tick(Wake.READ_COUNTERS)
        ticker.refresh()
        assert next(ticks) == Tick(Wake.REFRESH)


# --- the grid -----------------------------------------------------------------------------


@given(st.lists(st.floats(0, 10 * INTERVAL_S), max_size=30))
def test_grid_does_not_drift(works_s: list[float]) -> None:
    """However long the work takes, every tick is its lateness after an instant of the grid."""
    with loop() as run:
        tick = run.first()
        start_s, instants = run.clock.now_s, 0
        for work_s in works_s:
            instants += 1 + tick.missed
            run.clock.now_s += work_s
            tick = run.next()
            passed_s = run.clock.now_s - start_s
            assert passed_s - tick.lateness_s == pytest.approx(instants * INTERVAL_S)


@given(st.floats(0, 100 * INTERVAL_S))
def test_missed_instants_are_not_replayed(work_s: float) -> None:
    """After long work there is one tick, and then a wait for the next instant of the grid."""
    with loop() as run:
        run.first()
        run.clock.now_s += work_s
        tick = run.next()
        assert 0 <= tick.lateness_s - tick.missed * INTERVAL_S < INTERVAL_S
        assert 0 < run.ticker.remaining_s() <= INTERVAL_S


def test_seven_intervals_of_work_miss_six() -> None:
    """The tick that was due when the work began is late, the others in between are missed."""
    with loop() as run:
        run.first()
        run.clock.now_s += 7 * INTERVAL_S
        assert run.next() == Tick(Wake.INTERVAL, lateness_s=6 * INTERVAL_S, missed=6)
        assert run.next() == Tick(Wake.INTERVAL)


def test_grid_starts_with_the_iteration() -> None:
    """The time it takes to get ready is neither lateness nor a missed tick."""
    clock = Clock()
    with closing(Ticker(INTERVAL_S, clock)) as ticker:
        clock.now_s += 100 * INTERVAL_S
        assert Loop(ticker, clock).first() == Tick(Wake.INTERVAL)


def test_waits_are_real() -> None:
    """Without any help the ticks come by themselves."""
    with closing(Ticker(0.001)) as ticker:
        ticks = iter(ticker)
        assert all(next(ticks).wake is Wake.INTERVAL for _ in range(5))


# --- cutting a wait -----------------------------------------------------------------------


def test_refresh_comes_at_once_and_moves_nothing() -> None:
    """The grid stays where it is."""
    with loop() as run:
        run.first()
        run.clock.now_s += INTERVAL_S / 4
        run.ticker.refresh()
        assert run.ticker.remaining_s() == 0
        assert run.next() == Tick(Wake.REFRESH)
        assert run.ticker.remaining_s() == pytest.approx(INTERVAL_S * 3 / 4)
        assert run.next() == Tick(Wake.INTERVAL)


def test_many_readers_get_one_refresh() -> None:
    """What was asked for before a refresh is served by it."""
    with loop() as run:
        run.first()
        for _ in range(5):
            run.ticker.refresh()
        assert run.next().wake is Wake.REFRESH
        assert run.next().wake is Wake.INTERVAL


def test_end_of_an_interval_comes_before_a_refresh_that_is_asked_for() -> None:
    """A reader who asks meanwhile is served right after it, and the grid stays where it is."""
    with loop() as run:
        run.first()
        run.ticker.refresh()
        run.clock.now_s += 1.5 * INTERVAL_S
        assert run.next() == Tick(Wake.INTERVAL, lateness_s=INTERVAL_S / 2)
        assert run.next() == Tick(Wake.REFRESH)
        assert run.ticker.remaining_s() == pytest.approx(INTERVAL_S / 2)


def test_refresh_from_another_thread() -> None:
    """A reader's thread ends a wait that is under way."""
    with closing(Ticker(LONG_S)) as ticker:
        thread = threading.Thread(target=ticker.refresh)
        thread.start()
        assert next(iter(ticker)).wake is Wake.REFRESH
        thread.join()


def test_stop_ends_a_wait_from_another_thread() -> None:
    """No tick comes any more, not even a refresh."""
    with closing(Ticker(LONG_S)) as ticker:

        def stop_and_refresh() -> None:
            ticker.stop()
            ticker.refresh()

        thread = threading.Thread(target=stop_and_refresh)
        thread.start()
        assert list(ticker) == []
        thread.join()
        assert ticker.remaining_s() == 0


def test_stop_within_the_work_ends_after_it() -> None:
    """The tick in work is the last one, even where the next one is overdue."""
    with loop() as run:
        run.first()
        run.clock.now_s += 10 * INTERVAL_S
        run.ticker.stop()
        with pytest.raises(StopIteration):
            run.next()


# --- notifications -----------------------------------------------------------------------------


class Notifier(CgroupNotifier):
    """A notifier that a test triggers."""

    def __init__(self) -> None:
        self._event = os.eventfd(0)

    def fileno(self) -> int:
        return self._event

    def notify(self) -> None:
        os.eventfd_write(self._event, 1)

    def acknowledge(self) -> None:
        os.eventfd_read(self._event)

    def close(self) -> None:
        os.close(self._event)


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    """Give a notifier that wants nothing."""
    with closing(Notifier()) as made:
        yield made


def test_notification_is_handled_within_a_wait(notifier: Notifier) -> None:
    """Once for each notification, and the grid stays where it is."""
    with closing(Ticker(LONG_S)) as ticker:
        ticker.watch_cgroups(notifier)
        ticks = iter(ticker)
        for _ in range(2):
            notifier.notify()
            assert next(ticks) == Tick(Wake.NEW_CGROUPS)
        ticker.refresh()
        assert next(ticks) == Tick(Wake.REFRESH)


def test_notifications_are_debounced(notifier: Notifier) -> None:
    """The next one is handled after a pause."""
    with closing(Ticker(LONG_S)) as ticker:
        ticker.watch_cgroups(notifier)
        ticks = iter(ticker)
        notifier.notify()
        began_s = time.monotonic()
        next(ticks)
        notifier.notify()
        next(ticks)
        assert time.monotonic() - began_s >= DEBOUNCE_S


def test_notifications_do_not_keep_counters_from_being_read(notifier: Notifier) -> None:
    """No counter is read when one is handled: it does not put the reading off."""
    with closing(Ticker(LONG_S)) as ticker:
        ticker.watch_cgroups(notifier)
        ticker.read_counters_within(MIN_WAIT_S)
        ticks, began_s = iter(ticker), time.monotonic()
        notifier.notify()
        while next(ticks).wake is Wake.NEW_CGROUPS:
            notifier.notify()
        assert time.monotonic() - began_s < 10 * MIN_WAIT_S


def test_notification_near_the_end_of_an_interval_waits_for_it(notifier: Notifier) -> None:
    """At a short interval it is handled with the interval."""
    with closing(Ticker(DEBOUNCE_S / 2)) as ticker:
        ticker.watch_cgroups(notifier)
        notifier.notify()
        ticks = iter(ticker)
        assert all(next(ticks).wake is Wake.INTERVAL for _ in range(5))
