"""The web configuration: the format of Prometheus's exporter toolkit, and every fault in it."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kepler_ebpf.config.web import KEYS, read_web_config
from kepler_ebpf.errors import ConfigError
from kepler_ebpf.exporters.web_config import RateLimit, WebConfig

HASH = "$2y$10$" + "a" * 53
TLS = "tls_server_config: {cert_file: c.pem, key_file: k.pem"


def read(folder: Path, text: str) -> WebConfig:
    """Read *text* as the file ``web.yml`` of *folder*."""
    path = folder / "web.yml"
    path.write_text(text, "utf-8", "surrogatepass")
    return read_web_config(path)


@pytest.mark.parametrize("text", ["", "tls_server_config:\n", "{}", "basic_auth_users: {}\n"])
def test_empty_file_lets_everybody_in(tmp_path: Path, text: str) -> None:
    """As in the toolkit, a file that sets nothing is plain HTTP without users."""
    config = read(tmp_path, text)
    assert (config.tls, dict(config.users), dict(config.headers)) == (None, {}, {})


def test_everything_at_once(tmp_path: Path) -> None:
    """Paths are relative to the file, names become OpenSSL's, and the file goes before the text."""
    config = read(
        tmp_path,
        "tls_server_config:\n"
        "  cert_file: certs/c.pem\n"
        "  cert: unused\n"
        "  key: the key\n"
        "  client_ca_file: /ca.pem\n"
        "  client_auth_type: RequireAndVerifyClientCert\n"
        "  client_allowed_sans: [prometheus, '::1']\n"
        "  min_version: TLS12\n"
        "  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]\n"
        "  prefer_server_cipher_suites: true\n"
        "  curve_preferences: [X25519]\n"
        "http_server_config:\n"
        "  http2: false\n"
        "  headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=1}\n"
        f"basic_auth_users:\n  prom: {HASH}\n  other: {HASH}\n"
        "rate_limit: {interval: 1m0.5s, burst: 20}\n",
    )
    assert config.tls
    assert config.tls.certificate == tmp_path / "certs/c.pem"
    assert config.tls.key == "the key"
    assert config.tls.client_ca == Path("/ca.pem")
    assert config.tls.needs_client_certificate
    assert config.tls.client_sans == {"prometheus", "::1"}
    assert (config.tls.min_version, config.tls.max_version) == ("TLS12", "TLS13")
    assert config.tls.ciphers == ("ECDHE-RSA-AES256-GCM-SHA384",)
    assert config.tls.curve == "X25519"
    assert config.headers["X-Frame-Options"] == "deny"
    assert dict(config.users) == {"prom": HASH.encode(), "other": HASH.encode()}
    assert config.rate_limit == RateLimit(60.5, 20)
    assert set(config.files) == {
        tmp_path / "web.yml",
        tmp_path / "certs/c.pem",
        Path("/ca.pem"),
    }


