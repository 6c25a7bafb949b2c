"""A session that measures runs, as a configuration and this host want it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from kepler_ebpf.config.options import Config
from kepler_ebpf.host.topology import read_cpu_info
from kepler_ebpf.kernel.jobs import Jobs
from kepler_ebpf.stat.result import Result, Run
from kepler_ebpf.stat.session import Session
from kepler_ebpf.wiring.measuring import Measuring, open_measuring


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that counts from now on, and what it is made of."""

    session: Session
    measuring: Measuring
    jobs: Jobs
    cpu: str

    def result(self, command: Sequence[str], subject: str, runs: Sequence[Run]) -> Result:
        """Put *runs* together with how and where they were measured."""
        meter = self.measuring.meter.stats
        return Result(
            command=tuple(command),
            subject=subject,
            runs=tuple(runs),
            meter=meter.name,
            estimate=meter.is_estimate,
            host={
                "node": self.measuring.config.node_name,
                "kernel": os.uname().release,
                "cpu": self.cpu,
            },
        )


def open_session(stack: ExitStack, config: Config) -> Opened:
    """Load the programs with jobs, open the meter and start; *stack* takes all down again.

    Raises KeplerError.
    """
    cpus = read_cpu_info(config.procfs, config.sysfs)
    measuring = open_measuring(stack, config, cpus, with_jobs=True)
    measurer, tracker = measuring.start(), measuring.tracker
    if tracker.jobs is None:
        raise RuntimeError("the programs were loaded without jobs")
    session = Session(tracker, measurer, measuring.meter, config.procfs)
    return Opened(session, measuring, tracker.jobs, cpus[0].model_name if cpus else "")
