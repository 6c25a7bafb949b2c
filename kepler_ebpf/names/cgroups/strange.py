"""Logs the cgroups that look like a container's and that are not understood."""

from __future__ import annotations

import logging
import re

LOG = logging.getLogger(__name__)

MAX_REPORTED = 32
"""Kinds of paths that are logged."""

_DIGITS = re.compile(r"[0-9a-f]{2,}|[0-9]")
"""What differs between paths of one kind."""


class StrangePaths:
    """Logs one path of each kind."""

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def report(self, path: str) -> None:
        """Log *path*, where it is the first of its kind."""
        kind = _DIGITS.sub("#", path)
        if kind not in self._reported and len(self._reported) < MAX_REPORTED:
            self._reported.add(kind)
            LOG.warning(
                "cgroup %s looks like a container's, but its path is not known: "
                "its energy is shown outside of containers",
                path,
            )