@pytest.mark.parametrize("keys", ["", "{}", "{burst: 2}", "{interval: 0, burst: }"])
def test_rate_limit_without_an_interval_is_off(tmp_path: Path, keys: str) -> None:
    """As in the toolkit, the limit needs an interval."""
    assert read(tmp_path, f"rate_limit: {keys}\n").rate_limit is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tls: {}\n", "tls: is unknown"),
        (TLS + ", cret: x}", "tls_server_config.cret: is unknown"),
        (TLS + ", cert_file: d.pem}", "line 1: not valid YAML: 'cert_file' is given twice"),
        ("tls_server_config: [a]\n", "tls_server_config: holds no map"),
        ("- a\n", "it: holds no map"),
        ("a: b: c\n", "line 1: not valid YAML: mapping values"),
        ("[" * 20_000, "not valid YAML"),
        ("? [a]\n: b\n", "line 1: not valid YAML"),
        ("a: \x07\n", "not valid YAML"),
        ("tls_server_config: {cert_file: c.pem}\n", "key_file: is missing"),
        ("tls_server_config: {key: k}\n", "cert_file: is missing"),
        (TLS + ", min_version: TLS10}", "min_version: 'TLS10' is not known"),
        (TLS + ", min_version: TLS13, max_version: TLS12}", "TLS13 is above TLS12"),
        (TLS + ", cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}", "cipher_suites: 'TLS_RSA_WITH_RC4"),
        (TLS + ", cipher_suites: RSA}", "cipher_suites: holds no list"),
        (TLS + ", curve_preferences: [P1]}", "curve_preferences: 'P1' is not known"),
        (TLS + ", client_ca_file: ca.pem}", "client_auth_type: is missing"),
        (TLS + ", client_auth_type: Anybody}", "client_auth_type: 'Anybody' is not known"),
        (TLS + ", client_auth_type: RequireAnyClientCert}", "does not check who the client is"),
        (TLS + ", client_auth_type: RequireAndVerifyClientCert}", "client_ca_file: is missing"),
        ("http_server_config: {headers: {Server: x}}\n", "headers.Server: is unknown"),
        ("http_server_config: {headers: {X-Frame-Options: maybe}}\n", "'maybe' is not known"),
        (
            'http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb: c"}}\n',
            "characters no header may have",
        ),
        ("basic_auth_users: {prom: secret}\n", "basic_auth_users.prom: has no bcrypt hash"),
        (f"basic_auth_users: {{prom: {HASH}a}}\n", "basic_auth_users.prom: has no bcrypt hash"),
        ("basic_auth_users: {prom: [a]}\n", "basic_auth_users.prom: has no bcrypt hash"),
        (f"basic_auth_users: {{prom: {HASH.replace('10', '31')}}}\n", "has a hash of cost 31"),
        (f"basic_auth_users: {{prom: {HASH.replace('10', '03')}}}\n", "has a hash of cost 3"),
        ("rate_limit: 5\n", "rate_limit: holds no map"),
        ("rate_limit: {interval: 1s, bursts: 5}\n", "rate_limit.bursts: is unknown"),
        ("rate_limit: {interval: 1s}\n", "rate_limit.burst: is missing or 0"),
        ("rate_limit: {interval: 1s, burst: 0}\n", "rate_limit.burst: is missing or 0"),
        ("rate_limit: {interval: 1s, burst: -1}\n", "rate_limit.burst: '-1' is not understood"),
        ("rate_limit: {interval: 1s, burst: 1.5}\n", "rate_limit.burst: '1.5' is not understood"),
        ("rate_limit: {interval: 60, burst: 5}\n", "rate_limit.interval: '60' is not understood"),
        ("rate_limit: {interval: -1s, burst: 5}\n", "rate_limit.interval: '-1s' is not"),
        ("rate_limit: {interval: 1d, burst: 5}\n", "rate_limit.interval: '1d' is not understood"),
        ("rate_limit: {interval: [], burst: 5}\n", "rate_limit.interval: holds no text"),
    ],
)
def test_fault_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The error names the file and the key, its remedy says what to do, and no hash is in it."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert f"{tmp_path}/web.yml" in caught.value.problem
    assert said in caught.value.problem
    assert caught.value.remedy
    assert "secret" not in str(caught.value)
    assert HASH[10:] not in str(caught.value)


def test_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    """A file that cannot be read is named."""
    with pytest.raises(ConfigError, match=r"none\.yml: No such file"):
        read_web_config(tmp_path / "none.yml")
    (tmp_path / "web.yml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"cannot read .*web\.yml"):
        read_web_config(tmp_path / "web.yml")


WORDS = st.sampled_from(sorted({*KEYS, *(key for keys in KEYS.values() for key in keys), HASH}))
TREES = st.recursive(
    WORDS | st.text() | st.none() | st.integers(),
    lambda trees: st.lists(trees) | st.dictionaries(WORDS | st.text(), trees),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREES.map(yaml.safe_dump) | st.text() | TREES.map(json.dumps))
def test_any_text_is_a_configuration_or_an_error(tmp_path: Path, text: str) -> None:
    """Whatever is in the file, it can be used or is refused as a user can read it."""
    with suppress(ConfigError):
        read(tmp_path, text)
