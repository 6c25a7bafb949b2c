"""What a user gets to read: files, descriptors and the standard streams, and errors of writing."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from contextlib import suppress
from typing import Any, TextIO

from kepler_ebpf.errors import SetupError

STDOUT, STDERR = 1, 2
ELSEWHERE = "redirect it to a file or a pipe that can be written"


class Output(io.FileIO):
    """Where a result is written, without a buffer: all of it, or it is an error.

    A file keeps what it has until something new is written, and a new one that stays empty is
    removed in the end. Where the reader of a pipe has gone, what is written goes nowhere.
    """

    def __init__(
        self,
        file: str | int,
        name: str = "",
        remedy: str = "name a place with room that may be written to",
        encoding: str | None = "utf-8",
    ) -> None:
        """Open a file by its path, or write to a descriptor, which stays open.

        Errors have *name* for it, a file's path by default, and *remedy*. Raises SetupError.
        """
        is_path = isinstance(file, str)
        self._is_new = is_path and not os.path.lexists(file)
        self._size = 0
        self._failure: SetupError | None = None
        self._named, self._remedy, self._encoding = name or str(file), remedy, encoding or "utf-8"
        try:
            super().__init__(file, "w", closefd=is_path, opener=_open)
        except OSError as error:
            raise self._unwritable(error.strerror) from None
        self._is_cut = is_path and stat.S_ISREG(os.fstat(self.fileno()).st_mode)

    def put(self, text: str) -> None:
        """Write *text*; characters that the encoding lacks are replaced. Raises SetupError."""
        self.write(text.encode(self._encoding, "replace"))

    def write(self, data: Any, /) -> int:
        """Write all bytes of *data*. Raises SetupError, and the same one ever after."""
        if self._failure:
            raise self._failure
        try:
            if self._is_cut and not self._size:
                self.truncate(0)
            self._write(memoryview(data))
        except (BrokenPipeError, ConnectionResetError):
            pass
        except OSError as error:
            with suppress(OSError):
                if self._is_cut:
                    self.truncate(self._size)  # Half a result may look whole.
            self._failure = self._unwritable(error.strerror)
            raise self._failure from None
        self._size += len(data)
        return len(data)

    def close(self) -> None:
        """Close it, if it is a file. Raises SetupError: some file systems write only then."""
        try:
            if self._is_new and not self.closed and not os.fstat(self.fileno()).st_size:
                os.unlink(self.name)  # noqa: PTH108 - a text, not a path of ours
            super().close()
        except OSError as error:
            raise self._unwritable(error.strerror) from None

    def refuse(self, reason: str) -> None:
        """Have all writing fail."""
        self._failure = self._unwritable(reason)

    def _write(self, left: memoryview) -> None:
        while left:
            written = super().write(left)
            if written is None:
                # Another program that shares the output may have made it non-blocking.
                select.select((), (self,), ())
            left = left[written or 0 :]

    def _unwritable(self, reason: str | None) -> SetupError:
        return SetupError(f"cannot write to {self._named}: {reason}", self._remedy)


class _Remarks(io.FileIO):
    """The standard error, of which no result depends: what cannot be written is dropped."""

    def write(self, data: Any, /) -> int:
        left = memoryview(data)
        with suppress(OSError):
            while left and (written := super().write(left)):
                left = left[written:]
        return len(data)


def has_reader(file: Output | TextIO) -> bool:
    """Whether the other end of a pipe or a socket is open; true for a file."""
    poll = select.poll()
    poll.register(file, 0)
    return not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def standard_output(remedy: str = ELSEWHERE) -> Output:
    """Return the standard output; where there is none, each write raises SetupError."""
    encoding = sys.stdout.encoding if sys.stdout else None
    output = Output(STDOUT, "the standard output", remedy, encoding)
    if sys.__stdout__ is None:
        output.refuse("it is closed")
    return output


def standard_error() -> Output:
    """Return the standard error, for a result."""
    encoding = sys.stderr.encoding if sys.stderr else None
    return Output(STDERR, "the standard error", ELSEWHERE, encoding)


def guard_standard_streams() -> None:
    """Have whatever prints raise SetupError where the standard output cannot be written.

    Nothing is lost with the standard error: remarks alone go there by way of ``sys.stderr``.
    """
    encodings = [stream.encoding if stream else None for stream in (sys.stdout, sys.stderr)]
    outputs = standard_output(), _Remarks(STDERR, "w", closefd=False)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(output, encoding, errors, write_through=True)
        for output, encoding, errors in zip(
            outputs, encodings, ("replace", "backslashreplace"), strict=True
        )
    )


def _open(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_TRUNC, 0o666)
