"""`kepler-ebpf profile` as its users have it: a picture that adds up, and an untouched command."""

import gzip
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from running import CHECKOUT, GIVE_UP_S

from kepler_ebpf.attribution import attribute
from kepler_ebpf.config.options import Config
from kepler_ebpf.profile.flags import FORMAT_NAMES
from kepler_ebpf.profile.formats.registry import FORMATS
from kepler_ebpf.profile.recorder import Recorder
from kepler_ebpf.profile.result import About, profile_of
from kepler_ebpf.profile.symbols.names import Names
from kepler_ebpf.wiring.session import open_session

PROFILE = (sys.executable, "-m", "kepler_ebpf", "profile")
OWN_FAILURE = 125
PROGRAM = CHECKOUT / "tests/support/two_functions.c"
BURN = "import time\nwhile time.process_time() < {}: pass"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Compile the program that uses 70 % of its time in one function and 30 % in another."""
    path = tmp_path_factory.mktemp("profiled") / "two_functions"
    options = ["-O1", "-fno-omit-frame-pointer", "-Wl,--build-id"]
    subprocess.run(["clang", *options, "-o", path, PROGRAM], check=True)
    return str(path)


def profile(*arguments, under=(), **options):
    """Run `profile` until it ends, *under* a command that starts others."""
    return subprocess.run(
        [*under, *PROFILE, *arguments],
        cwd=options.pop("cwd", CHECKOUT),
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
        check=False,
        **options,
    )


def folded(*arguments):
    """Run `profile`, and return what it wrote as energy in µJ by stack, the outermost first."""
    done = profile("-o", "-", "--format", "folded", *arguments)
    assert done.returncode == 0, done.stderr
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in done.stdout.splitlines():
        stack, _, uj = line.rpartition(" ")
        stacks[tuple(stack.split(";"))] += int(uj)
    return stacks


def with_frame(stacks, name):
    """Sum the energy of all stacks with a frame of that name."""
    return sum(uj for stack, uj in stacks.items() if name in stack)


# --- the picture ------------------------------------------------------------------------------


def test_functions_have_their_shares(program):
    """Of two functions that use 70 % and 30 % of a program's time, each has its part."""
    stacks = folded("-F", "997", "--", program, "1500")
    hot, warm = with_frame(stacks, "hot"), with_frame(stacks, "warm")
    assert 0.6 < hot / (hot + warm) < 0.8
    assert hot + warm > 0.8 * sum(stacks.values())
    (comm,) = {stack[0] for stack in stacks}
    assert comm == "two_functions"
    paths: Counter[tuple[str, ...]] = Counter()
    for stack, value in stacks.items():
        if stack[-1] == "hot":
            paths[stack[-3:]] += value
    # A sample may fall on the first instructions of a function, before it has a frame.
    assert paths["main", "work", "hot"] > 0.9 * paths.total()


@pytest.mark.parametrize("way", ["fork", "exec"])
def test_children_of_some_milliseconds_have_names(program, way):
    """What lived for 5 ms is in the picture by its functions, though it is gone."""
    stacks = folded("-F", "997", "--", program, "5", way, "100")
    assert with_frame(stacks, "hot") + with_frame(stacks, "warm") > 0.6 * sum(stacks.values())


@pytest.mark.parametrize("loader", ["core", "bcc"])
def test_picture_is_the_account(program, loader):
    """Time and energy of all rows are those that the account has for the command."""
    with ExitStack() as stack:
        opened = open_session(stack, Config(bpf_loader=loader, meter="fake"), 1 << 20)
        meter, tracker = opened.measuring.meter, opened.measuring.tracker
        names, account = Names(), []
        recorder = Recorder(tracker, meter.zones, opened.jobs.select, names)

        def taken(measured, execs):
            recorder.take(measured, execs)
            chosen = opened.jobs.select(measured.records)
            shares_uj = attribute(measured, meter.zones).shares_uj[chosen].sum(axis=0)
            account.append((measured.records["cpu_ns"][chosen].sum(), shares_uj))

        opened.session.taken = taken
        recorder.samples.start(499)
        run = opened.session.run([program, "5", "exec", "100"], None, opened.jobs)
        recorder.samples.stop()
        kinds = tuple(dict.fromkeys(zone.kind for zone in meter.zones))
        about = About("it", kinds, kinds[0], meter.stats, 499, {})
        result = profile_of(recorder, names, about)
        pre_exec_ns = opened.jobs.pre_exec_ns
    rows, (_, *later) = result.rows, account
    cpu_ns = sum(int(used_ns) for used_ns, _ in later) - pre_exec_ns
    assert rows.cpu_ns.sum() == pytest.approx(cpu_ns, rel=1e-9)
    assert run.cpu_s == pytest.approx(cpu_ns / 1e9, rel=1e-9)
    used_ns, first_uj = later[0]
    energy_uj = sum(uj for _, uj in later) - first_uj * pre_exec_ns / used_ns
    assert rows.energy_uj.sum(axis=0) == pytest.approx(energy_uj, rel=1e-9)
    assert result.counts["samples lost"] == 0
    assert rows.samples.sum() > 0
    assert np.diff(result.end_ns).min(initial=1) > 0


