"""Unix sockets to listen on: a file that comes and goes with the program, and who connects."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from contextlib import suppress
from typing import NamedTuple

MAX_PATH_BYTES = 107
"""Of a socket's path; the kernel keeps one more for its end."""

PERMISSIONS = 0o777
_CREDENTIALS = struct.Struct("3i")


class Peer(NamedTuple):
    """Who connected, as the kernel saw it then: its pid in our PID namespace, its user."""

    pid: int
    uid: int


def connect_unix(path: str, timeout_s: float) -> socket.socket:
    """Connect to who listens on *path*, also where others wait before us. Raises OSError.

    Each further step may take *timeout_s* too.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A socket with a timeout does not block: where the queue is full, it would fail at once.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout_s))
    try:
        connection.connect(path)
        connection.settimeout(timeout_s)
    except OSError:
        connection.close()
        raise
    return connection


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


def peer_of(client: socket.socket) -> Peer:
    """Return who connected; 0 is the pid of one that our PID namespace does not show."""
    raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid)


class UnixListener(socket.socket):
    """Listens on a path, and removes it at the end."""

    def __init__(self, path: str, mode: int, backlog: int) -> None:
        """Listen on *path*, to which *mode* lets others connect. Raises OSError.

        A socket there on which nobody listens is replaced. Any other file stays: EADDRINUSE.
        """
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = path
        self._made: tuple[int, int] | None = None
        try:
            if _is_dead(path):
                os.unlink(path)  # noqa: PTH108 - a text, not a path of ours
            before = os.umask(PERMISSIONS & ~mode)
            try:
                self.bind(path)
            finally:
                os.umask(before)
            self._made = _identity(path)
            self.listen(backlog)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening; the path is removed, if it still is that of this socket."""
        made, self._made = self._made, None
        with suppress(OSError):
            if made and _identity(self._path) == made:
                os.unlink(self._path)  # noqa: PTH108
        super().close()


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _is_dead(path: str) -> bool:
    """Whether *path* is a socket that its program has left behind."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except OSError as error:
        return error.errno == errno.ECONNREFUSED
    return False
