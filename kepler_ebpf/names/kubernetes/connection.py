"""GET requests to the API server or a kubelet, with every failure turned into an ApiError."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import TYPE_CHECKING, NamedTuple

from kepler_ebpf.errors import ConfigError

from .api_errors import ApiError, reason_of
from .credentials import Credentials, Endpoint, ServiceAccount, check_certificates, login_errors
from .objects import mapping, text
from .tls import certificate_fault, is_readable, make_context

if TYPE_CHECKING:  # at run time these are imported when Kubernetes is on, see credentials.py
    from kubernetes.client import Configuration
    from urllib3 import BaseHTTPResponse, PoolManager

_log = logging.getLogger(__name__)

_READ_BYTES = 65_536
_ERROR_BODY_BYTES = 4_096
_MAX_RETRY_AFTER_S = 300.0
_SHOWN_CHARS = 300
_OK = 200


class Request(NamedTuple):
    """A GET: its path and query, and in words what it does and which right it needs."""

    path: str
    query: Mapping[str, str]
    action: str
    right: str


class Limits(NamedTuple):
    """Seconds to wait for a connection, for the next bytes, and for a whole body."""

    connect_s: float = 10.0
    read_s: float = 30.0
    body_s: float = 60.0


_LIMITS = Limits()


class Connection:
    """One server, one set of credentials; used by one thread, interrupted by any."""

    def __init__(
        self,
        credentials: Credentials,
        endpoint: Endpoint | None = None,
        *,
        certificate_remedy: str,
    ) -> None:
        """Look at the credentials, so that wrong ones are a ConfigError now, not later.

        A login, which may take long, is left to the first request.
        """
        self._credentials = credentials
        self._endpoint = endpoint
        self._certificate_remedy = certificate_remedy
        self._login: tuple[Configuration, PoolManager] | None = None
        self._response: BaseHTTPResponse | None = None
        self._interrupted = False
        self._is_warned = False
        self.url = self._prepared(credentials.look()).host
        """Where the server is."""

    @property
    def rereads_token(self) -> bool:
        """True where the credentials are files that Kubernetes renews under us."""
        return isinstance(self._credentials, ServiceAccount)

    def renew(self) -> None:
        """Drop the connection and the credentials; the next request reads them again."""
        if self._login is not None:
            self._login[1].clear()
            self._login = None

    def interrupt(self) -> None:
        """Wake the thread that waits for a body, and let none wait again; from any thread."""
        self._interrupted = True
        response = self._response
        if response is not None:
            with suppress(OSError, RuntimeError, ValueError):
                response.shutdown()

    @contextmanager
    def get(self, request: Request, limits: Limits = _LIMITS) -> Iterator[Iterator[bytes]]:
        """Send *request* and yield the chunks of its body; reading them may raise ApiError too."""
        response = self._response = self._send(request, limits)
        try:
            if self._interrupted:
                raise ApiError("network", "closing")
            if response.status != _OK:
                raise self._refused(request, response)
            yield self._chunks(response, limits.body_s)
        finally:
            self._response = None
            # What is left unread would have to be drained before the connection is used again.
            response.close()

    def _send(self, request: Request, limits: Limits) -> BaseHTTPResponse:
        import urllib3

        configuration, pool = self._logged_in()
        try:
            return pool.request(
                "GET",
                configuration.host + request.path,
                fields=dict(request.query),
                headers=self._headers(configuration),
                timeout=urllib3.Timeout(connect=limits.connect_s, read=limits.read_s),
                preload_content=False,
                retries=False,
            )
        except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            raise self._failure(error) from error

    def _chunks(self, response: BaseHTTPResponse, limit_s: float) -> Iterator[bytes]:
        import urllib3

        until_s = time.monotonic() + limit_s
        while True:
            try:
                chunk = response.read1(_READ_BYTES)
            except urllib3.exceptions.ReadTimeoutError as error:
                raise ApiError("timeout", f"{self.url}: nothing more came: {error}") from error
            except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
                raise self._failure(error) from error
            if not chunk:
                return
            yield chunk
            if time.monotonic() > until_s:
                raise ApiError("timeout", f"{self.url}: the answer takes too long")

    def _prepared(self, configuration: Configuration) -> Configuration:
        if self._endpoint is not None:
            self._endpoint.apply_to(configuration)
        check_certificates(configuration)
        configuration.retries = False
        configuration.keep_alive = True
        configuration.connection_pool_maxsize = 1
        return configuration

    def _logged_in(self) -> tuple[Configuration, PoolManager]:
        if self._login is None:
            import urllib3
            from kubernetes.client.rest import RESTClientObject

            try:
                configuration = self._prepared(self._credentials.load())
            except ConfigError as error:
                raise ApiError("credentials", error.problem, error.remedy) from error
            if not configuration.verify_ssl:
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            self.url = configuration.host
            pool = RESTClientObject(configuration).pool_manager
            pool.connection_pool_kw["ssl_context"] = make_context(configuration)
            self._login = configuration, pool
        return self._login

    def _warn_once(self, configuration: Configuration, *, has_token: bool) -> None:
        """Log what lets others take the token or answer in the server's place."""
        if self._is_warned:
            return
        self._is_warned = True
        if has_token and is_readable(self.url):
            _log.warning("%s has no TLS: whatever is on the way to it can read the token", self.url)
        elif self._endpoint is None and not configuration.verify_ssl:
            _log.warning(
                "the certificate of %s is not verified (insecure-skip-tls-verify): whatever "
                "answers at its address receives the token and names the pods",
                self.url,
            )

    def _headers(self, configuration: Configuration) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "kepler-ebpf"}
        try:
            settings = configuration.auth_settings()
        except login_errors() as error:
            why = _short(str(error))
            raise ApiError("credentials", f"cannot get the token again: {why}") from error
        if self._endpoint is not None:
            # A token that is renewed brings the API server's address and CA back with it.
            self._endpoint.apply_to(configuration)
        token = settings.get("BearerToken")
        if token and token["value"]:
            value = token["value"].strip()
            if not (value.isascii() and value.isprintable()):
                # No header can carry it, and it must not reach an error message either.
                raise ApiError("credentials", "the token holds characters that no token can have")
            headers["Authorization"] = value
        self._warn_once(configuration, has_token="Authorization" in headers)
        return headers

    def _failure(self, error: Exception) -> ApiError:
        if (fault := certificate_fault(error, self._certificate_remedy)) is not None:
            why, remedy = fault
            return ApiError("certificate", f"the certificate of {self.url} {why}", remedy)
        detail = error.args[0] if error.args else ""
        return ApiError("network", f"{self.url}: {_short(str(detail or error))}")

    def _refused(self, request: Request, response: BaseHTTPResponse) -> ApiError:
        reason = reason_of(response.status)
        message = _message(self._chunks(response, 1.0))
        problem = f"{self.url} refused to {request.action}: HTTP {response.status}"
        if reason == "unauthorized":
            problem = f"{problem}. The token or certificate was not accepted; it is read again"
        return ApiError(
            reason,
            f"{problem}. The server's message: {message}" if message else problem,
            f"grant {request.right}" if reason == "forbidden" else "",
            retry_after_s=_retry_after_s(response.headers.get("Retry-After", "")),
        )


def _retry_after_s(header: str) -> float:
    try:
        return min(max(0.0, float(header)), _MAX_RETRY_AFTER_S)
    except ValueError:
        return 0.0


def _message(chunks: Iterator[bytes]) -> str:
    """Return the message of an error answer: that of a Status object, else its first words."""
    body = bytearray()
    with suppress(ApiError):
        for chunk in chunks:
            body += chunk
            if len(body) >= _ERROR_BODY_BYTES:
                break
    words = body.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        words = text(mapping(json.loads(words)).get("message")) or words
    return _short(words)


def _short(message: str) -> str:
    words = " ".join(message.split())
    return words if len(words) <= _SHOWN_CHARS else f"{words[:_SHOWN_CHARS]}..."
