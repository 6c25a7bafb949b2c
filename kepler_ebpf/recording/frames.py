"""The bytes of a recording: groups of Arrow messages, each ended by a mark that proves it whole.

A mark is a batch without rows. Its metadata have the offset of its group and a running CRC-32 of
all bytes of the file up to its own end, in which the digits of this CRC count as zeros. So the
marks cover every byte, and a group that its mark proves is as its writer has made it. Who that is
they do not prove: a group is not decoded where it would be too large.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from enum import Enum, auto
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

from kepler_ebpf.recording.arrow import pa
from kepler_ebpf.recording.decoded_size import MAX_DECODED_BYTES, decoded_bytes
from kepler_ebpf.recording.schema import MARK_KEY, Header, Mark, checked

END = b"\xff\xff\xff\xff\0\0\0\0"
"""The end of an Arrow stream."""

MAX_GROUP_BYTES = 1 << 28
"""More than a second holds: such a length is damage."""

NO_CRC = b"00000000"
_MARK = re.compile(rb'\{"bytes": \d+, [^\0]*"crc32": "([0-9a-f]{8})"\}')
_OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 3), emit_dictionary_deltas=True)


class Frames:
    """Makes the bytes of one file; each call returns those that come next."""

    def __init__(self, header: Header) -> None:
        self._sink, self._crc = _Sink(), 0
        self.schema = header.schema()
        self._writer = pa.ipc.new_stream(
            pa.PythonFile(self._sink, "w"), self.schema, options=_OPTIONS
        )

        # Of this a mark is made: a batch with other dictionaries would write them anew.
        self._last = pa.RecordBatch.from_pylist([], self.schema)

    def group(self, batch: Any | None, mark: Mark) -> bytes:
        """Return a *batch*, if there is one, and its *mark*. The first also returns the header."""
        text = {"bytes": self._sink.tell(), **asdict(mark), "crc32": NO_CRC.decode()}
        if batch is not None:
            self._writer.write_batch(batch)
            self._last = batch.slice(0, 0)
        mark_at = len(self._sink.made)
        self._writer.write_batch(self._last, {MARK_KEY: json.dumps(text)})
        made = self._sink.made
        digits_at = made.rindex(b'"crc32": "' + NO_CRC, mark_at) + 10
        made[digits_at : digits_at + 8] = b"%08x" % crc32(made, self._crc)
        self._crc = crc32(made, self._crc)
        return self._sink.take()

    def end(self) -> bytes:
        """Return the end of the stream, after a last mark."""
        self._writer.close()
        return self._sink.take()


class _Sink:
    """What the writer of a stream writes to."""

    closed = False

    def __init__(self) -> None:
        self.made, self._taken = bytearray(), 0

    def write(self, data: Any) -> int:
        self.made += data
        return len(data)

    def tell(self) -> int:
        return self._taken + len(self.made)

    def take(self) -> bytes:
        self._taken += len(self.made)
        taken = bytes(self.made)
        self.made.clear()
        return taken

    def flush(self) -> None:
        """Do nothing: what is made is taken."""

    close = flush


# --- reading ----------------------------------------------------------------------------------


class State(Enum):
    """How a file ends."""

    COMPLETE = auto()
    """All that was recorded is there and whole."""
    WRITING = auto()
    """It is being written: there is more later."""
    CUT = auto()
    """It ends without an end: its writer was killed, or its end is missing."""
    DAMAGED = auto()
    """It has bytes that its writer has not written."""


class Group(NamedTuple):
    """The bytes of a group that is whole, and its mark."""

    raw: bytes
    mark: Mark


class Groups:
    """The whole groups of a file, the first with its header alone. Iterate once."""

    def __init__(self, file: BinaryIO) -> None:
        self._source = _Source(file)
        self._stream = pa.PythonFile(self._source, "r")
        self.whole_bytes = 0
        """The length of the file's beginning that is proven."""
        self.mark = Mark()
        """The last mark."""
        self.state = State.CUT
        """How the file ends; known after the last group."""
        self.problem = ""
        """What is wrong, for people; "" where nothing is."""

    def __iter__(self) -> Iterator[Group]:
        crc = 0
        while (found := self._next(crc)) is not None:
            raw, crc = found
            yield Group(raw, self.mark)

    def _next(self, crc: int) -> tuple[bytes, int] | None:
        """Return the next group and the CRC up to its end; None where there is no whole one."""
        source, decoded = self._source, 0
        source.taken.clear()
        while True:
            begin = len(source.taken)
            try:
                message = pa.ipc.read_message(self._stream)
                decoded += decoded_bytes(message, MAX_DECODED_BYTES - decoded)
            except (pa.ArrowException, OSError, EOFError, ValueError) as error:
                self._ended(bytes(source.taken[begin:]), error, is_between=begin == 0)
                return None
            found = message.type == "record batch" and _MARK.search(message.metadata.to_pybytes())
            if found:
                raw = bytes(source.taken)
                return self._proven(raw, begin, found, crc)

    def _proven(
        self, raw: bytes, begin: int, found: re.Match[bytes], crc: int
    ) -> tuple[bytes, int] | None:
        """Return the group *raw*, whose mark begins at *begin*, if its mark is right."""
        digits = found[1]
        key = b'"crc32": "'
        at = raw.rindex(key + digits, begin) + len(key)
        unsigned = raw[:at] + NO_CRC + raw[at + len(NO_CRC) :]
        if crc32(unsigned, crc) != int(digits, 16):
            self._damaged("its checksum is not that of its bytes")
            return None
        try:
            self.mark = _mark_of(found[0], self.whole_bytes)
        except (ValueError, TypeError, RecursionError) as error:
            self._damaged(f"its mark is not right ({error})")
            return None
        self.whole_bytes += len(raw)
        return raw, crc32(raw, crc)

    def refuse(self, group: Group, problem: str) -> None:
        """Take the last *group* for damage: its bytes are proven, and it is none of ours."""
        self.whole_bytes -= len(group.raw)
        self._damaged(problem)

    def _ended(self, rest: bytes, error: Exception, *, is_between: bool) -> None:
        """Judge an end of the messages: *rest* are the bytes of the last one, which is none."""
        if rest == END and is_between and self.mark.is_complete:
            if self._source.read(1):
                self._damaged("there are bytes behind its end")
                return
            self.whole_bytes += len(END)
            self.state = State.COMPLETE
        elif self._source.is_at_end and not rest.startswith(b"\0") and rest != END:
            self.state = State.CUT
        else:
            self._damaged(f"there is no message ({error})".splitlines()[0])

    def _damaged(self, problem: str) -> None:
        self.state, self.problem = State.DAMAGED, problem


def _mark_of(text: bytes, offset: int) -> Mark:
    """Return the mark of the group at *offset*. Raises ValueError or TypeError for another."""
    fields = json.loads(text)
    if fields["bytes"] != offset:
        raise ValueError(f"it is that of byte {fields['bytes']}")
    return Mark(**checked(Mark, fields))


class _Source:
    """Reads a file, and keeps what was read until it is cleared."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.taken = file, bytearray()
        self.is_at_end = False

    def read(self, size: int) -> bytes:
        """Read *size* bytes; fewer at the end. Raises ValueError for a size that is damage."""
        if len(self.taken) + size > MAX_GROUP_BYTES:
            raise ValueError(f"it would be {size} bytes long")
        data = self._file.read(size)
        self.is_at_end = len(data) < size
        self.taken += data
        return data

    def tell(self) -> int:
        """Return the position, as Arrow wants it."""
        return self._file.tell()

    def flush(self) -> None:
        """Do nothing."""

    close = flush
