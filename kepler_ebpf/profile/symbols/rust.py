"""Names of Rust functions: the legacy mangling, and the one that is called v0."""

from __future__ import annotations

import re

from kepler_ebpf.profile.symbols.rust_v0 import MAX_CODE, demangle_v0

_LENGTH = re.compile("[1-9][0-9]{0,3}")
_HASH = re.compile(r"17h[0-9a-f]{16}E")
_ESCAPE = re.compile(r"\$(SP|BP|RF|LT|GT|LP|RP|C|u[0-9a-f]{1,6})\$|\.\.")
_ESCAPES = {
    "SP": "@",
    "BP": "*",
    "RF": "&",
    "LT": "<",
    "GT": ">",
    "LP": "(",
    "RP": ")",
    "C": ",",
    "..": "::",
}


def demangle_rust(name: str) -> str:
    """Return a Rust name without its hash; "" where *name* is none."""
    if name.startswith("_R"):
        return demangle_v0(name)
    return _legacy(name) if name.startswith("_ZN") else ""


def _legacy(name: str) -> str:
    parts, at = [], len("_ZN")
    while not _HASH.match(name, at):
        length = _LENGTH.match(name, at)
        if not length or length.end() + int(length[0]) > len(name):
            return ""
        at = length.end() + int(length[0])
        part = (
            name[length.end() : at].removeprefix("_")
            if name[length.end() :].startswith("_$")
            else name[length.end() : at]
        )
        parts.append(_ESCAPE.sub(_unescaped, part))
    return "::".join(parts)


def _unescaped(match: re.Match[str]) -> str:
    word = match[1] or match[0]
    if word[0] != "u":
        return _ESCAPES[word]
    code = int(word[1:], 16)
    return chr(code) if code < MAX_CODE else ""
