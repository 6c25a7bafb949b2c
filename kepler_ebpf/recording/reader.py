"""Reads a recording: a file, or all parts of one in a directory. README.md has an example."""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.regular_file import open_regular
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.bounds import harmless
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.recording.arrow import pa
from kepler_ebpf.recording.decode import MALFORMED, Decoder, learn_names, measured_of
from kepler_ebpf.recording.frames import Groups, State
from kepler_ebpf.recording.names import Names
from kepler_ebpf.recording.schema import (
    FORMAT_KEY,
    SUFFIX,
    Header,
    Mark,
    header_of,
    require_known_format,
)

MAX_HEADER_BYTES = 1 << 20
"""The header is in so many bytes of the beginning."""


NOT_WHOLE = 4
"""The exit status of who reads a recording that is damaged or cut, as far as it is whole."""


class Batch(NamedTuple):
    """About half a second of a recording, or one interval where that is longer.

    ``ends_s`` (intervals,) is the Unix time at which each interval ended. ``mark`` has the counts
    of the part so far.
    """

    measured: Measured
    ends_s: Floats
    mark: Mark


@dataclass(frozen=True, slots=True)
class Ending:
    """How a part ends. ``whole_bytes`` of ``size_bytes`` are proven whole, and were read.

    ``problem`` is for people: where and what is wrong, "" where nothing is. The last mark that is
    whole has the counts.
    """

    path: Path
    state: State
    problem: str
    whole_bytes: int
    size_bytes: int
    mark: Mark


class Recording:
    """A recording whose header has been read.

    ``names`` and ``endings`` grow while ``batches`` is iterated: after it the names are the best
    that there are, and each part has its ending. Names and all that is decoded come from groups
    whose checksum was right, and whose figures the host of the header can have.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        """Open the first of *parts*, see ``open_recording``. Raises SetupError."""
        self.parts = tuple(parts)
        self.names = Names()
        self.endings: list[Ending] = []
        with _opened(self.parts[0]) as file:
            self.header: Header = _header(file, self.parts[0])

    def batches(self) -> Iterator[Batch]:
        """Yield what was recorded, in order of time, as far as it is whole. Raises SetupError."""
        self.names, self.endings = Names(), []
        for path in self.parts:
            with _opened(path) as file:
                yield from self._batches_of(path, file)

    @property
    def state(self) -> State:
        """How the recording ends, after ``batches``: the worst of its parts' states."""
        states = [ending.state for ending in self.endings]
        *before, last = states or [State.CUT]
        if State.DAMAGED in states:
            return State.DAMAGED
        is_whole = all(state is State.COMPLETE for state in before) and not self.missing
        return last if is_whole else State.CUT

    @property
    def exit_status(self) -> int:
        """The exit status of a program that has read it: 0, or ``NOT_WHOLE``."""
        return 0 if self.state in {State.COMPLETE, State.WRITING} else NOT_WHOLE

    @property
    def problems(self) -> list[str]:
        """One sentence for each thing that is wrong, after ``batches``."""
        found = [ending.problem for ending in self.endings if ending.problem]
        for first, last in self.missing:
            one = f"part {first} is missing"
            found.append(one if first == last else f"parts {first} to {last} are missing")
        return found

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The parts that are missing between others: the first and the last number of each gap."""
        numbers = sorted(number for _, number in map(_recording_and_part, self.parts) if number)
        gaps = ((before + 1, after - 1) for before, after in pairwise(numbers))
        return [(first, last) for first, last in gaps if first <= last]

    def _batches_of(self, path: Path, file: BinaryIO) -> Iterator[Batch]:
        groups, decoder = Groups(file), None
        for group in groups:
            try:
                if decoder is None:
                    decoder = Decoder(group.raw)
                    self._require_ours(header_of(decoder.metadata, str(path)))
                    continue
                rows = decoder.rows(group.raw)
                measured, ends_s = measured_of(rows, self.header)
                learn_names(rows, self.names)
            except (*MALFORMED, SetupError) as error:
                groups.refuse(group, f"there are no such rows ({error})".splitlines()[0])
                break
            if measured.intervals:
                yield Batch(measured, ends_s, group.mark)
        self.endings.append(_ending(path, file, groups))

    def _require_ours(self, header: Header) -> None:
        """Raise ValueError where the *header* of a part is that of another recording."""
        ours, other = ((each.recording, each.zones) for each in (self.header, header))
        if ours != other:
            raise ValueError("it is a part of another recording")


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """Open a file, or the newest recording of a directory; its parts may be in rotation.

    A path without the end of a part's name, such as ``DIR/20261126T130303Z``, is that recording.
    Raises SetupError where there is no recording of a format that is known.
    """
    found = Path(path)
    if found.is_dir():
        every = sorted(found.glob(f"*-*{SUFFIX}"), key=_recording_and_part)
        newest = _recording_and_part(every[-1])[0] if every else ""
        parts = [part for part in every if _recording_and_part(part)[0] == newest]
    else:
        named = found.parent.glob(f"{glob.escape(found.name)}-*{SUFFIX}")
        parts = [found] if found.exists() else sorted(named, key=_recording_and_part)
    if not parts:
        raise SetupError(f"{path}: there is no recording", "name a file that `record` has written")
    return Recording(parts)


def _recording_and_part(path: Path) -> tuple[str, int]:
    """Return the recording's name and the part's number that are in the name of a file."""
    recording, _, number = path.name.removesuffix(SUFFIX).rpartition("-")
    return recording, int(number) if number.isdecimal() and recording else 0


def _opened(path: Path) -> BinaryIO:
    try:
        # A FIFO in the directory of a stranger would never be open.
        return os.fdopen(open_regular(path), "rb")
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
        raise SetupError(problem, "name a file that `record` has written") from None


def _header(file: BinaryIO, path: Path) -> Header:
    """Read the header. Raises SetupError where there is none that is known and whole."""
    begin = file.read(MAX_HEADER_BYTES)
    if FORMAT_KEY not in begin:
        problem = f"{path} is no recording of kepler-ebpf" if begin else f"{path} is empty"
        raise SetupError(problem, "name a file that `kepler-ebpf record` has written")
    try:
        metadata = pa.ipc.read_schema(pa.BufferReader(begin)).metadata or {}
    except (pa.ArrowException, OSError, EOFError):
        metadata = {}
    require_known_format(metadata, str(path))
    file.seek(0)
    if next(iter(Groups(file)), None) is None:
        raise SetupError(
            f"{path} is damaged at its beginning: nothing of it is whole",
            "take another part or a copy of it",
        )
    return header_of(metadata, str(path))


def _ending(path: Path, file: BinaryIO, groups: Groups) -> Ending:
    size_bytes, state, problem = os.fstat(file.fileno()).st_size, groups.state, groups.problem
    whole = f"the first {groups.whole_bytes} of {size_bytes} bytes are whole"
    if state is State.CUT and _is_locked(file):
        state = State.WRITING
    elif state is State.CUT:
        problem = f"{path} has no end: its recorder was killed, or it was cut; {whole}"
    elif state is State.DAMAGED:
        problem = f"{path} is damaged after byte {groups.whole_bytes}: {problem}; {whole}"
    return Ending(path, state, harmless(problem), groups.whole_bytes, size_bytes, groups.mark)


def _is_locked(file: BinaryIO) -> bool:
    """Whether a recorder still has the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # of a file system without locks
    fcntl.flock(file, fcntl.LOCK_UN)
    return False
