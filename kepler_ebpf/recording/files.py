"""The files of a recording: made for us alone, whole up to the last group, locked while written."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kepler_ebpf.errors import SetupError
from kepler_ebpf.recording.frames import Frames
from kepler_ebpf.recording.schema import SUFFIX, Header, Mark

SYNC_S = 2.0
"""So often what was written is brought to the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to record to.

    A file ends the recording at ``max_bytes``. A directory gets one part after the other, each of
    ``part_bytes`` and ``part_s`` at most; its oldest parts of this recording are removed beyond
    ``max_bytes`` in all, and those that ended longer than ``keep_s`` ago.
    """

    path: Path
    is_directory: bool
    replaces: bool
    max_bytes: int
    part_bytes: int
    part_s: float
    keep_s: float

    def prepare(self) -> None:
        """Make the directory; raise SetupError where a file is in the way."""
        if self.is_directory:
            try:
                self.path.mkdir(0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise _cannot("make", self.path, error) from None
        elif os.path.lexists(self.path) and not self.replaces:
            raise SetupError(f"{self.path} exists", "name another file, or give --force")

    def part(self, header: Header) -> Path:
        """Return the path of the part that *header* begins."""
        if not self.is_directory:
            return self.path
        return self.path / f"{header.recording}-{header.part:04}{SUFFIX}"


class PartFile:
    """One file that is written. After a method has raised SetupError, it is whole and closed.

    What ``write`` has written is in the file, and a kill does not take it away. A thread brings it
    to the disk, against a loss of power: a slow disk must not delay the next ``write``.
    """

    def __init__(self, path: Path, header: Header, *, replaces: bool = False) -> None:
        """Make the file at *path* with its header. It *replaces* what is there, or raises."""
        self.path, self.size_bytes = path, 0
        self.began_s = time.monotonic()
        self.frames = Frames(header)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            if replaces:
                # Never written through: that name may be another's file, or a link to one.
                path.unlink(missing_ok=True)
            self._file = os.open(path, flags, 0o600)
        except FileExistsError:
            raise SetupError(f"{path} exists", "name another file, or give --force") from None
        except OSError as error:
            raise _cannot("make", path, error) from None
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._has_ended = threading.Event()
        self._sync_error: OSError | None = None
        self._syncing = threading.Thread(target=self._sync, name="sync", daemon=True)
        self._syncing.start()
        self.write(self.frames.group(None, Mark()))

    def write(self, data: bytes) -> None:
        """Write what ``frames`` has made; what cannot be written whole is not in the file."""
        try:
            if self._sync_error:
                raise self._sync_error
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self.size_bytes += len(data)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self.size_bytes)
            self._join()
            raise _cannot("write", self.path, error) from None

    def end(self, mark: Mark) -> None:
        """End the file as complete; it is on the disk after ``close``, or soon."""
        self.write(self.frames.group(None, mark) + self.frames.end())
        self._has_ended.set()

    def close(self) -> None:
        """Wait until the file is on the disk. Raises SetupError where it is not."""
        self._join()
        if self._sync_error:
            raise _cannot("write", self.path, self._sync_error)

    def _sync(self) -> None:
        has_ended = False
        while not has_ended:
            has_ended = self._has_ended.wait(SYNC_S)
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self._sync_error = error
        os.close(self._file)

    def _join(self) -> None:
        self._has_ended.set()
        self._syncing.join()


def _cannot(do: str, path: Path, error: OSError) -> SetupError:
    return SetupError(
        f"cannot {do} {path}: {error.strerror}", "name a place with room that may be written to"
    )
