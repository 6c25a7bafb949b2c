"""Where the code of a running process lies: its executable mappings and their files.

A process can have each of these reads wait, so that a ``Reader`` makes them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from kepler_ebpf.host.regular_file import open_regular
from kepler_ebpf.names.processes.procfs import is_alive, start_ticks
from kepler_ebpf.profile.symbols.code_file import CodeFile
from kepler_ebpf.profile.symbols.elf import MalformedError
from kepler_ebpf.profile.symbols.kept_files import FileKey, KeptFiles
from kepler_ebpf.profile.symbols.open_file import OpenFile
from kepler_ebpf.profile.symbols.ranges import Addresses

MAX_MAPS_BYTES = 8 * 2**20
MAX_MAPPINGS = 4_096
"""Of one process: text that is read, and executable mappings that are kept."""

PERF_MAP_SLACK_S = 1.0
"""A perf map may look so much older than its process: its clock is another one."""


_STATUS_BYTES = 8_192
_MAPPING = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) ([0-9a-f:]+ [0-9]+) *(.*)$", re.MULTILINE
)


@dataclass(frozen=True, eq=False, slots=True)
class Mappings:
    """Executable mappings. ``starts``, ``ends`` and ``offsets`` in the file are of shape (N,).

    ``paths`` are "" for memory without a file, ``files`` None for what is not an ELF file.
    """

    starts: Addresses
    ends: Addresses
    offsets: Addresses
    paths: tuple[str, ...]
    files: tuple[CodeFile | None, ...]


def read_code(
    pid: int, start_ns: int, files: KeptFiles[CodeFile], procfs: str
) -> tuple[Mappings, OpenFile | None] | None:
    """Read the mappings of a process, keep their files, and open its perf map if it needs one.

    None where the process has ended, or is another one.
    """
    with _pinned(pid, procfs) as process_fd:
        if process_fd is None or not is_alive(pid, start_ticks(start_ns), procfs):
            return None
        text = _read(process_fd, "maps", MAX_MAPS_BYTES)
        rows = [match.groups() for match in _MAPPING.finditer(text)][:MAX_MAPPINGS]
        starts, ends, offsets = (
            np.array([int(row[column], 16) for row in rows], np.uint64) for column in range(3)
        )
        found = [
            files.known((identity, path))
            or _open(process_fd, f"{int(start, 16):x}-{int(end, 16):x}", (identity, path), files)
            for start, end, _, identity, path in rows
        ]
        paths = tuple(_path(row[-1]) for row in rows)
        perf_map = None if all(found) else _open_perf_map(process_fd, start_ns)
        return (
            Mappings(starts, ends, offsets, paths, tuple(found)),
            perf_map and files.keep_perf_map(perf_map),
        )


@contextmanager
def _pinned(pid: int, procfs: str) -> Iterator[int | None]:
    """Give the directory of a process: once that has ended, nothing can be read through it."""
    try:
        process_fd = os.open(f"{procfs}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield process_fd
    finally:
        os.close(process_fd)


def _read(process_fd: int, name: str, limit: int) -> bytes:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process_fd)
        with os.fdopen(fd, "rb") as file:
            return file.read(limit)
    except OSError:
        return b""


def _path(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").removesuffix(" (deleted)") if raw[:1] == b"/" else ""


def _open(process_fd: int, span: str, key: FileKey, files: KeptFiles[CodeFile]) -> CodeFile | None:
    """Open the file of a mapping, also where it was deleted or no path leads to it from here."""
    if key[1][:1] != b"/":
        return None
    place = f"/proc/self/fd/{process_fd}"
    for path in (f"{place}/map_files/{span}", f"{place}/root{os.fsdecode(key[1])}"):
        with suppress(OSError, ValueError, MalformedError):
            file = OpenFile(open_regular(path))
            # What is found by its path may be another file by now.
            if path.endswith(span) or file.identity == key[0]:
                return files.keep(CodeFile(_path(key[1]), file.read), key)
    return None


def _open_perf_map(process_fd: int, start_ns: int) -> OpenFile | None:
    """Open the map of a process's own code, by the pid that it sees itself by, in its own /tmp.

    A map that is older than the process is another one's, as is one that its user does not own.
    """
    status = _read(process_fd, "status", _STATUS_BYTES)
    own_pid = (re.findall(rb"^NSpid:.*?(\d+)$", status, re.MULTILINE) or [b""])[0].decode()
    try:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        folder_fd = os.open("root/tmp", flags, dir_fd=process_fd)
    except OSError:
        return None
    try:
        path = f"/proc/self/fd/{folder_fd}/perf-{own_pid}.map"
        file = OpenFile(open_regular(path, follow=False))
        found = os.fstat(file.fd)
        is_owned = found.st_uid in {0, os.stat(process_fd).st_uid}
    except OSError:
        return None
    finally:
        os.close(folder_fd)
    start_s = time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - start_ns / 1e9)
    is_stale = found.st_mtime < start_s - PERF_MAP_SLACK_S
    return file if is_owned and not is_stale else None
