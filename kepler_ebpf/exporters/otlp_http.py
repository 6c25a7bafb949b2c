"""One request to a receiver of the OpenTelemetry protocol, over HTTP/1.1 and perhaps TLS."""

from __future__ import annotations

import gzip
import http.client
import math
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from kepler_ebpf import __version__
from kepler_ebpf.errors import KeplerError

RETRYABLE = frozenset({429, 502, 503, 504})
"""Statuses after which the specification wants the same request again."""

MAX_ANSWER_BYTES = 65_536
MAX_SHOWN_CHARACTERS = 200
GZIP_LEVEL = 1


class UndeliveredError(KeplerError):
    """A request that had no effect; ``after_s`` is how long the receiver wants to be left alone."""

    def __init__(self, problem: str, after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.after_s = after_s


class RejectedError(KeplerError):
    """A request that the receiver does not take, or only in part, and must not get again."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where messages go, and how.

    ``ca``, ``certificate`` and ``key`` are files, "" for the system's and for none.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 10.0
    compress: bool = True
    ca: str = ""
    certificate: str = ""
    key: str = ""

    def tls(self) -> ssl.SSLContext | None:
        """Read the files anew; None without TLS. Raises OSError and its child ssl.SSLError."""
        if urlsplit(self.url).scheme != "https":
            return None
        context = ssl.create_default_context(cafile=self.ca or None)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key or None, password=lambda: b"")
        return context

    def post(self, message: bytes) -> None:
        """Send a message. Raises UndeliveredError or RejectedError.

        All of it takes ``timeout_s`` at most, but for the lookup of the name.
        """
        try:
            status, answer, headers = self._exchange(message)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UndeliveredError(_shown(str(error) or type(error).__name__)) from error
        if status in RETRYABLE:
            raise UndeliveredError(f"status {status}", retry_after_s(headers.get("retry-after")))
        if not http.client.OK <= status < http.client.MULTIPLE_CHOICES:
            raise RejectedError(f"status {status}: {_shown(answer.decode('utf-8', 'replace'))}")
        _raise_if_partial(answer)

    def _exchange(self, message: bytes) -> tuple[int, bytes, Mapping[str, str]]:
        address = urlsplit(self.url)
        headers = {
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"kepler-ebpf/{__version__}",
            **self.headers,
        }
        if self.compress:
            message, headers["Content-Encoding"] = (
                gzip.compress(message, GZIP_LEVEL, mtime=0),
                "gzip",
            )
        context, host = self.tls(), address.hostname or ""
        port = address.port or (443 if context else 80)
        end_s = time.monotonic() + self.timeout_s
        connection = http.client.HTTPConnection(host, port)
        connected = socket.create_connection((host, port), self.timeout_s)
        if context:
            connected = context.wrap_socket(
                connected, server_hostname=host, do_handshake_on_connect=False
            )
        connection.sock = connected
        # A receiver that sends a byte now and then would renew any time-out of the socket.
        end = threading.Timer(end_s - time.monotonic(), _shut, [connected])
        end.start()
        try:
            if isinstance(connected, ssl.SSLSocket):
                connected.do_handshake()
            connection.request("POST", address.path or "/", message, headers)
            answer = connection.getresponse()
            return (
                answer.status,
                answer.read(MAX_ANSWER_BYTES),
                {name.lower(): text for name, text in answer.getheaders()},
            )
        finally:
            end.cancel()
            connection.close()


def retry_after_s(text: str | None) -> float:
    """Return the seconds that a header Retry-After has, 0 for none or for nonsense."""
    seconds = math.nan
    with suppress(ValueError, TypeError, OverflowError):
        seconds = float(text or "")
    if math.isnan(seconds):
        with suppress(ValueError, TypeError, OverflowError):
            seconds = parsedate_to_datetime(text or "").timestamp() - time.time()
    return seconds if 0 < seconds < math.inf else 0.0


def _raise_if_partial(answer: bytes) -> None:
    """Raise RejectedError where an answer says that figures were left out; any other is a yes."""
    with suppress(DecodeError):
        partial = ExportMetricsServiceResponse.FromString(answer).partial_success
        if partial.rejected_data_points:
            count, why = partial.rejected_data_points, _shown(partial.error_message)
            raise RejectedError(f"{count} figures were rejected: {why}")


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _shown(text: str) -> str:
    """Return text of a stranger as it may be logged."""
    return repr(text[:MAX_SHOWN_CHARACTERS])[1:-1]
