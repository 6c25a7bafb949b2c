"""`kepler-ebpf record` as its users have it: beside commands, killed, read while it writes."""

import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from random import Random

import pytest
from running import CHECKOUT, GIVE_UP_S
from trackers import HIERARCHIES

from kepler_ebpf.kernel.layout import JOB_SHIFT
from kepler_ebpf.recording.frames import State
from kepler_ebpf.recording.reader import open_recording
from kepler_ebpf.recording.recorder import BATCH_NS

RECORD = (sys.executable, "-m", "kepler_ebpf", "record", "--meter", "estimate")
BURN = "import time\nwhile time.process_time() < {}: pass"
SECRET = "hunter2-is-secret"
KILLS = 5

pytest_plugins = ["kernel_fixtures"]


def recorded(path, *arguments, **form):
    """Run it to its end."""
    command = [*RECORD, "-o", str(path), *arguments]
    return subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, check=False, **form
    )


@contextmanager
def recording(path, *arguments):
    """Start it, and wait until it has written something; yields the process."""
    with subprocess.Popen(
        [*RECORD, "-o", str(path), "--interval", "10ms", *arguments],
        cwd=CHECKOUT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            until_s = time.monotonic() + GIVE_UP_S
            while not path.is_file() or not list(open_when_there(path)):
                assert time.monotonic() < until_s
                assert process.poll() is None
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def open_when_there(path):
    """Yield the batches of a file that may have no header yet."""
    if path.stat().st_size:
        yield from open_recording(path).batches()


def read(path):
    """Return a recording that was read, and its batches."""
    found = open_recording(path)
    return found, list(found.batches())


def rows_of(batches, job=None):
    """Yield the records, of a job where that is given."""
    for batch in batches:
        for row in batch.measured.records:
            if job is None or row["flags"] >> JOB_SHIFT == job:
                yield row


# --- a command --------------------------------------------------------------------------------


def test_command_is_recorded_with_all_that_it_starts(tmp_path):
    """Its status is ours, its tasks are marked, and have their CPU time and their names."""
    command = f"for i in 1 2 3; do /bin/true; done; {sys.executable} -Ss -c '{BURN.format(0.3)}'"
    done = recorded(tmp_path / "r", "--interval", "10ms", "--", "sh", "-c", f"{command}; exit 7")
    assert done.returncode == 7
    found, batches = read(tmp_path / "r")
    assert (found.state, found.problems) == (State.COMPLETE, [])
    rows = list(rows_of(batches, job=1))
    names = {
        found.names.process(int(row["tgid"]), int(row["process_start_ns"])).exe for row in rows
    }
    assert os.path.realpath("/bin/true") in names
    assert os.path.realpath(sys.executable) in names
    program = os.path.basename(sys.executable).encode()  # noqa: PTH119 - as the kernel has it
    used_s = sum(int(row["cpu_ns"]) for row in rows if row["process_comm"] == program) / 1e9
    assert used_s > 0.25
    assert found.header.is_estimate


def test_arguments_are_kept_only_where_they_are_asked_for(tmp_path):
    """They hold secrets: without the flag they are nowhere in the recording."""
    command = ("--", "sh", "-c", f": {SECRET}; /bin/true {SECRET}")
    recorded(tmp_path / "without", *command)
    recorded(tmp_path / "with", "--arguments", *command)
    without, _ = read(tmp_path / "without")
    assert (without.header.command, without.names.arguments) == (("sh",), {})
    assert SECRET not in str(without.names)
    found, _ = read(tmp_path / "with")
    assert found.header.command == command[1:]
    assert f"/bin/true {SECRET}" in found.names.arguments.values()


def test_command_that_cannot_be_run_leaves_no_file(tmp_path):
    """The status is the shell's."""
    for command, status in (("/no/such", 127), ("/etc/passwd", 126)):
        done = recorded(tmp_path / "r", "--", command)
        assert done.returncode == status
        assert command in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_signals_go_to_the_command(tmp_path):
    """It decides what they do; then its recording is complete."""
    script = "trap 'exit 9' TERM; echo; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [*RECORD, "-o", str(tmp_path / "r"), "--", "sh", "-c", script],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        process.stdout.read(1)
        process.terminate()
        assert process.wait(GIVE_UP_S) == 9
    assert read(tmp_path / "r")[0].state is State.COMPLETE


# --- the host ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_complete_recording(tmp_path, number):
    """In which all intervals follow each other, and all CPU time has its place."""
    with recording(tmp_path / "r") as process:
        assert read(tmp_path / "r")[0].state is State.WRITING
        process.send_signal(number)
        _, err = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 0
    assert "recorded" in err
    assert "\r" not in err
    found, batches = read(tmp_path / "r")
    assert found.state is State.COMPLETE
    usages = [interval.usage for batch in batches for interval in batch.measured.intervals]
    starts, ends = ([getattr(each, name) for each in usages] for name in ("start_ns", "end_ns"))
    assert starts[1:] == ends[:-1]
    owned_ns = sum(int(batch.measured.records["cpu_ns"].sum()) for batch in batches)
    busy_ns, lost_ns = (
        sum(sum(getattr(each.sockets, name)) for each in usages) for name in ("busy_ns", "lost_ns")
    )
    assert owned_ns + lost_ns == pytest.approx(busy_ns, rel=1e-3)


def test_killed_recorder_leaves_what_it_wrote(tmp_path):
    """At whatever moment: it is read up to just before, and is not called whole."""
    rng = Random(11)  # noqa: S311  no secret
    for number in range(KILLS):
        path = tmp_path / str(number)
        with recording(path) as process:
            time.sleep(rng.random())
            process.kill()
            process.wait()
            killed_s = time.time()
        found, batches = read(path)
        assert found.state is State.CUT
        assert batches
        assert killed_s - batches[-1].ends_s[-1] < GIVE_UP_S


def test_batch_does_not_wait_for_more(tmp_path):
    """It ends with the interval in which it becomes half a second old, so a kill costs little."""
    recorded(tmp_path / "r", "--interval", "10ms", "--timeout", "2")
    _, batches = read(tmp_path / "r")
    assert len(batches) > 2
    for batch in batches:
        first, *_ = intervals = batch.measured.intervals
        # The first interval of all begins before the loop does.
        ages_ns = [each.usage.end_ns - first.usage.end_ns for each in intervals]
        assert max(ages_ns[:-1], default=0) < BATCH_NS


def test_container_is_named_in_it(tmp_path, make_cgroup):
    """By its id, though it is gone when the recording is read."""
    container_id = os.urandom(32).hex()
    with recording(tmp_path / "r") as process:
        home = make_cgroup(HIERARCHIES[0], f"-docker-{container_id}.scope")
        enter = f"echo 0 > {home.directory}/cgroup.procs; exec {sys.executable} -Ss -c"
        subprocess.run(["sh", "-c", f"{enter} '{BURN.format(0.1)}'"], check=True)
        home.remove()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=GIVE_UP_S)
    found, batches = read(tmp_path / "r")
    used = {int(row["cgroup_id"]) for row in rows_of(batches)}
    named = {found.names.cgroups[key].container_id for key in used if key in found.names.cgroups}
    assert container_id in named


