"""Names of C++ and Rust functions as their source has them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kepler_ebpf.model.bounds import harmless
from kepler_ebpf.profile.symbols.rust import demangle_rust

FILTER = Path(__file__).with_name("cxx_filter.py")

MAX_RESTARTS = 3
"""Of the program that demangles C++, in one call: each name that ends it stays mangled."""

MAX_KNOWN = 50_000
"""Names that are kept; beyond it all are forgotten."""

MAX_SHOWN = 1_000
"""Characters of a name that are shown."""

_TIMEOUT_S = 10.0
_CXX = re.compile(r"_Z[\x21-\x7e]{1,4094}")


class Demangler:
    """Demangles names, many at a time: C++ by the library of the compiler, Rust by itself."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self.is_missing = False
        """Whether there were C++ names and no library for them."""

    def demangle(self, names: Sequence[str]) -> list[str]:
        """Return *names* with those demangled that are mangled and correct."""
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        for name in {*names}:
            if name not in self._known and name[:2] in {"_Z", "_R"}:
                found = demangle_rust(name)
                if found or name[:2] == "_R":
                    self._known[name] = found or name
        self._add_cxx([name for name in {*names} - {*self._known} if _CXX.fullmatch(name)])
        return [self._known.get(name, name) for name in names]

    def _add_cxx(self, names: list[str]) -> None:
        for _ in range(MAX_RESTARTS):
            if not names:
                return
            found = self._filtered(names)
            self._known |= {name: other or name for name, other in zip(names, found, strict=False)}
            if len(found) < len(names):
                culprit = names[len(found)]
                self._known[culprit] = culprit
            names = names[len(found) + 1 :]

    def _filtered(self, names: list[str]) -> list[str]:
        """Return what the program made of *names*; fewer where it has ended at one."""
        command = [sys.executable, "-I", "-S", str(FILTER)]
        text = "".join(f"{name}\n" for name in names).encode()
        try:
            run = subprocess.run(
                command, input=text, capture_output=True, timeout=_TIMEOUT_S, check=False
            )
            output = run.stdout
            self.is_missing |= b"libstdc++" in run.stderr
        except subprocess.TimeoutExpired as late:
            output = late.stdout or b""
        except OSError:
            output = b""
        return output.decode("utf-8", "replace").split("\n")[:-1]


def readable(name: str) -> str:
    """Return a name as it may be shown: one line, not endless."""
    text = harmless(name)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
