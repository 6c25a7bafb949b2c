"""Where figures are pushed to: an option, and the standard variables of OpenTelemetry.

A variable of metrics (``OTEL_EXPORTER_OTLP_METRICS_…``) has precedence over that of all signals.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from kepler_ebpf.errors import ConfigError
from kepler_ebpf.exporters.otlp_http import Receiver

DEFAULT_ENDPOINT = "http://localhost:4318"
SIGNAL_PATH = "/v1/metrics"
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
MAX_TIMEOUT_S = 3600
MS_PER_S = 1_000


def read_receiver(endpoint: str, environ: Mapping[str, str]) -> Receiver:
    """Return where to push to: *endpoint*, or what *environ* has.

    Raises ConfigError with the variable that cannot work.
    """
    variables = _Variables(environ)
    protocol = variables.text("PROTOCOL", "http/protobuf")
    if protocol != "http/protobuf":
        problem = f"{variables.name('PROTOCOL')}: {protocol!r} is not supported"
        raise ConfigError(problem, "want http/protobuf, or leave it out")
    receiver = Receiver(
        url=_url(endpoint, variables),
        headers=_headers(variables),
        timeout_s=_timeout_s(variables),
        compress=variables.choice("COMPRESSION", "gzip", "none") == "gzip",
        ca=variables.text("CERTIFICATE"),
        certificate=variables.text("CLIENT_CERTIFICATE"),
        key=variables.text("CLIENT_KEY"),
    )
    try:
        receiver.tls()
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (receiver.ca, receiver.certificate, receiver.key)))
        problem = f"TLS to {receiver.url} cannot work: {error.strerror or error} ({files})"
        remedy = (
            "give PEM files: OTEL_EXPORTER_OTLP_CERTIFICATE for the CA, and _CLIENT_CERTIFICATE "
            "and _CLIENT_KEY, which belong together"
        )
        raise ConfigError(problem, remedy) from error
    return receiver


def read_resource(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes of the resource that *environ* sets. Raises ConfigError."""
    name = "OTEL_RESOURCE_ATTRIBUTES"
    resource = _pairs(name, environ.get(name, ""))
    service = environ.get("OTEL_SERVICE_NAME", "")
    return {**resource, **({"service.name": service} if service else {})}


class _Variables:
    """The variables of the exporter, by the last words of their names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def name(self, words: str) -> str:
        """Return the name of the variable that counts."""
        of_metrics = f"OTEL_EXPORTER_OTLP_METRICS_{words}"
        return of_metrics if self._environ.get(of_metrics) else f"OTEL_EXPORTER_OTLP_{words}"

    def text(self, words: str, default: str = "") -> str:
        """Return its value; an empty one counts as none."""
        return self._environ.get(self.name(words), "") or default

    def choice(self, words: str, *allowed: str) -> str:
        """Return its value, the first of *allowed* by default."""
        value = self.text(words, allowed[0])
        if value not in allowed:
            problem = f"{self.name(words)}: {value!r} is not allowed"
            raise ConfigError(problem, f"want one of {', '.join(allowed)}")
        return value


def _url(endpoint: str, variables: _Variables) -> str:
    """Return the address of the receiver; that of all signals has no path of one."""
    source, url = "--otlp-endpoint", endpoint
    if not url:
        source = variables.name("ENDPOINT")
        url = variables.text("ENDPOINT", DEFAULT_ENDPOINT)
    if endpoint or source != "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT":
        url = url.removesuffix("/")
        url += "" if url.endswith(SIGNAL_PATH) else SIGNAL_PATH
    try:
        address = urlsplit(url)
        is_valid = address.scheme in {"http", "https"} and bool(address.hostname)
        is_valid &= address.port != 0 and not address.username and url.isprintable()
        is_valid &= " " not in url and not address.query and not address.fragment
    except ValueError:
        is_valid = False
    if not is_valid:
        remedy = "want http://HOST:PORT or https://HOST:PORT, without a user or a query"
        raise ConfigError(f"{source}: no address of a receiver", remedy)
    return url


def _headers(variables: _Variables) -> dict[str, str]:
    """Return the headers of each request; their values may be secret, so no message has them."""
    name = variables.name("HEADERS")
    headers = _pairs(name, variables.text("HEADERS"))
    for header, value in headers.items():
        if not HEADER.fullmatch(header) or not value.isprintable() or not value.isascii():
            raise ConfigError(f"{name}: no header of HTTP", "want NAME=VALUE,NAME=VALUE")
    return headers


def _timeout_s(variables: _Variables) -> float:
    name, text = variables.name("TIMEOUT"), variables.text("TIMEOUT", "10000")
    if not (text.isdecimal() and text.isascii() and 0 < int(text[:9]) <= MAX_TIMEOUT_S * MS_PER_S):
        raise ConfigError(f"{name}: {text!r} is not allowed", "want milliseconds, such as 10000")
    return int(text) / MS_PER_S


def _pairs(name: str, text: str) -> dict[str, str]:
    """Parse NAME=VALUE,NAME=VALUE, with what is special in percent notation."""
    pairs = {}
    for item in filter(str.strip, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{name}: an item has no name", "want NAME=VALUE,NAME=VALUE")
        pairs[unquote(key.strip())] = unquote(value.strip())
    return pairs
