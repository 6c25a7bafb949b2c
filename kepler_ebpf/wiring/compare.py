"""`kepler-ebpf compare`: whether one command costs more than another."""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import click

from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import ConfigError, SetupError
from kepler_ebpf.stat import compared
from kepler_ebpf.stat.command import CommandError, run_shell
from kepler_ebpf.stat.comparison import order
from kepler_ebpf.stat.result import Result, Run
from kepler_ebpf.stat.stop import Stop, stop_of_runs
from kepler_ebpf.wiring.remote import RemoteSession
from kepler_ebpf.wiring.session import Opened, open_runner


def compare(config: Config, *, a: str, b: str, **flags: Any) -> int:
    """Compare two commands, or two files of results. Raises KeplerError.

    Returns 0, or where a signal has ended the runs early its status.
    """
    are_files = all(os.path.isfile(text) and not os.access(text, os.X_OK) for text in (a, b))  # noqa: PTH113
    if are_files:
        results, status = (compared.read(a), compared.read(b)), 0
    else:
        results, status = _measured(config, {"A": a, "B": b}, flags)
    found = compared.compared(
        *results, zone=flags["zone"], least=flags["least"] / 100, interleaved=not are_files
    )
    click.echo(compared.to_json(found) if flags["as_json"] else compared.table(found).rstrip())
    return status


def _measured(
    config: Config, commands: dict[str, str], flags: dict[str, Any]
) -> tuple[tuple[Result, Result], int]:
    """Run the commands in pairs; the first run of each is not counted.

    A signal ends it, and leaves the whole pairs: returns its status too.
    """
    arguments = {name: _arguments(name, text, flags["shell"]) for name, text in commands.items()}
    seed = flags["seed"] if flags["seed"] is not None else time.time_ns()
    runs: dict[str, list[Run]] = {"A": [], "B": []}
    names = ["A", "B", *order(flags["pairs"], seed)]
    with ExitStack() as stack:
        opened = open_runner(stack, config)
        stopped = stop_of_runs(stack)
        for number, name in enumerate(names, 1):
            if sys.stderr.isatty():
                click.echo(f"\rrun {number} of {len(names)} ", nl=number == len(names), err=True)
            run = _once(opened, name, arguments[name], flags, stopped)
            if run is None:
                break
            if run.exit_status:
                problem = f"{name} ended with status {run.exit_status}: {commands[name]}"
                raise SetupError(problem, "only runs that succeed are compared")
            runs[name].append(run)
        if stopped.within(0) and sys.stderr.isatty():
            click.echo(err=True)
        whole = min(len(runs["A"]), len(runs["B"]))
        a, b = (
            replace(
                opened.result(arguments[name], commands[name], runs[name][1:whole]),
                planned_runs=flags["pairs"],
            )
            for name in ("A", "B")
        )
    return (a, b), stopped.status or 0


def _once(
    runner: Opened | RemoteSession,
    name: str,
    arguments: list[str],
    flags: dict[str, Any],
    stopped: Stop,
) -> Run | None:
    """Run one of the commands; None where a signal has come before its end."""
    if flags["prepare"]:
        run_shell(flags["prepare"])
    if stopped.within(0):
        return None
    try:
        run = runner.run(arguments, flags["user"])
    except CommandError as error:
        raise SetupError(f"{name} cannot be run: {error}", "mend the command") from None
    return None if stopped.within(0) else run


def _arguments(name: str, text: str, is_shell: bool) -> list[str]:
    if is_shell:
        return ["/bin/sh", "-c", text]
    try:
        arguments = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{name} is no command: {error}: {text!r}", "mend its quotes") from None
    if not arguments:
        raise ConfigError(f"{name} is empty", "give a command in one argument")
    return arguments
