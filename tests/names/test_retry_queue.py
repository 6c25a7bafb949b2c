"""Things that wait, a limited number of them, looked at a few at a time."""

from kepler_ebpf.names.retry_queue import Waiting


def test_nothing_is_due_before_it_is_woken() -> None:
    """What was added waits for the next wake."""
    waiting = Waiting[str, int](10)
    waiting.add("a", 1)
    assert waiting.take(10) == []
    waiting.wake()
    assert waiting.take(10) == [("a", 1)]


def test_all_that_wait_have_their_turn() -> None:
    """A few at a time, the first ones first, and none twice."""
    waiting = Waiting[int, str](10)
    for key in range(5):
        waiting.add(key, "")
    waiting.wake()
    turns = [[key for key, _ in waiting.take(2)] for _ in range(4)]
    assert turns == [[0, 1], [2, 3], [4], []]


def test_what_waits_again_is_due_at_the_next_wake() -> None:
    """Adding while taking does not go round for ever."""
    waiting = Waiting[str, int](10)
    waiting.add("a", 1)
    waiting.wake()
    waiting.add("a", waiting.take(1)[0][1] + 1)
    assert waiting.take(1) == []
    waiting.wake()
    assert waiting.take(1) == [("a", 2)]


def test_the_oldest_makes_room() -> None:
    """Never more than the limit wait."""
    waiting = Waiting[int, None](2)
    for key in range(4):
        waiting.add(key, None)
    waiting.wake()
    assert [key for key, _ in waiting.take(9)] == [2, 3]
