"""Where the fields of kernel structs lie, from BTF: the running kernel's, or an object file's."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import c_uint32
from pathlib import Path
from typing import Self

from kepler_ebpf.errors import SetupError
from kepler_ebpf.kernel.libbpf import describe_errno, last_errno, library

_KIND_STRUCT = 4
_KIND_UNION = 5
_KIND_ENUM = 6
_HEADER_WORDS = 3
_MEMBER_WORDS = 3
_ENUM_WORDS = 2


class Btf:
    """A set of type descriptions; use as a context manager."""

    def __init__(self, handle: int | None, source: str) -> None:
        if not handle:
            raise SetupError(
                f"no type information (BTF) in {source} ({describe_errno(last_errno())})",
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
            )
        self._handle = handle
        self._source = source
        self._lib = library()

    @classmethod
    def of_kernel(cls) -> Self:
        """The running kernel's types."""
        return cls(library().btf__load_vmlinux_btf(), "the running kernel")

    @classmethod
    def of_object(cls, path: Path) -> Self:
        """The types of a compiled BPF object."""
        return cls(library().btf__parse_elf(str(path).encode(), None), str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lib.btf__free(self._handle)

    def offsets(self, struct: str) -> dict[str, int]:
        """The byte offset of each field of *struct*, in order, also of unnamed structs in it."""
        return dict(self._members(self._words(self._find(struct, _KIND_STRUCT))))

    def size(self, struct: str) -> int:
        """The size of *struct* in bytes."""
        return self._words(self._find(struct, _KIND_STRUCT))[2]

    def enum_value(self, enum: str, name: str) -> int | None:
        """The value of one enumerator, None where this kernel has none of that name."""
        words = self._words(self._find(enum, _KIND_ENUM))
        for entry in range(words[1] & 0xFFFF):
            at = _HEADER_WORDS + entry * _ENUM_WORDS
            if self._name(words[at]) == name:
                return words[at + 1]
        return None

    def _find(self, name: str, kind: int) -> int:
        type_id: int = self._lib.btf__find_by_name_kind(self._handle, name.encode(), kind)
        if type_id < 0:
            raise SetupError(
                f"the type information (BTF) in {self._source} lacks {name}",
                "use a stock kernel, Linux 5.10 or later",
            )
        return type_id

    def _words(self, type_id: int) -> ctypes.Array[c_uint32]:
        address = self._lib.btf__type_by_id(self._handle, type_id)
        header = (c_uint32 * _HEADER_WORDS).from_address(address)
        count = header[1] & 0xFFFF
        return (c_uint32 * (_HEADER_WORDS + count * _MEMBER_WORDS)).from_address(address)

    def _members(self, words: ctypes.Array[c_uint32], base: int = 0) -> Iterator[tuple[str, int]]:
        is_bitfield_form = words[1] >> 31
        for index in range(words[1] & 0xFFFF):
            name, type_id, bits = words[3 + index * 3 : 6 + index * 3]
            offset = base + (bits & 0xFFFFFF if is_bitfield_form else bits) // 8
            inner = self._words(type_id)
            if not name and inner[1] >> 24 & 0x1F in {_KIND_STRUCT, _KIND_UNION}:
                yield from self._members(inner, offset)
            else:
                yield self._name(name), offset

    def _name(self, offset: int) -> str:
        text = self._lib.btf__name_by_offset(self._handle, offset)
        return ctypes.string_at(text).decode() if text else ""
