"""From the inode number of a cgroup directory to its path.

Two ways: by file handle, which opens one directory and needs CAP_DAC_READ_SEARCH,
and by walking the whole tree, which needs no right but costs time with each cgroup there is.
Both are for one mounted hierarchy, with paths as seen from its mount point ("/" is the root).
"""

# Paths are bytes here, since the name of a cgroup need not be text.
# ruff: noqa: PTH110, PTH115, PTH116

from __future__ import annotations

import ctypes
import errno
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress

from kepler_ebpf.names.processes.procfs import decode

FILEID_KERNFS = 0xFE
"""The handle type of kernfs; the handle itself is the 64-bit inode number (Linux 5.5)."""

WALK_INTERVAL_S = 1.0
WALK_SHARE = 0.05
"""A tree is walked at most this often, however many unknown ids are looked up, and for no more than
this share of the time."""

_DELETED = b" (deleted)"


class _FileHandle(ctypes.Structure):
    _fields_ = (
        ("handle_bytes", ctypes.c_uint),
        ("handle_type", ctypes.c_int),
        ("kernfs_id", ctypes.c_uint64),
    )


_open_by_handle_at = ctypes.CDLL(None, use_errno=True).open_by_handle_at
_open_by_handle_at.argtypes = (ctypes.c_int, ctypes.POINTER(_FileHandle), ctypes.c_int)
_open_by_handle_at.restype = ctypes.c_int


class Resolver:
    """Finds paths in one mounted cgroup hierarchy. This one is for none: it finds nothing."""

    def path(self, kernfs_id: int) -> str | None:  # noqa: ARG002
        """Find the cgroup's path below the mount point; None when there is none with this id."""
        return None

    def exists(self, kernfs_id: int, since_s: float) -> bool:  # noqa: ARG002
        """Whether it may still be there, at *since_s* or later; False when it is certainly gone."""
        return True

    def close(self) -> None:
        """Release what is held open."""


def make_resolver(root: str, clock: Callable[[], float] = time.monotonic) -> Resolver:
    """Choose the quickest way that this host allows for the hierarchy mounted at *root*."""
    try:
        by_handle = HandleResolver(root)
    except OSError:
        return Resolver()
    if by_handle.works():
        return by_handle
    by_handle.close()
    return WalkResolver(root, clock)


class HandleResolver(Resolver):
    """Finds a cgroup in constant time. Needs CAP_DAC_READ_SEARCH."""

    def __init__(self, root: str) -> None:
        """Use the hierarchy mounted at *root*; OSError when that is no directory."""
        self._root = os.fsencode(root.rstrip("/"))
        self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def works(self) -> bool:
        """Whether this host lets us open by handle here."""
        root_id = os.fstat(self._root_fd).st_ino
        try:
            return self.path(root_id) is not None
        except OSError:
            return False

    def path(self, kernfs_id: int) -> str | None:
        """See ``Resolver``. OSError where ``works`` is False."""
        fd = _open_by_id(self._root_fd, kernfs_id)
        if fd is None:
            return None
        try:
            return decode(_below(self._root, path_of_fd(fd)))
        finally:
            os.close(fd)

    def exists(self, kernfs_id: int, since_s: float) -> bool:  # noqa: ARG002
        """See ``Resolver``."""
        fd = _open_by_id(self._root_fd, kernfs_id)
        if fd is None:
            return False
        os.close(fd)
        return True

    def close(self) -> None:
        """See ``Resolver``."""
        os.close(self._root_fd)


class WalkResolver(Resolver):
    """Finds a cgroup in a remembered walk of the tree, renewed on a miss."""

    def __init__(self, root: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Use the hierarchy mounted at *root*; nothing is read yet."""
        self._root = os.fsencode(root.rstrip("/"))
        self._clock = clock
        self._walked_at_s = -math.inf
        self._pause_s = WALK_INTERVAL_S
        self._paths: dict[int, bytes] = {}

    def path(self, kernfs_id: int) -> str | None:
        """See ``Resolver``. A cgroup younger than the last walk is found by the next one."""
        if not self._is_there(kernfs_id):
            self._walk_unless(self._clock() - self._pause_s)
        path = self._paths.get(kernfs_id)
        return None if path is None else decode(_below(self._root, path))

    def exists(self, kernfs_id: int, since_s: float) -> bool:
        """See ``Resolver``. One walk is enough for all that are looked for with one *since_s*."""
        if self._is_there(kernfs_id):
            return True
        self._walk_unless(since_s)
        return kernfs_id in self._paths

    def _is_there(self, kernfs_id: int) -> bool:
        path = self._paths.get(kernfs_id)
        return path is not None and _has_inode(path, kernfs_id)

    def _walk_unless(self, after_s: float) -> None:
        """Walk, unless the last walk was after that."""
        if self._walked_at_s <= after_s:
            self._walked_at_s = self._clock()
            self._paths = _walk(self._root)
            took_s = self._clock() - self._walked_at_s
            self._pause_s = max(WALK_INTERVAL_S, took_s / WALK_SHARE)


def path_of_fd(fd: int) -> bytes:
    """Return the path of an open directory, also of one that has been removed since."""
    path = os.readlink(b"/proc/self/fd/%d" % fd)
    # The kernel's mark of a removed directory could as well be the end of a real name.
    if path.endswith(_DELETED) and not os.path.exists(path):
        return path.removesuffix(_DELETED)
    return path


def _open_by_id(root_fd: int, kernfs_id: int) -> int | None:
    """Open (O_PATH) the directory with that id; None when there is none."""
    handle = _FileHandle(ctypes.sizeof(ctypes.c_uint64), FILEID_KERNFS, kernfs_id)
    fd = int(_open_by_handle_at(root_fd, ctypes.byref(handle), os.O_PATH | os.O_CLOEXEC))
    if fd >= 0:
        return fd
    code = ctypes.get_errno()
    if code == errno.ESTALE:
        return None
    raise OSError(code, os.strerror(code))


def _below(root: bytes, path: bytes) -> bytes:
    """*path* as seen from *root*; unchanged when it lies outside (a mount of a subtree)."""
    if path == root:
        return b"/"
    return path.removeprefix(root) if path.startswith(root + b"/") else path


def _has_inode(path: bytes, inode: int) -> bool:
    try:
        return os.stat(path).st_ino == inode
    except OSError:
        return False


def _walk(root: bytes) -> dict[int, bytes]:
    """Every directory by its inode; what vanishes meanwhile is passed over. OSError for *root*."""
    paths = {os.stat(root).st_ino: root}
    for path, _, _ in os.walk(root):
        with suppress(OSError):
            paths[os.stat(path).st_ino] = path
    return paths
