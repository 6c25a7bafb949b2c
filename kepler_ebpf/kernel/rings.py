"""The ring buffers of execs, of ends of processes, and of new cgroups."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

import numpy as np

from kepler_ebpf.kernel.layout import EXEC_EVENT, PATH_DELETED, PATH_UNKNOWN, PROCESS_END
from kepler_ebpf.kernel.ring import BUSY, DISCARDED, HEADER_BYTES, DataRing, Ring
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.model.names import ExecEvent

_END = np.dtype([("size", "<u4"), ("reserved", "<u4"), ("end", PROCESS_END)])
_FIXED = Struct("=QQIIII")
_TEXT_OFFSET = EXEC_EVENT.fields["text"][1] if EXEC_EVENT.fields else 0
_MAX_CACHED_PATHS = 256


class CgroupNotifier(Ring):
    """Notices that a cgroup was made, so that its event need not wait for the interval's end.

    The records are not read. ``fileno`` makes it something to select on.
    """

    def fileno(self) -> int:
        """Return the descriptor, readable from a notice on until ``acknowledge``."""
        return self._fd

    def acknowledge(self) -> None:
        """Drop all notices so far."""
        self._consumed[0] = self._produced[0]


class ProcessEnds(DataRing):
    """The ring of processes that ended without a record."""

    def take(self, epoch: int) -> Records:
        """Return the ends up to and in *epoch* since the last call, of ``layout.PROCESS_END``."""
        count, offset = self.pending_bytes // _END.itemsize, self._consumed[0] % self.size_bytes
        records = np.frombuffer(self._data, _END, count, offset)
        # What is being written has another size yet.
        is_whole = records["size"] == PROCESS_END.itemsize
        later = np.flatnonzero(~is_whole | (records["end"]["epoch"] > epoch))
        ends = records["end"][: later[0] if len(later) else count].copy()
        self._consumed[0] += len(ends) * _END.itemsize
        return ends


class ExecEvents(DataRing):
    """The ring of execs."""

    def __init__(self, map_fd: int) -> None:
        super().__init__(map_fd)
        self._sizes = self._data.cast("I")

    def take(self) -> list[ExecEvent]:
        """Return the execs since the last call in the order of their records, the oldest first."""
        events = []
        position, end, mask = self._consumed[0], self._produced[0], self.size_bytes - 1
        while position < end:
            offset = position & mask
            size = self._sizes[offset >> 2]
            if size & BUSY:
                break
            if not size & DISCARDED:
                events.append(self._event(offset + HEADER_BYTES))
            size &= ~DISCARDED
            position += (size + HEADER_BYTES + 7) & ~7
        self._consumed[0] = position
        return events

    def close(self) -> None:
        """Let go of the shared memory."""
        del self._sizes
        super().close()

    def _event(self, offset: int) -> ExecEvent:
        start_ns, exec_id, tgid, flags, arguments_len, path_len = _FIXED.unpack_from(
            self._data, offset
        )
        path_offset = offset + _TEXT_OFFSET + arguments_len
        arguments = bytes(self._data[offset + _TEXT_OFFSET : path_offset])
        exe = ""
        if not flags & PATH_UNKNOWN:
            components = bytes(self._data[path_offset : path_offset + path_len])
            exe = _path(components, is_deleted=bool(flags & PATH_DELETED))
        return ExecEvent(tgid, start_ns, exec_id, exe, _arguments(arguments))


@lru_cache(_MAX_CACHED_PATHS)
def _path(components: bytes, *, is_deleted: bool) -> str:
    """Join components, the last first and each with a terminator, as /proc/PID/exe shows them."""
    path = b"/" + b"/".join(reversed(components.split(b"\0")[:-1]))
    return path.decode("utf-8", "replace") + (" (deleted)" if is_deleted else "")


def _arguments(text: bytes) -> tuple[str, ...]:
    """Split at the terminators; the last of too many arguments may be cut and have none."""
    if not text:
        return ()
    return tuple(text.removesuffix(b"\0").decode("utf-8", "replace").split("\0"))
