"""Code of processes is named by its addresses, whatever becomes of the files and the processes."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from code_files import build_id_of, compiled, functions_of, offsets_of, output_of
from descriptors import open_files
from processes import start_ns_of
from silent_files import SilentFiles

from kepler_ebpf.host.regular_file import open_regular
from kepler_ebpf.profile.model import Frame, Origin
from kepler_ebpf.profile.symbols import kept_files, process_code
from kepler_ebpf.profile.symbols.names import UNKNOWN, Names
from kepler_ebpf.profile.symbols.seen_code import SeenCode

JIT_AT = 0x5000_0000
JIT_SOURCE = r"""
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
    void *at = mmap((void *)0x50000000, 8192, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    printf("%lx %d\n", (unsigned long)at, getpid());
    fflush(stdout);
    return getchar();
}
"""
"""Has memory that may be executed at ``JIT_AT``; prints that and its pid as it sees it itself."""


@contextmanager
def running(*command: str | Path, cwd: Path | None = None) -> Iterator[tuple[int, list[int]]]:
    """Run a program that prints hexadecimal numbers and waits; give its pid and the numbers."""
    with subprocess.Popen(
        [*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd
    ) as process:
        assert process.stdout
        try:
            numbers = [int(word, 16) for word in process.stdout.readline().split()]
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            yield int(children.split()[0]) if children else process.pid, numbers
        finally:
            process.kill()


def names_at(names: Names, pid: int, start_ns: int, *addresses: int) -> list[str]:
    """Return the names at addresses of a process."""
    frames = names.of_addresses(pid, start_ns, np.array(addresses, np.int64))
    return [frame.name for frame in frames]


def test_file_that_is_known_is_not_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries that all use are learnt first, and are no work with each process."""
    opened = []

    def noted(path: str, *, follow: bool = True) -> int:
        opened.append(path)
        return open_regular(path, follow=follow)

    seen = SeenCode("/proc")
    seen.learn_file("/bin/sh")
    seen.settle()
    monkeypatch.setattr(process_code, "open_regular", noted)
    with running("sh", "-c", "echo 1; read line") as (pid, _):
        start_ns = start_ns_of(pid)
        seen.learn(pid, start_ns)
        seen.settle()
    process = seen.process(pid, start_ns)
    assert process
    assert sum(file is not None for file in process.looks[0].files) > 1
    assert [path for path in opened if "/map_files/" in path] == []


@pytest.mark.parametrize("flag", ["-pie", "-no-pie"])
def test_addresses_of_a_process_that_has_ended(tmp_path: Path, flag: str) -> None:
    """What was learnt while it lived is enough."""
    path = compiled(tmp_path, flag)
    names = Names()
    with running(path) as (pid, (hot, helper, _)):
        start_ns = start_ns_of(pid)
        names.learn(pid, start_ns)
        assert names_at(names, pid, start_ns, hot) == ["hot"]
    assert names_at(names, pid, start_ns, helper + 1, hot, 16) == [
        "hidden_helper",
        "hot",
        "[unknown]",
    ]
    frames = names.of_addresses(pid, start_ns, np.array([hot]))
    assert frames == [Frame("hot", str(path), Origin.USER)]


def test_another_process_with_the_pid_is_not_learnt(tmp_path: Path) -> None:
    """A process is its pid and its start."""
    names = Names()
    with running(compiled(tmp_path)) as (pid, (hot, *_)):
        earlier = start_ns_of(pid) - 10**9
        names.learn(pid, earlier)
        assert names_at(names, pid, earlier, hot) == ["[unknown]"]
        assert names_at(names, pid, start_ns_of(pid), hot) == ["[unknown]"]


def test_a_file_that_was_deleted(tmp_path: Path) -> None:
    """By address and by build id, also when another file lies at its path."""
    path = compiled(tmp_path)
    build_id = np.array([bytes.fromhex(build_id_of(path))], "S20")
    offset = np.array([offset_of(path, "hot")])
    names = Names()
    with running(path) as (pid, (hot, *_)):
        path.unlink()
        compiled(tmp_path, "-DX", source="int main(void) { return 0; }")
        start_ns = start_ns_of(pid)
        names.learn(pid, start_ns)
        assert names_at(names, pid, start_ns, hot) == ["hot"]
    assert names.of_build_ids(build_id, offset) == [Frame("hot", str(path))]


