"""What a web configuration says, in the words of Prometheus's toolkit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Pem = Path | str
"""A file in PEM, or its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """How to speak TLS. Versions are ``TLS12`` and ``TLS13``, ciphers and curves OpenSSL's names.

    Clients need no certificate without a ``client_ca``; with one, it is checked where it is given,
    and must be given if ``needs_client_certificate``. One of its names must then be in
    ``client_sans``, if there are any.
    """

    certificate: Pem
    key: Pem
    client_ca: Pem | None = None
    needs_client_certificate: bool = False
    client_sans: frozenset[str] = frozenset()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    ciphers: tuple[str, ...] = ()
    curve: str = ""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One request each interval, and after a pause up to ``burst`` of them at once."""

    interval_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """``users`` have a bcrypt hash each; without users everybody is let in.

    ``headers`` are on every answer. ``files`` are those whose change makes another configuration.
    """

    tls: TlsConfig | None = None
    rate_limit: RateLimit | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class WebReload:
    """Whether the web configuration could be read the last time, and when it last could.

    ``certificate_end_s`` is when its certificate expires, None without one.
    """

    successful: bool
    success_at_s: float
    certificate_end_s: float | None = None
