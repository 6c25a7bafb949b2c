"""Every exec is recorded with the path that /proc shows, however the executable was reached."""

import mmap
import os
import shutil
import struct
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from trackers import LOADERS, LOADS

from kepler_ebpf.kernel import slots
from kepler_ebpf.kernel.layout import ARGUMENTS_LEN, CONTROL, PATH_LEN
from kepler_ebpf.kernel.loaders import choice
from kepler_ebpf.kernel.programs import LoadRequest
from kepler_ebpf.kernel.rings import ExecEvents

pytest_plugins = ["kernel_fixtures"]

SHELL = os.path.realpath("/bin/sh")
TRUE = "/bin/true"
WAIT = "echo; read line"
START = 19
"""Field 22 of /proc/PID/stat, counted after the comm's closing bracket."""
COMMANDS = 1000
FILLERS = 1500
"""Commands whose records, of some 300 bytes each, are more than a ring of 256 KiB holds."""


@contextmanager
def recording(loader_name: str, cpus: int = 1):
    """Load and attach; yield the ring of execs and the control record."""
    programs = choice.load(loader_name, LoadRequest(cpus, task_entries=1024))
    execs = ExecEvents(programs.maps["execs"])
    control = slots.shared_records(programs.maps["control"], CONTROL, 1)
    programs.attach()
    try:
        yield execs, control
    finally:
        execs.close()
        programs.close()


@pytest.fixture(scope="module", params=LOADERS)
def execs(request):
    """Give one ring of execs for each loader, shared by all tests."""
    with recording(request.param) as (shared, _):
        yield shared


@pytest.fixture
def run():
    """Start commands that wait for their end; what still runs when the test ends is killed."""
    processes = []

    def begin(*command: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **options,
        )
        processes.append(process)
        assert process.stdout
        assert process.stdout.readline() == b"\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def of(execs: ExecEvents, tgid: int):
    """Return the last exec of a process."""
    return [event for event in execs.take() if event.tgid == tgid][-1]


def shown(pid: int) -> str:
    """Read the executable that /proc shows."""
    return str(Path(f"/proc/{pid}/exe").readlink())


def copy_shell(path: Path) -> Path:
    """Copy the shell, so that the path of its executable is a given one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(SHELL, path)
    return path


def started_ticks(pid: int) -> int:
    """Read the start of a process in ticks on the boot clock."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[START])


def ticks(start_ns: int) -> int:
    """Turn a start in ns into what /proc/PID/stat shows."""
    return start_ns * os.sysconf("SC_CLK_TCK") // 1_000_000_000


# --- the path is the one in /proc -----------------------------------------------------------------


def test_path_of_a_binary_is_that_of_proc(execs, run, tmp_path):
    """A file that is executed by its path."""
    process = run(copy_shell(tmp_path / "plain"), "-c", WAIT)
    assert of(execs, process.pid).exe == shown(process.pid) == str(tmp_path / "plain")


def test_path_of_a_script_is_that_of_its_interpreter(execs, run, tmp_path):
    """/proc shows the interpreter, and so does the record."""
    script = tmp_path / "script"
    script.write_text(f"#!{SHELL}\n{WAIT}\n")
    script.chmod(0o755)
    process = run(script)
    assert of(execs, process.pid).exe == shown(process.pid) == SHELL


def test_path_of_a_symlinked_command_is_that_of_its_file(execs, run, tmp_path):
    """A command is found by a symbolic link, also one in a folder that is a link."""
    copy_shell(tmp_path / "real" / "file")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "real" / "command").symlink_to("file")
    process = run(tmp_path / "folder" / "command", "-c", WAIT)
    assert of(execs, process.pid).exe == shown(process.pid) == str(tmp_path / "real" / "file")


def test_file_deleted_before_exec_is_marked_as_in_proc(execs, run, tmp_path):
    """A file without a name is executed by a descriptor."""
    path = copy_shell(tmp_path / "gone")
    descriptor = os.open(path, os.O_RDONLY)
    path.unlink()
    process = run(f"/proc/self/fd/{descriptor}", "-c", WAIT, pass_fds=[descriptor])
    os.close(descriptor)
    assert of(execs, process.pid).exe == shown(process.pid) == f"{path} (deleted)"


