"""TLS to the API server or a kubelet: how it is verified, and what a refusal means."""

from __future__ import annotations

import ssl
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:  # at run time: when Kubernetes is on, see credentials.py
    from kubernetes.client import Configuration

_NO_CERTIFICATE = "TLSV1_ALERT_INTERNAL_ERROR"
"""The alert of a server, written in Go, that has no certificate yet."""

_NOT_TRUSTED = frozenset({2, 18, 19, 20, 21, 62, 64})
_NOT_NOW = frozenset({9, 10})
"""OpenSSL's verify codes of a CA or name that is not ours, and of a validity that is not now."""

_RENEW = "Check the clock of this host, and have the certificate renewed"
_MAKE_ANEW = "Have the certificate or the CA that signed it made anew: no other CA file mends this"


def is_readable(url: str) -> bool:
    """Whether what is sent to *url* leaves this host, or may, without TLS."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    with suppress(ValueError):
        return parts.scheme == "http" and not ip_address(host).is_loopback
    return parts.scheme == "http" and host != "localhost"


def make_context(configuration: Configuration) -> ssl.SSLContext:
    """Return what verifies chain and name, as every version of Python before 3.13 does.

    Later ones also refuse a CA that lacks what RFC 5280 wants and Kubernetes never wanted: one
    without key usage or key identifiers, as older clusters have.
    """
    from urllib3.util.ssl_ import create_urllib3_context

    context = create_urllib3_context(
        cert_reqs=ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE
    )
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not (configuration.ssl_ca_cert or configuration.ca_cert_data):
        context.load_default_certs()
    return context


def certificate_fault(error: Exception, remedy: str) -> tuple[str, str] | None:
    """Return what is wrong with a server's certificate and what mends it; None for other errors.

    *remedy* is for a certificate of an unknown CA or for another name.
    """
    cause = _tls_error(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code not in _NOT_TRUSTED:
            remedy = _RENEW if cause.verify_code in _NOT_NOW else _MAKE_ANEW
        return f"does not verify: {cause.verify_message.rstrip('.')}", remedy
    if cause is not None and cause.reason == _NO_CERTIFICATE:
        return "is not there yet: the request for it may not be approved", remedy
    return None


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Find the error of the handshake that urllib3 wrapped, if it is one."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        inner = error.args[0] if error.args else None
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
    return None
