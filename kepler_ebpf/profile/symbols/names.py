"""Names of the functions in a profile, also of processes that have ended meanwhile.

``learn`` is for each drain of the samples, the rest for when the frames are wanted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import PurePath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.model.arrays import Ints
from kepler_ebpf.names.faults import Faults, tolerated
from kepler_ebpf.names.reader import Reader
from kepler_ebpf.profile.model import Frame, Origin
from kepler_ebpf.profile.symbols.code_file import CodeFile, find_installed
from kepler_ebpf.profile.symbols.debug_info import DEBUG_DIRECTORY
from kepler_ebpf.profile.symbols.demangle import Demangler, readable
from kepler_ebpf.profile.symbols.kallsyms import Kallsyms, read_kallsyms
from kepler_ebpf.profile.symbols.notes import Missing
from kepler_ebpf.profile.symbols.perf_map import MAX_BYTES, PerfMap
from kepler_ebpf.profile.symbols.ranges import Ranges
from kepler_ebpf.profile.symbols.seen_code import SeenCode, SeenProcess

UNKNOWN = Frame("[unknown]", "", Origin.NONE)
OWN_CODE = "[jit]"
"""The module of code that a program has made itself."""

LOAD_S = 10.0
"""A file whose names take longer to read has none."""

MAX_LOADED_BYTES = 64 * 2**20
"""Memory for the tables of symbols that are kept for the next call."""

T = TypeVar("T")


def _all_unknown(*arguments: Any) -> list[Frame]:
    return [UNKNOWN] * len(arguments[-1])


class Names:
    """Finds the names of code by build id and offset, or by address. It is for one thread.

    A fault in here costs names, and is counted in ``faults``.
    """

    def __init__(self, procfs: str = "/proc", debug_directory: str = DEBUG_DIRECTORY) -> None:
        """Learn processes from *procfs*; find separate debug files below *debug_directory*."""
        self.faults = Faults()
        self._procfs, self._debug_directory = procfs, debug_directory
        self._seen = SeenCode(procfs)
        self._reader = Reader("the names in a file", give_up_s=LOAD_S)
        self._demangler = Demangler()
        self._kernel: Kallsyms | None = None
        self._loaded: OrderedDict[CodeFile, None] = OrderedDict()
        self._missing = Missing()

    @tolerated(lambda *_: None)
    def learn(self, pid: int, start_ns: int) -> None:
        """Note where the code of a process lies, while it lives. It does not wait."""
        self._seen.learn(pid, start_ns)

    @tolerated(lambda *_: None)
    def learn_file(self, path: str) -> None:
        """Note an executable by its path, for processes that are never seen alive."""
        self._seen.learn_file(path)

    @tolerated(_all_unknown)
    def of_build_ids(self, build_ids: NDArray[Any], offsets: Ints) -> list[Frame]:
        """Name code by the build id (N,), 20 bytes each, and the offset (N,) in its file."""
        self._seen.settle()
        frames = [UNKNOWN] * len(offsets)
        ids = np.ascontiguousarray(build_ids).view("S20").reshape(-1)
        for build_id in np.unique(ids):
            chosen = np.flatnonzero(ids == build_id)
            file = self._seen.files.with_id(build_id) or self._installed(build_id)
            if file:
                _put(frames, chosen, self._in_file(file, offsets[chosen]))
            else:
                self._missing.gone += len(chosen)
        return frames

    @tolerated(_all_unknown)
    def of_addresses(self, pid: int, start_ns: int, addresses: Ints) -> list[Frame]:
        """Name code by its addresses (N,) in a process, as far as that was learnt."""
        self._seen.settle()
        frames = [UNKNOWN] * len(addresses)
        process = self._seen.process(pid, start_ns) or SeenProcess()
        own = self._own_code(process)
        left = np.arange(len(addresses))
        for look in process.looks:
            at = Ranges(look.starts, look.ends).find(addresses[left])
            for mapping in np.unique(at[at >= 0]).tolist():
                chosen = left[at == mapping]
                file, places = look.files[mapping], addresses[chosen]
                if file:
                    begin = int(look.offsets[mapping]) - int(look.starts[mapping])
                    found = self._in_file(file, places + begin)
                else:
                    found = self._without_file(process, own, look.paths[mapping], places)
                _put(frames, chosen, found)
            left = left[at < 0]
        # What lies in no mapping was mapped after the last look, as code that is made often is.
        _put(frames, left, _made(own, addresses[left], UNKNOWN))
        return frames

    @tolerated(_all_unknown)
    def of_kernel(self, addresses: Ints) -> list[Frame]:
        """Name code of the kernel by its addresses (N,)."""
        self._kernel = self._kernel or read_kallsyms(self._procfs)
        self._missing.hides_kernel = self._kernel.is_hidden
        return self._kernel.find(addresses)

    def notes(self) -> tuple[str, ...]:
        """Say which names are missing so far, and how to have them next time."""
        self._missing.is_crowded = self._seen.files.is_crowded
        self._missing.lacks_cxx = self._demangler.is_missing
        return tuple(self._missing.sentences())

    def _own_code(self, process: SeenProcess) -> PerfMap:
        """Read the process's own map of the code that it has made."""
        if not process.perf_map:
            return PerfMap(b"")
        return PerfMap(self._within_time(partial(process.perf_map.read, 0, MAX_BYTES)) or b"")

    def _without_file(
        self, process: SeenProcess, own: PerfMap, path: str, addresses: Ints
    ) -> list[Frame]:
        nameless = _nameless(path) if path else Frame(OWN_CODE, OWN_CODE, Origin.JIT)
        frames = _made(own, addresses, nameless)
        if not path:
            self._missing.own_code[PurePath(process.exe).name] += frames.count(nameless)
        return frames

    def _in_file(self, file: CodeFile, offsets: Ints) -> list[Frame]:
        unique, inverse = np.unique(offsets, return_inverse=True)
        names = self._within_time(partial(file.names, unique, self._debug_directory))
        self._loaded[file] = None
        self._loaded.move_to_end(file)
        while len(self._loaded) > 1 and sum(f.nbytes for f in self._loaded) > MAX_LOADED_BYTES:
            self._loaded.popitem(last=False)[0].unload()
        names = self._demangler.demangle(names or [""] * len(unique))
        frames = [
            Frame(readable(name), readable(file.path)) if name else _nameless(file.path)
            for name in names
        ]
        self._missing.nameless[file.path] += names.count("")
        return [frames[index] for index in inverse.reshape(-1).tolist()]

    def _installed(self, build_id: bytes) -> CodeFile | None:
        return self._within_time(partial(find_installed, build_id, self._debug_directory))

    def _within_time(self, read: Callable[[], T]) -> T | None:
        """Return what *read* does, or None where it takes too long."""
        found: list[T] = []
        self._reader.request(read, read, found.append)
        self._reader.deliver(LOAD_S)
        return found[0] if found else None


def _made(own: PerfMap, addresses: Ints, nameless: Frame) -> list[Frame]:
    """Return frames of code that a process has made, *nameless* where its map has no name."""
    return [
        Frame(readable(name), OWN_CODE, Origin.JIT) if name else nameless
        for name in own.find(addresses)
    ]


def _put(frames: list[Frame], places: Ints, found: list[Frame]) -> None:
    for place, frame in zip(places.tolist(), found, strict=True):
        frames[place] = frame


def _nameless(path: str) -> Frame:
    shown = readable(path)
    return Frame(shown if shown.startswith("[") else f"[{PurePath(shown).name}]", shown)
