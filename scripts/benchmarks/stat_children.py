"""stat_children: how exact `stat` is on 2,000 short children that go their own ways."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.cgroup import cgroups
from benchmarks.figure import Bar, Figure, rounded, stolen_s
from benchmarks.length import scaled
from benchmarks.processes import ROOT, working
from kepler_ebpf.config.options import Config
from kepler_ebpf.wiring.session import open_session

CHILDREN = 2_000
KINDS = ("forks", "spawns", "daemons", "namespaces", "movers", "thread_execs")
TREES = ROOT / "tests" / "support" / "trees.py"
SCRIPT = """set -e
echo 0 >"$HOME_CGROUP/cgroup.procs"
for kind; do "$0" -Ss "$TREES" "$kind" "$COUNT"; done
sleep 0.2"""
"""The last daemons end while it sleeps."""

MAX_MORE, SWITCH_S = 0.005, 5e-6
"""The slice of who leaves includes its way out of the CPU; the kernel's clock has it elsewhere."""


def measure() -> Iterator[Figure]:
    """Measure a tree of all kinds, and compare with the kernel's account of its cgroups."""
    count = -(-round(scaled(CHILDREN)) // len(KINDS))
    with ExitStack() as stack:
        _never_idle(stack)
        made = stack.enter_context(cgroups())
        home, other = made.make("stat/home"), made.make("stat/other")
        opened = open_session(stack, Config(bpf_loader="core", meter="estimate"))
        places = (f"HOME_CGROUP={home.directory}", f"OTHER_CGROUP={other.directory}")
        settings = (*places, f"TREES={TREES}", f"COUNT={count}")
        stolen_before_s = stolen_s()
        run = opened.run(["env", *settings, "sh", "-c", SCRIPT, sys.executable, *KINDS], None)
        used_s, stolen = home.used_s() + other.used_s(), stolen_s() - stolen_before_s
        marks_lost = opened.jobs.marks_lost
    if run.exit_status:
        raise RuntimeError(f"the tree ended with status {run.exit_status}")
    most_s = used_s * (1 + MAX_MORE) + stolen + SWITCH_S * run.switches
    details = {
        "ratio_at_most": rounded(most_s / used_s),
        "used_s": rounded(used_s),
        "children": count * len(KINDS),
        "tasks": run.tasks,
        "switches": run.switches,
        "marks_lost": marks_lost,
        "untracked_s": rounded(run.untracked_s),
    }
    also = run.cpu_s <= most_s and run.tasks >= count * len(KINDS) and not marks_lost
    bar = Bar(0.995, at_least=True)
    yield Figure("stat_children", run.cpu_s / used_s, "ratio", bar, details, also)


def _never_idle(stack: ExitStack) -> None:
    """Keep each CPU busy with what gives way at once.

    The kernel adds the way out of idle to the task that is woken; we leave that to idle.
    """
    for cpu in sorted(os.sched_getaffinity(0)):
        spinner = stack.enter_context(working("spin", 0, cpu=cpu))
        os.sched_setscheduler(spinner.pid, os.SCHED_IDLE, os.sched_param(0))
