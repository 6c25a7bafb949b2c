"""The code of the processes that a profile has seen, kept when they have ended."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kepler_ebpf.host.regular_file import open_regular
from kepler_ebpf.names.reader import MAX_STUCK, Reader
from kepler_ebpf.profile.symbols.code_file import CodeFile
from kepler_ebpf.profile.symbols.elf import MalformedError
from kepler_ebpf.profile.symbols.kept_files import KeptFiles
from kepler_ebpf.profile.symbols.open_file import OpenFile
from kepler_ebpf.profile.symbols.own_code import VDSO, own_maps, read_vdso
from kepler_ebpf.profile.symbols.process_code import Mappings, read_code

MAX_PROCESSES = 4_096
"""Processes that are kept; beyond it those seen longest ago are forgotten."""

GIVE_UP_S = 3.0
"""A look at a process that takes longer is given up. Samples do not wait for it."""

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


class SeenCode:
    """Processes by pid and start, and files by build id. All methods are for one thread."""

    def __init__(self, procfs: str) -> None:
        """Look at processes in *procfs*."""
        self._procfs = procfs
        self._reader = Reader("the code of a process", give_up_s=GIVE_UP_S)
        self._processes: OrderedDict[tuple[int, int], SeenProcess] = OrderedDict()
        self.files = KeptFiles[CodeFile]()
        maps = own_maps()
        vdso = read_vdso(maps)
        if vdso:
            self.files.keep(vdso, (b"00:00 0", VDSO.encode()))
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
            self._processes.popitem(last=False)
        exe = self._exe(pid)
        if exe and exe != process.exe:
            process.exe, process.calls = exe, 0
        process.calls += 1
        if process.calls & (process.calls - 1) and process.calls % _MAX_CALLS_BETWEEN:
            return
        read = partial(read_code, pid, start_ns, self.files, self._procfs)
        self._reader.request(key, read, partial(self._use, process))

    def learn_file(self, path: str) -> None:
        """Note an executable that processes may run which end before they are looked at."""

        def read() -> None:
            with suppress(OSError, ValueError, MalformedError):
                opened = OpenFile(open_regular(path))
                file = CodeFile(path, opened.read)
                if file.build_id:
                    # Where a process has it mapped, it is known again, and not opened.
                    real = Path(f"/proc/self/fd/{opened.fd}").readlink()
                    self.files.keep(file, (opened.identity, bytes(real)))

        self._reader.request(path, read, lambda _: None)

    def process(self, pid: int, start_ns: int) -> SeenProcess | None:
        """Return what is known of a process."""
        return self._processes.get((pid, start_ns))

    def settle(self) -> None:
        """Use what was requested so far; wait ``GIVE_UP_S`` at most for each read that hangs."""
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

    def _use(self, process: SeenProcess, found: tuple[Mappings, OpenFile | None] | None) -> None:
        if found and found[0].files:  # Of a process that is about to end there are none.
            process.looks = [found[0], *process.looks][:MAX_LOOKS]
            process.perf_map = found[1] or process.perf_map
