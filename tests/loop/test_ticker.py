"""The grid of instants: it does not drift, misses are counted, and every way to cut a wait."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.loop.ticker import BELL_PAUSE_S, MAX_WAIT_S, MIN_WAIT_S, SIGNALS, Tick, Ticker

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
        self.ticker.want_now()
        assert next(self._ticks).extra
        return self.next()


@contextmanager
def loop(interval_s: float = INTERVAL_S) -> Iterator[Loop]:
    """Give a loop whose grid starts with its first tick."""
    clock = Clock()
    with closing(Ticker(interval_s, clock)) as ticker:
        yield Loop(ticker, clock)


# --- rests ---------------------------------------------------------------------------------------


def test_a_long_wait_has_moments_of_rest() -> None:
    """Between two instants far apart the loop is called to read what may wrap, and no more."""
    with closing(Ticker(LONG_S)) as ticker:
        ticker.rest_within(MIN_WAIT_S)
        ticks, began_s = iter(ticker), time.monotonic()
        assert [next(ticks) for _ in range(3)] == [Tick(rest=True)] * 3
        assert time.monotonic() - began_s >= 3 * MIN_WAIT_S


def test_tick_of_another_kind_puts_the_rest_off() -> None:
    """The counters are read then as well."""
    with closing(Ticker(LONG_S)) as ticker:
        ticker.rest_within(MIN_WAIT_S)
        ticks = iter(ticker)
        for _ in range(3):
            time.sleep(MIN_WAIT_S)
            ticker.want_now()
            assert next(ticks) == Tick(extra=True)


def test_no_interval_shorter_than_the_wait_has_a_rest() -> None:
    """Instants of the grid come soon enough."""
    with closing(Ticker(MIN_WAIT_S / 10)) as ticker:
        ticker.rest_within(MIN_WAIT_S)
        ticks = iter(ticker)
        assert not any(next(ticks).rest for _ in range(30))


@pytest.mark.parametrize("longest_s", [0.0, math.inf])
def test_rests_are_neither_without_pause_nor_without_end(longest_s: float) -> None:
    """Whatever a broken counter asks for, the loop rests within bounds."""
    clock = Clock()
    with closing(Ticker(LONG_S, clock)) as ticker:
        ticker.rest_within(longest_s)
        ticks = iter(ticker)
        ticker.want_now()
        next(ticks)
        clock.now_s += MAX_WAIT_S
        assert next(ticks) == Tick(rest=True)
        ticker.want_now()
        assert next(ticks) == Tick(extra=True)


# --- the grid ---------------------------------------------------------------------------------


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
        assert run.next() == Tick(lateness_s=6 * INTERVAL_S, missed=6)
        assert run.next() == Tick()


def test_grid_starts_with_the_iteration() -> None:
    """The time it takes to get ready is neither lateness nor a missed tick."""
    clock = Clock()
    with closing(Ticker(INTERVAL_S, clock)) as ticker:
        clock.now_s += 100 * INTERVAL_S
        assert Loop(ticker, clock).first() == Tick()


def test_waits_are_real() -> None:
    """Without any help the ticks come by themselves."""
    with closing(Ticker(0.001)) as ticker:
        ticks = iter(ticker)
        assert not any(next(ticks).extra for _ in range(5))


# --- cutting a wait ---------------------------------------------------------------------------


def test_wanted_tick_comes_at_once_and_moves_nothing() -> None:
    """It is extra: the grid stays where it is."""
    with loop() as run:
        run.first()
        run.clock.now_s += INTERVAL_S / 4
        run.ticker.want_now()
        assert run.ticker.remaining_s() == 0
        assert run.next() == Tick(extra=True)
        assert run.ticker.remaining_s() == pytest.approx(INTERVAL_S * 3 / 4)
        assert run.next() == Tick()


def test_many_who_want_get_one_tick() -> None:
    """What was asked for before a tick is served by it."""
    with loop() as run:
        run.first()
        for _ in range(5):
            run.ticker.want_now()
        assert run.next().extra
        assert not run.next().extra


def test_tick_of_the_grid_serves_who_wants_one() -> None:
    """A tick that is due anyway needs no other one right behind it."""
    with loop() as run:
        run.first()
        run.ticker.want_now()
        run.clock.now_s += 1.5 * INTERVAL_S
        assert not run.next().extra
        assert run.ticker.remaining_s() == pytest.approx(INTERVAL_S / 2)
        assert run.next() == Tick()


def test_wanted_from_another_thread() -> None:
    """A reader's thread ends a wait that is under way."""
    with closing(Ticker(LONG_S)) as ticker:
        thread = threading.Thread(target=ticker.want_now)
        thread.start()
        assert next(iter(ticker)).extra
        thread.join()


