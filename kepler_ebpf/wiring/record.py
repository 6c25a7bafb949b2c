"""`kepler-ebpf record`: measured intervals into a file, until a signal or the end of a command."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from kepler_ebpf import __version__
from kepler_ebpf.config.options import Config
from kepler_ebpf.host.runtime import garbage_rounds, raise_priority
from kepler_ebpf.host.signals import end_on_signals
from kepler_ebpf.host.topology import CpuInfo, read_cpu_info
from kepler_ebpf.loop.ticker import Ticker
from kepler_ebpf.model.energy import NS_PER_S
from kepler_ebpf.model.levels import LEVELS
from kepler_ebpf.recording.files import Target
from kepler_ebpf.recording.naming import BatchNames
from kepler_ebpf.recording.recorder import Recorder
from kepler_ebpf.recording.schema import MODEL, Header, Mark
from kepler_ebpf.recording.writer import Writer
from kepler_ebpf.stat.command import Command, CommandError
from kepler_ebpf.wiring.measuring import Measuring, open_measuring
from kepler_ebpf.wiring.naming import open_naming

LONG_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The flags of `record`, see ``recording.flags``."""

    output: str
    force: bool
    timeout: float | None
    max_size: int
    keep: float
    part_size: int
    part_time: float
    arguments: bool
    user: str | None
    command: tuple[str, ...]

    @property
    def target(self) -> Target:
        """Where to record to."""
        path = Path(self.output)
        return Target(
            path=path,
            is_directory=self.output.endswith("/") or path.is_dir(),
            replaces=self.force,
            max_bytes=self.max_size,
            # The one that is written counts too.
            part_bytes=min(self.part_size, self.max_size // 2),
            part_s=self.part_time,
            keep_s=self.keep,
        )


def record(config: Config, **flags: Any) -> int:
    """Record, and return the command's exit status, 0 without one. Raises KeplerError."""
    asked, config = Asked(**flags), replace(config, metrics_levels=frozenset(LEVELS))
    began_s, target = time.monotonic(), asked.target
    target.prepare()
    with ExitStack() as stack:
        ticker = Ticker(config.interval_s)
        stack.callback(ticker.close)
        if not asked.command:
            end_on_signals(ticker.stop)
        cpus = read_cpu_info(config.procfs, config.sysfs)
        measuring = open_measuring(stack, config, cpus, with_jobs=bool(asked.command))
        pods = None
        if config.kube_enabled:
            # Heavy, and wanted on few hosts.
            from kepler_ebpf.wiring.kubernetes import open_pods  # noqa: PLC0415

            pods = open_pods(stack, config)
        names = open_naming(stack, config, measuring.hierarchy, pods)
        housekeeping = stack.enter_context(garbage_rounds())
        writer = Writer(target, _header(measuring, cpus, asked))
        stack.callback(writer.close)
        progress = _Progress(writer, is_live=not asked.command and sys.stderr.isatty())
        recorder = Recorder(
            tracker=measuring.tracker,
            meter=measuring.meter,
            measurer=measuring.start(),
            names=names,
            batch_names=BatchNames(measuring.tracker, names, with_arguments=asked.arguments),
            writer=writer,
            interval_s=config.interval_s,
            shown=progress.show,
            housekeeping=housekeeping,
        )
        status = _recorded(stack, asked, recorder, measuring, ticker)
    progress.end(recorder.mark, time.monotonic() - began_s)
    if writer.error:
        raise writer.error
    return status


def _recorded(
    stack: ExitStack, asked: Asked, recorder: Recorder, measuring: Measuring, ticker: Ticker
) -> int:
    """Record until the ticker is stopped: by a signal, the time, or the end of the command."""
    if asked.timeout:
        timer = threading.Timer(asked.timeout, ticker.stop)
        timer.daemon = True
        timer.start()
        stack.callback(timer.cancel)
    jobs = measuring.tracker.jobs
    if jobs is None:
        raise_priority()
        recorder.run(ticker)
        return 0
    try:
        command = Command(asked.command, asked.user, before=jobs.arm)
    except CommandError as error:
        click.echo(f"error: {error}", err=True)
        recorder.writer.close()
        for path in recorder.writer.paths:
            path.unlink(missing_ok=True)
        return error.exit_status

    def follow() -> None:
        while not command.ends_within(LONG_S):
            pass
        ticker.stop()

    with command:
        waiter = threading.Thread(target=follow, name="command", daemon=True)
        waiter.start()
        raise_priority()
        recorder.run(ticker)
        # What ends the recording does not end the command.
        waiter.join()
        return command.reap()


def _header(measuring: Measuring, cpus: tuple[CpuInfo, ...], asked: Asked) -> Header:
    """Return the header of the first part."""
    began_s, meter = time.time(), measuring.meter.stats
    return Header(
        recording=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(began_s)),
        part=1,
        began_s=began_s,
        began_ns=time.monotonic_ns(),
        version=__version__,
        model=MODEL,
        node=measuring.config.node_name,
        kernel=os.uname().release,
        cpu=cpus[0].model_name if cpus else "",
        cpus=len(cpus),
        sockets=len({cpu.physical_id for cpu in cpus}),
        zones=measuring.meter.zones,
        meter=meter.name,
        is_estimate=meter.is_estimate,
        update_s=meter.update_s,
        unit_uj=meter.unit_uj,
        interval_s=measuring.config.interval_s,
        command=asked.command if asked.arguments else asked.command[:1],
    )


class _Progress:
    """A line about the recording: on a terminal while it goes on, and in the end anywhere."""

    def __init__(self, writer: Writer, *, is_live: bool) -> None:
        self._writer, self._is_live = writer, is_live

    def show(self, mark: Mark) -> None:
        """Show the counts so far, where that is wanted."""
        if self._is_live:
            click.echo(f"{_counts(mark, self._writer)}  \r", nl=False, err=True)

    def end(self, mark: Mark, wall_s: float) -> None:
        """Show what was recorded."""
        writer = self._writer
        where = writer.paths[-1] if len(writer.paths) == 1 else f"{len(writer.paths)} parts"
        click.echo(f"{_counts(mark, writer)}, {wall_s:.1f} s, in {where}", err=True)
        if writer.is_full:
            click.echo("it has reached --max-size", err=True)


def _counts(mark: Mark, writer: Writer) -> str:
    late = f" ({mark.late:,} late)" if mark.late else ""
    lost = f", {mark.lost_ns / NS_PER_S:.3f} s of CPU time without an owner" if mark.lost_ns else ""
    return (
        f"recorded {mark.intervals:,} intervals{late}, {mark.rows:,} rows, "
        f"{writer.written_bytes / 1e6:.2f} MB{lost}"
    )