def test_machine_adds_up_to_its_active_energy(program):
    """With -a the picture is all active energy, and what has no owner is a frame of its own."""
    with ExitStack() as stack:
        opened = open_session(stack, Config(meter="fake"), 1 << 20)
        zones, tracker = opened.measuring.meter.zones, opened.measuring.tracker
        names, active_uj = Names(), []
        recorder = Recorder(tracker, zones, everything, names, with_unowned=True)

        def taken(measured, execs):
            recorder.take(measured, execs)
            attribution = attribute(measured, zones)
            columns = [[zone.kind == kind for kind in attribution.kinds] for zone in zones]
            active_uj.append(attribution.active_uj.sum(axis=0) @ np.array(columns))

        opened.session.taken = taken
        recorder.samples.start(99, everything=True)
        with subprocess.Popen([program, "100000"]) as load:
            opened.session.attach(everything, half_a_second)
            load.kill()
        rows = recorder.joined.rows
    assert rows.energy_uj.sum(axis=0) == pytest.approx(sum(active_uj[1:]), rel=1e-9)
    assert len(set(rows.process.tolist())) > 1


def half_a_second(_wait_s):
    """Wait, and end."""
    time.sleep(0.5)
    return True


def everything(records):
    """Choose all tasks."""
    return np.ones(len(records), bool)


def test_kernel_has_names(program):
    """Code of the kernel is in the picture by its functions."""
    stacks = folded("-F", "997", "--", program, "1", "exec", "50")
    assert any(re.search(r"^[a-z_0-9.]+_\[k\]$", frame) for stack in stacks for frame in stack)


def test_missing_frame_pointers_are_said():
    """Where stacks end too early the file is named, with what to do."""
    done = profile("-F", "997", "-o", "/dev/null", "--format", "html", "--", *burning(0.6))
    assert re.search(r"stacks that end after 2 frames .*python", done.stderr)
    assert "-fno-omit-frame-pointer" in done.stderr


def burning(seconds):
    """Return the command of a distribution's Python that uses so much CPU time."""
    python = shutil.which("python3", path="/usr/bin")
    assert python
    return python, "-ISSc", BURN.format(seconds)


# --- what is profiled -------------------------------------------------------------------------


def test_process_that_runs_is_profiled(program):
    """--pid profiles a process and nothing else, until the time is over."""
    with subprocess.Popen([program, "100000"]) as one, subprocess.Popen(burning(100)) as other:
        stacks = folded("-F", "499", "--pid", str(one.pid), "--duration", "1")
        for process in (one, other):
            process.kill()
    assert with_frame(stacks, "work") > 0.8 * sum(stacks.values())
    assert {stack[0] for stack in stacks} == {"two_functions"}


def test_command_says_how_long_others_are_profiled(program):
    """With a choice and a command, the choice is profiled while the command runs."""
    with subprocess.Popen([program, "100000"]) as other:
        done = profile(
            *("-F", "499", "-o", "-", "--format", "folded", "--comm", "two_functions"),
            *("--", "sh", "-c", "sleep 0.5; exit 3"),
        )
        other.kill()
    assert done.returncode == 3
    assert "work;hot" in done.stdout
    assert "sleep" not in done.stdout


# --- what is the command's own ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -TERM $$"), 128 + signal.SIGTERM),
        (("no-such-program",), 127),
        (("/etc/passwd",), 126),
    ],
)
def test_exit_status_is_the_command_s(command, status, tmp_path):
    """The status is that of the shell; a command that did not start leaves no file."""
    done = profile("--", *command, cwd=tmp_path)
    assert done.returncode == status
    assert (tmp_path / "profile.html").exists() == (status not in {126, 127})


