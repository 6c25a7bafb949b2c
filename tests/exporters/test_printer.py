"""The printing thread, with readers that are slow, silent and gone."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from snapshots import snapshot

from kepler_ebpf.errors import KeplerError, SetupError
from kepler_ebpf.exporters.printer import CLOSE_WAIT_S, Printer
from kepler_ebpf.host.output import Output
from kepler_ebpf.model.snapshot import Snapshot

GIVE_UP_S = 10.0
PIPE_SIZE = 4096


class Pipe:
    """A pipe with room for little, and the printer that writes to it."""

    def __init__(self, length: int, encoding: str = "utf-8") -> None:
        self.reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self.writer = writer
        self.failed = threading.Event()
        self.written = threading.Event()
        self._length = length
        self.output = Output(writer, "the standard output", "redirect it", encoding)
        self.printer = Printer(self.output, self._render, self.failed.set)

    def _render(self, shown: Snapshot) -> str:
        self.written.set()
        return f"{shown.at_s:.0f}é".ljust(self._length, ".")

    def take(self, *numbers: int) -> None:
        for number in numbers:
            self.printer.take(snapshot(at_s=number))

    def take_and_be_stuck(self, number: int) -> None:
        """Hand over one that the pipe has no room for."""
        self.take(number)
        assert self.written.wait(GIVE_UP_S)

    def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (part := os.read(self.reader, size - len(found))):
            found += part
        return found

    def close_reader(self) -> None:
        os.close(self.reader)


@pytest.fixture
def pipe_of() -> Iterator[Callable[..., Pipe]]:
    """Make pipes whose snapshots have a text of some length; no thread is left behind."""
    pipes: list[Pipe] = []

    def make(length: int = 4, encoding: str = "utf-8") -> Pipe:
        pipes.append(Pipe(length, encoding))
        return pipes[-1]

    yield make
    for pipe in pipes:
        with suppress(OSError):
            pipe.close_reader()
        with suppress(OSError, KeplerError):
            pipe.printer.close()
        os.close(pipe.writer)


def test_each_snapshot_is_a_text_of_its_own(pipe_of: Callable[..., Pipe]) -> None:
    """They come in order, each with its line's end, at once."""
    pipe = pipe_of()
    for number in (1, 2):
        pipe.take(number)
        assert pipe.read(6) == f"{number}é..\n".encode()
    assert pipe.printer.dropped == 0


def test_characters_that_the_output_lacks_are_replaced(pipe_of: Callable[..., Pipe]) -> None:
    """A terminal of another encoding is no fault."""
    pipe = pipe_of(encoding="ascii")
    pipe.take(1)
    assert pipe.read(5) == b"1?..\n"


def test_nobody_waits_for_a_reader_and_the_newest_is_kept(pipe_of: Callable[..., Pipe]) -> None:
    """While one is stuck, each new one replaces the one that waits, which is counted."""
    pipe = pipe_of(2 * PIPE_SIZE)
    pipe.take_and_be_stuck(1)
    pipe.take(2, 3, 4)
    assert pipe.printer.dropped == 2
    texts = pipe.read(2 * (2 * PIPE_SIZE + 2)).splitlines()
    assert [text.rstrip(b".") for text in texts] == ["1é".encode(), "4é".encode()]


def test_what_was_handed_over_is_printed_in_the_end(pipe_of: Callable[..., Pipe]) -> None:
    """A reader that takes it is given the rest, up to the last."""
    pipe = pipe_of(2 * PIPE_SIZE)
    pipe.take_and_be_stuck(1)
    pipe.take(2)
    texts: list[bytes] = []
    reader = threading.Thread(target=lambda: texts.extend(pipe.read(4 * PIPE_SIZE + 4).split()))
    reader.start()
    pipe.printer.close()
    reader.join(GIVE_UP_S)
    assert [text[:1] for text in texts] == [b"1", b"2"]


def test_end_does_not_wait_long_for_a_reader(pipe_of: Callable[..., Pipe]) -> None:
    """Who does not read is left, and ends nothing when it goes away later."""
    pipe = pipe_of(2 * PIPE_SIZE)
    pipe.take_and_be_stuck(1)
    began_s = time.monotonic()
    pipe.printer.close()
    assert time.monotonic() - began_s < CLOSE_WAIT_S + GIVE_UP_S
    pipe.close_reader()
    with pytest.raises(BrokenPipeError):
        pipe.printer.close()
    assert not pipe.failed.is_set()


def test_reader_that_goes_away_is_told(pipe_of: Callable[..., Pipe]) -> None:
    """Also in the middle of a text; the end raises it."""
    pipe = pipe_of(2 * PIPE_SIZE)
    pipe.take_and_be_stuck(1)
    pipe.close_reader()
    assert pipe.failed.wait(GIVE_UP_S)
    with pytest.raises(BrokenPipeError):
        pipe.printer.close()


def test_output_that_takes_nothing_is_an_error_with_a_remedy() -> None:
    """A full disk is reported at once and raised by close."""
    failed = threading.Event()
    with Output("/dev/full", "the standard output", "redirect it") as full:
        printer = Printer(full, lambda _: "text", failed.set)
        printer.take(snapshot())
        assert failed.wait(GIVE_UP_S)
        with pytest.raises(KeplerError, match="No space left on device\nredirect it"):
            printer.close()


def test_bug_in_the_text_ends_the_run_too(pipe_of: Callable[..., Pipe]) -> None:
    """It does not die unseen in its thread."""
    failed = threading.Event()

    def broken(_: Snapshot) -> str:
        raise ZeroDivisionError

    printer = Printer(pipe_of().output, broken, failed.set)
    printer.take(snapshot())
    assert failed.wait(GIVE_UP_S)
    with pytest.raises(ZeroDivisionError):
        printer.close()


def test_output_that_does_not_wait_is_waited_for(pipe_of: Callable[..., Pipe]) -> None:
    """Another program may have made a shared output non-blocking: nothing is lost by that."""
    pipe = pipe_of(2 * PIPE_SIZE)
    os.set_blocking(pipe.writer, False)
    pipe.take_and_be_stuck(1)
    assert len(pipe.read(2 * PIPE_SIZE + 2)) == 2 * PIPE_SIZE + 2
    assert not pipe.failed.is_set()


def test_closed_output_is_refused() -> None:
    """Where there is no standard output at all, that is said before anything starts."""
    with Output("/dev/null", "the standard output", "redirect it") as closed:
        closed.refuse("it is closed")
        with pytest.raises(SetupError, match="it is closed\nredirect it"):
            Printer(closed, lambda _: "text", lambda: None)