def test_stop_ends_a_wait_from_another_thread() -> None:
    """No tick comes any more, not even one that was wanted."""
    with closing(Ticker(LONG_S)) as ticker:

        def stop_and_want() -> None:
            ticker.stop()
            ticker.want_now()

        thread = threading.Thread(target=stop_and_want)
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


@pytest.mark.parametrize("signum", SIGNALS)
def test_signal_stops_a_wait(signum: signal.Signals) -> None:
    """A signal that comes while waiting ends the loop; afterwards the old handler is back."""
    before = signal.getsignal(signum)
    with closing(Ticker(LONG_S)) as ticker:
        with ticker.stopped_by_signals():
            thread = threading.Thread(target=os.kill, args=(os.getpid(), signum))
            thread.start()
            assert list(ticker) == []
            thread.join()
        assert signal.getsignal(signum) == before


# --- the bell ---------------------------------------------------------------------------------


class Bell:
    """A bell that a test rings."""

    def __init__(self) -> None:
        self._event = os.eventfd(0)

    def fileno(self) -> int:
        return self._event

    def ring(self) -> None:
        os.eventfd_write(self._event, 1)

    def acknowledge(self) -> None:
        os.eventfd_read(self._event)

    def close(self) -> None:
        os.close(self._event)


@pytest.fixture
def bell() -> Iterator[Bell]:
    """Give a bell that is silent."""
    with closing(Bell()) as made:
        yield made


def test_bell_is_answered_within_a_wait(bell: Bell) -> None:
    """Once for each time it was rung, and the grid stays where it is."""
    with closing(Ticker(LONG_S)) as ticker:
        ticker.listen(bell)
        ticks = iter(ticker)
        for _ in range(2):
            bell.ring()
            assert next(ticks) == Tick(rung=True)
        ticker.want_now()
        assert next(ticks) == Tick(extra=True)


def test_bell_that_does_not_stop_is_answered_now_and_then(bell: Bell) -> None:
    """It leaves the loop its pauses: the next answer comes after one."""
    with closing(Ticker(LONG_S)) as ticker:
        ticker.listen(bell)
        ticks = iter(ticker)
        bell.ring()
        next(ticks)
        answered_s = time.monotonic()
        bell.ring()
        next(ticks)
        assert time.monotonic() - answered_s >= BELL_PAUSE_S


def test_bell_that_does_not_stop_lets_the_loop_rest(bell: Bell) -> None:
    """No counter is read when it is answered: it does not put the rest off."""
    with closing(Ticker(LONG_S)) as ticker:
        ticker.listen(bell)
        ticker.rest_within(MIN_WAIT_S)
        ticks, began_s = iter(ticker), time.monotonic()
        bell.ring()
        while next(ticks).rung:
            bell.ring()
        assert time.monotonic() - began_s < 10 * MIN_WAIT_S


def test_bell_is_not_heard_where_the_next_instant_is_near(bell: Bell) -> None:
    """At a short interval what it tells of is looked at with the interval."""
    with closing(Ticker(BELL_PAUSE_S / 2)) as ticker:
        ticker.listen(bell)
        bell.ring()
        ticks = iter(ticker)
        assert not any(next(ticks).rung for _ in range(5))
