"""The log: one record a line in both forms, and no repetitions."""

import fcntl
import io
import json
import logging
import os
from collections.abc import Callable, Iterator

import pytest

from kepler_ebpf.host.log import JsonLines, NonBlockingHandler, RepeatFilter, TextLines, set_up


def record(message: str, level: int = logging.WARNING, *args: object) -> logging.LogRecord:
    """Make a record as a logger would."""
    return logging.LogRecord("kepler_ebpf.test", level, "file.py", 1, message, args, None)


@pytest.fixture
def log() -> Iterator[Callable[[str, str], io.StringIO]]:
    """Set the log up on a buffer, and put back what was set up before."""
    root, ours = logging.getLogger(), logging.getLogger("kepler_ebpf")
    handlers, levels = root.handlers[:], (root.level, ours.level)

    def start(level: str, form: str) -> io.StringIO:
        stream = io.StringIO()
        set_up(level, form, stream)
        return stream

    yield start
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_level_bounds_what_is_logged(log: Callable[[str, str], io.StringIO]) -> None:
    """A record below the level is not written."""
    stream = log("warn", "text")
    logging.getLogger("kepler_ebpf").info("quiet")
    logging.getLogger("kepler_ebpf").warning("loud")
    assert stream.getvalue().endswith("warn  loud\n")
    assert "quiet" not in stream.getvalue()


def test_full_pipe_does_not_block_the_log() -> None:
    """A record that does not fit into the pipe is dropped; with room again, the next fits."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reader, "rb") as read, os.fdopen(writer, "w") as stream:
        handler = NonBlockingHandler(stream)
        os.write(writer, b"." * size)
        handler.emit(record("dropped"))
        assert read.read() == b"." * size
        handler.emit(record("logged"))
        assert read.read() == b"logged\n"


def test_long_record_does_not_block_the_log() -> None:
    """Of a record for which the pipe has no room only the start is written, and the next is whole.

    A pipe that is ready has room for 4 KiB, not for a traceback.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reader, "rb") as read, os.fdopen(writer, "w") as stream:
        handler = NonBlockingHandler(stream)
        handler.emit(record("\u00e4" * 4 * size))
        cut = read.read().decode()
        assert 0 < len(cut) < 4 * size
        assert set(cut) == {"\u00e4"}
        handler.emit(record("next"))
        assert read.read() == b"\nnext\n"


def test_dropped_message_is_not_counted_as_logged() -> None:
    """It is logged when there is room again, and not taken for a repetition."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reader, "rb") as read, os.fdopen(writer, "w") as stream:
        handler = NonBlockingHandler(stream)
        handler.addFilter(RepeatFilter())
        os.write(writer, b"." * size)
        handler.handle(record("zone failed"))
        assert read.read() == b"." * size
        for _ in range(2):
            handler.handle(record("zone failed"))
        assert read.read() == b"zone failed\n"


def test_debug_messages_of_other_packages_are_dropped(
    log: Callable[[str, str], io.StringIO],
) -> None:
    """Our debug level does not apply to other packages."""
    stream = log("debug", "text")
    logging.getLogger("urllib3").debug("theirs")
    logging.getLogger("kepler_ebpf.x").debug("ours")
    assert stream.getvalue().endswith("debug ours\n")
    assert "theirs" not in stream.getvalue()


def test_json_line_has_its_fields(log: Callable[[str, str], io.StringIO]) -> None:
    """Each line of the JSON form is an object by itself."""
    stream = log("info", "json")
    logging.getLogger("kepler_ebpf.x").error('a "b"\n%s', "c")
    fields = json.loads(stream.getvalue())
    assert (fields["level"], fields["msg"], fields["logger"]) == (
        "error",
        'a "b"\nc',
        "kepler_ebpf.x",
    )


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_message_with_line_breaks_is_one_line(form: logging.Formatter) -> None:
    """A process may be named so as to forge a line; it does not become one."""
    assert "\n" not in form.format(record("comm %s", logging.WARNING, "x\n2026 info all is well"))


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_what_a_terminal_would_obey_is_escaped(form: logging.Formatter) -> None:
    """A server's error text, in a message or in an exception, colours no line and hides none."""
    told = "\x1b[31mred\x07 \x9b2J \u202eoga"
    line = record("HTTP 403: %s, groß", logging.WARNING, told)
    line.exc_info = (ValueError, ValueError(told), None)
    written = form.format(line)
    assert all(each.isprintable() for each in written.splitlines())
    assert written.count("[31mred") == 2


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_traceback_of_a_bug_is_kept(form: logging.Formatter) -> None:
    """A bug is logged with its traceback."""
    try:
        _ = 1 // 0
    except ZeroDivisionError as error:
        line = record("bug")
        line.exc_info = (type(error), error, error.__traceback__)
    assert "ZeroDivisionError" in form.format(line)


def test_repeated_message_is_logged_once() -> None:
    """A fault at every tick is one line, not a hundred a second."""
    repeats = RepeatFilter(clock=lambda: 0.0)
    assert [repeats.filter(record("zone failed")) for _ in range(3)] == [True, False, False]


def test_message_is_logged_again_with_its_count() -> None:
    """After the quiet time the next one has the number of dropped ones."""
    now = [0.0]
    repeats = RepeatFilter(clock=lambda: now[0])
    for _ in range(3):
        repeats.filter(record("zone %s failed", logging.WARNING, "dram"))
    now[0] = 301.0
    again = record("zone %s failed", logging.WARNING, "dram")
    assert repeats.filter(again)
    assert again.getMessage() == "zone dram failed (repeated 2 more times)"


def test_other_messages_pass() -> None:
    """The same words about another thing are another message."""
    repeats = RepeatFilter(clock=lambda: 0.0)
    assert repeats.filter(record("zone %s failed", logging.WARNING, "dram"))
    assert repeats.filter(record("zone %s failed", logging.WARNING, "core"))


def test_debug_messages_all_pass() -> None:
    """Debug messages may repeat."""
    repeats = RepeatFilter(clock=lambda: 0.0)
    assert all(repeats.filter(record("tick", logging.DEBUG)) for _ in range(3))


def test_memory_of_messages_is_bounded() -> None:
    """Messages that all differ are not kept for ever, and all are logged."""
    repeats = RepeatFilter(clock=lambda: 0.0)
    assert all(repeats.filter(record(f"process {pid} vanished")) for pid in range(5_000))
