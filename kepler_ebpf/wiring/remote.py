"""Commands that a `run` on this host measures, for who may not measure."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from kepler_ebpf.config.options import Config
from kepler_ebpf.host.topology import CpuInfo, read_cpu_info, read_governor
from kepler_ebpf.jobs.client import RemoteJob
from kepler_ebpf.jobs.protocol import Begin
from kepler_ebpf.model.energy import MeterStats
from kepler_ebpf.stat.command import Command
from kepler_ebpf.stat.result import Result, Run


def result_of(
    config: Config,
    meter: MeterStats,
    cpus: tuple[CpuInfo, ...],
    command: Sequence[str],
    subject: str,
    runs: Sequence[Run],
) -> Result:
    """Return the result of *runs* on this host."""
    return Result(
        command=tuple(command),
        subject=subject,
        runs=tuple(runs),
        meter=meter.name,
        estimate=meter.is_estimate,
        host=host_of(config, cpus),
    )


def host_of(config: Config, cpus: tuple[CpuInfo, ...]) -> dict[str, str]:
    """Return what this host is."""
    return {
        "node": config.node_name,
        "kernel": os.uname().release,
        "cpu": cpus[0].model_name if cpus else "",
        "governor": read_governor(cpus, config.sysfs),
    }


@dataclass(slots=True)
class RemoteSession:
    """Has commands measured at the socket *path*, as ``Opened`` measures them."""

    path: str
    config: Config
    _meter: MeterStats = field(default_factory=lambda: MeterStats("", is_estimate=True))

    def run(self, arguments: Sequence[str], user: str | None, _: float = 0.0) -> Run:
        """Run a command, and return what it has used. Raises as ``Command`` does."""
        begin = Begin("command", children=True, thread=threading.get_native_id())
        job = RemoteJob(self.path, begin)
        with closing(job):
            self._meter = job.meter
            # Its CPU time counts from the fork on, so its time does too.
            began_s = time.monotonic()
            command = Command(arguments, user)
            with command:
                command.ends_within(None)
                wall_s = time.monotonic() - began_s
                try:
                    run = job.end()
                finally:
                    status = command.reap()
        return replace(run, wall_s=wall_s, exit_status=status)

    def result(self, command: Sequence[str], subject: str, runs: Sequence[Run]) -> Result:
        """Put *runs* together with how and where they were measured."""
        cpus = read_cpu_info(self.config.procfs, self.config.sysfs)
        return result_of(self.config, self._meter, cpus, command, subject, runs)
