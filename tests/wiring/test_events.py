"""`kepler-ebpf events` as its users have it: a line for what starts and for what ends."""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from powercap import CpuModel, PowercapTree, driven, host_busy_s
from running import CHECKOUT, GIVE_UP_S
from trackers import HIERARCHIES

pytest_plugins = ["kernel_fixtures"]

EVENTS = (sys.executable, "-m", "kepler_ebpf", "events")
BURN = "import time\nwhile time.process_time() < {}: pass"


@contextmanager
def events(*arguments):
    """Start `events`, and wait until it counts; yields the process."""
    with subprocess.Popen(
        [*EVENTS, *arguments],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process):
    """Interrupt it, and return what it has written."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 0
    return out, err


def counting(process):
    """Return when it counts: it has written of a program that was executed."""
    until_s = time.monotonic() + GIVE_UP_S
    while not select.select([process.stdout], (), (), 0.05)[0]:
        assert time.monotonic() < until_s
        subprocess.run(["/bin/true"], check=True)
    # Not through the stream, whose buffer `communicate` would not see.
    while (read := os.read(process.stdout.fileno(), 1)) != b"\n":
        assert read, process.stderr.read()


def lines_of(out):
    """Return the events by pid, and the last line apart."""
    *lines, last = map(json.loads, out.splitlines())
    by_pid: dict[int, list[dict[str, object]]] = {}
    for line in lines:
        by_pid.setdefault(line["pid"], []).append(line)
    return by_pid, last


def test_each_short_command_has_its_lines(stopwatch):
    """Exec and end, with program, parent, CPU time and joules; nothing is lost."""
    with events("--json") as process:
        counting(process)
        children = [subprocess.Popen(["/bin/true"]) for _ in range(50)]
        with subprocess.Popen([sys.executable, "-Ss", "-c", BURN.format(0.2)]) as burner:
            pass
        for child in children:
            child.wait()
        by_pid, last = lines_of(ended(process)[0])
    for child in children:
        start, end = by_pid[child.pid]
        assert (start["event"], end["event"]) == ("exec", "end")
        assert (end["comm"], end["ppid"], end["whole"]) == ("true", os.getpid(), True)
        assert start["exe"] == end["exe"] == os.path.realpath("/bin/true")
        assert end["joules"]["package"] > 0
        assert 0 < end["lifetime_s"] < GIVE_UP_S
    burned = by_pid[burner.pid][-1]
    assert stopwatch.agree(burned["cpu_s"], 0.2, 0.3, within=0.01)
    assert (last["event"], last["exec_events_lost"], last["ends_lost"]) == ("lost", 0, 0)
    assert (last["meter"], last["estimate"]) == ("estimate", True)


def test_process_that_forks_and_does_not_exec_ends_too():
    """A subshell has a line for its end, and none for a start."""
    with events("--json") as process:
        counting(process)
        shell = "(:; exit 3) & echo $!; wait"
        done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
        by_pid, _ = lines_of(ended(process)[0])
    (line,) = by_pid[int(done.stdout)]
    assert (line["event"], line["comm"]) == ("end", "sh")


def test_process_from_before_is_marked():
    """What it used before is not known, and that is said."""
    with (
        subprocess.Popen([sys.executable, "-Ss", "-c", BURN.format(60)]) as earlier,
        events("--json") as process,
    ):
        counting(process)
        earlier.kill()
        earlier.wait()
        by_pid, _ = lines_of(ended(process)[0])
    assert [(line["event"], line["whole"]) for line in by_pid[earlier.pid]] == [("end", False)]


def test_container_is_named_after_it_is_gone(make_cgroup):
    """A container that lives for a moment has its id in the lines of its processes."""
    container_id = os.urandom(32).hex()
    with events("--json") as process:
        counting(process)
        home = make_cgroup(HIERARCHIES[0], f"-docker-{container_id}.scope")
        enter = ["sh", "-c", f"echo 0 > {home.directory}/cgroup.procs; exec true"]
        with subprocess.Popen(enter) as command:
            pass
        home.remove()
        by_pid, _ = lines_of(ended(process)[0])
    assert by_pid[command.pid][-1]["container_id"] == container_id


@pytest.mark.parametrize("arguments", [("--comm", "my-program"), ("--min-joules", "0.05")])
def test_filters(arguments, tmp_path):
    """By name, or by what was used: then starts are left out."""
    program = tmp_path / "my-program"
    program.symlink_to(sys.executable)
    with events("--json", *arguments, "-n", "1", "--timeout", str(GIVE_UP_S)) as process:
        deadline = time.monotonic() + GIVE_UP_S
        while process.poll() is None and time.monotonic() < deadline:
            subprocess.run(["/bin/true"], check=True)
            subprocess.run([program, "-Ss", "-c", BURN.format(0.2)], check=True)
        out, _ = process.communicate(timeout=GIVE_UP_S)
    (line, last) = map(json.loads, out.splitlines())
    if arguments[0] == "--comm":
        assert line["comm"] == "my-program"
    else:
        assert line["joules"]["package"] >= 0.05
    assert last["event"] == "lost"


def test_lines_for_people(tmp_path):
    """Columns under a header, arguments only where asked for; no name moves the terminal."""
    program = tmp_path / "x\x1b[2Jy"
    program.symlink_to("/bin/true")
    often = ["sh", "-c", 'while :; do "$0" secret-word; sleep 0.05; done', program]
    flags = ("--comm", program.name, "--timeout", "2")
    with subprocess.Popen(often) as storm:
        (out, err), (told, _) = (
            (done.stdout, done.stderr)
            for more in ((), ("--arguments",))
            for done in [
                subprocess.run(
                    [*EVENTS, *flags, *more],
                    cwd=CHECKOUT,
                    capture_output=True,
                    text=True,
                    timeout=GIVE_UP_S,
                    check=True,
                )
            ]
        )
        storm.kill()
    assert out.split()[:4] == ["time", "event", "pid", "ppid"]
    assert "~J" in out.splitlines()[0]
    assert "x\N{REPLACEMENT CHARACTER}[2Jy" in out
    assert "\x1b" not in out + told
    assert ("secret-word" in out, "secret-word" in told) == (False, True)
    assert err.startswith("lost: 0 exec events, 0 ends, 0 without room")
    assert "an estimate" in err


def test_reader_that_leaves_ends_it():
    """A pager that closes is no error."""
    with events("--json") as process:
        counting(process)
        process.stdout.close()
        until_s = time.monotonic() + GIVE_UP_S
        while process.poll() is None:
            assert time.monotonic() < until_s
            subprocess.run(["/bin/true"], check=True)
        assert (process.returncode, process.stderr.read()) == (0, "")


def test_counters_are_not_an_estimate(tmp_path):
    """On counters the joules are measured, for each kind of zone."""
    (tmp_path / "devices/system").mkdir(parents=True)
    (tmp_path / "devices/system/cpu").symlink_to("/sys/devices/system/cpu")
    tree = PowercapTree(tmp_path, "single_socket")
    with (
        driven(tree, CpuModel(5.0, 20.0, host_busy_s)),
        events("--json", "--host.sysfs", str(tmp_path)) as process,
    ):
        counting(process)
        with subprocess.Popen([sys.executable, "-Ss", "-c", BURN.format(0.3)]) as burner:
            pass
        by_pid, last = lines_of(ended(process)[0])
    end = by_pid[burner.pid][-1]
    assert (end["estimate"], last["meter"]) == (False, "rapl")
    assert set(end["joules"]) >= {"package", "core"}
    assert all(joules > 0 for joules in end["joules"].values())


def test_without_rights_the_remedy_is_named():
    """Who may not measure gets an error with what is missing."""
    done = subprocess.run(
        [*EVENTS, "--timeout", "1"],
        cwd=CHECKOUT,
        user=65534,
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "CAP_BPF and CAP_PERFMON" in done.stderr


def test_second_interrupt_ends_it_while_nobody_reads():
    """A reader that stands still cannot keep it."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, bytes(4096))
    with subprocess.Popen([*EVENTS], cwd=CHECKOUT, stdout=writing) as process:
        until_s = time.monotonic() + GIVE_UP_S
        status = Path(f"/proc/{process.pid}/status")
        # Python has a handler of its own for SIGINT from its start on, and none for SIGTERM.
        while not caught(status.read_text()) & 1 << signal.SIGTERM - 1:
            assert time.monotonic() < until_s
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            assert time.monotonic() < until_s
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)
    assert process.returncode == -signal.SIGINT
    os.close(reading)
    os.close(writing)


def caught(status):
    """Return the mask of signals that a process handles, from its status file."""
    return int(status.partition("SigCgt:")[2].split()[0], 16)
