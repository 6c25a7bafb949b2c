"""`measure` in this process, on the real kernel: a block has what ran in it, and nothing else."""

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from api_servers import wait_until
from powercap import CpuModel, PowercapTree, driven, host_busy_s
from running import CHECKOUT, GIVE_UP_S, in_kernel, running
from truth import Stopwatch

from kepler_ebpf import Measurement, energyit, measure
from kepler_ebpf.api.measure import close_engine
from kepler_ebpf.errors import ConfigError, KeplerError

BURN = "import time\nwhile time.process_time() < {}: pass"
ENGINE_S = 0.02
"""More than the engine itself uses in a block, on a host that emulates nothing."""


@pytest.fixture(scope="module", autouse=True)
def _engine():
    """Close the engine of this process in the end."""
    yield
    close_engine()


def burn(cpu_s):
    """Use CPU time in this thread."""
    end_s = time.thread_time() + cpu_s
    while time.thread_time() < end_s:
        pass


def python(script, *arguments, **options):
    """Run a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
        check=False,
        **options,
    )


# --- what a block has -------------------------------------------------------------------------


def test_block_has_the_cpu_time_that_ran_in_it(stopwatch):
    """CPU time before, after and of other processes is not the block's."""
    with subprocess.Popen([sys.executable, "-c", BURN.format(60)]) as neighbour:
        burn(0.1)
        with measure() as block:
            burn(0.2)
        burn(0.1)
        neighbour.kill()
    assert stopwatch.agree(block.cpu_s, 0.2, 0.2 + ENGINE_S, within=0.01)
    assert block.wall_s >= 0.2


def test_thread_scope_leaves_other_threads_out(stopwatch):
    """A process is all its threads; a thread is one of them."""
    other = threading.Thread(target=burn, args=(0.2,))
    with measure() as process, measure("thread") as thread:
        other.start()
        burn(0.1)
        other.join()
    assert stopwatch.agree(thread.cpu_s, 0.1, 0.1 + ENGINE_S, within=0.01)
    assert stopwatch.agree(process.cpu_s, 0.3, 0.3 + ENGINE_S, within=0.01)


def test_children_are_those_started_in_the_block(stopwatch):
    """With children a block has its processes and theirs; another block has none of them."""
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN.format(0.2)!r}])"
    with subprocess.Popen([sys.executable, "-c", BURN.format(60)]) as earlier:
        with measure() as alone, measure(children=True) as whole:
            subprocess.run([sys.executable, "-Ss", "-c", nested], check=True)
        earlier.kill()
    assert stopwatch.agree(whole.cpu_s, 0.2, 0.6, within=0.01)
    assert alone.cpu_s < 0.1
    assert whole.lost_children == 0


def test_children_of_one_block_are_not_another_s(stopwatch):
    """What goes on after its block, or was started by another thread, is not counted."""
    with measure(children=True) as first:
        going_on = subprocess.Popen([sys.executable, "-Ss", "-c", BURN.format(60)])
        time.sleep(0.1)
    with measure(children=True) as second, measure("thread", children=True) as thread:
        starter = threading.Thread(
            target=subprocess.run, args=([sys.executable, "-Ss", "-c", BURN.format(0.2)],)
        )
        starter.start()
        starter.join()
    going_on.kill()
    going_on.wait()
    assert first.cpu_s > 0
    assert stopwatch.agree(second.cpu_s, 0.2, 0.4, within=0.01)
    # A thread that is started in the block starts its processes for the block.
    assert thread.cpu_s == pytest.approx(second.cpu_s, abs=0.05)


