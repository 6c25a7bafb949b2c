"""Every odd turn a task can take on its way, and that the kernel's account takes it too."""

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
from accounts import (
    ENTRIES,
    HIERARCHIES,
    LOADERS,
    Cgroup,
    collect,
    cpu_ns,
    identities,
    joined,
    of,
    opened,
    settled,
    unbalanced_ns,
)

from kepler_ebpf.kernel import loader
from kepler_ebpf.kernel.account import KernelAccount
from kepler_ebpf.kernel.cpus import AT, BUSY, IDLE, Boundary, Cpus
from kepler_ebpf.kernel.layout import CGROUP_KEY, CGROUP_USAGE, FLAG_ENDED
from kepler_ebpf.kernel.libbpf import library
from kepler_ebpf.kernel.programs import CGROUP_ENTRIES, LoadRequest
from kepler_ebpf.model import UNTRACKED_COMM
from kepler_ebpf.topology import Topology

pytest_plugins = ["kernel_fixtures"]

KTHREADD = 2
STAT_PPID, STAT_START = 1, 19
"""Fields 4 and 22 of /proc/PID/stat, counted after the comm's closing bracket."""


def stat_field(pid: int, field: int) -> int:
    """Read a number from /proc/PID/stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[field])


def ticks(start_ns: int) -> int:
    """Turn a start on the boot clock into what /proc/PID/stat says."""
    return start_ns * os.sysconf("SC_CLK_TCK") // 1_000_000_000


def is_ended(tasks) -> bool:
    """Whether any record tells that its process has ended."""
    return bool((tasks["flags"] & FLAG_ENDED).any())


# --- ends ---------------------------------------------------------------------------------------


def test_last_slice_of_an_ended_process_is_charged(account, start):
    """A process that burns and exits is charged all its time, and is marked as ended."""
    load = start("burn_once")
    account.interval()
    load.go()
    truth = load.end()
    mine = of(settled(account).tasks, tgid=load.pid)
    assert truth.is_met_by(cpu_ns(mine) + truth.used_ns - used_since_start(truth))
    assert is_ended(mine)


def used_since_start(truth) -> int:
    """What a load has used since its first wait is nearly all: its start-up is not in the sum."""
    return truth.used_ns
