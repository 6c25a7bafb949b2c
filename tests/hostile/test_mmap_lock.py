"""Processes and file systems that let their readers wait for ever, beside a live `run`."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from running import Page, Run, running
from silent_files import GIVE_UP_S, SilentFiles, holding_its_lock, silent_files
from workers import worker

from kepler_ebpf.names.reader import MAX_STUCK

GIVEN_UP = "kepler_ebpf_given_up_reads_total"
ID = "0123456789abcdef" * 4


@pytest.fixture
def files(tmp_path: Path) -> Iterator[SilentFiles]:
    """Give a file system that stops answering."""
    with silent_files(tmp_path / "silent") as made:
        yield made


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    """Give a test its cgroups, where this host's are counted."""
    with cgroup_tree(hierarchies()[0]) as made:
        yield made


def assert_alive(run: Run, waiting: int) -> Page:
    """Hold that *run* goes on, and has given so many reads up."""
    page = run.until(lambda page: page.total(GIVEN_UP) == waiting)
    after = run.until(lambda later: later.intervals > page.intervals + 3)
    assert after.total("kepler_ebpf_failed_intervals_total") == 0
    with urllib.request.urlopen(f"http://{run.address}/healthz") as answer:
        assert answer.status == 200
    return after


def test_process_whose_command_line_never_comes(tmp_path: Path, files: SilentFiles) -> None:
    """The loop goes on: a process that holds its own lock keeps its own name back."""
    with (
        holding_its_lock(files) as pid,
        running(tmp_path, "--meter", "fake", "--interval", "200ms") as run,
    ):
        page = assert_alive(run, waiting=1)
        assert page.find("kepler_process_cpu_joules_total", pid=str(pid), vm_id="")
        assert run.end() == 0
    assert "did not stop" not in run.log
    assert run.log.count("is given up") == 1


def test_many_such_processes_take_few_threads(tmp_path: Path, files: SilentFiles) -> None:
    """Beyond the limit names of machines wait, and nothing else does."""
    with ExitStack() as stack:
        for _ in range(2 * MAX_STUCK):
            stack.enter_context(holding_its_lock(files))
        run = stack.enter_context(running(tmp_path, "--meter", "fake", "--interval", "200ms"))
        run.until(lambda page: page.total(GIVEN_UP) == MAX_STUCK)
        hog = stack.enter_context(worker(tmp_path, "hog"))
        hog.spin()
        run.until(lambda page: page.find("kepler_process_cpu_joules_total", comm="hog"))
        threads = len(os.listdir(f"/proc/{run.process.pid}/task"))  # noqa: PTH208
        assert threads < 4 * MAX_STUCK
        assert_alive(run, waiting=MAX_STUCK)
        assert run.end() == 0


def test_runtime_on_a_file_system_that_hangs(
    tmp_path: Path, files: SilentFiles, tree: CgroupTree
) -> None:
    """A container has its id for a name, and the loop goes on."""
    script = (
        "mount -t tmpfs none /var/lib; mkdir -p /var/lib/docker; "
        f'mount --bind {files.folder} /var/lib/docker; exec "$@"'
    )
    wrapper = ("unshare", "--mount", "sh", "-ec", script, "sh")
    arguments = ("--meter", "fake", "--interval", "200ms")
    with (
        worker(tmp_path, "web") as web,
        running(tmp_path, *arguments, wrapper=wrapper) as run,
    ):
        tree.make(f"/docker/{ID}").enter(web.pid)
        web.spin()
        assert files.waits.wait(GIVE_UP_S)
        web.spin()
        page = assert_alive(run, waiting=1)
        run.process.send_signal(signal.SIGTERM)
        give_up_s = time.monotonic() + GIVE_UP_S
        while "stopped" not in run.log:
            assert time.monotonic() < give_up_s
            time.sleep(0.01)
        # The kernel keeps what is left of the program until the file system lets go of its thread.
        files.abort()
        assert run.process.wait(GIVE_UP_S) == 0
    named = page.find("kepler_container_cpu_joules_total", container_id=ID)
    assert {sample.labels["container_name"] for sample in named} == {ID[:12]}


PROGRAM = """
import logging, sys, threading
from kepler_ebpf.host.signals import end_on_signals
logging.basicConfig(format="%(message)s")
end_on_signals(lambda: None, 0.1)
print("ready", flush=True)
open(f"/proc/{sys.argv[1]}/cmdline").read()
"""


def test_signal_ends_a_program_whose_main_thread_waits_in_the_kernel(
    checkout: Path, files: SilentFiles
) -> None:
    """No handler runs in a thread that waits for another process's lock."""
    with (
        holding_its_lock(files) as pid,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(pid)],
            cwd=checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program,
    ):
        assert program.stdout
        assert program.stderr
        program.stdout.readline()
        stat = Path(f"/proc/{program.pid}/stat")
        while ") D " not in stat.read_text():
            time.sleep(0.01)
        program.send_signal(signal.SIGTERM)
        assert program.wait(GIVE_UP_S) == 1
        assert "SIGTERM did not stop the program" in program.stderr.read()