def offset_of(path: Path, name: str) -> int:
    """Return where in a file a function is."""
    start = next(at for at, (_, names) in functions_of(path).items() if name in names)
    return offsets_of(path, [start])[0]


def test_a_file_in_another_mount_namespace(tmp_path: Path) -> None:
    """No path from here leads to a file on a tmpfs of a container."""
    path = compiled(tmp_path)
    build_id = np.array([bytes.fromhex(build_id_of(path))], "S20")
    offset = np.array([offset_of(path, "hidden_helper")])
    inside = tmp_path / "inside"
    inside.mkdir()
    script = f"mount -t tmpfs none {inside} && cp {path} {inside}/own && exec {inside}/own"
    names = Names()
    with running("unshare", "--mount", "sh", "-c", script) as (pid, (hot, *_)):
        assert not (inside / "own").exists()
        start_ns = start_ns_of(pid)
        names.learn(pid, start_ns)
        assert names_at(names, pid, start_ns, hot) == ["hot"]
    assert names.of_build_ids(build_id, offset) == [Frame("hidden_helper", f"{inside}/own")]


def test_without_the_right_to_open_mapped_files(tmp_path: Path) -> None:
    """With fewer rights the files are opened by their paths."""
    code = (
        "import sys, numpy as np\n"
        "from kepler_ebpf.profile.symbols.names import Names\n"
        "pid, start_ns, at = map(int, sys.argv[1:])\n"
        "names = Names()\n"
        "names.learn(pid, start_ns)\n"
        "print(names.of_addresses(pid, start_ns, np.array([at]))[0].name)\n"
    )
    with running(compiled(tmp_path)) as (pid, (hot, *_)):
        reduced = ("setpriv", "--bounding-set=-sys_admin,-checkpoint_restore")
        arguments = map(str, (pid, start_ns_of(pid), hot))
        assert output_of(*reduced, sys.executable, "-c", code, *arguments) == "hot\n"


def test_the_code_of_the_kernel_in_every_process(tmp_path: Path) -> None:
    """The vDSO has no file; its names are known all the same."""
    names = Names()
    with running(compiled(tmp_path)) as (pid, _):
        maps = Path(f"/proc/{pid}/maps").read_text()
        start, end = (int(word, 16) for word in re.findall(r"(\w+)-(\w+) .*\[vdso\]", maps)[0])
        start_ns = start_ns_of(pid)
        names.learn(pid, start_ns)
        frames = names.of_addresses(pid, start_ns, np.arange(start, end, 16))
    assert "clock_gettime" in {frame.name for frame in frames}
    assert {frame.module for frame in frames} == {"[vdso]"}


def test_a_program_that_was_executed_later(tmp_path: Path) -> None:
    """An exec is seen at the next call, whatever the number of calls before."""
    path = compiled(tmp_path)
    names = Names()
    command = ["sh", "-c", f'echo 0; read _; exec "{path}"']
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        start_ns = start_ns_of(process.pid)
        for _ in range(5):
            names.learn(process.pid, start_ns)
        process.stdin.write("\n")
        process.stdin.flush()
        hot = int(process.stdout.readline().split()[0], 16)
        names.learn(process.pid, start_ns)
        assert names_at(names, process.pid, start_ns, hot) == ["hot"]
        process.kill()


def test_a_library_that_was_loaded_later() -> None:
    """A process is looked at again from time to time."""
    code = "import ctypes; print(0, flush=True); input(); ctypes.CDLL('libbpf.so.1')"
    code += "; print(0, flush=True); input()"
    names = Names()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        start_ns = start_ns_of(process.pid)
        names.learn(process.pid, start_ns)
        names_at(names, process.pid, start_ns, 1)  # It has been looked at by then.
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        start = int(re.findall(r"^(\w+)-\w+ r-xp .*libbpf", maps, re.MULTILINE)[0], 16)
        assert names_at(names, process.pid, start_ns, start) == ["[unknown]"]
        for _ in range(3):
            names.learn(process.pid, start_ns)
        assert "libbpf" in names.of_addresses(process.pid, start_ns, np.array([start]))[0].module
        process.kill()


