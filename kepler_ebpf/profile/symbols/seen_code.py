"""The code of the processes that a profile has seen, kept when they have ended."""

from __future__ import annotations

import resource
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from kepler_ebpf.names.reader import GIVE_UP_S, MAX_STUCK, Reader
from kepler_ebpf.profile.symbols.code_file import CodeFile, open_code
from kepler_ebpf.profile.symbols.open_file import OpenFile
from kepler_ebpf.profile.symbols.own_code import VDSO, own_maps, read_vdso
from kepler_ebpf.profile.symbols.perf_map import PerfMap
from kepler_ebpf.profile.symbols.process_code import FileKey, Mappings, ProcessCode, read_code

MAX_PROCESSES = 4_096
"""Processes that are kept; beyond it those seen longest ago are forgotten."""

MAX_FILES = 512
"""Files that are kept open; half of what this process may open where that is less."""

MAX_PERF_MAPS = 64
"""Of these the oldest is closed for a new one."""

MAX_LOOKS = 2
"""Looks that are kept of a process whose mappings change."""

_MAX_CALLS_BETWEEN = 64


@dataclass(eq=False, slots=True)
class SeenProcess:
    """What is kept of one process. ``looks`` are its mappings, the newest first."""

    exe: str = ""
    calls: int = 0
    looks: list[Mappings] = field(default_factory=list)
    perf_map: OpenFile | None = None
    names: PerfMap | None = None
    """What the perf map held when it was first needed."""


class SeenCode:
    """Processes by pid and start, and files by build id. All methods are for one thread."""

    def __init__(self, procfs: str) -> None:
        """Look at processes in *procfs*."""
        self.is_crowded = False
        """Whether there were more files than may be open."""
        self._procfs = procfs
        self._reader = Reader("the code of a process")
        self._processes: OrderedDict[tuple[int, int], SeenProcess] = OrderedDict()
        self._with_perf_map: OrderedDict[SeenProcess, None] = OrderedDict()
        self._files: dict[FileKey, CodeFile] = {}
        self._by_id: dict[bytes, CodeFile] = {}
        soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._room = min(MAX_FILES, soft_limit // 2)
        maps = own_maps()
        vdso = read_vdso(maps)
        if vdso:
            self._files[b"00:00 0", VDSO.encode()] = vdso
        # Short commands use the same libraries, and may never be seen alive.
        for path in sorted({path for _, _, path in maps if path.startswith("/")}):
            self.learn_file(path)

    def learn(self, pid: int, start_ns: int) -> None:
        """Note where the code of a living process lies.

        It looks at a process in the first call, after each exec, and then ever more seldom.
        """
        self._reader.deliver()
        key = pid, start_ns
        process = self._processes.setdefault(key, SeenProcess())
        self._processes.move_to_end(key)
        if len(self._processes) > MAX_PROCESSES:
            _, oldest = self._processes.popitem(last=False)
            self._with_perf_map.pop(oldest, None)
        exe = self._exe(pid)
        if exe and exe != process.exe:
            process.exe, process.calls = exe, 0
        process.calls += 1
        if process.calls & (process.calls - 1) and process.calls % _MAX_CALLS_BETWEEN:
            return
        read = partial(read_code, pid, start_ns, self._files, self._room, self._procfs)
        self._reader.request(key, read, partial(self._use, process))

    def learn_file(self, path: str) -> None:
        """Note an executable that processes may run which end before they are looked at."""
        self._reader.request(path, partial(open_code, path), self._keep)

    def process(self, pid: int, start_ns: int) -> SeenProcess | None:
        """Return what is known of a process."""
        return self._processes.get((pid, start_ns))

    def file(self, build_id: bytes) -> CodeFile | None:
        """Return the file with a build id; zeros at its end do not count."""
        return self._by_id.get(build_id.rstrip(b"\0"))

    def settle(self) -> None:
        """Use what was requested so far; wait for it, a second for each read that hangs."""
        settled: list[bool] = []
        for _ in range(MAX_STUCK + 1):
            self._reader.request("settled", lambda: True, settled.append)
            self._reader.deliver(GIVE_UP_S)
            if settled:
                break

    def _exe(self, pid: int) -> str:
        try:
            return str(Path(f"{self._procfs}/{pid}/exe").readlink())
        except OSError:
            return ""

    def _use(self, process: SeenProcess, code: ProcessCode | None) -> None:
        if code is None:
            return
        for key, file in code.opened.items():
            if self._is_new(file):
                self._files[key] = file
                self._keep(file)
        files = tuple(file and self._by_id.get(file.build_id, file) for file in code.mappings.files)
        process.looks = [replace(code.mappings, files=files), *process.looks][:MAX_LOOKS]
        self.is_crowded |= code.is_crowded
        if code.perf_map:
            process.perf_map = code.perf_map
            self._with_perf_map[process] = None
            if len(self._with_perf_map) > MAX_PERF_MAPS:
                oldest, _ = self._with_perf_map.popitem(last=False)
                oldest.perf_map = None

    def _is_new(self, file: CodeFile) -> bool:
        """Whether no file of the same content is kept, and there is room."""
        return file.build_id not in self._by_id and self._room > 0

    def _keep(self, file: CodeFile | None) -> None:
        """Keep a file open, so that its names can be read when its processes have ended."""
        if file and self._is_new(file):
            self._room -= 1
            if file.build_id:
                self._by_id[file.build_id] = file
