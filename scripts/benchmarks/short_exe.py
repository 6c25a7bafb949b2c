"""short_exe: commands that are gone in a few milliseconds still have their executable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.exporter import config_file, running
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.load import SHORT_COMMAND
from benchmarks.processes import load, two_cpus
from kepler_ebpf.kernel.loaders import bcc

COMMANDS = 1_000
LIST_ALL = "monitor: {minTerminatedEnergyThreshold: 0, maxTerminated: -1}\n"


def measure() -> Iterator[Figure]:
    """Run them on two CPUs at once, with each loader that works on this host."""
    no_bcc = bcc.unusable_reason()
    shares = {name: _share(name) for name in (["core"] if no_bcc else ["core", "bcc"])}
    details: Details = {
        "bcc": no_bcc,
        **{name: rounded(share) for name, share in shares.items()},
        "commands": COMMANDS,
    }
    yield Figure("short_exe", min(shares.values()), "ratio", Bar(0.99, at_least=True), details)


def _share(loader: str) -> float:
    """Share of the commands that are on the page by the path of their executable."""
    path = Path(SHORT_COMMAND).resolve()
    with ExitStack() as stack:
        config = stack.enter_context(config_file(LIST_ALL))
        arguments = ("--interval", "1s", "--bpf-loader", loader, "--config.file", config)
        exporter = stack.enter_context(running(*arguments))
        storms = [
            stack.enter_context(load("commands", COMMANDS // 2, cpu=cpu)) for cpu in two_cpus()
        ]
        for storm in storms:
            storm.go()
        for storm in storms:
            storm.finish()
        page = exporter.settled()
    series = page.of("kepler_process_cpu_seconds_total", comm=path.name)
    named = {labels["pid"] for labels, _ in series if Path(labels["exe"]).resolve() == path}
    return len(named) / COMMANDS
