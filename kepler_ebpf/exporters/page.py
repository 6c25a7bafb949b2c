"""A metrics page as a value: which one a client prefers, and what it gets."""

from __future__ import annotations

import re
from typing import NamedTuple

from kepler_ebpf.exporters.accept import accepted

OPENMETRICS = "application/openmetrics-text"
OLD_VERSION = re.compile(r"version=(?![1-9])")
TEXT = frozenset({"text/plain", "text/*", "*/*"})
"""In an Accept header: OpenMetrics, its versions before 1.0, and what allows plain text."""


class Variant(NamedTuple):
    """What tells two pages of one snapshot apart.

    ``names`` has the metrics to keep (sample names); empty keeps all.
    """

    is_openmetrics: bool = False
    is_gzipped: bool = False
    names: frozenset[str] = frozenset()


class Page(NamedTuple):
    """A rendered page; ``body`` is gzipped where that was requested."""

    content_type: str
    body: bytearray


def negotiated(
    accept: str = "", accept_encoding: str = "", names: frozenset[str] = frozenset()
) -> Variant:
    """Return the page that a client prefers by its headers, with these *names*."""
    is_gzipped = any(item.name == "gzip" for item in accepted(accept_encoding))
    return Variant(_prefers_openmetrics(accept), is_gzipped, names)


def _prefers_openmetrics(accept: str) -> bool:
    """Whether a client accepts OpenMetrics of version 1.0 or later no less than plain text."""
    entries = accepted(accept)
    text_quality = max((item.quality for item in entries if item.name in TEXT), default=0.0)
    wanted = (item for item in entries if item.name == OPENMETRICS)
    return any(i.quality >= text_quality and not OLD_VERSION.search(i.text) for i in wanted)
