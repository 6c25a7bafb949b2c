"""A session that measures runs, as a configuration and this host want it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.topology import CpuInfo, read_cpu_info
from kepler_ebpf.jobs.client import require_socket
from kepler_ebpf.kernel.jobs import Jobs
from kepler_ebpf.stat.result import Result, Run
from kepler_ebpf.stat.session import Session
from kepler_ebpf.wiring.measuring import Measuring, open_measuring
from kepler_ebpf.wiring.remote import RemoteSession, host_of, result_of


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that counts from now on, and what it is made of."""

    session: Session
    measuring: Measuring
    jobs: Jobs
    cpus: tuple[CpuInfo, ...]

    def run(self, arguments: Sequence[str], user: str | None, delay_s: float = 0.0) -> Run:
        """Measure a command, see ``Session.run``."""
        return self.session.run(arguments, user, self.jobs, delay_s)

    @property
    def host(self) -> dict[str, str]:
        """Where it is measured."""
        return host_of(self.measuring.config, self.cpus)

    def result(self, command: Sequence[str], subject: str, runs: Sequence[Run]) -> Result:
        """Put *runs* together with how and where they were measured."""
        meter = self.measuring.meter.stats
        return result_of(self.measuring.config, meter, self.cpus, command, subject, runs)


def open_session(stack: ExitStack, config: Config, samples_bytes: int = 0) -> Opened:
    """Load the programs with jobs, open the meter and start; *stack* takes all down again.

    With *samples_bytes* the tracker has ``samples`` too, in a ring of that size.

    Raises KeplerError.
    """
    cpus = read_cpu_info(config.procfs, config.sysfs)
    measuring = open_measuring(stack, config, cpus, with_jobs=True, samples_bytes=samples_bytes)
    measurer, tracker = measuring.start(), measuring.tracker
    if tracker.jobs is None:
        raise RuntimeError("the programs were loaded without jobs")
    session = Session(tracker, measurer, measuring.meter, config.procfs)
    return Opened(session, measuring, tracker.jobs, cpus)


def open_runner(stack: ExitStack, config: Config) -> Opened | RemoteSession:
    """Open what measures commands: a session, or without rights that of a `run` on this host.

    Raises SetupError where there is neither.
    """
    try:
        return open_session(stack, config)
    except SetupError as refusal:
        return RemoteSession(require_socket(config.jobs_socket, refusal), config)
