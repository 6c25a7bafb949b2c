"""Writes what is recorded, in a thread of its own: a slow disk does not make an interval late."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import NamedTuple, TypeVar

from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.runtime import raise_priority
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.recording.encode import Encoder, NamedRows
from kepler_ebpf.recording.files import PartFile, Target
from kepler_ebpf.recording.names import Texts
from kepler_ebpf.recording.schema import Header, Mark

T = TypeVar("T")

END_BYTES = 4096
"""Room for the last mark and the end of a file."""

MAX_WAITING = 8
"""Batches that wait to be written. Beyond it the recorder waits, and intervals are longer."""


class Taken(NamedTuple):
    """A batch: intervals, which ended at ``ends_s``, and the names that are new or better.

    ``gone`` are the keys of names that no later batch but the next needs.
    """

    measured: Measured
    ends_s: list[float]
    names: NamedRows
    gone: Iterable[tuple[str, Hashable]]
    mark: Mark


class Writer:
    """Writes one recording. ``close`` it."""

    def __init__(self, target: Target, header: Header) -> None:
        """Make the first file. Raises SetupError."""
        self._target, self._header = target, header
        self.error: SetupError | None = None
        """Why nothing more is written; what was written before is whole."""
        self.is_full = False
        """Whether the file has reached its greatest size: nothing more is written."""
        self.written_bytes = 0
        """What was written in all, in whole batches."""
        self._largest = 0
        self._ended: list[tuple[PartFile, float]] = []
        self._names: dict[str, dict[Hashable, Texts]] = {}
        self._gone: Iterable[tuple[str, Hashable]] = ()
        self._mark = Mark()
        self._begin(header)
        self._queue: Queue[Taken | None] = Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._work, name="writer")
        self._thread.start()

    def put(self, taken: Taken) -> None:
        """Have a batch written, soon."""
        self._queue.put(taken)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is written."""
        return self.is_full or self.error is not None or not self._thread.is_alive()

    @property
    def paths(self) -> list[Path]:
        """The files that there are, the oldest first."""
        return [part.path for part, _ in self._ended] + [self._part.path]

    def close(self) -> None:
        """Write what waits, and end the recording."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        # It uses little, and on a busy host what waits for it is what a kill costs.
        raise_priority()
        while (taken := self._queue.get()) is not None:
            if not self.has_ended:
                self._attempt(self._write, taken)
        if not self.error:
            self._attempt(self._part.end, replace(self._mark, is_complete=True))
        for part in [*(part for part, _ in self._ended), self._part]:
            self._attempt(PartFile.close, part)

    def _attempt(self, do: Callable[[T], None], value: T) -> None:
        try:
            do(value)
        except SetupError as error:
            self.error = self.error or error

    def _write(self, taken: Taken) -> None:
        names = taken.names
        for kind, named in names.items():
            self._names.setdefault(kind, {}).update(named)
        if self._is_part_over():
            self._rotate()
            # Each part has the names of all that goes on.
            names = self._names
        batch = self._encoder.batch(taken.measured, taken.ends_s, names)
        data = self._part.frames.group(batch, taken.mark)
        self._part.write(data)
        self.written_bytes += len(data)
        self._largest = max(self._largest, len(data))
        self.is_full = not self._target.is_directory and not self._has_room(self._target.max_bytes)
        self._mark = taken.mark
        for kind, key in self._gone:
            self._names.get(kind, {}).pop(key, None)
        self._gone = taken.gone

    # --- rotation

    def _begin(self, header: Header) -> None:
        path, replaces = self._target.part(header), self._target.replaces
        self._part = PartFile(path, header, replaces=replaces)
        self._encoder = Encoder(self._part.frames.schema)

    def _is_part_over(self) -> bool:
        target, part = self._target, self._part
        is_old = time.monotonic() >= part.began_s + target.part_s
        return target.is_directory and (is_old or not self._has_room(target.part_bytes))

    def _has_room(self, most_bytes: int) -> bool:
        """Whether one more batch, as large as any before, is within *most_bytes* of the file."""
        return self._part.size_bytes + self._largest + END_BYTES <= most_bytes

    def _rotate(self) -> None:
        """End the part, begin the next, and remove the oldest beyond the bounds."""
        target, now_s = self._target, time.monotonic()
        self._part.end(replace(self._mark, is_complete=True))
        self._ended.append((self._part, now_s))
        self._header = replace(self._header, part=self._header.part + 1)
        self._begin(self._header)
        total = sum(part.size_bytes for part, _ in self._ended) + target.part_bytes
        while self._ended:
            oldest, ended_s = self._ended[0]
            if total <= target.max_bytes and now_s <= ended_s + target.keep_s:
                break
            oldest.path.unlink(missing_ok=True)
            total -= oldest.size_bytes
            del self._ended[0]
