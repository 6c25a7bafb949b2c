"""What passes through the socket of jobs: a line of JSON each way, and again at the end.

See the page of ``api``. Either side may be a stranger to the other: what is read is checked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kepler_ebpf.errors import ConfigError, KeplerError, ReadError
from kepler_ebpf.stat.result import Run, ZoneEnergy

DEFAULT_SOCKET = "/run/kepler-ebpf/jobs.sock"
MAX_LINE_BYTES = 512
"""Of a request."""

MIN_REST_S = 1.0
"""In a shorter time it is not told what the rest of the machine used."""

SCOPES = ("process", "thread", "command")
REMEDY = "send a line of JSON as the page of kepler_ebpf/api has it"
REST = ("rest_joules", "rest_active_joules", "idle_joules", "unowned_joules")


@dataclass(frozen=True, slots=True)
class Begin:
    """The first request. *thread* is its number, for the scopes thread and command.

    A command is what the thread starts from then on, without the thread itself.
    """

    scope: str
    children: bool = False
    thread: int | None = None


def encode(message: dict[str, Any]) -> bytes:
    """Return *message* as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def request(line: bytes) -> Begin | None:
    """Return what a line asks for, None for the end of the job. Raises ConfigError."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if fields == {"end": True}:
        return None
    match fields:
        case {"begin": "process", "children": bool(children), **rest} if not rest:
            return Begin("process", children)
        case {"begin": "thread", "children": bool(children), "thread": int(thread), **rest} if (
            not rest
        ):
            return Begin("thread", children, thread)
        case {"begin": "command", "thread": int(thread), **rest} if not rest:
            return Begin("command", True, thread)
    raise ConfigError("the request is not understood", REMEDY)


def failure(error: KeplerError) -> dict[str, Any]:
    """Return the answer that *error* is."""
    return {"error": error.problem, "remedy": error.remedy}


def answered(line: bytes) -> dict[str, Any]:
    """Return an answer. Raises KeplerError where it is a failure, or none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ReadError("the run that measures for us gave no answer", "see its log")
    if "error" in fields:
        raise KeplerError(str(fields["error"]), str(fields.get("remedy", "")))
    return fields


def shown(run: Run, *, is_root: bool) -> dict[str, Any]:
    """Return *run* as the answer has it, without the rest where the time is too short for that."""
    fields = run.record
    if run.wall_s < MIN_REST_S and not is_root:
        for zone in fields["zones"].values():
            zone.update(dict.fromkeys(REST))
    return fields


def run_of_answer(fields: dict[str, Any]) -> Run:
    """Return the run that ``shown`` has written. Raises ReadError."""
    try:
        zones = {kind: ZoneEnergy(**zone) for kind, zone in fields["zones"].items()}
        return Run(**{**fields, "zones": zones})
    except (KeyError, TypeError, AttributeError) as error:
        problem = "the run that measures for us answers in a form of another version"
        raise ReadError(problem, "update both to one version") from error
