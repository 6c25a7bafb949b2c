"""Where the API is and what we log in with: a kubeconfig or the pod's service account.

``import kubernetes`` happens in here, inside the functions, because it costs about 19 MB of
memory that only a host with Kubernetes should pay. Of that package we use the credentials, the
configuration and the connection pool; its typed models would cost another 22 MB.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from kepler_ebpf.errors import ConfigError

if TYPE_CHECKING:  # at run time: when Kubernetes is on, see above
    from kubernetes.client import Configuration

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_LOGINS = ("auth-provider", "exec")
"""The keys of a kubeconfig's user that log it in by a command or a server."""


def login_errors() -> tuple[type[Exception], ...]:
    """Return what the client raises where a command or a server gives it no login."""
    from kubernetes.client import ApiException
    from kubernetes.config import ConfigException
    from oauthlib.oauth2 import OAuth2Error  # type: ignore[import-untyped]
    from urllib3.exceptions import HTTPError

    answers = (AttributeError, KeyError, TypeError, ValueError)
    return ApiException, ConfigException, HTTPError, OAuth2Error, OSError, *answers


@dataclass(frozen=True, slots=True)
class KubeConfigFile:
    """The kubeconfig file at ``path``; its current context names cluster and user."""

    path: str

    def look(self) -> Configuration:
        """Read the file alone, and do not log its user in by a command or a server.

        Raises ConfigError where it is missing or cannot be used.
        """
        from kubernetes.config import ConfigException

        try:
            Path(self.path).expanduser().read_bytes()
        except OSError as error:
            problem = f"cannot read the kubeconfig {self.path}: {error.strerror}"
            raise ConfigError(problem, "check --kube.config (YAML: kube.config)") from error
        try:
            configuration = self._read(without=_LOGINS)
        except (ConfigException, yaml.YAMLError, OSError) as error:
            raise self._invalid(str(error)) from error
        except ValueError as error:  # base64 or UTF-8
            raise self._invalid(f"a value is not valid base64 or text: {error}") from error
        except (AttributeError, KeyError, TypeError) as error:
            raise self._invalid("it does not have the shape of a kubeconfig") from error
        if not configuration.host:
            raise self._invalid("its current cluster names no server")
        return configuration

    def load(self) -> Configuration:
        """Read the file and log its user in, which may take as long as a command or a server does.

        Raises ConfigError where either fails.
        """
        self.look()
        try:
            return self._read()
        except login_errors() as error:
            raise ConfigError(
                f"the user of the kubeconfig {self.path} cannot be logged in: "
                f"{' '.join(str(error).split())}",
                "check the user's exec or auth-provider",
            ) from error

    def _read(self, without: tuple[str, ...] = ()) -> Configuration:
        """Return what is in the file, but for these keys of its users."""
        from kubernetes.client import Configuration
        from kubernetes.config import ConfigException
        from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

        merged = KubeConfigMerger(self.path).config  # type: ignore[no-untyped-call]
        if merged is None:
            raise ConfigException("no configuration found")
        for user in merged.value["users"]:
            for key in without:
                (user.value.get("user") or {}).pop(key, None)
        configuration = Configuration(host="")
        loader = KubeConfigLoader(merged, config_base_path=None)  # type: ignore[no-untyped-call]
        loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
        return configuration

    def _invalid(self, why: str) -> ConfigError:
        return ConfigError(
            f"the kubeconfig {self.path} is not valid: {' '.join(why.split())}",
            "look at it with `kubectl --kubeconfig FILE config view`",
        )


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """The token and CA that Kubernetes mounts into a pod, with the API's address from *environ*."""

    directory: Path = SERVICE_ACCOUNT_DIR
    environ: Mapping[str, str] | None = None

    def load(self) -> Configuration:
        """Read the token and the CA as they are now. Raises ConfigError where there are none."""
        from kubernetes.client import Configuration
        from kubernetes.config import ConfigException
        from kubernetes.config.incluster_config import InClusterConfigLoader

        configuration = Configuration(host="")
        loader = InClusterConfigLoader(  # type: ignore[no-untyped-call]
            token_filename=str(self.directory / "token"),
            cert_filename=str(self.directory / "ca.crt"),
            environ=os.environ if self.environ is None else self.environ,
        )
        try:
            loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"no Kubernetes credentials: {str(error).rstrip('.')}",
                "give a kubeconfig (--kube.config FILE), or run in a pod whose service account "
                "token is mounted (automountServiceAccountToken)",
            ) from error
        return configuration

    look = load
    """They are files alone."""


Credentials = KubeConfigFile | ServiceAccount


def check_certificates(configuration: Configuration) -> None:
    """Try the CA and client certificate files. Raises ConfigError, naming the one that fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    host, ca_file = configuration.host, configuration.ssl_ca_cert
    client_file = configuration.cert_file
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
    except OSError as error:
        problem = f"the CA of {host}, {ca_file}, holds no certificate: {error}"
        remedy = "give a PEM file (in a kubeconfig: base64 of one)"
        raise ConfigError(problem, remedy) from error
    try:
        if client_file:
            context.load_cert_chain(client_file, configuration.key_file)
    except OSError as error:
        problem = f"the client certificate for {host}, {client_file}, cannot be used with its key"
        remedy = "give the key that belongs to the certificate"
        raise ConfigError(f"{problem}: {error}", remedy) from error


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Another server to use the same credentials with: a kubelet.

    ``ca_file`` verifies it (None: the cluster's CA); ``verify`` False accepts any certificate.
    """

    url: str
    ca_file: str | None = None
    verify: bool = True

    def apply_to(self, configuration: Configuration) -> None:
        """Point *configuration* at this server."""
        configuration.host = self.url
        configuration.verify_ssl = self.verify
        configuration.tls_server_name = None
        if self.ca_file is not None:
            configuration.ssl_ca_cert = self.ca_file
