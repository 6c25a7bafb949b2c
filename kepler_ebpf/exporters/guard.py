"""Who is let in by a web configuration, which is read anew when it changes.

bcrypt takes a tenth of a second for each password, so it is checked in a thread of its own, with a
low priority. Good credentials are remembered: a scraper waits once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import bcrypt

from kepler_ebpf.errors import ConfigError
from kepler_ebpf.exporters.connection import Request
from kepler_ebpf.exporters.tls import Context, make_context
from kepler_ebpf.exporters.token_bucket import TokenBucket
from kepler_ebpf.exporters.web_config import WebConfig, WebReload
from kepler_ebpf.host.rights import give_up

LOG = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""How often at most the files are looked at for a change."""

MAX_WAITING, MAX_WAITING_OF_ONE = 32, 2
"""Passwords that wait for their check, of all clients and of one; others are refused at once."""

REST = 1.0
"""Pause after a wrong password, in times of its CPU: guesses take half of one CPU at most."""

MAX_SESSIONS = 1000
"""Sessions that OpenSSL keeps for clients of TLS 1.2 without tickets; it would keep 20,000."""

MAX_GOOD = 100
BCRYPT_BYTES = 72
"""What bcrypt reads of a password."""

CHECK_NICENESS = 10
Decide = Callable[[bool], None]
Stamp = tuple[tuple[int, int, int, int] | None, ...]


@dataclass(slots=True)
class _Check:
    user: str
    password: bytes
    host: str
    decide: list[Decide] = field(default_factory=list)


