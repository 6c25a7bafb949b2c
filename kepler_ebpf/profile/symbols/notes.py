"""What a profile has no names for, as sentences with their remedies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from kepler_ebpf.profile.symbols.demangle import readable

MAX_LISTED = 3
"""Files and programs that a sentence lists; of the rest it gives the number."""


@dataclass(eq=False, slots=True)
class Missing:
    """Counts of places in code that have no name.

    ``nameless`` by the path of the file, ``own_code`` by the executable of the program that made
    it, ``gone`` in files that could not be opened in time.
    """

    nameless: Counter[str] = field(default_factory=Counter)
    own_code: Counter[str] = field(default_factory=Counter)
    gone: int = 0
    hides_kernel: bool = False
    is_crowded: bool = False
    lacks_cxx: bool = False

    def sentences(self) -> Iterator[str]:
        """Say what is missing, and how to have it next time."""
        if self.hides_kernel:
            yield (
                "The kernel hides the names of its functions: give CAP_SYSLOG, and set"
                " kernel.kptr_restrict to 0 or 1."
            )
        if +self.nameless:
            yield (
                f"No symbols for places in {_listed(self.nameless)}: install the debug symbols"
                " of these files, or build them without stripping."
            )
        if +self.own_code:
            yield (
                f"No map of the code that was made at run time in {_listed(self.own_code)}: start"
                " node with --perf-basic-prof, Python 3.12 or later with -X perf, Java with an"
                " agent that writes /tmp/perf-PID.map."
            )
        if self.gone:
            yield (
                f"Places in files that could not be opened before their processes ended:"
                f" {self.gone}."
            )
        if self.is_crowded:
            yield "There were more files than may be open: profile fewer processes at once."
        if self.lacks_cxx:
            yield "C++ names are mangled: install libstdc++.so.6 (Debian: libstdc++6)."


def _listed(counts: Counter[str]) -> str:
    """Name those that have most, with their numbers."""
    ordered = (+counts).most_common()
    words = [f"{readable(PurePath(path).name)} ({n})" for path, n in ordered[:MAX_LISTED]]
    if len(ordered) > MAX_LISTED:
        words.append(f"{len(ordered) - MAX_LISTED} more files")
    return ", ".join(words)