def test_interrupt_still_writes_the_file(tmp_path):
    """Ctrl-C ends the command, and what is known of it is written."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.environ["PYTHONPATH"] = str(CHECKOUT)
        script = f"echo ready; {sys.executable} -c '{BURN.format(100)}'"
        os.execv(sys.executable, [*PROFILE, "--", "sh", "-c", script])  # noqa: S606
    text = b""
    while b"ready" not in text:
        text += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass  # the end of a terminal whose programs are gone
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGINT
    assert (tmp_path / "profile.html").read_bytes().startswith(b"<!")


def test_signal_ends_what_runs_anyway(tmp_path):
    """SIGINT ends a profile of the machine, which is written."""
    arguments = ("-a", "-o", "machine.pb.gz")
    with subprocess.Popen(
        [*PROFILE, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.PIPE,
    ) as process:
        while not timers_of(process.pid):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 0, said
    assert gzip.decompress((tmp_path / "machine.pb.gz").read_bytes())
    assert b"machine.pb.gz" in said


def timers_of(pid):
    """Return the perf events that a process holds."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += ["perf_event"] if "perf_event" in str(link.readlink()) else []
        except OSError:
            continue
    return found


# --- files ------------------------------------------------------------------------------------


def test_flags_list_each_format():
    """`--help` has no time to import the formats, and still has all of them."""
    assert tuple(FORMATS) == FORMAT_NAMES


def test_file_is_written_anew(tmp_path):
    """A longer file that was there before is replaced; the summary names the new one."""
    path = tmp_path / "x.folded"
    path.write_text("old\n" * 100_000)
    done = profile("-o", str(path), "--", *burning(0.2))
    assert "old" not in path.read_text()
    assert str(path) in done.stderr
    assert "ESTIMATE" in profile("--meter", "estimate", "-o", str(path), "--", "true").stderr


def test_reader_that_has_had_enough_is_no_fault():
    """Where what reads standard output ends early, the status is still the command's."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROFILE, "-o", "-", "--format", "html", "--", "sh", "-c", "exit 3"],
        cwd=CHECKOUT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=GIVE_UP_S,
    )
    os.close(writer)
    assert done.returncode == 3
    assert "Broken pipe" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "nothing to profile"),
        (("--pid", "999999999"), "999999999"),
        (("--cgroup", "/no/such"), "/no/such"),
        (("--container", "no-such"), "no-such"),
        (("-a", "--comm", "x"), "-a"),
        (("--timeout", "1", "--", "true"), "--timeout"),
        (("-o", "/no/such/folder/x.svg", "--", "true"), "/no/such/folder/x.svg"),
        (("-o", "x.unknown", "--", "true"), "x.unknown"),
        (("--zone", "no-such", "--", "true"), "no-such"),
        (("--user", "no-such-user", "--", "true"), "no-such-user"),
        (("-o", "/dev/full", "--format", "svg", "--", "true"), "/dev/full"),
    ],
    ids=str,
)
def test_bad_input_is_named(arguments, named, tmp_path):
    """What is wrong is named with what to do, and the status is that of a failure of ours."""
    done = profile(*arguments, cwd=tmp_path)
    assert done.returncode == OWN_FAILURE
    assert named in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "profile.html").exists()


def test_full_disk_leaves_no_half_file(tmp_path):
    """Half a picture may look whole: the error names it, and there is none."""
    script = 'mount -t tmpfs -o size=8k none . && cd "$PWD" && "$0" "$@"; echo $? $(ls)'
    shell = ("unshare", "-m", "sh", "-c", script)
    done = profile("-o", "x.html", "--", "true", under=shell, cwd=tmp_path)
    assert done.returncode == 0
    assert "cannot write to x.html: No space left on device" in done.stderr
    assert done.stdout == f"{OWN_FAILURE}\n"


@pytest.mark.parametrize("bounding", ["-all", "-perfmon,-sys_admin", "-bpf,-sys_admin"])
def test_lack_of_rights_is_named(bounding, tmp_path):
    """Without rights nothing is run, and what is lacking is said."""
    without = ("setpriv", f"--bounding-set={bounding}", "--")
    done = profile("--", "echo", "ran", under=without, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (OWN_FAILURE, "")
    assert "CAP_BPF and CAP_PERFMON" in done.stderr