def test_blocks_nest_and_overlap(stopwatch):
    """A block is the sum of those in it; blocks of two threads have each their own thread."""
    with measure() as outer:
        with measure() as first:
            burn(0.1)
        with measure() as second:
            burn(0.2)
    inner_s = first.cpu_s + second.cpu_s
    assert inner_s <= outer.cpu_s <= inner_s + 2 * ENGINE_S

    found = {}

    def work(cpu_s):
        with measure("thread") as block:
            burn(cpu_s)
        found[cpu_s] = block.cpu_s

    threads = [threading.Thread(target=work, args=(cpu_s,)) for cpu_s in (0.1, 0.2, 0.3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for cpu_s, counted_s in found.items():
        assert stopwatch.agree(counted_s, cpu_s, cpu_s + ENGINE_S, within=0.01)


def test_block_outlives_a_full_map_of_tasks(tmp_path):
    """Intervals end by themselves in a long block: more tasks than the map has find room."""
    config = tmp_path / "config.yaml"
    config.write_text("ebpf: {mapEntries: 1024}\n")
    script = """
    import os, time
    from kepler_ebpf import measure
    with measure(children=True) as block:
        for _ in range(3000):
            os.waitpid(os.posix_spawn("/bin/true", ["/bin/true"], {}), 0)
            time.sleep(0.0002)
    print(block.untracked_s / block.cpu_s, block.lost_children)
    """
    done = python(script, env={**os.environ, "KEPLER_EBPF_CONFIG": str(config)})
    untracked, lost = done.stdout.split()
    assert float(untracked) < 0.5, done.stderr
    assert lost == "0"


def test_exception_passes_and_ends_the_block():
    """The block has its figures, whoever left it and how."""

    def fail():
        burn(0.05)
        return 1 / 0

    block = measure()
    with pytest.raises(ZeroDivisionError), block:
        fail()
    assert block.cpu_s > 0.04
    with measure() as after:
        pass
    assert after.cpu_s < 0.04


# --- figures ----------------------------------------------------------------------------------


def test_counters_give_joules_with_an_error(tmp_path):
    """On counters the block and its rest are the node's; the error decides what is reliable."""
    (tmp_path / "devices/system").mkdir(parents=True)
    (tmp_path / "devices/system/cpu").symlink_to("/sys/devices/system/cpu")
    tree, config = PowercapTree(tmp_path, "single_socket"), tmp_path / "config.yaml"
    config.write_text(f"host: {{sysfs: {tmp_path}}}\n")
    script = """
    import time
    from kepler_ebpf import measure
    def burn(cpu_s):
        while time.thread_time() < cpu_s: pass
    with measure() as long:
        burn(time.thread_time() + 2)
    with measure() as short:
        pass
    assert (long.meter, long.estimate) == ("rapl", False)
    assert set(long.joules) >= {"package", "core"}
    assert long.reliable and not short.reliable
    for kind, joules in long.joules.items():
        assert 0 < long.error_joules[kind] <= 0.05 * joules
        assert long.rest_joules[kind] > 0
    """
    environment = {**os.environ, "KEPLER_EBPF_CONFIG": str(config)}
    with driven(tree, CpuModel(5.0, 20.0, host_busy_s)):
        done = python(script, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_error_covers_the_power_just_before(tmp_path):
    """A counter's last step before the block may be counted in it: the higher power decides."""
    (tmp_path / "devices/system").mkdir(parents=True)
    (tmp_path / "devices/system/cpu").symlink_to("/sys/devices/system/cpu")
    config = tmp_path / "config.yaml"
    config.write_text(f"host: {{sysfs: {tmp_path}}}\n")
    script = """
    import sys, threading, time
    from pathlib import Path
    from powercap import PowercapTree
    from kepler_ebpf import measure
    tree = PowercapTree(Path(sys.argv[1]), "single_socket")
    watts, is_over = 1000.0, threading.Event()
    def drive():
        while not is_over.wait(0.001):
            now = time.monotonic()
            tree.advance(watts * 1e6 * (now - drive.last))
            drive.last = now
    drive.last = time.monotonic()
    threading.Thread(target=drive).start()
    with measure(): time.sleep(0.1)
    with measure() as block:
        watts = 1.0
        time.sleep(0.2)
    is_over.set()
    part = block.joules["package"] / (block.joules["package"] + block.rest_joules["package"])
    print(block.error_joules["package"] / part)
    """
    done = python(
        script,
        str(tmp_path),
        env={
            **os.environ,
            "KEPLER_EBPF_CONFIG": str(config),
            "PYTHONPATH": str(CHECKOUT / "tests/support"),
        },
    )
    assert 0.1 < float(done.stdout) < 100, done.stderr


def test_figures_are_there_when_the_block_has_ended():
    """Before, they are an error and not 0; a measurement has one block."""
    block = measure()
    with block:
        for figure in ("joules", "cpu_s", "reliable", "estimate"):
            with pytest.raises(KeplerError, match="has not ended"):
                getattr(block, figure)
    assert block.joules.keys() == block.error_joules.keys() == block.rest_joules.keys()
    with pytest.raises(KeplerError, match="one block"), block:
        pass


# --- functions --------------------------------------------------------------------------------


def test_each_call_of_a_function_is_a_block(stopwatch):
    """Calls are measured apart, those that fail and those of coroutines too."""
    found: list[Measurement] = []

    @measure("thread", each=found.append)
    def work(cpu_s):
        """Burn."""
        burn(cpu_s)
        return 1 / cpu_s

    @measure(each=found.append)
    async def wait(cpu_s):
        await asyncio.sleep(0.01)
        burn(cpu_s)
        return cpu_s

    assert work(0.1) == 10
    with pytest.raises(ZeroDivisionError):
        work(0)
    assert asyncio.run(wait(0.1)) == 0.1
    assert (work.__doc__, [each.name.rpartition(".")[2] for each in found]) == (
        "Burn.",
        ["work", "work", "wait"],
    )
    for index in (0, 2):
        assert stopwatch.agree(found[index].cpu_s, 0.1, 0.1 + 2 * ENGINE_S, within=0.01)


def test_what_cannot_be_decorated_is_refused():
    """A generator's work is done after the call, and results need a place."""
    with pytest.raises(ConfigError, match="no place"):
        measure()(burn)
    with pytest.raises(ConfigError, match="generator"):

        @measure(each=print)
        def numbers():
            yield 1

    with pytest.raises(ConfigError, match="not allowed"):
        measure("core")  # type: ignore[arg-type]


def test_energyit_gives_joules_of_a_call():
    """A statement and a function cost the same; the spread is that of the repeats."""
    statement = energyit("sum(numbers)", "numbers = list(range(20000))", repeat=3)
    numbers = list(range(20000))
    function = energyit(lambda: sum(numbers), number=statement.number, repeat=3)
    assert len(statement.measurements) == 3
    assert all(each.wall_s > 0.05 for each in statement.measurements)
    assert 0.3 < statement.cpu_s / function.cpu_s < 3
    (kind, joules), *_ = statement.joules.items()
    assert joules == pytest.approx(statement.spread[kind].mean)
    assert f"3 x {statement.number} calls" in repr(statement)
    with pytest.raises(ConfigError, match="repeat 0"):
        energyit("pass", repeat=0)


# --- processes --------------------------------------------------------------------------------


def test_forked_child_measures_by_itself(stopwatch):
    """A child in a block leaves the parent's alone, and has an engine of its own."""
    script = """
    import os, sys, time
    from kepler_ebpf import measure
    from kepler_ebpf.errors import KeplerError
    def burn(cpu_s):
        end = time.thread_time() + cpu_s
        while time.thread_time() < end: pass
    with measure() as outer:
        child = os.fork()
        if child == 0:
            with measure() as inner: burn(0.1)
            print(inner.cpu_s, flush=True)
        else:
            burn(0.2)
            status = os.waitpid(child, 0)[1]
    if child == 0:
        try: outer.joules
        except KeplerError as error: print(error.problem, flush=True)
        os._exit(0)
    print(outer.cpu_s, status)
    """
    inner_s, problem, parent = python(script).stdout.splitlines()
    outer_s, status = parent.split()
    assert "another process" in problem
    assert status == "0"
    assert stopwatch.agree(float(inner_s), 0.1, 0.1 + ENGINE_S, within=0.01)
    assert stopwatch.agree(float(outer_s), 0.2, 0.2 + 2 * ENGINE_S, within=0.01)


def test_pid_namespace_has_the_whole_process_only():
    """There a thread's id is not the kernel's: the process is measured, a thread is refused."""
    script = """
    from kepler_ebpf import measure
    from kepler_ebpf.errors import SetupError
    with measure() as block: sum(range(1_000_000))
    assert block.cpu_s > 0.005
    for arguments in (("thread", False), ("process", True)):
        try:
            with measure(arguments[0], children=arguments[1]): print("measured")
        except SetupError as error: print(error.problem)
    """
    done = subprocess.run(
        ["unshare", "--pid", "--fork", sys.executable, "-c", textwrap.dedent(script)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
        check=False,
    )
    assert done.stdout.count("cannot be known in a PID namespace") == 2, done.stderr
    assert "measured" not in done.stdout


def test_nothing_is_left_in_the_kernel():
    """The import loads nothing; the end of the process removes what a block has loaded."""
    light = python("import kepler_ebpf, sys; assert 'numpy' not in sys.modules")
    assert (light.returncode, light.stderr) == (0, "")
    before = set(in_kernel("prog"))
    done = python("from kepler_ebpf import measure\nwith measure(): pass")
    assert done.returncode == 0
    # The kernel frees a program some time after its last descriptor was closed.
    wait_until(lambda: set(in_kernel("prog")) <= before)


def test_without_rights_the_remedy_is_named():
    """Who may not measure gets an error and never 0."""
    script = """
    import os
    from kepler_ebpf import measure
    os.setuid(65534)
    with measure(): print("measured")
    """
    done = python(script)
    assert done.returncode == 1
    assert "SetupError: the kernel refuses" in done.stderr
    assert "run as root, or with CAP_BPF and CAP_PERFMON" in done.stderr
    assert done.stdout == ""


def test_blocks_beside_a_daemon(tmp_path, stopwatch: Stopwatch):
    """A running `kepler-ebpf run` changes nothing for a block."""
    with running(tmp_path), measure() as block:
        burn(0.2)
    assert stopwatch.agree(block.cpu_s, 0.2, 0.2 + ENGINE_S, within=0.01)


def test_examples_of_the_page_run():
    """The blocks of the page beside the code run one after the other, as in a notebook."""
    page = (CHECKOUT / "kepler_ebpf/api/README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    done = python("\n".join(blocks))
    assert (done.returncode, len(blocks)) == (0, 5), done.stderr
    assert " a call, 95% within " in done.stdout
