"""profile.proto for `go tool pprof`, and for what else reads it, such as the UI of Perfetto.

The values are whole microjoules. A reader knows no unit of energy and prints the bare number, so
the name of the type has the unit, and a comment repeats it.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import numpy as np

from kepler_ebpf.model.energy import NS_PER_S
from kepler_ebpf.profile.formats.caption import duration_s, facts, remarks, title
from kepler_ebpf.profile.formats.merged import merged, whole
from kepler_ebpf.profile.formats.protobuf import integer, message, packed
from kepler_ebpf.profile.model import Profile

SAMPLE_TYPES = (("samples", "count"), ("cpu", "nanoseconds"), ("energy_uj", "microjoules"))
"""Never renamed: only files with the same types can be compared (``-diff_base``)."""


class Strings:
    """The table of strings of a file; the empty one is first."""

    def __init__(self) -> None:
        self._indexes = {"": 0}

    def index(self, text: str) -> int:
        """Return the place of *text*, which is added where it is new."""
        return self._indexes.setdefault(text, len(self._indexes))

    def fields(self) -> Iterator[bytes]:
        """Return the table as fields of the file."""
        return (message(6, text.encode()) for text in self._indexes)


def write(profile: Profile, kind: str) -> bytes:
    """Return the file, compressed; the default type is the energy of *kind*."""
    strings = Strings()
    body = [
        *(message(1, _value_type(strings, *names)) for names in SAMPLE_TYPES),
        *_samples(profile, kind, strings),
        *_places(profile, strings),
        integer(9, int(profile.began_at_s * NS_PER_S)),
        integer(10, int(duration_s(profile) * NS_PER_S)),
        message(11, _value_type(strings, "cpu", "nanoseconds")),
        integer(12, NS_PER_S // max(1, profile.frequency_hz)),
        *(integer(13, strings.index(line)) for line in _comments(profile, kind)),
        integer(14, strings.index("energy_uj")),
    ]
    return gzip.compress(b"".join([*body, *strings.fields()]), mtime=0)


def _value_type(strings: Strings, name: str, unit: str) -> bytes:
    return integer(1, strings.index(name)) + integer(2, strings.index(unit))


def _comments(profile: Profile, kind: str) -> Iterator[str]:
    yield title(profile, kind)
    yield f"energy_uj is microjoules of {kind}; " + "; ".join(facts(profile, kind))
    yield from remarks(profile)


def _samples(profile: Profile, kind: str, strings: Strings) -> Iterator[bytes]:
    """Return a sample for each process and stack, innermost frame first, with its labels."""
    found = merged(profile)
    labels = [
        message(3, integer(1, strings.index("pid")), integer(3, process.pid))
        + message(3, integer(1, strings.index("comm")), integer(2, strings.index(process.comm)))
        for process in profile.processes
    ]
    locations = [packed(1, (index + 1 for index in reversed(stack))) for stack in profile.stacks]
    energy_uj = whole(found.energy_uj[:, profile.kinds.index(kind)])
    values = np.column_stack((found.samples, whole(found.cpu_ns), energy_uj)).tolist()
    for process, stack, figures in zip(found.process, found.stack, values, strict=True):
        yield message(2, locations[stack], packed(2, figures), labels[process])


def _places(profile: Profile, strings: Strings) -> Iterator[bytes]:
    """Return a mapping for each module, and a location and a function for each frame."""
    mappings = {"": 1}  # what is first is taken for the program, so it has no name
    for index, frame in enumerate(profile.frames, 1):
        mapping = mappings.setdefault(frame.module, len(mappings) + 1)
        name, module = strings.index(frame.name), strings.index(frame.module)
        yield message(4, integer(1, index), integer(2, mapping), message(4, integer(1, index)))
        yield message(5, integer(1, index), integer(2, name), integer(3, name), integer(4, module))
    for path, number in mappings.items():
        yield message(3, integer(1, number), integer(5, strings.index(path)), integer(7, 1))
