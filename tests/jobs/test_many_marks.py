"""A caller that begins one job after the other, while another one of its own goes on."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from kepler_ebpf.host.unix_socket import UnixListener
from kepler_ebpf.jobs import accounts as module
from kepler_ebpf.jobs.accounts import Accounts
from kepler_ebpf.jobs.peers import Marker
from kepler_ebpf.jobs.server import JobServer
from kepler_ebpf.kernel.jobs import Jobs, Mark
from kepler_ebpf.meters.fake import FakeMeter
from kepler_ebpf.names.processes.procfs import NS_PER_TICK

GIVE_UP_S = 30
MOST = 8


class Marks:
    """Marks of threads, as the kernel keeps them."""

    marks_lost = 0

    def __init__(self) -> None:
        self.by_thread: dict[int, int] = {}

    def mark(self, pid: int, job: int) -> None:
        self.by_thread[pid] = job

    def id_of(self, pid: int) -> int:
        return self.by_thread.get(pid, 0)

    def unmark(self, pid: int) -> None:
        self.by_thread.pop(pid, None)

    def ids(self) -> set[int]:
        return {*self.by_thread.values()}

    clear = ids


@pytest.fixture
def marks() -> Marks:
    """Give the marks of a server."""
    return Marks()


@pytest.fixture
def accounts(tmp_path: Path, marks: Marks, monkeypatch: pytest.MonkeyPatch) -> Iterator[Accounts]:
    """Give the jobs of a server, which have a turn whenever they want one."""
    monkeypatch.setattr(module, "MIN_STEP_S", 0.0)
    monkeypatch.setattr(module, "MAX_IDS", MOST)
    listener = UnixListener(str(tmp_path / "s"), 0o666, 9)
    server = JobServer(listener, Marker(cast(Jobs, marks), "/proc"), "/proc", frozenset())
    made = Accounts(FakeMeter(), lambda: made.turn(0.0), server.turned)
    server.start(made)
    yield made
    server.close()


def begun(path: Path) -> socket.socket:
    """Begin a job of this process with its children."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(GIVE_UP_S)
    connection.connect(str(path))
    connection.sendall(json.dumps({"begin": "process", "children": True}).encode() + b"\n")
    answer: dict[str, Any] = json.loads(connection.recv(4096))
    assert "meter" in answer
    return connection


def test_marks_of_a_long_job_are_bounded(tmp_path: Path, marks: Marks, accounts: Accounts) -> None:
    """It keeps what tasks have, and forgets the marks that nothing has any more."""
    with begun(tmp_path / "s"):
        for _ in range(5 * MOST):
            with begun(tmp_path / "s"):
                mine = marks.id_of(os.getpid())
                sizes = [len(job.ids) for job in accounts.having(mine)]
                assert len(sizes) >= 2
                assert max(sizes) <= MOST + 3 * threading.active_count()


def test_mark_of_an_earlier_task_is_none_that_runs() -> None:
    """A pid that was used again is of the task with its start; a mark without one is of either."""
    mine, jobs = os.getpid(), Marks()
    start_ns = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) * NS_PER_TICK
    marks = [Mark(mine, 1), Mark(mine, 0), Mark(mine, start_ns)]
    jobs.marks = lambda _: iter(marks)  # type: ignore[attr-defined]
    marker = Marker(cast(Jobs, jobs), "/proc")
    assert marker.running({1}, None) == len(marks) - 1
