"""Fields of protocol buffers as bytes. A message is its fields, one after the other."""

from __future__ import annotations

import struct
from collections.abc import Iterable

VARINT, FIXED64, BYTES = 0, 1, 2
_64_BITS = (1 << 64) - 1


def varint(value: int) -> bytes:
    """Return a number of up to 64 bits in groups of seven; a negative one as its complement."""
    value &= _64_BITS
    groups = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def integer(number: int, value: int) -> bytes:
    """Return a field of an integer, an enumeration or a bool."""
    return varint(number << 3 | VARINT) + varint(value)


def double(number: int, value: float) -> bytes:
    """Return a field of a double."""
    return varint(number << 3 | FIXED64) + struct.pack("<d", value)


def message(number: int, *fields: bytes) -> bytes:
    """Return a field of a message that has *fields*."""
    body = b"".join(fields)
    return varint(number << 3 | BYTES) + varint(len(body)) + body


def text(number: int, value: str) -> bytes:
    """Return a field of a string."""
    return message(number, value.encode())


def packed(number: int, values: Iterable[int]) -> bytes:
    """Return a repeated field of integers."""
    return message(number, *map(varint, values))
