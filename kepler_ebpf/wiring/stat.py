"""`kepler-ebpf stat`: what a command costs, or tasks that run anyway."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import click

from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import ConfigError, SetupError
from kepler_ebpf.host.output import Output, has_reader, standard_error
from kepler_ebpf.stat import text
from kepler_ebpf.stat.command import Command, CommandError, command_has_run, run_shell
from kepler_ebpf.stat.result import Interval, Result, Run
from kepler_ebpf.stat.separated import Separated
from kepler_ebpf.stat.session import MAX_STEP_S
from kepler_ebpf.stat.stop import Stop, stop_of_runs
from kepler_ebpf.stat.tally import Span, interval_of
from kepler_ebpf.wiring.remote import RemoteSession
from kepler_ebpf.wiring.selection import any_within, attached, selection
from kepler_ebpf.wiring.session import Opened, open_runner, open_session

MS_PER_S = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags of `stat`, see ``stat.flags``."""

    repeat: int
    warmup: int
    ignore_failure: bool
    delay: int
    rows: int | None
    timeout: float | None
    prepare: str | None
    cleanup: str | None
    shell: bool
    user: str | None
    pid: str | None
    cgroup: str | None
    container: str | None
    comm: str | None
    output: str | None
    log_fd: int | None
    as_json: bool
    separator: str | None
    form: str
    command: tuple[str, ...]

    @property
    def attached(self) -> list[str]:
        """What is measured that runs anyway, by flag."""
        return attached(self)

    @property
    def needs_rights(self) -> bool:
        """Whether no `run` could measure it for us: it does so for our own commands, as a whole."""
        return bool(self.attached or self.rows or self.delay)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command as it is executed."""
        return ("/bin/sh", "-c", " ".join(self.command)) if self.shell else self.command


def stat(config: Config, **flags: Any) -> int:
    """Measure, write the result, and return the command's exit status. Raises KeplerError."""
    asked = Asked(**flags)
    _refuse_contradictions(asked)
    with ExitStack() as stack:
        out = _open_output(stack, asked)
        rows = _Rows(asked, out)
        if asked.needs_rights:
            opened = open_session(stack, config)
            if asked.rows:
                rows.follow(opened)
            runner: Opened | RemoteSession = opened
        else:
            runner = open_runner(stack, config)
        if asked.attached:
            runs, failure = _attached(stack, asked, opened, rows, out)
        else:
            runs, failure = _commands(stack, asked, runner, rows)
        status = failure if failure is not None else runs[-1].exit_status or 0
        # A program that reads JSON finds there that nothing was measured.
        if runs or asked.as_json:
            subject = ", ".join(asked.attached) or shlex.join(asked.command)
            result = runner.result(asked.command, subject, runs)
            result = replace(result, planned_runs=asked.repeat, exit_status=status)
            with command_has_run(asked.command if runs else (), status):
                out.put(_render(result, asked, rows))
    return status


def _refuse_contradictions(asked: Asked) -> None:
    if len(asked.attached) > 1:
        raise ConfigError(f"stat: {' and '.join(asked.attached)}", "give one of them")
    if not asked.command and not asked.attached:
        raise ConfigError(
            "stat: there is nothing to measure",
            "give a command, or --pid, --cgroup, --container or --comm",
        )
    if asked.attached and (asked.repeat > 1 or asked.warmup):
        raise ConfigError("stat: -r and --warmup repeat commands only", "leave them out")
    if asked.timeout and not asked.attached:
        raise ConfigError("stat: --timeout with a command alone", "its end ends the measurement")
    if asked.output and asked.log_fd is not None:
        raise ConfigError("stat: --output and --log-fd", "give one of them")
    if asked.separator is not None and len(asked.separator) != 1:
        raise ConfigError(f"-x: {asked.separator!r} is not a separator", "give one character")


def _open_output(stack: ExitStack, asked: Asked) -> Output:
    """Open what the result is written to, before anything is run."""
    if asked.output:
        return stack.enter_context(Output(asked.output))
    if asked.log_fd is not None:
        return Output(asked.log_fd, f"descriptor {asked.log_fd}")
    return standard_error()


def _render(result: Result, asked: Asked, rows: _Rows) -> str:
    if asked.as_json:
        return result.to_json() + "\n"
    if asked.separator:
        return "".join(
            rows.separated.lines(number, run, result.meter, is_estimate=result.estimate)
            for number, run in enumerate(result.runs, 1)
        )
    return text.go_benchmark(result) if asked.form == "go" else text.table(result)


# --- commands ---------------------------------------------------------------------------------


