"""From measured intervals and new names to the rows of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kepler_ebpf.model.arrays import Records
from kepler_ebpf.model.usage import Interval, Measured
from kepler_ebpf.recording.arrow import pa, pc
from kepler_ebpf.recording.names import Texts
from kepler_ebpf.recording.schema import CGROUP, COLUMNS, INTERVAL, PLAIN, PROCESS, TASK

MAX_ENTRIES = 1 << 16
"""A dictionary that would grow beyond begins anew: strangers choose what is in it."""

NamedRows = Mapping[str, Mapping[Any, Texts]]
"""Texts of names by kind of row and by key: a cgroup's id, a ``ProcessKey``, a pod's id."""


class Encoder:
    """Encodes the batches of one file, which share their dictionaries."""

    def __init__(self, schema: Any) -> None:
        """Encode for a file of that *schema*."""
        self._schema = schema
        self._intervals = 0
        self._dictionaries = {
            name: _Dictionary(type_) for name, type_ in COLUMNS if pa.types.is_dictionary(type_)
        }

    def batch(self, measured: Measured, ends_s: Sequence[float], names: NamedRows) -> Any:
        """Return a batch: names, then intervals, which end at *ends_s* of Unix time, then tasks."""
        first, self._intervals = self._intervals, self._intervals + len(measured.intervals)
        rows = [
            _named_row(kind, key, texts) for kind in names for key, texts in names[kind].items()
        ]
        for number, (interval, end_s) in enumerate(zip(measured.intervals, ends_s, strict=True)):
            fields = _measured_fields(interval, end_s)
            rows.append({"row": INTERVAL, "interval": first + number, "measured": fields})
        # What one task repeats stands together, and pids and starts rise: that is half the size.
        order = np.argsort(measured.records["start_ns"], kind="stable")
        tasks = _task_columns(measured.records[order])
        tasks["interval"] = pa.array(measured.interval_of[order] + first, pa.int64())
        arrays = []
        for name, type_ in COLUMNS:
            is_shared = name in self._dictionaries
            plain = type_.value_type if is_shared else type_
            head = pa.array([row.get(name) for row in rows], plain)
            tail = tasks.get(name, pa.nulls(len(measured.records), plain))
            column = pa.concat_arrays([head, tail])
            arrays.append(self._dictionaries[name].encode(column) if is_shared else column)
        return pa.record_batch(arrays, schema=self._schema)


class _Dictionary:
    """The values of a column so far: they only grow, so that a file has each once."""

    def __init__(self, type_: Any) -> None:
        self._type = type_
        self._index: dict[Any, int] = {}
        self._values: Any = pa.array([], type_.value_type)

    def encode(self, column: Any) -> Any:
        """Return *column* as indexes of the values so far and of its own."""
        local = column.dictionary_encode()
        values = local.dictionary.to_pylist()
        if len(self._index) + len(values) > MAX_ENTRIES:
            self._index, self._values = {}, self._values[:0]
        new = [value for value in values if value not in self._index]
        if new:
            self._index |= {value: len(self._index) + at for at, value in enumerate(new)}
            self._values = pa.concat_arrays([self._values, pa.array(new, self._type.value_type)])
        index = pa.array([self._index[value] for value in values], self._type.index_type)
        return pa.DictionaryArray.from_arrays(index.take(local.indices), self._values)


def _named_row(kind: str, key: Any, texts: Texts) -> dict[str, object]:
    # Who names a cgroup may use bytes that are no text.
    clean = [(name, text.encode("utf-8", "replace").decode()) for name, text in texts.items()]
    row: dict[str, object] = {"row": kind, "labels": clean}
    if kind == CGROUP:
        row["cgroup_id"] = key
    elif kind == PROCESS:
        row["pid"], row["start_ns"] = key
    else:
        row["labels"] = [("key", key), *clean]
    return row


def _measured_fields(interval: Interval, end_s: float) -> dict[str, object]:
    usage = interval.usage
    return {
        "number": interval.number,
        "start_ns": usage.start_ns,
        "end_ns": usage.end_ns,
        "at_s": end_s,
        "wall_ns": usage.wall_ns,
        **usage.sockets._asdict(),
        "energy_uj": interval.energy_uj,
        "unread": interval.unread,
        "unowned": interval.unowned,
    }


def _task_columns(records: Records) -> dict[str, Any]:
    """Return the columns of *records* (N,), null where a process repeats its first thread."""
    columns = {name: pa.array(records[name]) for name in (*PLAIN, "cgroup_id")}
    for name, same in (("tgid", "pid"), ("process_start_ns", "start_ns")):
        is_same = records[name] == records[same]
        # Zeros, as what is under a null is compressed too.
        columns[name] = pa.array(np.where(is_same, 0, records[name]), mask=is_same)
    columns["row"] = pa.repeat(TASK, len(records))
    columns["comm"] = _texts(records["comm"])
    is_same = pa.array(records["comm"] == records["process_comm"])
    columns["process_comm"] = pc.if_else(is_same, None, _texts(records["process_comm"]))
    return columns


def _texts(comms: Any) -> Any:
    """Return comms (N,), which may hold any bytes, as texts."""
    raw = pa.py_buffer(np.ascontiguousarray(comms))
    width = comms.dtype.itemsize
    local = pa.Array.from_buffers(pa.binary(width), len(comms), [None, raw]).dictionary_encode()
    found = [text.rstrip(b"\0").decode("utf-8", "replace") for text in local.dictionary.to_pylist()]
    return pa.array(found, pa.string()).take(local.indices)
