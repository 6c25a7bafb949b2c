"""Jobs of users without any rights, measured by a running `kepler-ebpf run` on the real kernel."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from running import CHECKOUT, GIVE_UP_S, assert_conserved, in_kernel, running, stepping

NOBODY, OTHER = 65534, 65533
FAKE = ("--meter", "fake")
LATE_S = 0.05
"""CPU time of a caller that its own clock shows before or after the block."""

PREFACE = """
import json, os, subprocess, sys, threading, time
from kepler_ebpf import measure
from kepler_ebpf.errors import KeplerError
def burn(cpu_s):
    end_s = time.thread_time() + cpu_s
    while time.thread_time() < end_s: pass
BURN = "import time\\nwhile time.process_time() < {}: pass"
"""


@pytest.fixture(scope="module")
def folder():
    """Give a folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def daemon(folder, tmp_path_factory):
    """Give a run that measures for others."""
    place = ("--jobs-socket", str(folder / "jobs.sock"))
    with running(tmp_path_factory.mktemp("daemon"), *FAKE, *place) as run:
        yield run


@pytest.fixture
def path(folder, daemon):
    """Name the socket of a run that measures for others."""
    assert daemon.process.poll() is None
    return str(folder / "jobs.sock")


def settings(path):
    """Return an environment in which the API finds the socket *path*."""
    config = Path(path).with_suffix(".yaml")
    config.write_text(f"ebpf: {{jobsSocket: {path}}}\n")
    config.chmod(0o644)
    return {**os.environ, "KEPLER_EBPF_CONFIG": str(config)}