# --- code that a program has made -------------------------------------------------------------


@contextmanager
def perf_map(pid: int, text: str = "") -> Iterator[Path]:
    """Write the perf map of a process, or without a *text* take its own; it is removed."""
    path = Path(f"/tmp/perf-{pid}.map")  # noqa: S108  it is where runtimes write it
    if text:
        path.write_text(text)
    try:
        yield path
    finally:
        path.unlink()


LATE_AT = 0x6000_0000
"""No mapping is there when the process is looked at."""

MAP = (
    f"{LATE_AT:x} 10 later\n{JIT_AT:x} 40 LazyCompile:*spin app.js:1\n"
    f"{JIT_AT + 0x40:x} 20 py::run:/x/app.py\n"
)


def test_a_perf_map_names_code_that_was_made(tmp_path: Path) -> None:
    """Also what is added to the map after the process was learnt, and when that has ended."""
    names = Names()
    with running(compiled(tmp_path, source=JIT_SOURCE)) as (pid, _), perf_map(pid, MAP) as path:
        start_ns = start_ns_of(pid)
        names.learn(pid, start_ns)
        names_at(names, pid, start_ns, 16)
        with path.open("a") as file:
            file.write(f"{JIT_AT + 0x80:x} 10 late\n")
    places = np.array([*(JIT_AT + np.array([0x3F, 0x40, 0x60, 0x8F])), LATE_AT])
    frames = names.of_addresses(pid, start_ns, places)
    assert [frame.name for frame in frames] == [
        "LazyCompile:*spin app.js:1",
        "py::run:/x/app.py",
        "[jit]",
        "late",
        "later",
    ]
    assert {frame.origin for frame in frames} == {Origin.JIT}


def test_a_map_that_is_older_than_its_process_is_not_used(tmp_path: Path) -> None:
    """It is that of an earlier process with the same pid. The note has the remedy."""
    names = Names()
    with running(compiled(tmp_path, source=JIT_SOURCE)) as (pid, _), perf_map(pid, MAP) as path:
        os.utime(path, (time.time() - 3_600,) * 2)
        start_ns = start_ns_of(pid)
        names.learn(pid, start_ns)
        assert names_at(names, pid, start_ns, JIT_AT) == ["[jit]"]
    assert any("known (1)" in note and "--perf-basic-prof" in note for note in names.notes())


def test_a_map_of_another_user_is_not_used(tmp_path: Path) -> None:
    """Anybody may write a file of this name."""
    names = Names()
    with running(compiled(tmp_path, source=JIT_SOURCE)) as (pid, _), perf_map(pid, MAP) as path:
        os.chown(path, 65_534, 65_534)
        start_ns = start_ns_of(pid)
        names.learn(pid, start_ns)
        assert names_at(names, pid, start_ns, JIT_AT) == ["[jit]"]


def test_the_map_of_a_process_in_a_container(tmp_path: Path) -> None:
    """It is in the /tmp of its own mount namespace, under the pid that it sees itself by."""
    path = compiled(tmp_path, source=JIT_SOURCE)
    kept = tmp_path / "kept"
    kept.mkdir()
    script = (
        f"mount --bind {tmp_path} /mnt && mount -t tmpfs none /tmp &&"
        f" printf '{JIT_AT:x} 40 inside\\n' > /tmp/perf-1.map && exec /mnt/known"
    )
    names = Names()
    command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script]
    with running(*command) as (pid, (_, own_pid)):
        assert own_pid == 1
        start_ns = start_ns_of(pid)
        names.learn(pid, start_ns)
        assert names_at(names, pid, start_ns, JIT_AT) == ["inside"]
    assert path.exists()


