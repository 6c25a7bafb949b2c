"""`kepler-ebpf stat` as its users have it: their command is measured, and otherwise unchanged."""

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from powercap import CpuModel, PowercapTree, driven, host_busy_s
from running import CHECKOUT, GIVE_UP_S
from tools import tool

STAT = (sys.executable, "-m", "kepler_ebpf", "stat")
OWN_FAILURE = 125
ROW_END = r"  CPU [\d.]+ s$"
BURN = "import time\nwhile time.process_time() < {}: pass"


def stat(*arguments, **options):
    """Run `stat` until it ends."""
    return subprocess.run(
        [*STAT, *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
        check=False,
        **options,
    )


def measured(*arguments):
    """Run `stat --json`, and return what it wrote and its only run."""
    done = stat("--json", *arguments)
    result = json.loads(done.stderr)
    return result, result["runs"][0]


# --- the end of a command ---------------------------------------------------------------------

KILLS = [f"kill -{name} $$" for name in ("TERM", "KILL", "SEGV", "INT", "QUIT", "HUP", "PIPE")]
KILLS += [f"kill -{name} $$" for name in ("ABRT", "USR1", "ALRM", "FPE", "BUS", "TRAP", "XCPU")]
ENDS = [["sh", "-c", f"exit {status}"] for status in (0, 1, 2, 77, 125, 126, 127, 128, 255)]
ENDS += [["sh", "-c", text] for text in KILLS]
ENDS += [["no-such-program"], ["/no/such/program"], ["/etc/passwd"], ["/etc"], ["/etc/passwd/x"]]
ENDS += [[""], ["./broken-interpreter"], ["./no-interpreter"], ["./not-executable"]]
ENDS += [
    ["sh", "-c", "(sleep 0.1; kill -CONT $$) & kill -STOP $$; exit 4"],
    ["sh", "-c", "yes | :"],
]


@pytest.mark.parametrize("command", ENDS, ids=" ".join)
def test_exit_status_is_the_shell_s(command, tmp_path):
    """However a command ends or fails to start, the status is what bash reports for it."""
    for name, text in (("broken-interpreter", "#!/no/such"), ("no-interpreter", "exit 6")):
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "not-executable").write_text("exit 7\n")
    wanted = subprocess.run(
        ["bash", "-c", '"$@"; echo "= $?"', "bash", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.rpartition("= ")[2]
    done = subprocess.run(
        [*STAT, "--", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        check=False,
        timeout=GIVE_UP_S,
    )
    assert done.returncode == int(wanted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(number, tmp_path):
    """A signal to `stat` is the command's, and its joules are still written."""
    ready = tmp_path / "ready"
    command = ["sh", "-c", f"touch {ready}; exec sleep 100"]
    with subprocess.Popen([*STAT, "--", *command], cwd=CHECKOUT, stderr=subprocess.PIPE) as process:
        while not ready.exists():
            time.sleep(0.01)
        process.send_signal(number)
        _, written = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 128 + number
    assert b"of the node's" in written


def test_interrupt_from_the_terminal_is_the_command_s():
    """Ctrl-C goes to the command, which may go on; `stat` waits for it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(CHECKOUT)
        os.execv(  # noqa: S606 - in a terminal of its own
            sys.executable,
            [
                *STAT,
                "--",
                "sh",
                "-c",
                "trap 'echo caught; exit 9' INT; echo ready; sleep 100 & wait",
            ],
        )
    text = b""
    while b"ready" not in text:
        text += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    text += os.read(terminal, 65536)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 9
    assert b"caught" in text


# --- what is the command's own ----------------------------------------------------------------


def test_streams_and_descriptors_are_the_command_s(tmp_path):
    """Input, output and open descriptors pass; nothing of ours is in its output or environment."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    with (tmp_path / "extra").open("w+") as extra:
        descriptor = extra.fileno()
        done = stat(
            *("--", "bash", "-c", "cat; echo to-extra >&$0; env", str(descriptor)),
            input="to-input\n",
            pass_fds=[descriptor],
            env=environment,
        )
        extra.seek(0)
        assert extra.read() == "to-extra\n"
    assert done.stdout.startswith("to-input\n")
    names = {line.partition("=")[0] for line in done.stdout.splitlines()[1:]}
    assert names <= {"PATH", "PYTHONPATH", "PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"}


def test_command_runs_as_the_user():
    """With --user the command has that user's id and groups."""
    done = stat("--user", "nobody", "--", "id", "-un")
    assert done.stdout == "nobody\n"


# --- what is measured -------------------------------------------------------------------------


@pytest.fixture
def on_counters(tmp_path):
    """Give the flag for a tree of counters that move."""
    (tmp_path / "devices/system").mkdir(parents=True)
    (tmp_path / "devices/system/cpu").symlink_to("/sys/devices/system/cpu")
    tree = PowercapTree(tmp_path, "single_socket")
    with driven(tree, CpuModel(5.0, 20.0, host_busy_s)):
        yield ("--host.sysfs", str(tree.sysfs))


def test_command_and_the_rest_are_the_node(on_counters):
    """On counters, the command's joules and the rest are what the counters have moved."""
    result, run = measured(*on_counters, "--", sys.executable, "-c", BURN.format(0.3))
    assert (result["meter"], result["estimate"]) == ("rapl", False)
    assert set(run["zones"]) >= {"package", "core"}
    for zone in run["zones"].values():
        parts = zone["rest_active_joules"] + zone["idle_joules"] + zone["unowned_joules"]
        assert zone["rest_joules"] == pytest.approx(parts, abs=1e-9)
        assert zone["joules"] > 0
        assert zone["error_joules"] > 0
        assert zone["peak_watts"] >= zone["mean_watts"] * 0.999


def test_cpu_seconds_are_the_command_s(stopwatch):
    """CPU time is what the command used, and not what else ran."""
    with subprocess.Popen([sys.executable, "-c", BURN.format(60)]) as neighbour:
        _, run = measured("--", sys.executable, "-Ss", "-c", BURN.format(0.4))
        neighbour.kill()
    assert stopwatch.agree(run["cpu_s"], 0.4, 0.5, within=0.01)


def test_daemons_that_go_on_are_told():
    """What still runs at the end of the command is counted."""
    _, run = measured("--", "sh", "-c", "setsid sleep 3 & sleep 0.1")
    assert (run["tasks"], run["running"]) == (3, 1)


def test_runs_are_repeated_and_summarised():
    """-r gives each run in JSON, and mean, deviation and interval for people."""
    done = stat("-r", "3", "--warmup", "1", "--", "true")
    assert "3 runs of: true" in done.stderr
    assert "standard deviation" in done.stderr
    assert "95% interval of the mean" in done.stderr
    assert "rest of the machine" in done.stderr
    assert "in 1 task, " in done.stderr
    result, _ = measured("-r", "3", "--", "true")
    assert len(result["runs"]) == 3


def test_first_failure_ends_the_runs(tmp_path):
    """A run that fails ends the repetition with its status, unless failures are ignored."""
    mark = tmp_path / "mark"
    script = f"echo x >> {mark}; exit 3"
    assert stat("-r", "4", "--", "sh", "-c", script).returncode == 3
    assert mark.read_text() == "x\n"
    assert stat("-r", "4", "-i", "--", "sh", "-c", script).returncode == 3
    assert mark.read_text() == "x\n" * 5


def test_prepare_and_cleanup_are_not_measured(tmp_path):
    """They run before and after each run, and are in no figure."""
    mark = tmp_path / "mark"
    burner = f"{sys.executable} -c '{BURN.format(0.3)}'; echo {{}} >> {mark}"
    _, run = measured(
        *("--prepare", burner.format("before"), "--cleanup", burner.format("after")), "--", "true"
    )
    assert mark.read_text() == "before\nafter\n"
    assert (run["tasks"], run["cpu_s"] < 0.1) == (1, True)


WORK = ("--meter", "fake", "--", sys.executable, "-c", BURN.format(0.33))
START_S = 0.1
"""The first interval has our start of the command too: less than this."""


def test_rows_add_up_to_the_run():
    """-I prints what each interval used, and at the end the rest."""
    lines = stat("-I", "100", *WORK).stderr.splitlines()
    rows = [line for line in lines if re.search(ROW_END, line)]
    run_s = next(float(line.split()[1]) for line in lines if line.startswith(" CPU "))
    assert len(rows) >= 3
    assert all("J estimate" in row for row in rows)
    cpu_s = sum(float(row.split()[-2]) for row in rows)
    assert run_s - 0.0005 * (len(rows) + 1) <= cpu_s < run_s + START_S  # Each is rounded.


def test_intervals_are_part_of_the_run_in_json():
    """With --json -I writes one document, in which the intervals of each run add up to it."""
    result, _ = measured("-I", "100", "-r", "2", "--warmup", "1", *WORK)
    for run in result["runs"]:
        intervals = run["intervals"]
        assert len(intervals) >= 3
        assert intervals[-1]["at_s"] == pytest.approx(run["wall_s"], abs=START_S)
        cpu_s = sum(each["cpu_s"] for each in intervals)
        assert run["cpu_s"] - 1e-9 <= cpu_s < run["cpu_s"] + START_S
        joules = sum(each["zones"]["package"]["joules"] for each in intervals)
        per_cpu_s = run["zones"]["package"]["joules"] / run["cpu_s"]
        assert joules == pytest.approx(per_cpu_s * cpu_s, rel=0.2)


def test_intervals_have_the_columns_of_the_run():
    """With -x all lines have one header; those of a whole run alone have no time."""
    done = stat("-I", "100", "-x", ";", "-r", "2", "--warmup", "1", *WORK)
    lines = list(csv.DictReader(io.StringIO(done.stderr), delimiter=";"))
    assert all(None not in line and None not in line.values() for line in lines)
    for run in ("1", "2"):
        ours = [line for line in lines if (line["run"], line["zone"]) == (run, "package")]
        intervals = [line for line in ours if line["at_s"]]
        (whole,) = (line for line in ours if not line["at_s"])
        assert len(intervals) >= 3
        cpu_s = sum(float(line["cpu_s"]) for line in intervals)
        assert float(whole["cpu_s"]) - 1e-9 <= cpu_s < float(whole["cpu_s"]) + START_S
    assert {line["run"] for line in lines} == {"1", "2"}


def test_rows_have_the_stated_error(on_counters):
    """On counters, each figure of each row has its own."""
    command = ("--", sys.executable, "-c", BURN.format(0.3))
    rows = stat("-I", "100", *on_counters, *command).stderr.splitlines()
    errors = [re.findall(r" J ± ([\d.]+)", row) for row in rows if re.search(ROW_END, row)]
    assert len(errors) >= 3
    assert all(len(each) == 4 for each in errors)
    assert all(float(error) > 0 for each in errors for error in each)


LATE = """
import os, sys, time
def child():
    if not os.fork():
        os._exit(0)
    os.wait()
for _ in range(20):
    child()
early_s = time.monotonic()
wait_s = float(sys.argv[1])
if not os.fork():
    os.closerange(0, 3)
    time.sleep(wait_s + 2)
    os._exit(0)
time.sleep(wait_s)
print(early_s, time.monotonic(), flush=True)
child(), child()
print(time.monotonic(), flush=True)
"""


def test_tasks_are_those_of_the_counted_time():
    """With -D those that had ended are not counted; those that slept through it are."""
    for delay_s in (0.3, 1.2, 4.8, 19.2):
        script = (sys.executable, "-Ss", "-c", LATE, str(delay_s + 1.0))
        done = stat("--json", "-D", str(int(delay_s * 1000)), "--", *script)
        early_s, late_s, end_s = map(float, done.stdout.split())
        (run,) = json.loads(done.stderr)["runs"]
        # On a slow machine what was to be early or late may not have been.
        if early_s < end_s - run["wall_s"] and late_s > time.monotonic() - run["wall_s"]:
            break
    assert run["tasks"] == 4


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--", "sh", "-c", "exit 3"), 3),
        (("--comm", "sh", "--timeout", "0.1"), 0),
    ],
    ids=["command", "attached"],
)
def test_end_before_the_delay_is_told(arguments, status):
    """Nothing is counted then: no figures, a note, and the command's status."""
    done = stat("-D", "60000", *arguments)
    assert done.returncode == status
    assert "Nothing was counted" in done.stderr
    assert " J " not in done.stderr
    _, run = measured("-D", "60000", *arguments)
    assert run["zones"] == {}


def test_name_that_no_task_has_is_told():
    """0 J of a name that is misspelt would look like a figure."""
    done = stat("--comm", "no-such-comm", "--timeout", "0.1")
    assert done.returncode == 0
    assert "No task of --comm no-such-comm ran" in done.stderr


def test_running_process_is_measured():
    """--pid measures a process that runs, until its end or the time is over."""
    with subprocess.Popen([sys.executable, "-c", BURN.format(60)]) as process:
        result, run = measured("--pid", str(process.pid), "--timeout", "0.6")
        assert run["cpu_s"] > 0.1
        assert (result["subject"], run["exit_status"]) == (f"--pid {process.pid}", None)
        process.kill()
    assert run["tasks"] == 1


def test_cgroup_is_measured(make_cgroup_at):
    """--cgroup measures what is in a cgroup and below it, and nothing beside it."""
    inner = make_cgroup_at("stat-test/inner")
    with subprocess.Popen([sys.executable, "-c", BURN.format(60)]) as process:
        (inner / "cgroup.procs").write_text(str(process.pid))
        _, run = measured("--cgroup", "/stat-test", "--timeout", "0.6")
        process.kill()
    assert run["cpu_s"] > 0.1
    assert run["tasks"] == 1


@pytest.fixture
def make_cgroup_at():
    """Make cgroups by path, and remove them in the end."""
    made = []
    root = Path("/sys/fs/cgroup")
    if (root / "cpuacct").is_dir():
        root /= "cpuacct"

    def make(path):
        folder = root / path
        folder.mkdir(parents=True)
        made.extend([folder, folder.parent])
        return folder

    yield make
    for folder in made:
        folder.rmdir()


# --- forms ------------------------------------------------------------------------------------


def test_output_goes_where_it_is_wanted(tmp_path):
    """With -o nothing of ours is on the terminal."""
    done = stat("-o", str(tmp_path / "result"), "--", "sh", "-c", "echo mine >&2")
    assert done.stderr == "mine\n"
    assert "of the node's" in (tmp_path / "result").read_text()


def test_separated_lines_have_a_header():
    """-x writes one line for each zone, with names in the first."""
    header, *lines = stat("-x", ",", "-r", "2", "--", "true").stderr.splitlines()
    assert header.startswith("run,zone,joules,error_joules,rest_joules")
    assert [line.count(",") for line in lines] == [header.count(",")] * 2


def test_estimate_is_labelled_in_every_form():
    """Where nothing is measured, each form says so."""
    assert "estimate" in stat("--meter", "estimate", "--", "true").stderr
    assert measured("--meter", "estimate", "--", "true")[0]["estimate"] is True
    assert (
        "package-J-estimated" in stat("--meter", "estimate", "--format", "go", "--", "true").stderr
    )


def test_lines_for_benchstat_are_read_by_it(tmp_path):
    """Benchstat compares two files of repeated runs, and knows the units; rows are not in them."""
    script = tmp_path / "burn.py"
    for name, seconds, rows in (("old", 0.02, ()), ("new", 0.04, ("-I", "10"))):
        script.write_text(BURN.format(seconds))
        flags = ("--meter", "fake", "--format", "go", "-r", "4", "-o", str(tmp_path / name), *rows)
        done = stat(*flags, "--", sys.executable, "-Ss", str(script))
        assert (done.returncode, "J estimate" in done.stderr) == (0, bool(rows))
    done = subprocess.run(
        [tool("benchstat"), "old", "new"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    for unit in ("package-J-estimated", "cpu-sec"):
        assert done.stdout.count(f" {unit} ") == 2, done.stdout
    assert "n=4" in done.stdout


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "nothing to measure"),
        (("--pid", "999999999"), "999999999"),
        (("--pid", "abc"), "abc"),
        (("--cgroup", "/no/such"), "/no/such"),
        (("--container", "no-such"), "no-such"),
        (("--user", "no-such-user", "--", "true"), "no-such-user"),
        (("-o", "/no/such/folder/x", "--", "true"), "/no/such/folder/x"),
        (("--log-fd", "99", "--", "true"), "99"),
        (("-x", "ab", "--", "true"), "ab"),
        (("--comm", "a", "--pid", "1"), "--comm a"),
        (("-r", "2", "--comm", "a"), "-r"),
        (("--prepare", "exit 3", "--", "true"), "exit 3"),
    ],
    ids=str,
)
def test_bad_input_is_named(arguments, named):
    """What is wrong is named with what to do, and the status is that of a failure of ours."""
    done = stat(*arguments)
    assert done.returncode == OWN_FAILURE
    assert named in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_lack_of_rights_is_named():
    """Without rights nothing is run, and what is lacking is said."""
    done = stat("--", "echo", "ran", preexec_fn=lambda: os.setuid(65534))
    assert (done.returncode, done.stdout) == (OWN_FAILURE, "")
    assert "CAP_BPF" in done.stderr
