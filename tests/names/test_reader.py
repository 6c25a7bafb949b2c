"""Reads that may never return: given up, counted, replaced, and never waited for."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from kepler_ebpf.names.reader import GIVE_UP_S, MAX_STUCK, Reader

WAIT_S = 30.0


@dataclass
class World:
    """A reader on a clock that a test moves, and what was read by it."""

    now_s: float = 0.0
    used: list[object] = field(default_factory=list)
    gates: list[threading.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reader = Reader("a test", lambda: self.now_s)

    def request(self, key: str) -> None:
        """Have *key* itself read."""
        self.reader.request(key, lambda: key, self.used.append)

    def request_stuck(self, key: str) -> threading.Event:
        """Have *key* read when the returned event is set, and wait until that read has begun."""
        begun, gate = threading.Event(), threading.Event()

        def read() -> str:
            begun.set()
            gate.wait()
            return key

        self.gates.append(gate)
        self.reader.request(key, read, self.used.append)
        assert begun.wait(WAIT_S)
        return gate

    def until(self, holds: Callable[[], object]) -> None:
        """Deliver until something holds."""
        give_up_s = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < give_up_s
            self.reader.deliver()
            time.sleep(0.001)


@pytest.fixture
def world() -> Iterator[World]:
    """Give a reader; no thread outlives the test."""
    made = World()
    yield made
    for gate in made.gates:
        gate.set()
    made.until(lambda: not made.reader.threads)


def test_results_come_in_the_order_of_requests(world: World) -> None:
    """Each is used once, by the thread that delivers."""
    for key in "abc":
        world.request(key)
    world.until(lambda: len(world.used) == 3)
    world.reader.deliver()
    assert world.used == ["a", "b", "c"]


def test_delivery_waits_for_what_was_requested(world: World) -> None:
    """A read that is quick is there at once."""
    world.request("a")
    world.reader.deliver(WAIT_S)
    assert world.used == ["a"]


def test_no_thread_is_left_when_all_is_read(world: World) -> None:
    """A reader that is not needed costs nothing."""
    world.request("a")
    world.until(lambda: not world.reader.threads)
    world.request("b")
    world.until(lambda: world.used == ["a", "b"])


def test_read_that_does_not_return_holds_nobody_up(world: World) -> None:
    """It is given up after a while and counted, and another thread reads the rest."""
    gate = world.request_stuck("stuck")
    world.request("next")
    world.reader.deliver()
    assert (world.used, world.reader.given_up) == ([], 0)
    world.now_s += 2 * GIVE_UP_S
    world.until(lambda: world.used == ["next"])
    assert world.reader.given_up == 1
    gate.set()
    world.until(lambda: world.used == ["next", "stuck"])
    assert world.reader.given_up == 1


def test_stuck_threads_are_few(world: World) -> None:
    """With so many stuck the others wait, without a wait of the caller, until one returns."""
    for number in range(MAX_STUCK):
        world.request_stuck(f"stuck-{number}")
        world.now_s += 2 * GIVE_UP_S
        world.reader.deliver()
    world.request("waits")
    world.reader.deliver(WAIT_S)
    assert (world.reader.threads, world.reader.given_up, world.used) == (MAX_STUCK, MAX_STUCK, [])
    world.gates[0].set()
    world.until(lambda: set(world.used) == {"stuck-0", "waits"})


def test_newer_request_replaces_an_older_one(world: World) -> None:
    """What was read for the older one is not used, even where it comes later."""
    gate = world.request_stuck("a")
    world.reader.request("a", lambda: "newer", world.used.append)
    gate.set()
    world.until(lambda: world.used and not world.reader.threads)
    world.reader.deliver()
    assert world.used == ["newer"]


def test_cancelled_request_is_not_used(world: World) -> None:
    """Neither one that waits nor one that is being read."""
    gate = world.request_stuck("a")
    world.request("b")
    world.reader.cancel("a")
    world.reader.cancel("b")
    world.request("c")
    gate.set()
    world.until(lambda: world.used)
    assert world.used == ["c"]


def test_requests_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are dropped."""
    monkeypatch.setattr("kepler_ebpf.names.reader.MAX_WAITING", 2)
    gate = world.request_stuck("a")
    for key in "bcd":
        world.request(key)
    gate.set()
    world.until(lambda: len(world.used) == 3)
    assert world.used == ["a", "c", "d"]


def test_fault_of_a_read_is_raised_by_the_delivery(world: World) -> None:
    """The results of other reads are used by the next one."""

    def fail() -> None:
        raise RuntimeError("broken")

    world.reader.request("a", fail, world.used.append)
    world.request("b")
    with pytest.raises(RuntimeError, match="broken"):
        world.until(lambda: False)
    world.until(lambda: world.used == ["b"])


def test_thread_that_cannot_be_started_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of processes a name waits."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("_thread.start_new_thread", fail)
        world.request("a")
        world.reader.deliver(WAIT_S)
    assert world.used == []
    world.until(lambda: world.used == ["a"])


def test_thread_that_never_begins_is_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory for its first call a thread ends at once: its read waits for another one."""
    with monkeypatch.context() as patched:
        patched.setattr("_thread.start_new_thread", lambda *_: 0)
        world.request("a")
    world.now_s += 2 * GIVE_UP_S
    world.until(lambda: world.used == ["a"])
    assert world.reader.given_up == 0