class Guard:
    """Lets clients in or not. ``wrap``, ``take`` and ``admit`` are for one thread; none waits."""

    def __init__(self, load: Callable[[], WebConfig]) -> None:
        """Use what *load* returns, now and after each change. Raises ConfigError."""
        self._load = load
        self._secret = os.urandom(32)
        self._changed = threading.Condition()
        self._waiting: dict[bytes, _Check] = {}
        self._good: dict[bytes, None] = {}
        self._closing = self._must_look = self._must_reload = False
        self._looked_s = time.monotonic()
        self.config, self._context, self._stamp = self._loaded()
        self._bucket = TokenBucket(self.config.rate_limit)
        self.last_reload = self._success()
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)
        self._thread.start()

    def reload(self, *_: object) -> None:
        """Read the configuration anew, soon. Safe in a signal handler."""
        with self._changed:
            self._must_reload = True
            self._changed.notify()

    def close(self) -> None:
        """Decide nothing more."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    @property
    def headers(self) -> Mapping[str, str]:
        """What is on every answer."""
        return self.config.headers

    # --- the server's thread

    def wrap(self, client: socket.socket) -> socket.socket:
        """Return the socket of a new client, which speaks TLS if that is configured."""
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            with self._changed:
                self._looked_s, self._must_look = time.monotonic(), True
                self._changed.notify()
        if self._context is None:
            return client
        return self._context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)

    def take(self, now_s: float) -> float:
        """Count a request; return 0, or the seconds until the rate limit allows one again."""
        if self._bucket.limit != self.config.rate_limit:
            self._bucket = TokenBucket(self.config.rate_limit)
        return self._bucket.take(now_s)

    def admit(self, request: Request, decide: Decide) -> None:
        """Call *decide* with whether this client may see the page, now or in another thread."""
        if not self.config.users:
            decide(True)
            return
        user, password = _credentials(request.headers.get("authorization", ""))
        hashed = self.config.users.get(user, b"")
        digest = self._digest(user, hashed, password)
        if digest in self._good:
            decide(True)
        elif not user or not self._wait(digest, _Check(user, password, request.host), decide):
            decide(False)

    def _wait(self, digest: bytes, check: _Check, decide: Decide) -> bool:
        with self._changed:
            if digest not in self._waiting:
                hosts = Counter(waiting.host for waiting in self._waiting.values())
                if hosts[check.host] >= MAX_WAITING_OF_ONE:
                    return False
                if hosts.total() >= MAX_WAITING and not self._make_room(hosts, check.host):
                    return False
                self._waiting[digest] = check
            self._waiting[digest].decide.append(decide)
            self._changed.notify()
        return True

    def _make_room(self, hosts: Counter[str], newcomer: str) -> bool:
        """Refuse the newest password of a client that has more than *newcomer* will have."""
        most, count = hosts.most_common(1)[0]
        if count <= hosts[newcomer] + 1:
            return False
        newest = [digest for digest, check in self._waiting.items() if check.host == most][-1]
        for decide in self._waiting.pop(newest).decide:
            decide(False)
        return True

    def _digest(self, user: str, hashed: bytes, password: bytes) -> bytes:
        """Return what stands for credentials in memory; it is worth nothing elsewhere."""
        text = b"\0".join((user.encode("utf-8", "surrogateescape"), hashed, password))
        return hmac.digest(self._secret, text, hashlib.sha256)

    # --- the guard's own thread

    def _run(self) -> None:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), CHECK_NICENESS)
        # The files of the web configuration are often root's alone.
        give_up(frozenset({"CAP_DAC_READ_SEARCH"}))
        while not self._closing:
            with self._changed:
                self._changed.wait_for(self._has_work)
                look, self._must_look = self._must_look, False
                digest = next(iter(self._waiting), None)
            try:
                if look or self._must_reload:
                    self._look()
                if digest is not None and not self._closing:
                    self._decide(digest)
            except Exception:
                LOG.exception("Letting a client in failed")

    def _has_work(self) -> bool:
        return bool(self._closing or self._must_look or self._must_reload or self._waiting)

    def _decide(self, digest: bytes) -> None:
        check, before_s = self._waiting[digest], time.thread_time()
        is_good = self._is_good(check, digest)
        used_s = time.thread_time() - before_s
        with self._changed:
            del self._waiting[digest]
            if is_good:
                if len(self._good) >= MAX_GOOD:
                    del self._good[next(iter(self._good))]
                self._good[digest] = None
        for decide in check.decide:
            decide(is_good)
        if not is_good:
            with self._changed:
                self._changed.wait_for(lambda: self._closing, REST * used_s)

    def _is_good(self, check: _Check, digest: bytes) -> bool:
        users = self.config.users
        hashed = users.get(check.user, b"")
        if digest != self._digest(check.user, hashed, check.password):
            return False  # The configuration has changed meanwhile.
        # An unknown user takes as long as a known one, or else names could be guessed.
        slowest = max(users.values(), key=lambda each: each.split(b"$")[2], default=b"")
        try:
            return bcrypt.checkpw(check.password, hashed or slowest) and bool(hashed)
        except ValueError as error:
            LOG.warning("A hash in the web configuration is broken: %s", error)
            return False

    def _look(self) -> None:
        """Load the configuration anew if its files have changed; a broken one changes nothing."""
        must, self._must_reload = self._must_reload, False
        if not must and self._stamp == _stamp(self.config.files):
            if self._context and self._context.session_stats()["number"] >= MAX_SESSIONS:
                self._renew()
            return
        try:
            self.config, self._context, self._stamp = self._loaded()
        except ConfigError as error:
            LOG.warning("The web configuration stays as it was: %s", error)
            self.last_reload = replace(self.last_reload, successful=False)
            return
        self.last_reload = self._success()
        LOG.info("The web configuration was read anew")

    def _renew(self) -> None:
        """Use a context without sessions; the one in use stays where its files are good no more."""
        with suppress(ConfigError):
            self.config, self._context, self._stamp = self._loaded()
            LOG.debug("The sessions of TLS clients are forgotten")

    def _success(self) -> WebReload:
        end_s = self._context.certificate_end_s if self._context else None
        return WebReload(successful=True, success_at_s=time.time(), certificate_end_s=end_s)

    def _loaded(self) -> tuple[WebConfig, Context | None, Stamp]:
        config = self._load()
        stamp = _stamp(config.files)
        return config, make_context(config.tls) if config.tls else None, stamp


def _credentials(header: str) -> tuple[str, bytes]:
    """Return the user and the password of an Authorization header; "" for none."""
    scheme, _, encoded = header.partition(" ")
    decoded = b""
    if scheme.lower() == "basic":
        with suppress(binascii.Error, ValueError):
            decoded = base64.b64decode(encoded, validate=True)
    user, _, password = decoded.partition(b":")
    return user.decode("utf-8", "surrogateescape"), password[:BCRYPT_BYTES]


def _stamp(files: tuple[Path, ...]) -> Stamp:
    """Return what changes when a file is written, replaced, or its link leads elsewhere."""
    stamps: list[tuple[int, int, int, int] | None] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(stamps)
