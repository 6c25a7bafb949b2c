"""A metrics page as a value: which one a client prefers, and what it gets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from isal import isal_zlib

from kepler_ebpf.exporters.accept import accepted

GZIP_WBITS = 31
"""zlib's code of a gzip stream with the largest window."""

GZIP_LEVEL = 1
"""Pages repeat themselves so much that a higher level only costs CPU."""

PAUSE_S = 50e-6
"""Pause between two pieces of a page, in which a waiting loop gets the GIL."""

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

    @property
    def is_whole(self) -> bool:
        """Whether it is one of the few pages that most readers want."""
        return not self.names


class Page(NamedTuple):
    """A rendered page; ``body`` is gzipped where that was requested."""

    content_type: str
    body: bytearray
    tag: str = ""
    """What changes with the figures, for who asks whether a page is new; empty where not needed."""


def negotiated(
    accept: str = "", accept_encoding: str = "", names: frozenset[str] = frozenset()
) -> Variant:
    """Return the page that a client prefers by its headers, with these *names*."""
    return Variant(_prefers_openmetrics(accept), accepts_gzip(accept_encoding), names)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client accepts gzip."""
    return any(item.name == "gzip" for item in accepted(accept_encoding))


def joined(chunks: Iterable[bytes], *, compress: bool) -> bytearray:
    """Join the chunks, compressed piece by piece: the whole text is not held beside that."""
    packer = isal_zlib.compressobj(level=GZIP_LEVEL, wbits=GZIP_WBITS) if compress else None
    body = bytearray()
    for chunk in chunks:
        body += packer.compress(chunk) if packer else chunk
    return body + packer.flush() if packer else body


def _prefers_openmetrics(accept: str) -> bool:
    """Whether a client accepts OpenMetrics of version 1.0 or later no less than plain text."""
    entries = accepted(accept)
    text_quality = max((item.quality for item in entries if item.name in TEXT), default=0.0)
    wanted = (item for item in entries if item.name == OPENMETRICS)
    return any(i.quality >= text_quality and not OLD_VERSION.search(i.text) for i in wanted)