def test_file_deleted_while_it_runs_had_its_path(execs, run, tmp_path):
    """The record has the path at the time of the exec."""
    path = copy_shell(tmp_path / "short")
    process = run(path, "-c", WAIT)
    path.unlink()
    assert of(execs, process.pid).exe == str(path)
    assert shown(process.pid) == f"{path} (deleted)"


def test_file_in_memory_is_named_as_in_proc(execs, run):
    """A file of memfd_create() lies in no folder."""
    descriptor = os.memfd_create("a name")
    os.write(descriptor, Path(SHELL).read_bytes())
    process = run(f"/proc/self/fd/{descriptor}", "-c", WAIT, pass_fds=[descriptor])
    os.close(descriptor)
    assert of(execs, process.pid).exe == shown(process.pid) == "/memfd:a name (deleted)"


def test_name_that_is_not_utf_8_is_replaced(execs, run, tmp_path):
    """Bytes that are no text become replacement characters, in the path and in arguments."""
    path = copy_shell(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe-n\xc3\xa4me")))
    process = run(path, "-c", WAIT, os.fsdecode(b"\xe9"))
    event = of(execs, process.pid)
    assert event.exe == f"{tmp_path}/\ufffd\ufffd-näme"
    assert event.arguments[-1] == "\ufffd"


# --- limits of the path ---------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "is_known"), [(PATH_LEN, True), (PATH_LEN + 1, False)])
def test_path_is_whole_or_left_out(execs, run, tmp_path, length, is_known):
    """A path up to the limit is resolved; one that is longer is left empty, not cut."""
    folder = tmp_path / ("f" * 200) / ("g" * 100)
    path = copy_shell(folder / ("n" * (length - len(str(folder)) - 1)))
    assert len(str(path)) == length
    process = run(path, "-c", WAIT)
    event = of(execs, process.pid)
    assert event.exe == (shown(process.pid) if is_known else "")
    assert event.arguments == (str(path)[:ARGUMENTS_LEN],)


@pytest.mark.parametrize(("depth", "is_known"), [(30, True), (60, False)])
def test_deep_path_is_whole_or_left_out(execs, run, tmp_path, depth, is_known):
    """Thirty folders are followed; sixty are not."""
    process = run(copy_shell(tmp_path / "/".join("d" * depth) / "deep"), "-c", WAIT)
    assert of(execs, process.pid).exe == (shown(process.pid) if is_known else "")


# --- mounts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bind", "tmpfs", "overlay", "chroot", "pivot_root"])
def test_path_in_a_mount_namespace_is_that_of_proc(execs, start, tmp_path, kind):
    """A process has mounts of its own, another root or both, as in a container."""
    load = start("exec_in_mounts", kind, tmp_path, SHELL)
    if load.said.startswith("refused"):
        pytest.skip(f"this host {load.said}")
    event = of(execs, load.pid)
    assert event.exe == shown(load.pid)
    assert event.exe.startswith("/usr/" if kind == "pivot_root" else str(tmp_path))


# --- the rest of the record -----------------------------------------------------------------------


def test_arguments_are_the_first_of_the_command(execs, run):
    """All arguments, empty ones too, begin with the name it was called by."""
    process = run(SHELL, "-c", WAIT, "", "last", "")
    assert of(execs, process.pid).arguments == (SHELL, "-c", WAIT, "", "last", "")


def test_long_arguments_are_cut(execs, run):
    """What does not fit is left out."""
    process = run(SHELL, "-c", WAIT, "x" * 2000)
    text = "\0".join(of(execs, process.pid).arguments)
    assert text == "\0".join([SHELL, "-c", WAIT, "x" * 2000])[:ARGUMENTS_LEN]


def test_process_is_the_one_in_proc(execs, run):
    """The record has the pid and the start of the process, and a number that each exec raises."""
    process = run(SHELL, "-c", f'echo; read line; exec "$0" -c "{WAIT}"', SHELL)
    before = of(execs, process.pid)
    process.communicate(b"\n" * 2)
    assert ticks(before.start_ns) > 0
    again = of(execs, process.pid)
    assert (again.tgid, again.start_ns) == (before.tgid, before.start_ns)
    assert again.exec_id == before.exec_id + 1


def test_exec_from_a_thread_is_that_of_the_process(execs, start):
    """A thread that calls exec becomes the leader: pid and start are the leader's."""
    load = start("exec_from_thread")
    started, before = started_ticks(load.pid), of(execs, load.pid)
    load.go()
    load.end()
    event = of(execs, load.pid)
    assert (ticks(event.start_ns), event.start_ns) == (started, before.start_ns)
    assert event.exec_id == before.exec_id + 1
    assert event.arguments[-2:] == (str(LOADS), "exit_at_once")


def test_short_commands_are_resolved(execs):
    """Of a thousand commands that end at once nearly all have their path."""
    execs.take()
    for _ in range(COMMANDS):
        os.waitpid(os.posix_spawn(TRUE, [TRUE], {}), 0)
    resolved = [event for event in execs.take() if event.exe == os.path.realpath(TRUE)]
    assert len(resolved) >= 0.99 * COMMANDS


# --- the ring -------------------------------------------------------------------------------------


def test_full_ring_loses_new_records_and_goes_on(loader_name):
    """What finds no room is counted; once the ring was emptied records are whole again."""
    with recording(loader_name) as (execs, control):
        arguments = [TRUE, "x" * ARGUMENTS_LEN]
        for _ in range(2):
            for _ in range(FILLERS):
                os.waitpid(os.posix_spawn(TRUE, arguments, {}), 0)
            lost = int(control["exec_events_lost"][0])
            assert 0 < execs.pending_bytes <= execs.size_bytes
            taken = [event for event in execs.take() if event.arguments[0] == TRUE]
            assert execs.pending_bytes == 0
            assert {event.exe for event in taken} == {os.path.realpath(TRUE)}
            assert FILLERS // 4 < len(taken) <= FILLERS
            assert lost >= FILLERS - len(taken) > 0
            control["exec_events_lost"] = 0


@pytest.mark.parametrize(("cpus", "bytes_"), [(1, 1 << 18), (3, 1 << 20), (1000, 1 << 23)])
def test_ring_fits_the_host(loader_name, cpus, bytes_):
    """The ring grows with the CPUs, up to a bound."""
    with recording(loader_name, cpus) as (execs, _):
        assert execs.size_bytes == bytes_


def test_nothing_waits_at_first(loader_name):
    """A ring into which nothing was written gives nothing."""
    programs = choice.load(loader_name, LoadRequest(cpus=1, task_entries=1024))
    execs = ExecEvents(programs.maps["execs"])
    assert (execs.pending_bytes, execs.take()) == (0, [])
    execs.close()
    programs.close()


@pytest.fixture
def ring(monkeypatch):
    """Give a ring in a file, whose records this test writes: (ring, function to append one)."""
    page, size = mmap.PAGESIZE, mmap.PAGESIZE
    file = os.memfd_create("ring")
    os.ftruncate(file, 2 * page + 2 * size)
    monkeypatch.setattr("kepler_ebpf.kernel.ring.map_entries", lambda _: size)
    ring = ExecEvents(file)

    def append(tgid: int, flags: int = 0) -> None:
        produced = struct.unpack("=Q", os.pread(file, 8, page))[0]
        record = struct.pack("=QQIIII", 1, 2, tgid, 0, 5, 5) + b"a\0bc\0b\0aa\0"
        header = struct.pack("=II", len(record) | flags, 0)
        os.pwrite(file, header + record, 2 * page + produced)
        os.pwrite(file, struct.pack("=Q", produced + -(-(8 + len(record)) // 8) * 8), page)

    yield ring, append
    ring.close()
    os.close(file)


def test_record_that_is_being_written_is_waited_for(ring):
    """A record that is not whole yet stays, and all after it."""
    execs, append = ring
    append(1)
    append(2, flags=1 << 31)
    append(3)
    assert [event.tgid for event in execs.take()] == [1]
    assert execs.take() == []
    assert execs.pending_bytes == 2 * 56


def test_discarded_record_is_skipped(ring):
    """A record that was given up by the kernel side is no exec."""
    execs, append = ring
    append(1, flags=1 << 30)
    append(2)
    assert execs.take() == [(2, 1, 2, "/aa/b", ("a", "bc"))]
