"""`kepler-ebpf replay`: a recording attributed anew, beside the live figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from kepler_ebpf.attribution import zone_kinds
from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import ConfigError
from kepler_ebpf.recording.models import Model
from kepler_ebpf.recording.reader import open_recording
from kepler_ebpf.recording.replay import json_text, replayed, table
from kepler_ebpf.wiring.zones import chosen_kind, require_kind

WHERE = "in the recording"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The flags of `replay`, see ``recording.flags``."""

    recording: str
    split: str
    idle_watts: tuple[str, ...]
    weight: str
    by: str
    zone: str
    top: int
    as_json: bool


def replay(config: Config, **flags: Any) -> int:  # noqa: ARG001 - as every verb has it
    """Print both figures and their difference; the status is that of the recording's state."""
    asked = Asked(**flags)
    recording = open_recording(asked.recording)
    header, watts = recording.header, dict(map(_idle_watts, asked.idle_watts))
    kind = chosen_kind(asked.zone, header.zones, WHERE)
    for each in watts:
        require_kind("--idle-watts", each, zone_kinds(header.zones), WHERE)
    if watts and asked.split == "all":
        raise ConfigError("replay: --idle-watts and --split all", "give one of them")
    found = replayed(recording, Model(asked.split, watts or None, asked.weight), asked.by)
    if asked.as_json:
        click.echo(json_text(found))
    else:
        click.echo(table(found, kind, asked.by, asked.top), nl=False)
        if header.is_estimate:
            click.echo(f"The energy is an estimate (meter {header.meter}).")
    for problem in recording.problems:
        click.echo(f"warning: {problem}", err=True)
    return recording.exit_status


def _idle_watts(text: str) -> tuple[str, float]:
    kind, _, watts = text.partition("=")
    try:
        return kind, float(watts)
    except ValueError:
        raise ConfigError(f"--idle-watts: {text!r} is not allowed", "want ZONE=WATTS") from None
