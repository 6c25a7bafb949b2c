"""From the rows of a batch back to measured intervals and names."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np

from kepler_ebpf.kernel.layout import TASK as RECORD
from kepler_ebpf.model.arrays import Floats, Records
from kepler_ebpf.model.usage import Interval, Measured, SocketTime, Usage
from kepler_ebpf.recording.arrow import pa, pc
from kepler_ebpf.recording.decoded_size import MAX_DECODED_BYTES
from kepler_ebpf.recording.names import (
    Names,
    Texts,
    cgroup_of_texts,
    pod_of_texts,
    process_of_texts,
)
from kepler_ebpf.recording.schema import (
    CGROUP,
    COLUMNS,
    INTERVAL,
    MAX_UNIX_S,
    PLAIN,
    POD,
    PROCESS,
    TASK,
    Header,
)

MALFORMED = (pa.ArrowException, LookupError, TypeError, ValueError, OverflowError, AttributeError)
"""What is raised for rows that no recorder has written."""

MAX_INTERVALS = 1 << 16
"""Of a group, which is of a second."""

MAX_ENERGY_UJ = 1e18
MAX_INTERVAL_NS = 10**16
"""Of one interval: 4 months, and far more than one zone draws in them."""


class Decoder:
    """Decodes the groups of one file, one after the other, the first with its header.

    What strangers have written is in ``MALFORMED``, or valid Arrow.
    """

    def __init__(self, header: bytes) -> None:
        self._feed = BytesIO(header)
        self._stream = pa.ipc.open_stream(pa.PythonFile(self._feed, "r"))
        for name, type_ in COLUMNS:
            if self._stream.schema.field(name).type != type_:
                raise TypeError(f"column {name} has another type")
        self.metadata: Mapping[bytes, bytes] = self._stream.schema.metadata or {}
        """What says of which recording the file is."""
        self._stream.read_next_batch()

    def rows(self, group: bytes) -> Any:
        """Return the batch with the rows of a *group*, which may have none."""
        # What was read before is let go.
        self._feed.seek(0)
        self._feed.truncate()
        self._feed.write(group)
        self._feed.seek(0)
        batch = self._stream.read_next_batch()
        if self._feed.tell() < len(group):
            self._stream.read_next_batch()
        batch.validate(full=True)
        shared = [column for column in batch.columns if pa.types.is_dictionary(column.type)]
        if sum(column.dictionary.nbytes for column in shared) > MAX_DECODED_BYTES:
            raise ValueError("the texts are too long")
        return batch


def measured_of(batch: Any, header: Header) -> tuple[Measured, Floats]:
    """Return the intervals of *batch* with their records, and when each ended in Unix time.

    Raises one of ``MALFORMED`` for what cannot be measured on the host of *header*.
    """
    rows = _of(batch, INTERVAL)
    if rows.num_rows > MAX_INTERVALS:
        raise ValueError("there are too many intervals")
    fields, intervals = (rows.column(name).to_pylist() for name in ("measured", "interval"))
    tasks = _of(batch, TASK)
    interval_of = tasks.column("interval").to_numpy() - (intervals[0] if intervals else 0)
    if len(interval_of) and not 0 <= interval_of.min() <= interval_of.max() < len(intervals):
        raise ValueError("a task is in no interval")
    order = np.argsort(interval_of, kind="stable")
    counts = np.bincount(interval_of, minlength=len(intervals)).tolist()
    measured = Measured(
        records=_records(tasks)[order],
        interval_of=interval_of[order],
        intervals=tuple(
            Interval(
                number=each["number"],
                usage=Usage(
                    start_ns=each["start_ns"],
                    end_ns=each["end_ns"],
                    wall_ns=each["wall_ns"],
                    sockets=SocketTime(*(tuple(each[name]) for name in SocketTime._fields)),
                    record_count=count,
                ),
                energy_uj=tuple(each["energy_uj"]),
                unread=tuple(each["unread"]),
                unowned=tuple(each["unowned"]),
            )
            for each, count in zip(fields, counts, strict=True)
        ),
    )
    ends_s = np.array([each["at_s"] for each in fields], float)
    _require_possible(measured, ends_s, header)
    return measured, ends_s


def _require_possible(measured: Measured, ends_s: Floats, header: Header) -> None:
    """Raise ValueError where figures are of no host, or do not fit the zones of *header*."""
    lengths = {len(times) for each in measured.intervals for times in each.usage.sockets}
    sockets, zones = max(lengths, default=0), (len(header.zones),) * 3
    for each in measured.intervals:
        usage, of_zones = each.usage, (each.energy_uj, each.unread, each.unowned)
        is_possible = (
            tuple(map(len, of_zones)) == zones
            and 0 < usage.end_ns - usage.start_ns < MAX_INTERVAL_NS
            and all(abs(energy_uj) < MAX_ENERGY_UJ for energy_uj in each.energy_uj)
        )
        if not is_possible:
            raise ValueError("an interval is of no host")
    if not ((ends_s >= 0) & (ends_s < MAX_UNIX_S)).all():
        raise ValueError("an interval has no time")
    used = [*(zone.socket or 0 for zone in header.zones), *measured.records["socket"].tolist()]
    if len(lengths) > 1 or (lengths and not 0 <= min(used) <= max(used) < sockets):
        raise ValueError("there is no such socket")


def learn_names(batch: Any, names: Names) -> None:
    """Take the names of *batch* into *names*."""
    for row in _of(batch, CGROUP, "cgroup_id", "labels").to_pylist():
        names.cgroups[row["cgroup_id"]] = cgroup_of_texts(_texts(row))
    for row in _of(batch, PROCESS, "pid", "start_ns", "labels").to_pylist():
        texts = _texts(row)
        key = int(row["pid"]), int(row["start_ns"])
        names.learn_process(key, process_of_texts(texts), texts.get("arguments", ""))
    for row in _of(batch, POD, "labels").to_pylist():
        texts = _texts(row)
        names.pods[texts["key"]] = pod_of_texts(texts)


def _texts(row: Mapping[str, Any]) -> Texts:
    return {name: text or "" for name, text in row["labels"]}


def _of(batch: Any, kind: str, *names: str) -> Any:
    """Return the rows of one *kind*, of them the columns *names*, by default all."""
    is_kind = pc.equal(batch.column("row").dictionary_decode(), kind)
    return (batch.select(names) if names else batch).filter(is_kind)


def _records(tasks: Any) -> Records:
    records = np.zeros(tasks.num_rows, RECORD)
    for name in PLAIN:
        records[name] = tasks.column(name).to_numpy(zero_copy_only=False)
    for name, same in (("tgid", "pid"), ("process_start_ns", "start_ns")):
        values = pc.coalesce(tasks.column(name), tasks.column(same))
        records[name] = values.to_numpy(zero_copy_only=False)
    records["cgroup_id"] = tasks.column("cgroup_id").dictionary_decode().to_numpy()
    comm = tasks.column("comm")
    records["comm"] = _comms(comm)
    process_comm = tasks.column("process_comm")
    is_same = process_comm.is_null().to_numpy(zero_copy_only=False)
    records["process_comm"] = np.where(is_same, records["comm"], _comms(process_comm))
    return records


def _comms(column: Any) -> Records:
    """Return a dictionary column as comms: texts of no more than 16 bytes."""
    width = RECORD["comm"]
    found = [text.encode()[: width.itemsize] for text in column.dictionary.to_pylist()]
    index = column.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    comms: Records = np.array([*found, b""], width)[index]
    return comms