def _commands(
    stack: ExitStack, asked: Asked, runner: Opened | RemoteSession, rows: _Rows
) -> tuple[list[Run], int | None]:
    """Run the command as often as asked; the status is that of what ended it early."""
    runs: list[Run] = []
    total = asked.warmup + asked.repeat
    is_alone = total == 1 and not (asked.prepare or asked.cleanup)
    stopped = Stop(stack, ()) if is_alone else stop_of_runs(stack)
    for number in range(total):
        if total > 1 and sys.stderr.isatty():
            click.echo(f"run {number + 1} of {total}", err=True)
        is_only = asked.repeat == 1 and number == asked.warmup
        rows.number = number - asked.warmup + 1
        try:
            run = _once(asked, runner, stopped, is_only=is_only)
        except CommandError as error:
            click.echo(f"error: {error}", err=True)
            return runs, error.exit_status
        if run and number >= asked.warmup:
            runs.append(replace(run, intervals=rows.take()))
        if run is None or stopped.within(0):
            break
        if run.exit_status and not asked.ignore_failure and number + 1 < total:
            click.echo(f"error: run {number + 1} ended with status {run.exit_status}", err=True)
            return runs, run.exit_status
    if stopped.within(0) and (asked.output or not (runs or asked.as_json)):
        click.echo(f"error: interrupted: {len(runs)} of {asked.repeat} runs are whole", err=True)
    return runs, stopped.status


def _once(
    asked: Asked, runner: Opened | RemoteSession, stopped: Stop, *, is_only: bool
) -> Run | None:
    """Run the command, with what is wanted before and after; None where a signal has come amid."""
    _shell("--prepare", asked.prepare, stopped)
    if stopped.within(0):
        return None
    run = runner.run(asked.arguments, asked.user, asked.delay / MS_PER_S)
    if is_only:
        # What a signal does to a command alone is its own.
        stopped.forget()
    is_whole = not stopped.within(0)
    _shell("--cleanup", asked.cleanup, stopped)
    return run if is_whole else None


def _shell(flag: str, text: str | None, stopped: Stop) -> None:
    if text and (status := run_shell(text)) and not stopped.within(0):
        raise SetupError(f"{flag}: {text!r} ended with status {status}", "mend the command")


# --- tasks that run anyway --------------------------------------------------------------------


def _attached(
    stack: ExitStack, asked: Asked, opened: Opened, rows: _Rows, out: Output
) -> tuple[list[Run], int | None]:
    """Measure tasks that run anyway: as long as the command runs, until SIGINT, or their end.

    Without a command it ends too where nobody reads what is written.
    """
    chosen, ends_within = selection(stack, asked, opened.measuring, opened.jobs)
    stopped = Stop(stack)
    ends: list[Callable[[float], bool]] = [
        lambda wait_s: stopped.within(wait_s) or not has_reader(out)
    ]
    command = None
    if asked.command:
        try:
            command = Command(asked.arguments, asked.user)
        except CommandError as error:
            click.echo(f"error: {error}", err=True)
            return [], error.exit_status
        stack.enter_context(command)
        ends = [command.ends_within]
    elif ends_within:
        ends.append(ends_within)
    run = opened.session.attach(chosen, any_within(ends, asked.timeout), asked.delay / MS_PER_S)
    return [replace(run, intervals=rows.take())], command.reap() if command else None


# --- intervals --------------------------------------------------------------------------------


class _Rows:
    """Ends an interval of each run so often, and one with the rest of the run at its end.

    In JSON they are part of the run; else each is written at once. Lines for benchstat have no
    intervals: those for people go to the standard error then.
    """

    def __init__(self, asked: Asked, out: Output) -> None:
        self._every_s, self._keeps = (asked.rows or 0) / MS_PER_S, asked.as_json
        self.separated = Separated(asked.separator or "", with_intervals=bool(asked.rows))
        has_own = asked.as_json or asked.separator or asked.form == "text"
        self._out = out if has_own else standard_error()
        self._kept: list[Interval] = []
        self._span: Span | None = None
        self.number = 1
        """Of the run. Before the first, they do not count."""

    def follow(self, opened: Opened) -> None:
        """Have the intervals of what *opened* measures."""
        opened.session.step_s = min(MAX_STEP_S, self._every_s)
        opened.session.shown, self._meter = self, opened.measuring.meter

    def take(self) -> tuple[Interval, ...]:
        """Return the intervals of a run, of those that are part of it."""
        taken, self._kept = tuple(self._kept), []
        return taken

    def __call__(self, at_s: float, step: Span, *, is_last: bool) -> None:
        """Take in an interval that ended *at_s* seconds after the start."""
        if self._span is None:
            self._span = replace(step)
        else:
            self._span.add(step)
        # Half an interval early is nearer than half an interval late.
        if is_last or self._span.length_s >= self._every_s - step.length_s / 2:
            interval = interval_of(self._span, self._meter.zones, self._meter.stats, at_s)
            self._span = None
            if self.number > 0:
                self._show(interval)

    def _show(self, interval: Interval) -> None:
        meter = self._meter.stats
        if self._keeps:
            self._kept.append(interval)
            return
        if self.separated.separator:
            made = self.separated.lines(
                self.number, interval, meter.name, is_estimate=meter.is_estimate
            )
        else:
            made = text.interval_row(interval, is_estimate=meter.is_estimate)
        # The command goes on; an output that has failed fails again with the result.
        with suppress(SetupError):
            self._out.put(made)