def begun(path, script, user=NOBODY):
    """Start a script of a user without rights; it may read a line, and prints JSON."""
    return subprocess.Popen(
        [sys.executable, "-c", PREFACE + textwrap.dedent(script)],
        cwd=CHECKOUT,
        env=settings(path),
        user=user,
        group=user,
        extra_groups=[],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def result(process):
    """Return what the script prints, when it has ended."""
    out, _ = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 0
    return json.loads(out)


def stat(path, *arguments, user=NOBODY):
    """Run `stat` as a user without rights."""
    return subprocess.run(
        [sys.executable, "-m", "kepler_ebpf", "stat", "--jobs-socket", path, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "PATH": "/usr/bin:/bin"},
        user=user,
        group=user,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
        check=False,
    )


def told(path, *lines):
    """Return the answer to these lines on one connection of ours."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(GIVE_UP_S)
        connection.connect(path)
        for line in lines:
            with suppress(OSError):
                connection.sendall(line)
        answer = b""
        with suppress(ConnectionResetError):
            while part := connection.recv(4096):
                answer += part
        return answer.decode()


# --- what a job has ---------------------------------------------------------------------------


def test_block_without_rights(path, stopwatch):
    """A process has its own CPU time and its energy; of less than a second no rest is shown."""
    block = result(
        begun(
            path,
            """
            other = threading.Thread(target=burn, args=(0.1,))
            burn(0.1)
            with measure() as whole, measure("thread") as thread:
                other.start(); burn(0.2); other.join()
            print(json.dumps([whole.cpu_s, thread.cpu_s, whole.joules, whole.rest_joules,
                              whole.estimate, whole.meter, whole.wall_s]))
            """,
        )
    )
    whole_s, thread_s, joules, rest, estimate, meter, wall_s = block
    assert stopwatch.agree(whole_s, 0.3, 0.3 + LATE_S)
    assert stopwatch.agree(thread_s, 0.2, 0.2 + LATE_S)
    assert joules["package"] > 0
    assert (estimate, meter) == (True, "fake")
    assert (rest["package"] is None) == (wall_s < 1)


def test_tree_with_daemons(path, stopwatch):
    """What forks twice and leaves the session, and what is vforked, belongs to the job."""
    whole_s, alone_s, lost = result(
        begun(
            path,
            """
            reader, writer = os.pipe()
            os.set_inheritable(writer, True)
            shell = "(setsid %s -Ssc '%s' &) & true" % (sys.executable, BURN.format(0.1))
            with measure(children=True) as whole, measure() as alone:
                for _ in range(4):
                    subprocess.run(["sh", "-c", shell], close_fds=False)
                subprocess.run([sys.executable, "-Ssc", BURN.format(0.1)])
                os.close(writer)
                os.read(reader, 1)
            print(json.dumps([whole.cpu_s, alone.cpu_s, whole.lost_children]))
            """,
        )
    )
    # Each of them starts an interpreter, and some a shell.
    assert stopwatch.agree(whole_s - alone_s, 0.5, 1.2)
    assert lost == 0


def test_a_child_with_a_job_of_its_own(path, stopwatch):
    """What it starts is in both jobs, while its own goes on and after it."""
    whole_s, inner_s = result(
        begun(
            path,
            """
            inner = (
                "import json, subprocess, sys; from kepler_ebpf import measure\\n"
                "run = lambda s: subprocess.run([sys.executable, '-Ssc', %r.format(s)])\\n"
                "with measure(children=True) as block: run(0.3)\\n"
                "run(0.3); print(block.cpu_s)"
            ) % BURN
            with measure() as alone, measure(children=True) as whole:
                command = [sys.executable, "-c", inner]
                found = subprocess.run(command, capture_output=True, text=True, check=True)
            print(json.dumps([whole.cpu_s - alone.cpu_s, float(found.stdout)]))
            """,
        )
    )
    assert stopwatch.agree(inner_s, 0.3, 0.6)
    # The child imports a library too.
    assert stopwatch.agree(whole_s, 0.6, 2.5)


def test_callers_see_only_their_own(path, stopwatch):
    """Two users at once have each their own children, and not those of the other."""
    script = """
        with measure(children=True) as block:
            print("begun", flush=True)
            sys.stdin.readline()
            subprocess.run([sys.executable, "-Ssc", BURN.format({})])
        print(json.dumps(block.cpu_s))
        """
    with ExitStack() as stack:
        callers = [
            stack.enter_context(begun(path, script.format(cpu_s), user))
            for cpu_s, user in ((0.4, NOBODY), (0.1, OTHER))
        ]
        for caller in callers:
            assert caller.stdout.readline() == "begun\n"
        for caller in callers:
            caller.stdin.write("go\n")
            caller.stdin.flush()
        first_s, second_s = (result(caller) for caller in callers)
    assert stopwatch.agree(first_s, 0.4, 0.6)
    assert stopwatch.agree(second_s, 0.1, 0.3)


def test_job_is_credited_with_what_the_ledger_gets(folder, tmp_path):
    """The joules of a block are those that the page gives to its process."""
    script = """
        print(os.getpid(), flush=True)
        sys.stdin.readline()
        with measure() as block: burn(0.5)
        print(json.dumps([block.joules, block.cpu_s]), flush=True)
        sys.stdin.readline()
        """
    own = str(folder / "stepped.sock")
    with stepping(tmp_path, *FAKE, "--jobs-socket", own) as run, begun(own, script) as caller:
        pid = caller.stdout.readline().strip()

        def joules(page):
            return page.total("kepler_process_cpu_joules_total", pid=pid, zone="package")

        before = joules(run.step())
        caller.stdin.write("go\n")
        caller.stdin.flush()
        used, cpu_s = json.loads(caller.stdout.readline())
        page = run.step()
        caller.communicate()
        assert_conserved(page)
        rose = joules(page) - before
        # The caller's own work for the socket, with imports, is outside of the block.
        assert 0.4 * rose < used["package"] <= rose * 1.000001
        assert cpu_s >= 0.5


def test_stat_without_rights(path, stopwatch):
    """The result has the form that it has with rights, and the command is as it would be alone."""
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    left = "sleep 60 >/dev/null 2>&1 & echo $!"
    shell = f"{left}; {sys.executable} -Ssc '{burn}'; sleep 1; exit 7"
    done = stat(path, "--", "sh", "-c", shell)
    assert done.returncode == 7
    os.kill(int(done.stdout), signal.SIGKILL)
    lines = done.stderr.splitlines()
    assert lines[0].split()[0] == "package"
    assert "of the node's" in lines[0]
    assert "1 still running" in done.stderr
    assert "rest of the machine (package)" in done.stderr
    run = json.loads(stat(path, "--json", "--", sys.executable, "-Ssc", burn).stderr)["runs"][0]
    assert stopwatch.agree(run["cpu_s"], 0.3, 0.5)
    assert run["tasks"] >= 1
    for zone in run["zones"].values():
        if run["wall_s"] < 1:
            assert zone["rest_joules"] is None


def test_time_holds_the_cpu_time_of_a_short_command(path):
    """One thread has no more CPU time than time: both begin at the fork."""
    run = json.loads(stat(path, "--json", "--", "true").stderr)["runs"][0]
    assert 0 < run["cpu_s"] <= run["wall_s"]


def test_jobs_and_rest_are_the_active_energy(path):
    """For each zone the command's joules and the rest's parts are all that the node drew."""
    result_ = json.loads(stat(path, "--json", "--", "sleep", "1.2").stderr)
    for zone in result_["runs"][0]["zones"].values():
        rest = zone["rest_active_joules"] + zone["idle_joules"] + zone["unowned_joules"]
        assert zone["rest_joules"] == pytest.approx(rest, rel=1e-9)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", "exit 125"], 125),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["no-such-program"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_exit_status_is_the_command_s(path, command, status):
    """As with rights."""
    assert stat(path, "--", *command).returncode == status


# --- who may not, and who does not behave ------------------------------------------------------


def test_without_a_daemon_it_is_an_error():
    """Who has neither rights nor a daemon is told so, and gets no figure."""
    nowhere = "/run/no-such-folder/jobs.sock"
    done = stat(nowhere, "--", "true")
    assert done.returncode == 125
    assert f"no run measures for others at {nowhere}" in done.stderr
    assert "CAP_BPF" in done.stderr
    assert "--jobs-socket" in done.stderr
    attached = stat(nowhere, "--pid", "1")
    assert attached.returncode == 125
    assert "CAP_BPF" in attached.stderr


GARBAGE = [b"\xff\n", b"GET / HTTP/1.1\r\n\r\n", b"[" * 600, b'{"begin": "process"}\n', b"null\n"]
GARBAGE += [b'{"end": true}\n', b'{"begin":"process","children":false,"pid":1}\n', b"1" * 5000]
GARBAGE += [b'{"begin":"thread","children":false,"thread":"1"}\n', b'{"begin":"x"}\n']


@pytest.mark.parametrize("line", GARBAGE, ids=lambda line: line[:20].decode("latin-1"))
def test_garbage_is_refused(path, line):
    """What is no request ends the connection, with the reason; no request names a process."""
    assert "not understood" in told(path, line)


def test_threads_of_others_are_refused(path):
    """A caller names only threads of its own; init's are none."""
    answer = json.loads(told(path, b'{"begin":"command","thread":1}\n'))
    assert "has no thread 1" in answer["error"]


def test_slow_and_many_callers_keep_nobody_out(path, stopwatch):
    """Silent connections of one user, and thousands of short ones, leave others their places."""
    script = f"""
        import socket
        held = []
        print("begun", flush=True)
        for number in range(3000):
            each = socket.socket(socket.AF_UNIX)
            each.settimeout(0.05)
            try: each.connect({path!r})
            except OSError: pass
            held = [*held[-100:], each]
        sys.stdin.readline()
        print("0")
        """
    with begun(path, script, OTHER) as flood:
        assert flood.stdout.readline() == "begun\n"
        block = "with measure() as block: burn(0.2)\nprint(json.dumps(block.cpu_s))"
        counted_s = result(begun(path, block))
        flood.kill()
    assert stopwatch.agree(counted_s, 0.2, 0.2 + LATE_S)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.settimeout(GIVE_UP_S)
        silent.connect(path)
        assert silent.recv(10) == b""


def test_a_caller_that_is_killed_leaves_nothing(daemon, path):
    """Its job ends with its connection, and its marks leave the kernel."""
    script = """
        with measure(children=True):
            child = subprocess.Popen(["sleep", "100"])
            print(child.pid, flush=True)
            sys.stdin.readline()
        """
    (jobs,) = (
        number
        for kind, number in daemon.kernel_objects()
        if kind == "map" and in_kernel("map")[number] == "jobs"
    )

    def marks():
        command = ["bpftool", "-j", "map", "dump", "id", str(jobs)]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    with begun(path, script) as caller:
        child = int(caller.stdout.readline())
        assert marks()
        caller.kill()
    give_up_s = time.monotonic() + GIVE_UP_S
    while marks():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)


def test_intervals_do_not_follow_the_callers(folder, tmp_path):
    """However many blocks begin and end, intervals end no more than 20 times a second."""
    own = str(folder / "bounded.sock")
    script = """
        def blocks():
            while time.monotonic() < end_s:
                with measure(): pass
        end_s = time.monotonic() + 1
        began_s = time.monotonic()
        threads = [threading.Thread(target=blocks) for _ in range(4)]
        for each in threads: each.start()
        for each in threads: each.join()
        print(json.dumps(time.monotonic() - began_s))
        """
    with stepping(tmp_path, *FAKE, "--jobs-socket", own) as run:
        before = run.step().intervals
        elapsed_s = result(begun(own, script))
        assert 2 <= run.step().intervals - before <= elapsed_s / 0.05 + 5
