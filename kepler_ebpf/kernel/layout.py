"""numpy dtypes that mirror the structs of ``bpf/kepler.h``; a test compares both through BTF."""

from __future__ import annotations

import numpy as np

COMM_LEN = 16
PATH_LEN = 512
ARGUMENTS_LEN = 256
EXEC_TEXT_LEN = ARGUMENTS_LEN + PATH_LEN + 256

CGROUP_V1 = np.uint64(1 << 63)
"""Set in a cgroup id that was read from a v1 hierarchy; ids repeat across hierarchies."""

FLAG_ENDED = 1
"""``flags`` of a task: its process's last thread has exited. A last slice may still follow."""

JOB_SHIFT = 8
"""``flags`` of a task have its job above this bit, 0 for none."""

_KEY_FIELDS = [("start_ns", "<u8"), ("cgroup_id", "<u8"), ("pid", "<u4"), ("socket", "<u4")]
_USAGE_FIELDS = [
    ("cpu_ns", "<u8"),
    ("process_start_ns", "<u8"),
    ("tgid", "<u4"),
    ("parent_tgid", "<u4"),
    ("switches", "<u4"),
    ("flags", "<u4"),
    ("exec_id", "<u8"),
    ("runtime_ns", "<u8"),
    ("comm", f"S{COMM_LEN}"),
    ("process_comm", f"S{COMM_LEN}"),
]

TASK_KEY = np.dtype(_KEY_FIELDS)
TASK_USAGE = np.dtype(_USAGE_FIELDS)
TASK = np.dtype(_KEY_FIELDS + _USAGE_FIELDS)
"""One task on one socket in one cgroup over one interval: key and usage side by side.

``start_ns`` and ``process_start_ns`` are on the boot-time clock, as field 22 of
/proc/PID/stat is in ticks. A change of ``exec_id`` between intervals means the process called
exec. ``process_comm`` is the thread group leader's comm.
"""

CGROUP_KEY = np.dtype([("cgroup_id", "<u8"), ("socket", "<u8")])
CGROUP_USAGE = np.dtype([("cpu_ns", "<u8"), ("switches", "<u8"), ("tasks", "<u8")])

PROCESS_END = np.dtype(
    [("start_ns", "<u8"), ("epoch", "<u8"), ("tgid", "<u4"), ("reserved", "<u4")]
)

CPU_SLOT = np.dtype(
    [
        ("since_ns", "<u8"),
        ("idle_ns", "<i8"),
        ("busy_ns", "<u8"),
        ("lost_ns", "<u8"),
        ("overflow_ns", "<u8"),
        ("closed_at_ns", "<u8"),
        ("closed_idle_ns", "<i8"),
        ("closed_busy_ns", "<u8"),
        ("closed_lost_ns", "<u8"),
        ("closed_overflow_ns", "<u8"),
        ("epoch", "<u8"),
        ("socket", "<u4"),
        ("running", "<u4"),
        ("running_task", "<u8"),
        ("running_runtime_ns", "<u8"),
        ("running_cgroup_id", "<u8"),
        ("moved_ns", "<u8"),
    ]
)

NO_SUBSYS = 0xFFFFFFFF
KNOBS = np.dtype([("v1_subsys", "<u4"), ("cpus", "<u4")])

CONTROL = np.dtype(
    [
        ("epoch", "<u8"),
        ("self_start_ns", "<u8"),
        ("self_tgid", "<u4"),
        ("v1_hierarchy", "<u4"),
        ("cgroup_events", "<u8"),
        ("cgroup_events_lost", "<u8"),
        ("hidden_ns", "<u8"),
        ("exec_events_lost", "<u8"),
        ("recovered", "<u8"),
        ("ends_lost", "<u8"),
        ("scarce", "<u8"),
        ("room_0", "<u8"),
        ("room_1", "<u8"),
        ("jobs", "<u8"),
        ("job_tasks", "<u8"),
        ("marks_lost", "<u8"),
        ("pre_exec_ns", "<u8"),
        ("pending_pid", "<u8"),
        ("sample_all", "<u8"),
        ("samples_lost", "<u8"),
    ]
)

JOB_MARK = np.dtype([("start_ns", "<u8"), ("job", "<u4"), ("flags", "<u4")])

MAX_FRAMES = 127
"""Of a stack in the kernel, and of one in user space."""

STACK_FRAME = np.dtype([("kind", "<u4"), ("build_id", "S20"), ("offset", "<u8")])
"""A frame in user space, as ``bpf_get_stack`` has it: ``offset`` is in the file of that build id
where ``kind`` is ``FRAME_IN_FILE``, else an address."""

FRAME_IN_FILE = 1

SAMPLE = np.dtype(
    [
        ("start_ns", "<u8"),
        ("process_start_ns", "<u8"),
        ("epoch", "<u8"),
        ("pid", "<u4"),
        ("tgid", "<u4"),
        ("kernel_bytes", "<u4"),
        ("user_bytes", "<u4"),
        ("has_user", "<u4"),
        ("reserved", "<u4"),
        ("stack", f"S{MAX_FRAMES * (8 + STACK_FRAME.itemsize)}"),
    ]
)
"""The longest record of ``samples``: most have fewer frames."""

CGROUP_EVENT = np.dtype([("removed", "<u4"), ("reserved", "<u4"), ("path", f"S{PATH_LEN}")])

PATH_UNKNOWN = 1
"""``flags`` of an exec: the path is too long, too deep or not readable, and left out."""

PATH_DELETED = 2
"""``flags`` of an exec: the file has no name in any folder (any more)."""

EXEC_EVENT = np.dtype(
    [
        ("start_ns", "<u8"),
        ("exec_id", "<u8"),
        ("tgid", "<u4"),
        ("flags", "<u4"),
        ("arguments_len", "<u4"),
        ("path_len", "<u4"),
        ("text", f"S{EXEC_TEXT_LEN}"),
    ]
)
"""The longest record of ``execs``: most have less text."""

STRUCTS = {
    "task_key": TASK_KEY,
    "task_usage": TASK_USAGE,
    "cgroup_key": CGROUP_KEY,
    "cgroup_usage": CGROUP_USAGE,
    "process_end": PROCESS_END,
    "cpu_slot": CPU_SLOT,
    "knobs": KNOBS,
    "control": CONTROL,
    "job_mark": JOB_MARK,
    "sample": SAMPLE,
    "cgroup_event": CGROUP_EVENT,
    "exec_event": EXEC_EVENT,
}
"""Every struct shared with the kernel side, by its name in ``bpf/kepler.h``."""
