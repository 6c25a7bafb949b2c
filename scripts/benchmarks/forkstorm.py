"""forkstorm_attributed: the CPU time of 5,000 short commands, as the container they ran in."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cgroup import cgroups
from benchmarks.exporter import running
from benchmarks.figure import Bar, Figure, rounded, stolen_s
from benchmarks.processes import load

COMMANDS = 5_000
MOST = 1.005
"""Time that others used must not be attributed either. What the hypervisor took while a command
ran is in its time by the clock, but not in the kernel's own account of the cgroup."""


def measure() -> Iterator[Figure]:
    """Run the commands in a container's cgroup and compare with what that says itself."""
    with cgroups() as made, running("--interval", "1s") as exporter:
        id_, cgroup = made.container(1)
        before_s = stolen_s()
        with load("commands", COMMANDS) as storm:
            cgroup.enter(storm.pid)
            storm.go()
            used = storm.finish()
        truth_s = cgroup.used_s()
        page, stolen = exporter.settled(), stolen_s() - before_s
    seconds = page.total("kepler_container_cpu_seconds_total", container_id=id_)
    value = seconds / truth_s
    details = {
        "attributed_s": rounded(seconds),
        "cgroup_s": rounded(truth_s),
        "wait4_s": rounded(used.cpu_s),
        "against_wait4": rounded(seconds / used.cpu_s),
        "commands_per_s": rounded(COMMANDS / used.wall_s),
    }
    most = MOST + stolen / truth_s
    bar = Bar(0.995, at_least=True)
    yield Figure("forkstorm_attributed", value, "ratio", bar, details, also=value <= most)