def test_node_names_its_functions(tmp_path: Path) -> None:
    """A real runtime with its own map."""
    script = tmp_path / "spin.js"
    script.write_text(
        "function spinner(n) { let x = 0; for (let i = 0; i < n; i++) x += i % 7; return x; }\n"
        "for (let i = 0; i < 300; i++) spinner(20000);\n"
        "console.log('0'); require('fs').readSync(0, Buffer.alloc(1));\n"
    )
    names = Names()
    with (
        running("node", "--perf-basic-prof", script, cwd=tmp_path) as (pid, _),
        perf_map(pid) as made,
    ):
        text = made.read_text()
        start_ns = start_ns_of(pid)
        names.learn(pid, start_ns)
        lines = [line.split(None, 2) for line in text.splitlines() if "*spinner" in line]
        found = names_at(names, pid, start_ns, *(int(line[0], 16) + 4 for line in lines))
    assert lines
    assert all("spinner" in name for name in found)


# --- bounds ------------------------------------------------------------------------------------


def test_a_process_that_ends_at_once_costs_nothing(tmp_path: Path) -> None:
    """Neither an exception nor a name."""
    names = Names()
    with running(compiled(tmp_path)) as (pid, _):
        start_ns = start_ns_of(pid)
    names.learn(pid, start_ns)
    names.learn(2, 0)
    assert names.of_addresses(pid, start_ns, np.array([1, 2])) == [UNKNOWN, UNKNOWN]
    assert names.faults.count == 0


def test_copies_of_a_file_are_opened_once(tmp_path: Path) -> None:
    """The images of containers hold the same libraries: one of each is kept open."""
    names = Names()
    names_at(names, 1, 0, 1)  # What it learns of its own process is read by then.
    before = open_files()
    for number in range(3):
        with running(compiled(tmp_path, name=f"copy{number}")) as (pid, (hot, *_)):
            start_ns = start_ns_of(pid)
            names.learn(pid, start_ns)
            assert names_at(names, pid, start_ns, hot) == ["hot"]
    assert open_files() <= before + len(("copy0", "ld.so", "libc.so"))


def test_files_beyond_the_limit_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not opened has no names, and the note says so."""
    monkeypatch.setattr(kept_files, "MAX_FILES", 0)
    names = Names()
    with running(compiled(tmp_path)) as (pid, (hot, *_)):
        start_ns = start_ns_of(pid)
        names.learn(pid, start_ns)
        assert names_at(names, pid, start_ns, hot) == ["[known]"]
    assert any("more files than may be open" in note for note in names.notes())


def test_everything_is_closed_in_the_end(tmp_path: Path) -> None:
    """Files live as long as the names."""
    before = open_files()
    names = Names()
    with running(compiled(tmp_path, source=JIT_SOURCE)) as (pid, _), perf_map(pid, MAP):
        start_ns = start_ns_of(pid)
        names.learn(pid, start_ns)
        names_at(names, pid, start_ns, JIT_AT)
        assert open_files() > before
    del names
    limit_s = time.monotonic() + 30
    while open_files() > before and time.monotonic() < limit_s:
        time.sleep(0.01)  # The thread that has read last is about to end.
    assert open_files() == before


def test_a_file_system_that_hangs_is_given_up(tmp_path: Path) -> None:
    """A process whose /tmp does not answer costs its names, and no others."""
    silent = tmp_path / "silent"
    silent.mkdir()
    path = compiled(tmp_path, source=JIT_SOURCE)
    script = f"mount --bind {tmp_path} /mnt && mount --bind {silent} /tmp && exec /mnt/known"
    names = Names()
    with ExitStack() as stack:
        files = SilentFiles(silent)
        stack.callback(files.abort)
        pid, _ = stack.enter_context(running("unshare", "--mount", "sh", "-c", script))
        other = compiled(tmp_path, name="other")
        other_pid, (hot, *_) = stack.enter_context(running(other))
        start_ns, other_start_ns = start_ns_of(pid), start_ns_of(other_pid)
        names.learn(pid, start_ns)
        names.learn(other_pid, other_start_ns)
        assert files.waits.wait(30)
        assert names_at(names, other_pid, other_start_ns, hot) == ["hot"]
        assert names_at(names, pid, start_ns, JIT_AT) == ["[unknown]"]
    assert path.exists()
