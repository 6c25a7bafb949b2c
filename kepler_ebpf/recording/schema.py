"""What a recording is made of: its columns, its header, and the marks between its batches.

README.md beside this file describes all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kepler_ebpf.errors import SetupError
from kepler_ebpf.model.bounds import bounded, harmless
from kepler_ebpf.model.energy import NS_PER_S, Zone
from kepler_ebpf.recording.arrow import pa

FORMAT = 1
"""Raised by what an older reader would misread; columns and keys that are added do not."""

MODEL = "busy-share-1"
"""How the energy is attributed live: see ``attribution``."""

FORMAT_KEY, HEADER_KEY, MARK_KEY = b"kepler_ebpf.format", b"kepler_ebpf.header", b"kepler_ebpf.mark"

SUFFIX = ".arrows"

TASK, INTERVAL, CGROUP, PROCESS, POD = ROWS = ("task", "interval", "cgroup", "process", "pod")
"""The kinds of rows."""

PLAIN = ("pid", "start_ns", "parent_tgid", "exec_id", "socket", "cpu_ns", "switches", "flags")
"""Columns of tasks that are never null."""

_MEASURED = pa.struct(
    [
        ("number", pa.int64()),
        ("start_ns", pa.int64()),
        ("end_ns", pa.int64()),
        ("at_s", pa.float64()),
        ("wall_ns", pa.int64()),
        ("busy_ns", pa.list_(pa.int64())),
        ("idle_ns", pa.list_(pa.int64())),
        ("lost_ns", pa.list_(pa.int64())),
        ("energy_uj", pa.list_(pa.float64())),
        ("unread", pa.list_(pa.bool_())),
        ("unowned", pa.list_(pa.bool_())),
    ]
)

COLUMNS = (
    ("row", pa.dictionary(pa.int8(), pa.string())),
    ("interval", pa.int64()),
    ("pid", pa.uint32()),
    ("start_ns", pa.uint64()),
    ("tgid", pa.uint32()),
    ("process_start_ns", pa.uint64()),
    ("parent_tgid", pa.uint32()),
    ("exec_id", pa.uint64()),
    ("cgroup_id", pa.dictionary(pa.int32(), pa.uint64())),
    ("socket", pa.uint32()),
    ("cpu_ns", pa.uint64()),
    ("switches", pa.uint32()),
    ("flags", pa.uint32()),
    ("comm", pa.dictionary(pa.int32(), pa.string())),
    ("process_comm", pa.dictionary(pa.int32(), pa.string())),
    ("measured", _MEASURED),
    ("labels", pa.map_(pa.string(), pa.string())),
)


MAX_UNIX_S = 1e11
"""Times are before it."""

MAX_ZONES = 1_000
"""Far more than a host has: work and memory grow with the square of their kinds."""

TYPES: Mapping[Any, Any] = {
    "str": str,
    "int": int,
    "int | None": int | None,
    "float": float | int,
    "bool": bool,
}
"""By the text of an annotation, what JSON has for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """How, where and since when was recorded. Each part of a recording has it.

    ``recording`` is the same in all parts of one recording; ``part`` counts from 1. ``command`` is
    the program that was run, with its arguments where they were asked for. A counter of the meter
    moves every ``update_s`` by whole ``unit_uj``. ``began_ns`` on the monotonic clock was
    ``began_s`` of Unix time.
    """

    recording: str
    part: int
    began_s: float
    began_ns: int
    version: str
    model: str
    node: str
    kernel: str
    cpu: str
    cpus: int
    sockets: int
    zones: tuple[Zone, ...]
    meter: str
    is_estimate: bool
    update_s: float
    unit_uj: float
    interval_s: float
    command: tuple[str, ...] = ()

    def schema(self) -> Any:
        """Return the Arrow schema with this header."""
        metadata = {FORMAT_KEY: str(FORMAT), HEADER_KEY: json.dumps(asdict(self))}
        return pa.schema(COLUMNS, metadata=metadata)

    def at_s(self, monotonic_ns: float) -> float:
        """Return the Unix time of an instant of the monotonic clock."""
        return self.began_s + (monotonic_ns - self.began_ns) / NS_PER_S


def require_known_format(metadata: Mapping[bytes, bytes], path: str) -> None:
    """Raise SetupError where the *metadata* of a schema are those of another format."""
    number = bounded(metadata.get(FORMAT_KEY, b"").decode(errors="replace"))
    if number not in {"", str(FORMAT)}:
        raise SetupError(
            f"{path} has format {number}, this program reads format {FORMAT}",
            "use a kepler-ebpf that is not older than the recording",
        )


def header_of(metadata: Mapping[bytes, bytes], path: str) -> Header:
    """Read the header from the *metadata* of a schema. Raises SetupError where it is none."""
    try:
        found = checked(Header, json.loads(metadata[HEADER_KEY]))
        found["zones"] = tuple(Zone(**checked(Zone, zone)) for zone in found["zones"])
        found["command"] = tuple(map(str, found.get("command", ())))
        header = Header(**found)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        problem = f"{path} has a header that is not understood: {error}"
        raise SetupError(problem, "take another recording") from error
    if not 0 < len(header.zones) <= MAX_ZONES or not 0 <= header.began_s < MAX_UNIX_S:
        raise SetupError(f"{path} has a header of no host", "take another recording")
    return header


def checked(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the fields *given* that a dataclass has; texts bounded and printable.

    Raises TypeError or ValueError for a field of another type.
    """
    found = {}
    for each in fields(kind):
        if each.name in given:
            value = given[each.name]
            if not isinstance(value, TYPES.get(each.type, object)):
                raise TypeError(each.name)
            found[each.name] = bounded(harmless(value)) if isinstance(value, str) else value
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a mark states of the recording up to it, since its beginning and over all parts.

    ``rows`` are those of tasks. ``late`` intervals came later than the grid by an interval or more,
    and hold the time of those that were skipped. ``lost_ns`` is CPU time without an owner,
    ``untracked_ns`` such that is known by cgroup only. ``meter_errors`` counts faults by "zone
    path: reason".
    """

    is_complete: bool = False
    rows: int = 0
    intervals: int = 0
    late: int = 0
    lost_ns: int = 0
    untracked_ns: int = 0
    events_lost: int = 0
    meter_errors: Mapping[str, int] = field(default_factory=dict)
