"""From the rows of a batch back to measured intervals and names."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np

from kepler_ebpf.kernel.layout import TASK as RECORD
from kepler_ebpf.model.arrays import Floats, Records
from kepler_ebpf.model.usage import Interval, Measured, SocketTime, Usage
from kepler_ebpf.recording.arrow import pa, pc
from kepler_ebpf.recording.names import Names, cgroup_of_texts, pod_of_texts, process_of_texts
from kepler_ebpf.recording.schema import CGROUP, INTERVAL, PLAIN, POD, PROCESS, TASK


class Decoder:
    """Decodes the groups of one file, one after the other, the first with its header."""

    def __init__(self, header: bytes) -> None:
        self._feed = BytesIO(header)
        self._stream = pa.ipc.open_stream(pa.PythonFile(self._feed, "r"))
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
        return batch


def measured_of(batch: Any) -> tuple[Measured, Floats]:
    """Return the intervals of *batch* with their records, and when each ended in Unix time."""
    fields = _of(batch, INTERVAL).column("measured").to_pylist()
    intervals = _of(batch, INTERVAL).column("interval").to_pylist()
    tasks = _of(batch, TASK)
    interval_of = tasks.column("interval").to_numpy() - (intervals[0] if intervals else 0)
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
    return measured, np.array([each["at_s"] for each in fields])


def learn_names(batch: Any, names: Names) -> None:
    """Take the names of *batch* into *names*."""
    for row in _of(batch, CGROUP, "cgroup_id", "labels").to_pylist():
        names.cgroups[row["cgroup_id"]] = cgroup_of_texts(dict(row["labels"]))
    for row in _of(batch, PROCESS, "pid", "start_ns", "labels").to_pylist():
        texts = dict(row["labels"])
        key = row["pid"], row["start_ns"]
        names.learn_process(key, process_of_texts(texts), texts.get("arguments", ""))
    for row in _of(batch, POD, "labels").to_pylist():
        texts = dict(row["labels"])
        names.pods[texts["key"]] = pod_of_texts(texts)


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
