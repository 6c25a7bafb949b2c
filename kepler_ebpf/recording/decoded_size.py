"""How large an Arrow message is once it is decoded, known before.

A compressed buffer begins with the size that it claims to have, and Arrow's library allocates that:
a small file can claim all memory. The places of the buffers are in the message's metadata, which
are a flatbuffer: tables, in which each field has a number.
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import Any

import numpy as np

MAX_DECODED_BYTES = 1 << 30
"""Of a group. More than a second and all names hold: such a size is damage."""

_U16, _I16, _U32, _I32, _I64 = map(Struct, ("<H", "<h", "<I", "<i", "<q"))
_BUFFER = np.dtype([("offset", "<i8"), ("length", "<i8")])
_V5 = 4
"""Of Arrow's metadata. Before it, a compressed batch looked like one that is not."""

_PLAIN = -1
"""The size of a buffer that is not compressed, in a batch that is."""

Table = tuple[bytes, int]


def decoded_bytes(message: Any, most: int) -> int:
    """Return the size of a message of Arrow.

    Raises ValueError where that is more than *most*, or the message is no possible one.
    """
    try:
        size = 0 if message.type == "schema" else _size_of(message)
    except struct.error as error:
        raise ValueError("its metadata are malformed") from error
    if size > most:
        raise ValueError(f"it would be {size} bytes long")
    return size


def _size_of(message: Any) -> int:
    data, body = message.metadata.to_pybytes(), memoryview(message.body or b"")
    root = (data, _U32.unpack_from(data)[0])
    version = _required(_place(root, 0))
    if _I16.unpack_from(data, version)[0] != _V5:
        raise ValueError("it is of another version of Arrow")
    batch = _table(root, 2) if message.type == "record batch" else _table(_table(root, 2), 1)
    buffers = _required(_place(batch, 2))
    begin = buffers + _U32.unpack_from(data, buffers)[0]
    count = _U32.unpack_from(data, begin)[0]
    places = np.frombuffer(data, _BUFFER, count, begin + _U32.size)
    if _place(batch, 3) is None:
        return int(places["length"].sum())
    return sum(_claimed(body, offset, length) for offset, length in places.tolist() if length)


def _claimed(body: memoryview, offset: int, length: int) -> int:
    size: int = _I64.unpack_from(body, _required(offset))[0]
    return length - _I64.size if size == _PLAIN else _required(size)


def _table(table: Table, number: int) -> Table:
    """Return the table that a field refers to."""
    at = _required(_place(table, number))
    return table[0], at + _U32.unpack_from(table[0], at)[0]


def _place(table: Table, number: int) -> int | None:
    """Return where a field of a table is, None where it has none."""
    data, at = table
    fields = at - _I32.unpack_from(data, at)[0]
    entry = _U16.size * (2 + number)
    if entry >= _U16.unpack_from(data, fields)[0]:
        return None
    offset = _U16.unpack_from(data, fields + entry)[0]
    return at + offset if offset else None


def _required(value: int | None) -> int:
    if value is None or value < 0:
        raise ValueError("its metadata are malformed")
    return value
