"""JSON out of response bodies, object by object as the bytes arrive.

A pod list can be many megabytes. Decoding it whole would hold the interpreter for tens of
milliseconds and keep every object in memory at once; here it is one pod at a time.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping

from .api_errors import ApiError
from .objects import mapping

MAX_OBJECT_BYTES = 16 * 1024 * 1024
"""No single object may be larger; the API server's own limit is below 2 MiB."""

_READ_CHARS = 65_536
_SPACE = " \t\r\n"
_DECODER = json.JSONDecoder()


class JsonReader:
    """Takes JSON tokens and whole values from a body, reading only as far as it must."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Read *chunks*; bytes that are not UTF-8 become replacement characters."""
        self._chunks = chunks
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._at = 0

    def peek(self) -> str:
        """Return the next character that is not white space, without taking it."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            self._read_on()

    def take(self, allowed: str) -> str:
        """Take the next character, which must be one of *allowed*."""
        found = self.peek()
        if found not in allowed:
            raise ApiError("malformed", f"the answer is not the JSON of a list (at {found!r})")
        self._at += 1
        return found

    def value(self) -> object:
        """Take one whole value."""
        self.peek()
        while True:
            value, end = self._try_decode()
            if end < len(self._text):
                self._at = end
                return value
            self._read_on()

    def _try_decode(self) -> tuple[object, int]:
        """Decode the value at hand; an end at the end of the text means: read on."""
        try:
            return _DECODER.raw_decode(self._text, self._at)
        except json.JSONDecodeError:
            return None, len(self._text)
        except RecursionError as error:
            raise ApiError("malformed", "the answer is nested too deeply") from error

    def _read_on(self) -> None:
        """Read as much again as there is, at least a block: each character is decoded twice or so.

        Neither a large object nor a body in tiny pieces is decoded again at each piece.
        """
        rest = self._text[self._at :]
        if len(rest) > MAX_OBJECT_BYTES:
            raise ApiError("malformed", "the answer holds something that is not JSON or too large")
        pieces, wanted = [rest], len(rest) + max(_READ_CHARS, len(rest))
        length = len(rest)
        for chunk in self._chunks:
            pieces.append(self._decoder.decode(chunk))
            length += len(pieces[-1])
            if length >= wanted:
                break
        if length == len(rest):
            raise ApiError("network", "the answer ended in the middle of an object")
        self._text, self._at = "".join(pieces), 0


class ListBody:
    """The body of a list: its items one by one, and its metadata once they have been read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._reader = JsonReader(chunks)
        self.metadata: Mapping[str, object] = {}

    def items(self) -> Iterator[object]:
        """Yield each item; raises ApiError where the body is cut short or is no list."""
        reader, is_list = self._reader, False
        reader.take("{")
        separator = reader.peek()
        while separator != "}":
            key = reader.value()
            reader.take(":")
            if key == "items" and reader.peek() == "[":
                is_list = True
                yield from self._array()
            else:
                value = reader.value()
                is_list = is_list or (key, value) == ("kind", "PodList")
                if key == "metadata":
                    self.metadata = mapping(value)
            separator = reader.take(",}")
        if not is_list:
            raise ApiError("malformed", "the answer is not a list of pods")

    def _array(self) -> Iterator[object]:
        self._reader.take("[")
        separator = self._reader.peek()
        if separator == "]":
            self._reader.take("]")
        while separator != "]":
            yield self._reader.value()
            separator = self._reader.take(",]")


def json_lines(chunks: Iterator[bytes]) -> Iterator[object]:
    """Yield the value of each line as soon as it is complete; a cut last line is a fault."""
    pending = bytearray()
    for chunk in chunks:
        scanned = len(pending)
        pending += chunk
        while (end := pending.find(b"\n", scanned)) >= 0:
            line = bytes(pending[:end])
            del pending[: end + 1]
            scanned = 0
            if line.strip():
                yield _decoded(line)
        if len(pending) > MAX_OBJECT_BYTES:
            raise ApiError("malformed", "the watch sent an object that is too large")
    if pending.strip():
        raise ApiError("network", "the watch ended in the middle of an object")


def _decoded(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        problem = f"the watch sent something that is not JSON: {error}"
        raise ApiError("malformed", problem) from error
