"""Recordings made of figures, and what damages them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np

from kepler_ebpf.kernel.layout import TASK
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.usage import Interval, Measured, SocketTime, Usage
from kepler_ebpf.recording.encode import Encoder, NamedRows
from kepler_ebpf.recording.files import PartFile
from kepler_ebpf.recording.schema import MODEL, Header, Mark

ZONES = (Zone("package", 0, "p0"), Zone("package", 1, "p1"), Zone("dram", 0, "d0"))
SOCKETS = 2
BEGAN_NS = 5_000_000_000
STEP_NS = 10_000_000

HEADER = Header(
    recording="20261126T130303Z",
    part=1,
    began_s=1_795_698_183.0,
    began_ns=BEGAN_NS,
    version="1",
    model=MODEL,
    node="node",
    kernel="6.1",
    cpu="a CPU",
    cpus=4,
    sockets=SOCKETS,
    zones=ZONES,
    meter="rapl",
    is_estimate=False,
    update_s=0.001,
    unit_uj=61.0,
    interval_s=STEP_NS / 1e9,
    command=("make",),
)

Damage = Callable[[Random, bytes], bytes]


def records_of(rng: Random, count: int) -> Records:
    """Return records of tasks as a busy host has them; some are threads, some share a name."""
    records = np.zeros(count, TASK)
    for record in records:
        pid, start_ns = rng.randrange(1, 1 << 22), rng.randrange(1 << 50)
        is_thread = rng.random() < 0.2
        record["pid"], record["start_ns"] = pid, start_ns
        record["tgid"] = rng.randrange(1, 1 << 22) if is_thread else pid
        record["process_start_ns"] = start_ns - rng.randrange(10**6) * is_thread
        record["parent_tgid"], record["exec_id"] = rng.randrange(1, 1 << 22), rng.randrange(9)
        record["cgroup_id"] = rng.choice((1, 77, (1 << 63) | 5))
        record["socket"] = rng.randrange(SOCKETS)
        record["cpu_ns"], record["switches"] = rng.randrange(STEP_NS), rng.randrange(100)
        record["flags"] = rng.choice((0, 1, 1 << 8))
        record["comm"] = rng.choice((b"sh", b"a b", b"\xff\xfe", b"fifteen-letters", b""))
        record["process_comm"] = rng.choice((record["comm"], b"init"))
    return records


def measured_at(rng: Random, first: int, intervals: int, rows: int = 9) -> Measured:
    """Return consecutive intervals, the *first* by its number, of up to *rows* records each."""
    counts = [rng.randrange(rows + 1) for _ in range(intervals)]
    made = []
    for number, count in enumerate(counts, first):
        times = [tuple(rng.randrange(STEP_NS) for _ in range(SOCKETS)) for _ in range(3)]
        start_ns = BEGAN_NS + number * STEP_NS
        usage = Usage(start_ns, start_ns + STEP_NS, 2 * STEP_NS, SocketTime(*times), count)
        energy_uj = tuple(rng.random() * 1e6 for _ in ZONES)
        flags = [tuple(rng.random() < 0.1 for _ in ZONES) for _ in range(2)]
        made.append(Interval(number, usage, energy_uj, *flags))
    records = records_of(rng, sum(counts))
    return Measured(records, np.repeat(np.arange(intervals), counts), tuple(made))


def batches_of(seed: int, count: int, intervals: int = 5) -> list[Measured]:
    """Return batches, one after the other."""
    rng = Random(seed)  # noqa: S311  no secret
    return [measured_at(rng, number * intervals, intervals) for number in range(count)]


def write(
    path: Path,
    batches: list[Measured],
    names: Mapping[int, NamedRows] | None = None,
    header: Header = HEADER,
    *,
    ends: bool = True,
) -> PartFile:
    """Write batches, of which those with a number in *names* have these; it *ends*, or not."""
    part, mark = PartFile(path, header), Mark()
    encoder = Encoder(part.frames.schema)
    for number, measured in enumerate(batches):
        ends_s = [header.at_s(each.usage.end_ns) for each in measured.intervals]
        batch = encoder.batch(measured, ends_s, (names or {}).get(number, {}))
        mark = replace(mark, rows=mark.rows + len(measured.records))
        part.write(part.frames.group(batch, mark))
    if ends:
        part.end(replace(mark, is_complete=True))
        part.close()
    return part


def same(one: Measured, other: Measured) -> bool:
    """Whether two are equal but for the order of records in an interval, and their run time.

    Names are texts in a recording: other bytes are replaced.
    """
    fields = [name for name in TASK.names or () if name != "runtime_ns"]

    def rows(measured: Measured) -> list[tuple[object, ...]]:
        plain = [
            [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in row]
            for row in measured.records[fields].tolist()
        ]
        return sorted(zip(measured.interval_of.tolist(), plain, strict=True))

    return one.intervals == other.intervals and rows(one) == rows(other)


# --- damage -----------------------------------------------------------------------------------


def cut(rng: Random, raw: bytes) -> bytes:
    """End somewhere."""
    return raw[: rng.randrange(len(raw))]


def zeroed(rng: Random, raw: bytes) -> bytes:
    """Have zeros from somewhere on, as after a loss of power."""
    at = rng.randrange(len(raw.rstrip(b"\0")))
    return raw[:at] + bytes(len(raw) - at)


def flipped(rng: Random, raw: bytes) -> bytes:
    """Have one bit flipped."""
    damaged = bytearray(raw)
    damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def appended(rng: Random, raw: bytes) -> bytes:
    """Have something behind the end: another stream, or a few bytes."""
    return raw + rng.choice((raw, raw[: rng.randrange(1, len(raw))], b"\0", b"\n"))


DAMAGES: tuple[Damage, ...] = (cut, zeroed, flipped, appended)


def damaged(seed: int, raw: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield *raw* in so many ways damaged, each with the name of its damage."""
    rng = Random(seed)  # noqa: S311  no secret
    for number in range(count):
        damage = DAMAGES[number % len(DAMAGES)]
        yield damage.__name__, damage(rng, raw)
