"""The costs and the exactness of `stat`: on real commands, beside others, and beside the daemon."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.exporter import config_file, running
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.processes import OURS, two_cpus, working
from kepler_ebpf.config.options import Config
from kepler_ebpf.kernel.libbpf import enable_stats, program_figures
from kepler_ebpf.kernel.programs import JOB_HOOKS
from kepler_ebpf.wiring.session import open_session

BURN = "import time\nwhile time.process_time() < {}: pass\nprint(time.process_time())"
JOB_S = 1.0
STORM_S = 15
STARTS = 7
FORKS = 2_000
STAMP = "date +%s.%N"
LIST_ALL = "monitor: {minTerminatedEnergyThreshold: 0, maxTerminated: -1}\n"
STORM = """import os
for _ in range({}): os.waitpid(os.posix_spawn("/bin/true", ["true"], {{}}), 0)"""


def neighbour() -> Iterator[Figure]:
    """Measure a job that uses a known time, alone and beside two fork storms."""
    alone = _ratio(JOB_S)
    with ExitStack() as stack:
        for cpu in two_cpus():
            stack.enter_context(working("commands", 10_000_000, cpu=cpu))
        beside = _ratio(STORM_S / 3)
    details = {"alone": rounded(alone), "beside": rounded(beside)}
    yield Figure("stat_neighbour", abs(beside / alone - 1), "ratio", Bar(0.01), details)


def startup() -> Iterator[Figure]:
    """Measure from our exec to the command's, from its end to ours, and our own CPU time."""
    starts_s, ends_s, cpu_s = [], [], []
    for _ in range(STARTS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began_s = time.time()
        done = _stat("sh", "-c", f"{STAMP}; {STAMP}")
        ended_s = time.time()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        first_s, last_s = map(float, done.stdout.split())
        starts_s.append(first_s - began_s)
        ends_s.append(ended_s - last_s)
        cpu_s.append(sum(after[:2]) - sum(before[:2]))
    details = {
        "start_ms": rounded(1e3 * statistics.median(starts_s)),
        "end_ms": rounded(1e3 * statistics.median(ends_s)),
        "starts": STARTS,
    }
    also = statistics.median(starts_s) <= 0.4 and statistics.median(ends_s) <= 0.1  # noqa: PLR2004
    yield Figure("stat_startup", 1e3 * statistics.median(cpu_s), "ms CPU", Bar(350), details, also)


def forks() -> Iterator[Figure]:
    """Measure what marking costs a fork and exit of a job, by the kernel's statistics."""
    with ExitStack() as stack:
        stack.callback(os.close, enable_stats())
        opened = open_session(stack, Config(bpf_loader="core", meter="estimate"))
        programs = opened.measuring.tracker.programs
        hooks = [programs[name] for name in JOB_HOOKS]
        storm = STORM.format(FORKS)
        run = opened.session.run([sys.executable, "-ISS", "-c", storm], None, opened.jobs)
        run_ns, run_count, _ = program_figures(hooks)
    details = {"tasks": run.tasks, "runs": run_count}
    yield Figure("stat_fork_us", run_ns / FORKS / 1e3, "us", Bar(1.5), details)


def two_at_once() -> Iterator[Figure]:
    """Measure one command by the daemon and by `stat` at once."""
    with ExitStack() as stack:
        config = stack.enter_context(config_file(LIST_ALL))
        arguments = ("--interval", "1s", "--meter", "estimate", "--config.file", config)
        exporter = stack.enter_context(running(*arguments))
        done = _stat(
            sys.executable, "-Ss", "-c", "import os\nprint(os.getpid())\n" + BURN.format(3)
        )
        pid = done.stdout.split()[0]
        page = exporter.settled()
    ours_s = json.loads(done.stderr)["runs"][0]["cpu_s"]
    daemon_s = sum(v for _, v in page.of("kepler_process_cpu_seconds_total", pid=pid))
    details = {"stat_s": rounded(ours_s), "daemon_s": rounded(daemon_s)}
    yield Figure("two_at_once", abs(ours_s / daemon_s - 1), "ratio", Bar(0.005), details)


def _ratio(cpu_s: float) -> float:
    """Return CPU seconds as `stat` has them to those of the command's own clock."""
    done = _stat(sys.executable, "-Ss", "-c", BURN.format(cpu_s))
    measured_s: float = json.loads(done.stderr)["runs"][0]["cpu_s"]
    return measured_s / float(done.stdout)


def _stat(*command: str) -> subprocess.CompletedProcess[str]:
    arguments = [OURS.python, "-m", "kepler_ebpf", "stat", "--json", "--meter", "estimate", "--"]
    return subprocess.run(
        [*arguments, *command], cwd=OURS.root, capture_output=True, text=True, check=True
    )
