"""What /proc tells about one process, whatever that process does to its name."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread, get_native_id

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import SHELL, start_ns_of, waiting_shell

from kepler_ebpf.names.processes.procfs import (
    CMDLINE_LIMIT,
    MAX_ARGUMENTS,
    NS_PER_TICK,
    decode,
    find_process,
    is_alive,
    read_cmdline,
    read_process,
    start_ticks,
)

KTHREADD = 2
NOBODY = 65534


def cmdline_of(pid: int) -> tuple[str, ...]:
    """Read the arguments of a live process."""
    return read_cmdline(pid, start_ticks(start_ns_of(pid)))


@pytest.fixture
def shell() -> Iterator[int]:
    """Run a shell that waits."""
    with waiting_shell() as pid:
        yield pid


def test_exe_and_cmdline_of_a_running_process(shell: int) -> None:
    """A live process gives its executable, its arguments and its parent."""
    info = read_process(shell, start_ns_of(shell))
    assert info is not None
    assert (info.exe, cmdline_of(shell)) == (SHELL, ("sh", "-c", "read _"))
    assert info.parent == os.getpid()
    assert not info.is_kernel_thread


def test_start_time_is_compared_in_whole_ticks(shell: int) -> None:
    """Any nanosecond of the start tick is that process."""
    start_ns = start_ns_of(shell)
    assert read_process(shell, start_ns + NS_PER_TICK - 1) is not None


@pytest.mark.parametrize("offset_ns", [-1, NS_PER_TICK])
def test_a_process_with_another_start_time_is_not_read(shell: int, offset_ns: int) -> None:
    """A reused pid never lends its files to the process that had it before."""
    start_ns = start_ns_of(shell) + offset_ns
    assert read_process(shell, start_ns) is None
    assert read_cmdline(shell, start_ticks(start_ns)) == ()


def test_a_process_that_is_gone_gives_none() -> None:
    """A process that ended is not there, and no error."""
    with waiting_shell() as pid:
        start_ns = start_ns_of(pid)
    assert read_process(pid, start_ns) is None
    assert read_cmdline(pid, start_ticks(start_ns)) == ()
    assert not is_alive(pid, start_ticks(start_ns))


def test_a_zombie_has_no_exe_and_no_cmdline() -> None:
    """A process that waits for its parent is there, with nothing left to read."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    info, cmdline = read_process(process.pid, start_ns_of(process.pid)), cmdline_of(process.pid)
    process.wait()
    assert info is not None
    assert (info.exe, cmdline) == ("", ())


LEADERLESS = """
import ctypes, threading
threading.Thread(target=input).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_has_ended_still_has_a_name() -> None:
    """Its other threads tell what it is, and it is alive."""
    command = [sys.executable, "-c", LEADERLESS]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        while ") Z " not in stat.read_text():
            time.sleep(0.01)
        info, line = read_process(process.pid, start_ns_of(process.pid)), cmdline_of(process.pid)
        alive = info is not None and is_alive(process.pid, info.start_ticks)
        process.kill()
    assert info is not None
    assert (info.exe, line) == (os.path.realpath(sys.executable), tuple(command))
    assert alive


def test_a_kernel_thread_is_marked() -> None:
    """A kernel thread has neither executable nor arguments, and says what it is."""
    info = read_process(KTHREADD, start_ns_of(KTHREADD))
    assert info is not None
    assert (info.exe, cmdline_of(KTHREADD), info.is_kernel_thread) == ("", (), True)


def test_an_exe_that_may_not_be_read_is_empty(shell: int) -> None:
    """Without the right to see the executable there is still the command line."""
    start_ns = start_ns_of(shell)
    os.seteuid(NOBODY)
    try:
        info, cmdline = read_process(shell, start_ns), read_cmdline(shell, start_ticks(start_ns))
    finally:
        os.seteuid(0)
    assert info is not None
    assert (info.exe, cmdline) == ("", ("sh", "-c", "read _"))


@pytest.mark.parametrize("comm", ["a) R 1 (b", 'x"\n\\) 7 7', ") ) ) ) )"])
def test_comm_cannot_confuse_the_parser(comm: str) -> None:
    """Brackets, spaces, quotes and newlines in a thread name do not shift the fields."""
    renamed = Event()
    done = Event()
    thread_ids = []

    def work() -> None:
        Path(f"/proc/self/task/{get_native_id()}/comm").write_text(comm)
        thread_ids.append(get_native_id())
        renamed.set()
        done.wait()

    thread = Thread(target=work)
    thread.start()
    renamed.wait()
    found = read_process(thread_ids[0], start_ns_of(thread_ids[0]))
    done.set()
    thread.join()
    assert found is not None
    assert found.parent == os.getppid()


def test_cmdline_is_always_valid_text() -> None:
    """Quotes, newlines and invalid UTF-8 come through as text that can be encoded again."""
    with waiting_shell(b"q\"uo'te\\", b"new\nline", b"\xff\xfe", name=b"na\xc3") as pid:
        cmdline = cmdline_of(pid)
    assert cmdline == ("na�", "-c", "read _", "q\"uo'te\\", "new\nline", "��")
    assert all(argument.encode() for argument in cmdline)


@pytest.mark.parametrize("length", [4080, 4096, 8000])
def test_a_long_cmdline_is_whole(length: int) -> None:
    """Arguments of some kilobytes are not cut."""
    with waiting_shell("x" * length) as pid:
        cmdline = cmdline_of(pid)
    assert cmdline[-1] == "x" * length


def test_an_endless_cmdline_is_cut() -> None:
    """No more than the limit is read of any command line."""
    with waiting_shell(*["y" * 30_000] * 4) as pid:
        cmdline = cmdline_of(pid)
    assert len("\0".join(cmdline)) == CMDLINE_LIMIT


def test_many_arguments_are_cut() -> None:
    """No more than the limit is kept of any command line."""
    with waiting_shell(*"z" * 2000) as pid:
        assert len(cmdline_of(pid)) == MAX_ARGUMENTS


def test_find_process_finds_the_process_of_a_thread() -> None:
    """The id of any thread leads to its process."""
    done = Event()
    thread = Thread(target=done.wait)
    thread.start()
    found = find_process(thread.native_id or 0)
    done.set()
    thread.join()
    assert found is not None
    assert found[0] == os.getpid()
    assert is_alive(found[0], found[1].start_ticks)


def test_find_process_of_nobody_is_none(tmp_path: Path) -> None:
    """An id without a process gives none."""
    assert find_process(1, str(tmp_path)) is None


@given(
    stat=st.binary(max_size=300),
    status=st.binary(max_size=100),
    cmdline=st.binary(max_size=300),
)
def test_no_content_of_a_procfs_raises(
    tmp_path_factory: pytest.TempPathFactory, stat: bytes, status: bytes, cmdline: bytes
) -> None:
    """Whatever the files hold, reading them gives an answer."""
    root = tmp_path_factory.mktemp("proc")
    (root / "7").mkdir()
    (root / "7" / "stat").write_bytes(stat)
    (root / "7" / "status").write_bytes(b"Name:\tx\nTgid:\t7\n" + status)
    (root / "7" / "cmdline").write_bytes(cmdline)
    (root / "7" / "exe").mkdir()
    found = find_process(7, str(root))
    assert found is None or found[1].exe == ""
    assert all(
        argument.encode() or not argument
        for argument in read_cmdline(7, found[1].start_ticks if found else 0, str(root))
    )


@given(st.binary(max_size=50))
def test_decoded_text_can_be_encoded(raw: bytes) -> None:
    """Any bytes become text that an exporter can write."""
    assert decode(raw).encode() or not raw
