"""`kepler-ebpf profile`: which functions use the energy of a command, or of tasks that run."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import click
import numpy as np

from kepler_ebpf.attribution import zone_kinds
from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import ConfigError
from kepler_ebpf.host.output import Output, standard_output
from kepler_ebpf.kernel.samples import ring_bytes
from kepler_ebpf.model.arrays import Bools, Records
from kepler_ebpf.profile.formats.registry import FORMATS, format_of, render
from kepler_ebpf.profile.model import Profile
from kepler_ebpf.profile.recorder import Recorder
from kepler_ebpf.profile.result import About, profile_of
from kepler_ebpf.profile.summary import summary
from kepler_ebpf.profile.symbols.names import Names
from kepler_ebpf.stat.command import Command, CommandError, command_has_run
from kepler_ebpf.stat.stop import Stop
from kepler_ebpf.stat.tally import Select
from kepler_ebpf.wiring.selection import any_within, attached, selection
from kepler_ebpf.wiring.session import Opened, open_session
from kepler_ebpf.wiring.zones import chosen_kind

DEFAULT_FORMAT = "html"
PRINTED = "-"

STEP_S = 0.5
"""Intervals end so often: shorter ones cost more, and in longer ones more processes come and go
before the files of their code are found."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags of `profile`, see ``profile.flags``. Raises ConfigError where they contradict."""

    frequency: int
    timeout: float | None
    pid: str | None
    cgroup: str | None
    container: str | None
    comm: str | None
    everything: bool
    output: str | None
    form: str | None
    zone: str
    user: str | None
    command: tuple[str, ...]

    def __post_init__(self) -> None:
        chosen = self.chosen
        if len(chosen) > 1:
            raise ConfigError(f"profile: {' and '.join(chosen)}", "give one of them")
        if not chosen and not self.command:
            raise ConfigError(
                "profile: there is nothing to profile",
                "give a command, or --pid, --cgroup, --container, --comm or -a",
            )
        if self.command and self.timeout:
            raise ConfigError("profile: --timeout with a command", "its end ends the profile")
        if not self.form and self.output and not format_of(self.output):
            problem = f"-o: the ending of {self.output!r} stands for no format"
            raise ConfigError(problem, f"give --format, one of: {', '.join(FORMATS)}")

    @property
    def chosen(self) -> list[str]:
        """What is profiled that runs anyway, by flag."""
        return [*attached(self), *(["-a"] if self.everything else [])]

    @property
    def subject(self) -> str:
        """What is profiled, for people."""
        if self.everything:
            return "all tasks"
        return self.chosen[0] if self.chosen else shlex.join(self.command)

    @property
    def format_name(self) -> str:
        """The format of the file."""
        return self.form or (format_of(self.output) if self.output else None) or DEFAULT_FORMAT

    @property
    def path(self) -> str:
        """The file."""
        return self.output or f"profile{FORMATS[self.format_name].endings[0]}"


def profile(config: Config, **flags: Any) -> int:
    """Profile, write the file, and return the command's exit status. Raises KeplerError."""
    asked = Asked(**flags)
    with ExitStack() as stack:
        # Before anything is run, and what is in it stays until there is something new.
        is_printed = asked.path == PRINTED
        output = standard_output() if is_printed else stack.enter_context(Output(asked.path))
        # From here on a signal ends what is profiled, and what is known is written.
        stopped = Stop(stack)
        ring = ring_bytes(os.cpu_count() or 1, asked.frequency, STEP_S)
        opened = open_session(stack, config, ring)
        kind = chosen_kind(asked.zone, opened.measuring.meter.zones)
        try:
            status, profiled = _profiled(stack, asked, opened, stopped, kind)
        except CommandError as error:
            click.echo(f"error: {error}", err=True)
            return error.exit_status
        with command_has_run(asked.command, status):
            output.write(render(asked.format_name, profiled, kind))
        where = "" if is_printed else f" {asked.path}\n"
        click.echo(summary(profiled, kind) + where, err=True, nl=False)
    return status


# --- sampling ---------------------------------------------------------------------------------


def _profiled(
    stack: ExitStack, asked: Asked, opened: Opened, stopped: Stop, kind: str
) -> tuple[int, Profile]:
    """Return the exit status of the command, 0 without one, and the profile."""
    select: Select = opened.jobs.select
    ends: Callable[[float], bool] | None = None
    if asked.everything:
        select = _all
    elif asked.chosen:
        select, ends = selection(stack, asked, opened.measuring, opened.jobs)
    tracker, names = opened.measuring.tracker, Names(opened.measuring.config.procfs)
    recorder = Recorder(
        tracker, opened.measuring.meter.zones, select, names, with_unowned=asked.everything
    )
    opened.session.taken, opened.session.step_s = recorder.take, STEP_S
    samples = recorder.samples
    samples.start(asked.frequency, everything=bool(asked.chosen) and not asked.pid)
    status = _run(asked, opened, stopped, select, ends)
    samples.stop()
    if sys.stderr.isatty():
        click.echo("finding names …", err=True)
    meter = opened.measuring.meter
    about = About(
        subject=asked.subject,
        kinds=zone_kinds(meter.zones),
        kind=kind,
        meter=meter.stats,
        frequency_hz=asked.frequency,
        host=opened.host,
    )
    return status, profile_of(recorder, names, about)


def _run(
    asked: Asked,
    opened: Opened,
    stopped: Stop,
    select: Select,
    ends: Callable[[float], bool] | None,
) -> int:
    """Measure until the command ends, or without one until a signal, the time, or their end."""
    if not asked.chosen:
        if stopped.within(0):
            return stopped.status or 0
        return opened.run(asked.command, asked.user).exit_status or 0
    if not asked.command:
        waits = [stopped.within, *([ends] if ends else [])]
        opened.session.attach(select, any_within(waits, asked.timeout))
        return 0
    command = Command(asked.command, asked.user)
    with command:
        opened.session.attach(select, command.ends_within)
        return command.reap()


def _all(records: Records) -> Bools:
    return np.ones(len(records), bool)
