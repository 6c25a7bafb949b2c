"""The files that stay open until the profile has its names, each content once."""

from __future__ import annotations

import resource
import threading
from collections import deque
from typing import Generic, Protocol, TypeVar

from kepler_ebpf.profile.symbols.open_file import OpenFile

MAX_FILES = 512
"""Files with code that are kept open; half of what this process may open where that is less."""

MAX_PERF_MAPS = 64
"""Of these the oldest is closed for a new one."""

FileKey = tuple[bytes, bytes]
"""Device and inode, and path, as /proc shows them: one file, as long as that is open."""


class Identified(Protocol):
    """A file with code."""

    @property
    def build_id(self) -> bytes:
        """Its build id without zeros at the end, b"" for none."""


F = TypeVar("F", bound=Identified)


class KeptFiles(Generic[F]):
    """Bounds what is open. Its methods are for any thread."""

    def __init__(self) -> None:
        self.is_crowded = False
        """Whether there were more files than may be open."""
        self._lock = threading.Lock()
        self._by_key: dict[FileKey, F] = {}
        self._by_id: dict[bytes, F] = {}
        self._perf_maps: deque[OpenFile] = deque()
        soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._room = min(MAX_FILES, soft_limit // 2)

    def known(self, key: FileKey) -> F | None:
        """Return the file that is open of this key."""
        return self._by_key.get(key)

    def with_id(self, build_id: bytes) -> F | None:
        """Return the file with a build id; zeros at its end do not count."""
        return self._by_id.get(build_id.rstrip(b"\0"))

    def keep(self, file: F, key: FileKey | None = None) -> F | None:
        """Keep a file, and return it; or one with its build id; or None where there is no room."""
        with self._lock:
            same = self._by_id.get(file.build_id)
            if same or self._room <= 0:
                self.is_crowded |= same is None
                return same
            self._room -= 1
            if file.build_id:
                self._by_id[file.build_id] = file
            if key:
                self._by_key[key] = file
            return file

    def keep_perf_map(self, file: OpenFile) -> OpenFile:
        """Keep the map of a process's own code."""
        with self._lock:
            self._perf_maps.append(file)
            if len(self._perf_maps) > MAX_PERF_MAPS:
                self._perf_maps.popleft().close()
        return file
