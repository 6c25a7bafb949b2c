"""`kepler-ebpf report`: what a recording has of a range of time, in one of several forms."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from kepler_ebpf.config.moment import moment_text
from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import ConfigError
from kepler_ebpf.host.output import Output
from kepler_ebpf.recording.reader import Recording, open_recording
from kepler_ebpf.recording.report import chart, page, records, text
from kepler_ebpf.recording.report.account import Account, limited
from kepler_ebpf.recording.report.flags import FORMS
from kepler_ebpf.recording.report.model import Report
from kepler_ebpf.recording.report.view import Source, View
from kepler_ebpf.wiring.zones import chosen_kind

WRITERS: Mapping[str, Callable[[View], str | bytes]] = {
    "text": text.text,
    "csv": records.csv_text,
    "json": records.json_text,
    "html": page.html,
    "parquet": records.parquet,
    "png": chart.png,
    "svg": chart.svg,
}

BINARY = frozenset({"parquet", "png"})

SHOW_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The flags of `report`, see ``recording.report.flags``."""

    recording: str
    by: str
    since: float | None
    until: float | None
    zone: str
    top: int | None
    over_time: bool
    step: float | None
    form: str | None
    output: str | None

    @property
    def written_form(self) -> str:
        """The form that was asked for, that of the file's name, or text. Raises ConfigError."""
        suffix = Path(self.output or "").suffix.lstrip(".").lower()
        form = self.form or (suffix if suffix in FORMS else "text")
        if suffix and suffix != "txt" and not self.form and form == "text":
            raise ConfigError(
                f"--output: the form of {self.output!r} is not known", "choose one with --format"
            )
        if form in BINARY and not self.output and sys.stdout.isatty():
            raise ConfigError(f"--format {form} is not for a terminal", "give --output FILE")
        return form


def report(config: Config, **flags: Any) -> int:  # noqa: ARG001  as every verb has it
    """Write the report; the status is that of the recording's state. Raises KeplerError."""
    asked = Asked(**flags)
    form = asked.written_form
    if form in {"png", "svg"}:
        chart.require()
    recording = open_recording(asked.recording)
    zone = chosen_kind(asked.zone, recording.header.zones, "in the recording")
    if asked.output and any(_is_same(asked.output, part) for part in recording.parts):
        raise ConfigError(f"--output {asked.output} is the recording", "name another file")
    found = _read(recording, asked)
    header = recording.header
    problems = tuple(recording.problems)
    source = Source(asked.recording, header.node, header.meter, header.is_estimate, problems)
    by_step = asked.over_time or asked.step is not None
    made = WRITERS[form](View(found, source, zone, asked.top, by_step))
    data = made.encode() if isinstance(made, str) else made
    if asked.output:
        with Output(asked.output) as output:
            output.write(data)
    else:
        click.echo(data, nl=False)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
    return recording.exit_status


def _read(recording: Recording, asked: Asked) -> Report:
    """Read the recording to its end. Raises ConfigError where there is nothing in the range."""
    account = Account(recording.header.zones, asked.by, asked.step)
    since_s, until_s = asked.since or -math.inf, asked.until or math.inf
    if since_s >= until_s:
        raise ConfigError("--since is not before --until", "give the earlier time as --since")
    is_shown, shown_s, first_s, last_s = sys.stderr.isatty(), 0.0, math.inf, -math.inf
    for batch in recording.batches():
        first_s, last_s = min(first_s, batch.ends_s[0]), batch.ends_s[-1]
        measured, ends_s = limited(batch, since_s, until_s)
        if measured.intervals:
            account.add(measured, ends_s)
        if is_shown and time.monotonic() - shown_s > SHOW_EVERY_S:
            shown_s = time.monotonic()
            click.echo(f"read up to {moment_text(last_s)}\r", nl=False, err=True)
    if is_shown and shown_s:
        click.echo(" " * 40 + "\r", nl=False, err=True)
    if (found := account.report(recording.names)) is None:
        has = "it has no interval"
        if last_s > 0:
            has = f"it has {moment_text(first_s)} to {moment_text(last_s)}"
        has = "; ".join([has, *recording.problems])
        raise ConfigError(f"{asked.recording} has nothing of that time", has)
    return found


def _is_same(output: str, part: Path) -> bool:
    with suppress(OSError):
        return part.samefile(output)
    return False
