"""The running program with a web configuration: who sees something, and when it changes."""

import base64
import os
import signal
import ssl
import time
from contextlib import ExitStack
from pathlib import Path

import bcrypt
import pytest
from http_clients import (
    SCRAPE,
    address_of,
    ask,
    dial,
    mark_memory,
    read_all,
    resident_bytes,
)
from kube_certificates import make_certificate
from running import GIVE_UP_S, refused, running

QUICK = ("--interval", "100ms", "--meter", "fake")
SEEN = b"HTTP/1.1 200"
MB = 1024 * 1024


def request(user: str, path: str = "/metrics") -> bytes:
    """Return a request of *user*, whose password is their name."""
    token = base64.b64encode(f"{user}:{user}".encode()).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {token}\r\n\r\n".encode()
    )


def only(user: str) -> str:
    """Return a web configuration with one user."""
    hashed = bcrypt.hashpw(user.encode(), bcrypt.gensalt(4)).decode()
    return f"basic_auth_users: {{{user}: {hashed}}}\n"


def test_users_are_read_anew_on_a_signal(tmp_path: Path) -> None:
    """SIGHUP has the users read anew; a broken file is named in the log and changes nothing."""
    web = tmp_path / "web.yml"
    web.write_text(only("prom"))
    with running(tmp_path, *QUICK, "--web.config-file", str(web)) as run:
        address = address_of(run.address)
        assert ask(address, request("prom")).startswith(SEEN)
        assert ask(address, request("eve")).startswith(b"HTTP/1.1 401")
        assert ask(address).startswith(SEEN)  # a probe
        web.write_text("users: {}\n")
        os.kill(run.process.pid, signal.SIGHUP)
        give_up_at = time.monotonic() + GIVE_UP_S
        while "users: is unknown" not in run.log:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        assert ask(address, request("prom")).startswith(SEEN)
        web.write_text(only("eve"))
        os.kill(run.process.pid, signal.SIGHUP)
        while not ask(address, request("eve")).startswith(SEEN):
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        assert ask(address, request("prom")).startswith(b"HTTP/1.1 401")
        assert run.end() == 0


def test_rate_limit_is_counted_and_lifted(tmp_path: Path) -> None:
    """Requests beyond the limit get 429, probes do not, and the page counts those that got it."""
    web = tmp_path / "web.yml"
    web.write_text("rate_limit: {interval: 1h, burst: 1}\n")
    with running(tmp_path, *QUICK, "--web.config-file", str(web)) as run:
        address = address_of(run.address)
        assert ask(address, SCRAPE).startswith(SEEN)
        for _ in range(3):
            assert ask(address, SCRAPE).startswith(b"HTTP/1.1 429")
            assert ask(address).startswith(SEEN)  # a probe
        assert run.log.count("limit requests reached") == 1
        web.write_text("")
        os.kill(run.process.pid, signal.SIGHUP)
        give_up_at = time.monotonic() + GIVE_UP_S
        while not ask(address, SCRAPE).startswith(SEEN):
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        run.until(lambda page: page.total("kepler_ebpf_limited_total", limit="requests") >= 3)
        assert run.end() == 0


@pytest.mark.parametrize("shakes_hands", [True, False])
def test_idle_tls_clients_are_bounded(shakes_hands: bool, tmp_path: Path) -> None:
    """500 clients that send no request, before their handshake or after it, cost little memory.

    The server keeps as many as it has places, and a scrape is answered beside them.
    """
    web, certificate = tmp_path / "web.yml", make_certificate(tmp_path / "tls")
    pair = f"cert_file: {certificate.certificate}, key_file: {certificate.key}"
    web.write_text(f"tls_server_config: {{{pair}}}\n")
    trusting = ssl.create_default_context(cafile=str(certificate.ca))
    with running(tmp_path, *QUICK, "--web.config-file", str(web)) as run, ExitStack() as held:
        address = address_of(run.address)

        def scrape() -> bytes:
            with trusting.wrap_socket(dial(address), server_hostname="127.0.0.1") as client:
                client.sendall(SCRAPE)
                return read_all(client)

        for _ in range(20):
            assert scrape().startswith(SEEN)
        before = mark_memory(run.process.pid)
        for number in range(500):
            client = dial(address, f"127.0.2.{number % 20 + 1}")
            if shakes_hands:
                client = trusting.wrap_socket(client, server_hostname="127.0.0.1")
            held.enter_context(client)
        assert scrape().startswith(SEEN)
        assert resident_bytes(run.process.pid, "VmHWM") - before < 20 * MB
        assert len(list(Path(f"/proc/{run.process.pid}/fd").iterdir())) < 500


def test_web_configuration_that_cannot_work_ends_the_start(tmp_path: Path) -> None:
    """A certificate that is not there is named, with a hint, before anything is measured."""
    web = tmp_path / "web.yml"
    web.write_text("tls_server_config: {cert_file: none.pem, key_file: none.pem}\n")
    done = refused("--web.config-file", str(web))
    error, hint = done.stderr.splitlines()
    assert done.returncode == 2
    assert f"{tmp_path}/none.pem: No such file" in error
    assert hint.startswith("hint: ")
