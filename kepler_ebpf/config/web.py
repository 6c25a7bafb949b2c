"""A web configuration: YAML in the format of Prometheus's exporter toolkit, as Kepler takes it.

Unknown keys and keys that are given twice are errors, since what they mean to protect would be
open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kepler_ebpf.config.values import duration_s, within
from kepler_ebpf.errors import ConfigError
from kepler_ebpf.exporters.web_config import Pem, RateLimit, TlsConfig, WebConfig

T = TypeVar("T")

REMEDY = "see the web configuration of Prometheus's exporter toolkit"
MAX_BCRYPT_COST = 14
"""Of cost 14 one check takes a second of CPU time, and each more doubles it."""

MAX_INTERVAL, MAX_BURST = "24h", 1_000_000_000
"""Of a rate limit."""

BCRYPT = re.compile(r"\$2[abxy]?\$(\d\d)\$[./A-Za-z0-9]{53}")
VERSIONS = ("TLS12", "TLS13")
CURVES = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
CIPHERS = {
    f"TLS_ECDHE_{kind}_WITH_{go}": f"ECDHE-{kind}-{openssl}"
    for kind in ("ECDSA", "RSA")
    for go, openssl in (
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
} | dict.fromkeys(
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"), ""
)
"""Names of Go and of OpenSSL. Those of TLS 1.3 are always on, in Go as well as here."""

HEADERS: dict[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
"""The headers that can be set, and their values where only some are allowed."""

KEYS = {
    "": {"tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"},
    "tls_server_config": {
        *("cert_file", "key_file", "cert", "key", "client_ca_file", "client_ca"),
        *("client_auth_type", "client_allowed_sans", "min_version", "max_version"),
        *("cipher_suites", "prefer_server_cipher_suites", "curve_preferences"),
    },
    "rate_limit": {"interval", "burst"},
    "http_server_config": {"http2", "headers"},
    "http_server_config.headers": set(HEADERS),
}


def read_web_config(path: Path) -> WebConfig:
    """Read the web configuration at *path*. Raises ConfigError with the file and the key."""
    try:
        tree = yaml.load(path.read_text("utf-8"), _StrictLoader)  # noqa: S506  makes texts only
        return _Reader(path).config(tree or {})
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        problem = f"cannot read the web configuration {path}: {reason}"
        raise ConfigError(problem, "name a readable YAML file with --web.config-file") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark, reason = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {reason or error}", REMEDY) from error


class _StrictLoader(yaml.BaseLoader):
    """Makes maps, lists and texts, and refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the map of *node*."""
        keys = [self.construct_object(key) for key, _ in node.value]
        for index, key in enumerate(keys):
            if not isinstance(key, str) or key in keys[:index]:
                mark = node.value[index][0].start_mark
                problem = f"{key!r} is given twice" if isinstance(key, str) else "a key is no word"
                raise yaml.constructor.ConstructorError(None, None, problem, mark)
        return super().construct_mapping(node, deep)


class _Reader:
    """Makes the configuration of one file; errors have its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = [path]

    def config(self, tree: object) -> WebConfig:
        root = self._map(tree, "")
        http = self._map(root.get("http_server_config"), "http_server_config")
        tls = self._tls(self._map(root.get("tls_server_config"), "tls_server_config"))
        users = self._map(root.get("basic_auth_users"), "basic_auth_users")
        return WebConfig(
            tls=tls,
            users={user: self._hash(user, text) for user, text in users.items()},
            rate_limit=self._rate_limit(self._map(root.get("rate_limit"), "rate_limit")),
            headers=self._headers(self._map(http.get("headers"), "http_server_config.headers")),
            files=tuple(self._files),
        )

    def _map(self, node: object, key: str) -> Mapping[str, Any]:
        if node is None or node == "":
            return {}
        if not isinstance(node, dict):
            raise self._error(key or "it", "holds no map of keys", REMEDY)
        known = KEYS.get(key, node.keys())  # the names of users are free
        for name in node:
            if name not in known:
                full = f"{key}.{name}" if key else name
                raise self._error(full, "is unknown", f"known are {', '.join(sorted(known))}")
        return node

    def _tls(self, keys: Mapping[str, Any]) -> TlsConfig | None:
        if not any(
            value for key, value in keys.items() if key.startswith(("cert", "key", "client"))
        ):
            return None
        pems = {name: self._pem(keys, name) for name in ("cert", "key", "client_ca")}
        for name in ("cert", "key"):
            if pems[name] is None:
                key = f"tls_server_config.{name}_file"
                raise self._error(key, "is missing", "give a certificate and its key")
        needs, checks = self._client_auth(keys, has_ca=pems["client_ca"] is not None)
        low, high = (
            self._one_of(keys.get(name) or default, VERSIONS, name)
            for name, default in (("min_version", "TLS12"), ("max_version", "TLS13"))
        )
        if low > high:
            raise self._error("min_version", f"{low} is above {high}", "exchange the two")
        suites = self._list(
            keys, "cipher_suites", lambda name: self._one_of(name, CIPHERS, "cipher_suites")
        )
        curves = self._list(
            keys, "curve_preferences", lambda name: self._one_of(name, CURVES, "curve_preferences")
        )
        return TlsConfig(
            certificate=pems["cert"] or "",
            key=pems["key"] or "",
            client_ca=pems["client_ca"] if checks else None,
            needs_client_certificate=needs,
            client_sans=frozenset(self._list(keys, "client_allowed_sans", str)),
            min_version=low,
            max_version=high,
            ciphers=tuple(filter(None, (CIPHERS[name] for name in suites))),
            curve=CURVES[curves[0]] if len(curves) == 1 else "",
        )

    def _pem(self, keys: Mapping[str, Any], name: str) -> Pem | None:
        """Return the file of that name, which goes first, or the text."""
        if keys.get(f"{name}_file"):
            path = self._path.parent / self._text(keys[f"{name}_file"], f"{name}_file")
            self._files.append(path)
            return path
        return self._text(keys.get(name) or "", name) or None

    def _client_auth(self, keys: Mapping[str, Any], *, has_ca: bool) -> tuple[bool, bool]:
        """Return whether clients need a certificate, and whether one that is given is checked."""
        key = "tls_server_config.client_auth_type"
        kind = keys.get("client_auth_type") or "NoClientCert"
        kinds = {
            "NoClientCert": (False, False),
            "VerifyClientCertIfGiven": (False, True),
            "RequireAndVerifyClientCert": (True, True),
        }
        if kind in {"RequireAnyClientCert", "RequireClientCert", "RequestClientCert"}:
            problem = f"{kind} does not check who the client is"
            raise self._error(key, problem, "use RequireAndVerifyClientCert")
        needs, checks = kinds[self._one_of(kind, kinds, "client_auth_type")]
        if has_ca and not checks:
            raise self._error(key, "is missing", "a client_ca needs RequireAndVerifyClientCert")
        if checks and not has_ca:
            problem = "is missing"
            raise self._error("tls_server_config.client_ca_file", problem, f"{kind} needs it")
        return needs, checks

    def _hash(self, user: str, text: object) -> bytes:
        key = f"basic_auth_users.{user}"
        match = BCRYPT.fullmatch(text) if isinstance(text, str) else None
        if not match:
            remedy = "make one with: htpasswd -nBC 10 '' | tr -d ':\\n'"
            raise self._error(key, "has no bcrypt hash", remedy)
        if not 4 <= int(match[1]) <= MAX_BCRYPT_COST:  # noqa: PLR2004  bcrypt's least
            problem = f"has a hash of cost {int(match[1])}"
            raise self._error(key, problem, f"want a cost from 4 to {MAX_BCRYPT_COST}")
        return match[0].encode("ascii")

    def _rate_limit(self, keys: Mapping[str, Any]) -> RateLimit | None:
        interval_s = self._parsed(keys, "interval", duration_s("0", MAX_INTERVAL))
        burst = self._parsed(keys, "burst", within(0, MAX_BURST))
        if not interval_s:
            return None
        if not burst:
            problem = "is missing or 0, so no request would be answered"
            raise self._error(
                "rate_limit.burst", problem, "want the number of requests that may come at once"
            )
        return RateLimit(interval_s, burst)

    def _parsed(self, keys: Mapping[str, Any], name: str, parse: Callable[[str], T]) -> T:
        """Return a value of the rate limit, where none is given that of 0."""
        key = f"rate_limit.{name}"
        text = self._text(keys.get(name, ""), key)
        try:
            return parse(text or "0")
        except ValueError as error:
            raise self._error(key, f"{text!r} is not understood", f"want {error}") from error

    def _headers(self, headers: Mapping[str, Any]) -> dict[str, str]:
        for name, value in headers.items():
            text = self._text(value, name)
            if HEADERS[name]:
                self._one_of(text.lower(), HEADERS[name], name)
            if not text.isprintable() or not text.isascii():
                raise self._error(name, "has characters no header may have", "want ASCII text")
        return {name: str(value) for name, value in headers.items() if value}

    def _list(self, keys: Mapping[str, Any], name: str, parse: Callable[[str], str]) -> list[str]:
        items = keys.get(name) or []
        if not isinstance(items, list):
            raise self._error(name, "holds no list", REMEDY)
        return [parse(self._text(item, name)) for item in items]

    def _text(self, value: object, name: str) -> str:
        if not isinstance(value, str):
            raise self._error(name, "holds no text", REMEDY)
        return value

    def _one_of(
        self, value: object, allowed: Mapping[str, Any] | tuple[str, ...], name: str
    ) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise self._error(name, f"{value!r} is not known", f"want {', '.join(allowed)}")
        return value

    def _error(self, key: str, problem: str, remedy: str) -> ConfigError:
        return ConfigError(f"{self._path}: {key}: {problem}", remedy)