def test_directory_gets_parts(tmp_path):
    """A name with a slash at its end is made."""
    done = recorded(f"{tmp_path}/new/", "--timeout", "3", "--part-time", "1s", "--interval", "50ms")
    assert done.returncode == 0
    found, batches = read(tmp_path / "new")
    assert len(found.parts) > 1
    assert found.state is State.COMPLETE
    assert sum(batch.measured.intervals[-1].length_s > 0 for batch in batches) == len(batches)


def test_time_ends_it(tmp_path):
    """In the middle of an interval, which is recorded."""
    assert recorded(tmp_path / "r", "--interval", "1h", "--timeout", "0.2").returncode == 0
    found, (batch,) = read(tmp_path / "r")
    assert found.state is State.COMPLETE
    assert len(batch.measured.intervals) == 1


def test_progress_is_for_terminals(tmp_path):
    """There it is one line that is written over."""
    outside, inside = pty.openpty()
    with subprocess.Popen(
        [*RECORD, "-o", str(tmp_path / "r"), "--timeout", "2.5"], cwd=CHECKOUT, stderr=inside
    ) as process:
        os.close(inside)
        shown = b""
        with os.fdopen(outside, "rb", 0) as terminal:
            try:
                while read_bytes := terminal.read(1000):
                    shown += read_bytes
            except OSError:
                pass  # Linux says so where nobody writes any more.
        assert process.wait(GIVE_UP_S) == 0
    assert shown.count(b"recorded") > 1
    assert shown.count(b"\r\n") == 1


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "{path}"), "exists"),
        (("-o", "{path}/below"), "below"),
        (("-o", "{path}", "--force", "--max-size", "10"), "100kB"),
        (("-o", "{path}", "--force", "--part-time", "soon"), "a duration"),
        ((), "--output"),
    ],
)
def test_wrong_arguments_are_an_error(tmp_path, arguments, said):
    """Before anything is measured, and what exists is kept."""
    path = tmp_path / "there"
    path.write_text("mine")
    command = [*RECORD, *(each.format(path=path) for each in arguments)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode in {2, 125}
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_text() == "mine"


def test_full_disk_ends_it_and_not_the_command(tmp_path):
    """The command runs to its end; the error is said, and what was written is whole."""
    script = (
        'mount -t tmpfs -o size=64k none "$0" && "$@"; status=$?; '
        'cp "$0"/r "$0".copy && exit $status'
    )
    command = "for i in $(seq 300); do /bin/true; sleep 0.01; done; echo ended"
    record = (*RECORD, "-o", f"{tmp_path}/r", "--interval", "10ms")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, tmp_path, *record, "--", "sh", "-c", command],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "ended\n"
    assert done.returncode == 125
    assert "No space left" in done.stderr
    found, batches = read(tmp_path.with_name(f"{tmp_path.name}.copy"))
    assert found.state is State.CUT
    assert batches
