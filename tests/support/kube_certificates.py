"""Certificates and kubeconfigs for the Kubernetes servers of the tests."""

import base64
import json
import socket
import ssl
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Certificate:
    """A server certificate with its key, and the CA that signed it."""

    certificate: Path
    key: Path
    ca: Path

    def wrap(self, listener: socket.socket) -> ssl.SSLSocket:
        """Return *listener* speaking TLS with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)


CA_EXTENSIONS = {
    "basicConstraints": "critical,CA:TRUE",
    "keyUsage": "critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier": "hash",
    "authorityKeyIdentifier": "keyid",
}
"""What a CA has that RFC 5280 finds nothing wrong with."""


def make_certificate(
    directory: Path,
    alt_name: str = "IP:127.0.0.1",
    *,
    ca_without: Collection[str] = (),
    basic_constraints: str = CA_EXTENSIONS["basicConstraints"],
    days: int = 2,
) -> Certificate:
    """Make a CA and a certificate signed by it for *alt_name*, with the openssl command.

    The CA lacks the extensions *ca_without*, and the certificate its reference to the CA's key
    where it lacks that of its own. The certificate is valid for *days*.
    """
    directory.mkdir(parents=True, exist_ok=True)
    key, request, ca_key = (directory / name for name in ("tls.key", "tls.csr", "ca.key"))
    made = Certificate(directory / "tls.crt", key, directory / "ca.crt")
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    config = directory / "openssl.cnf"
    # The key identifiers are there unless they are none, the others only where they are named.
    of_ca = {
        name: "none" if name in ca_without else value
        for name, value in {**CA_EXTENSIONS, "basicConstraints": basic_constraints}.items()
        if name not in ca_without or name.endswith("KeyIdentifier")
    }
    ca = "\n".join(f"{name}={value}" for name, value in of_ca.items())
    key_id = "none" if "authorityKeyIdentifier" in ca_without else "keyid,issuer"
    config.write_text(
        f"[req]\ndistinguished_name=name\n[name]\n[ca]\n{ca}\n"
        f"[server]\nsubjectAltName={alt_name}\nauthorityKeyIdentifier={key_id}\n",
        encoding="utf-8",
    )
    _openssl(
        f"req -x509 {curve} -config {config} -extensions ca -days 3 -subj /CN=ca "
        f"-keyout {ca_key} -out {made.ca}"
    )
    _openssl(f"req {curve} -config {config} -subj /CN=server -keyout {key} -out {request}")
    _openssl(
        f"x509 -req -in {request} -CA {made.ca} -CAkey {ca_key} -days {days} "
        f"-extfile {config} -extensions server -out {made.certificate}"
    )
    return made


def _openssl(arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True)


def write_kubeconfig(path: Path, server: str, ca: Path | None = None, token: str = "t0") -> str:
    """Write a kubeconfig for *server* to *path* and return its name."""
    cluster = {} if ca is None else {"certificate-authority": str(ca)}
    return write_login(path, {"server": server, **cluster}, {"token": token})


def write_login(path: Path, cluster: dict[str, Any], user: dict[str, Any]) -> str:
    """Write a kubeconfig of this *cluster* and *user* to *path* and return its name."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return str(path)


def expired_oidc(issuer: str) -> dict[str, Any]:
    """Return a user whose token expired long ago and is to be had anew from *issuer*."""
    parts = ({"alg": "none"}, {"exp": 1})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    config = {
        "idp-issuer-url": issuer,
        "client-id": "kepler",
        "client-secret": "",
        "refresh-token": "r",
        "id-token": ".".join([*(part.rstrip("=") for part in encoded), "s"]),
    }
    return {"auth-provider": {"name": "oidc", "config": config}}
