"""TLS for the one-thread server: a context from a configuration, and a socket that never waits."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import cast

from kepler_ebpf.errors import ConfigError
from kepler_ebpf.exporters.web_config import Pem, TlsConfig

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
FLIGHTS = 8
"""A handshake needs four; one that has not ended then never ends."""

NOT_YET_VALID, EXPIRED = 9, 10
REMEDY = "give a certificate in PEM with its chain, and its own key without a password"


class Context(ssl.SSLContext):
    """A server's context, with the names of which a client's certificate must have one.

    ``certificate_end_s`` is when the server's own expires, None where that is not known.
    """

    client_sans: frozenset[str] = frozenset()
    certificate_end_s: float | None = None


class TlsStream(ssl.SSLSocket):
    """A client's socket. The handshake is a part of the first ``recv``.

    To have to wait is BlockingIOError, as of a plain socket; other faults are OSError.
    """

    is_admitted = False

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Return what the client sent, after its certificate was checked."""
        try:
            received = super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        if received and not self.is_admitted:
            self._check_sans()
        return received

    def send(self, data: memoryview, flags: int = 0) -> int:  # type: ignore[override]
        """Send a part of *data*; after BlockingIOError the same part must come again."""
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def shutdown(self, how: int) -> None:
        """Say in TLS that no more comes, and then in TCP."""
        with suppress(OSError, ValueError):
            self.unwrap()
        super().shutdown(how)

    def _check_sans(self) -> None:
        allowed = self.context.client_sans if isinstance(self.context, Context) else frozenset()
        certificate = self.getpeercert()
        if allowed and certificate and allowed.isdisjoint(_sans(certificate)):
            raise ssl.SSLError("none of the client's names is allowed")
        self.is_admitted = True


def make_context(tls: TlsConfig) -> Context:
    """Return the context of *tls*. Raises ConfigError where no client could be served with it."""
    context = _context(tls)
    _handshake(context, tls)
    if tls.client_ca is not None:
        with _file(tls.client_ca) as path:
            try:
                context.load_verify_locations(path)
            except ssl.SSLError as error:
                problem = f"no certificate in the clients' CA {_name(tls.client_ca)}"
                raise ConfigError(problem, "give the CA's certificates in PEM") from error
        needs = tls.needs_client_certificate
        context.verify_mode = ssl.CERT_REQUIRED if needs else ssl.CERT_OPTIONAL
        context.client_sans = frozenset(map(_normal, tls.client_sans))
    return context


def _context(tls: TlsConfig) -> Context:
    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = TlsStream
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.minimum_version = VERSIONS[tls.min_version]
    context.maximum_version = VERSIONS[tls.max_version]
    context.set_alpn_protocols(["http/1.1"])
    if tls.ciphers:
        context.set_ciphers(":".join(tls.ciphers))
    if tls.curve:
        context.set_ecdh_curve(tls.curve)
    with _file(tls.certificate) as certificate, _file(tls.key) as key:
        try:
            context.load_cert_chain(certificate, key, password=lambda: b"")
        except ssl.SSLError as error:
            names = f"the certificate {_name(tls.certificate)} and the key {_name(tls.key)}"
            problem = f"{names} do not belong together, or are not PEM: {error.reason}"
            raise ConfigError(problem, REMEDY) from error
    return context


def _handshake(server: Context, tls: TlsConfig) -> None:
    """Shake hands with ourselves: an expired certificate shows, and ciphers that do not fit."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with _file(tls.certificate) as path:
        client.load_verify_locations(path)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True))
    name = _name(tls.certificate)
    try:
        for side in sides * FLIGHTS:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in {NOT_YET_VALID, EXPIRED}:
            when = "has expired" if error.verify_code == EXPIRED else "is not valid yet"
            raise ConfigError(f"the certificate {name} {when}", "renew it") from error
    except ssl.SSLError as error:
        problem = f"no client can be served with the certificate {name}: {error.reason}"
        raise ConfigError(problem, "give ciphers for this kind of key, or none") from error
    else:
        end = cast(Mapping[str, str], sides[0].getpeercert())["notAfter"]
        server.certificate_end_s = ssl.cert_time_to_seconds(end)


def _sans(certificate: Mapping[str, object]) -> set[str]:
    names = certificate.get("subjectAltName", ())
    return {_normal(value) for _, value in names}  # type: ignore[attr-defined]


def _normal(name: str) -> str:
    """Return an address in its one form, other names as they are."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name


@contextmanager
def _file(pem: Pem) -> Iterator[str]:
    """Give the name of a file with *pem*; ConfigError where it cannot be read."""
    if isinstance(pem, Path):
        try:
            pem.open("rb").close()
        except OSError as error:
            problem = f"cannot read {pem}: {error.strerror}"
            raise ConfigError(problem, "name a file in PEM that can be read") from error
        yield str(pem)
        return
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, pem.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _name(pem: Pem) -> str:
    return str(pem) if isinstance(pem, Path) else "in the web configuration"
