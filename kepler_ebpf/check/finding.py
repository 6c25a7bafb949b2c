"""A finding of `check`, and how findings are printed: as a table for people or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import KeplerError
from kepler_ebpf.host import facts


class Status(StrEnum):
    """How a finding stands: present, missing and needed, or missing and not needed now."""

    OK = "ok"
    LACK = "lack"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was judged; ``remedy`` is empty where there is nothing to do.

    A ``required`` thing that is lacking keeps `run` from working.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
    required: bool = False

    @property
    def blocks(self) -> bool:
        """Whether `run` cannot work because of it."""
        return self.required and self.status is Status.LACK


def ok(detail: str, *, required: bool = False) -> Finding:
    """Make the finding, still without a name, of a thing that is present."""
    return Finding("", Status.OK, detail, required=required)


def lack(detail: str, remedy: str = "", *, required: bool = False) -> Finding:
    """Make the finding, still without a name, of a thing that is missing and needed."""
    return Finding("", Status.LACK, detail, remedy, required)


def note(detail: str) -> Finding:
    """Make the finding, still without a name, of a thing that is not needed now."""
    return Finding("", Status.NOTE, detail)


def from_error(name: str, error: KeplerError | OSError, *, required: bool) -> Finding:
    """Make the finding of a thing that could not be used or judged."""
    if isinstance(error, KeplerError):
        return Finding(name, Status.LACK, error.problem, error.remedy, required)
    return Finding(name, Status.LACK, f"cannot be judged: {error}", required=required)


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What the findings are judged by: the settings, the kernel's release, and our rights."""

    config: Config
    release: str
    capabilities: frozenset[str]

    @property
    def kernel(self) -> tuple[int, int]:
        """Major and minor version of the running kernel."""
        return facts.kernel_version(self.release)

    def may(self, capability: str) -> bool:
        """Whether this process has *capability*, or the one that includes nearly all others."""
        return bool(self.capabilities & {capability, "CAP_SYS_ADMIN"})


def can_run(findings: Iterable[Finding]) -> bool:
    """Whether `run` can work here."""
    return not any(finding.blocks for finding in findings)


def to_json(findings: Sequence[Finding]) -> str:
    """Write the findings as a JSON object with ``can_run`` and ``findings``."""
    listed = [dataclasses.asdict(finding) for finding in findings]
    return json.dumps({"can_run": can_run(findings), "findings": listed}, indent=2)


def to_table(findings: Sequence[Finding]) -> str:
    """Write the findings as lines for people, required lacks in capitals, and the verdict."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        word = finding.status.upper() if finding.blocks else finding.status
        lines.append(f"{word:4}  {finding.name:{width}}  {finding.detail}")
        if finding.remedy:
            lines.append(f"{'':4}  {'':{width}}  -> {finding.remedy}")
    blocking = ", ".join(finding.name for finding in findings if finding.blocks)
    verdict = f"cannot work here, for lack of: {blocking}" if blocking else "can work here."
    return "\n".join([*lines, "", f"`run` {verdict}"])
