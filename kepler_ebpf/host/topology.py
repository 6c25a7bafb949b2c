"""The host's CPUs: which are online, which socket each sits on, and what they are.

Reads any sysfs and procfs root. Sockets are numbered 0..n-1 in the order of the kernel's package
ids, which may have gaps.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from kepler_ebpf.errors import ReadError, SetupError
from kepler_ebpf.host.regular_file import open_regular, read_regular

LOG = logging.getLogger(__name__)

CPU_LIST_BYTES = 4096
"""Room for any CPU list: the kernel never writes more than a page into a sysfs file."""

MAX_CPUS = 1 << 16
"""More CPUs than any kernel supports."""

VENDOR_KEYS = ("vendor_id", "CPU implementer")
MODEL_KEYS = ("model name", "cpu", "CPU part")
"""Names of the same field on x86, POWER and arm64; the first that is there counts."""


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """One online logical CPU, as text for labels. A field that the host lacks is empty."""

    processor: str
    vendor_id: str
    model_name: str
    physical_id: str
    core_id: str


class Topology:
    """CPU numbers and sockets of one sysfs tree; ``online`` is cheap enough for every interval.

    ``possible`` are the numbers of all CPUs that can be plugged in, ascending. ``package_ids`` are
    the kernel's ids of the sockets, in socket order.

    Raises SetupError where *sysfs* is not a sysfs tree. Close it, or use it in ``with``.
    """

    def __init__(self, sysfs: str | Path = "/sys") -> None:
        self._cpus = Path(sysfs, "devices/system/cpu")
        self._online_text: bytes | None = None
        self._online: tuple[int, ...] = ()
        self._package_of: dict[int, int] = {}
        self.package_ids: tuple[int, ...] = ()
        try:
            path = self._cpus / "possible"
            self.possible = parse_cpu_list(read_regular(path))
            path = self._cpus / "online"
            self._online_fd = open_regular(path)
        except (OSError, ValueError) as error:
            raise SetupError(*_wrong_mount(path, error)) from error
        try:
            online = self.online()
        except ReadError as error:
            self.close()
            raise SetupError(error.problem, error.remedy) from error
        self.package_ids = tuple(sorted({self._package_of[cpu] for cpu in online}))

    @property
    def sockets(self) -> int:
        """Number of sockets with an online CPU at the start; it never changes."""
        return len(self.package_ids)

    @property
    def socket_of(self) -> tuple[int, ...]:
        """The socket index of each CPU, by CPU number up to the highest possible one.

        A CPU that was never online counts to socket 0, as its package is unknown. So does a CPU
        of a package that came up after the start.
        """
        index = {package: socket for socket, package in enumerate(self.package_ids)}
        highest = max(self.possible)
        return tuple(index.get(self._package_of.get(cpu, -1), 0) for cpu in range(highest + 1))

    @property
    def cpus_per_socket(self) -> tuple[int, ...]:
        """Number of online CPUs at the last reading, in socket order."""
        sockets = self.socket_of
        used = [sockets[cpu] for cpu in self._online]
        return tuple(used.count(socket) for socket in range(self.sockets))

    def online(self) -> tuple[int, ...]:
        """Read the numbers of the online CPUs, ascending; the same object while unchanged.

        Raises ReadError where the file cannot be read or is no CPU list.
        """
        try:
            text = os.pread(self._online_fd, CPU_LIST_BYTES, 0)
            if text != self._online_text:
                online = parse_cpu_list(text.decode("ascii"))
                self._learn_packages(online)
                self._online, self._online_text = online, text
        except (OSError, ValueError) as error:
            raise ReadError(*_wrong_mount(self._cpus / "online", error)) from error
        return self._online

    def close(self) -> None:
        """Close the file that ``online`` reads."""
        os.close(self._online_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _learn_packages(self, online: tuple[int, ...]) -> None:
        """Read the package of each new CPU. Raises ValueError for a CPU that is not possible."""
        strange = set(online).difference(self.possible)
        if strange:
            raise ValueError(f"CPU {min(strange)} is not in {self._cpus / 'possible'}")
        for cpu in online:
            if cpu in self._package_of:
                continue
            text = _optional(self._cpus / f"cpu{cpu}/topology/physical_package_id")
            # Some arm64 and virtual platforms have -1 or no file: they have one socket.
            package = self._package_of[cpu] = int(text) if text.isdigit() else 0
            # Empty while the first list is read: each package is new then.
            if self.package_ids and package not in self.package_ids:
                LOG.warning(
                    "CPU %d came up on package %d, which had no CPU at the start: its time counts "
                    "to socket 0 until a restart",
                    cpu,
                    package,
                )


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Parse the kernel's list, as in ``0-3,6``, into ascending CPU numbers.

    Raises ValueError for an empty list or any other text.
    """
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        end = int(last if dash else first) + 1
        if end > MAX_CPUS:
            raise ValueError(f"no kernel has a CPU {end - 1}")
        cpus.update(range(int(first), end))
    if not cpus:
        raise ValueError(f"no CPU in {text!r}")
    return tuple(sorted(cpus))


def read_cpu_info(procfs: str | Path = "/proc", sysfs: str | Path = "/sys") -> tuple[CpuInfo, ...]:
    """Read the models and ids of the online CPUs; ids that cpuinfo lacks (arm64) are in sysfs.

    Raises SetupError where cpuinfo cannot be read.
    """
    path = Path(procfs, "cpuinfo")
    try:
        text = read_regular(path, "utf-8", "replace")
    except OSError as error:
        raise SetupError(*_wrong_mount(path, error, "--host.procfs")) from error
    return tuple(_cpu_info(fields, Path(sysfs)) for fields in _cpu_blocks(text))


def read_governor(cpus: Iterable[CpuInfo], sysfs: str | Path = "/sys") -> str:
    """Return what chooses the frequency of *cpus*, sorted with commas where there are several.

    It is "" where the host has no such choice, as most virtual machines.
    """
    folder = Path(sysfs, "devices/system/cpu")
    found = {_optional(folder / f"cpu{each.processor}/cpufreq/scaling_governor") for each in cpus}
    return ", ".join(sorted(found - {""}))


def _cpu_blocks(text: str) -> Iterator[dict[str, str]]:
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        fields = {key.strip(): value.strip() for key, _, value in pairs}
        if fields.get("processor", "").isdigit():
            yield fields


def _cpu_info(fields: dict[str, str], sysfs: Path) -> CpuInfo:
    processor = fields["processor"]
    topology = sysfs / f"devices/system/cpu/cpu{processor}/topology"
    return CpuInfo(
        processor=processor,
        vendor_id=_first(fields, VENDOR_KEYS),
        model_name=_first(fields, MODEL_KEYS),
        physical_id=fields.get("physical id") or _optional(topology / "physical_package_id"),
        core_id=fields.get("core id") or _optional(topology / "core_id"),
    )


def _first(fields: dict[str, str], keys: tuple[str, ...]) -> str:
    return next((fields[key] for key in keys if fields.get(key)), "")


def _optional(path: Path) -> str:
    try:
        return read_regular(path).strip()
    except (OSError, ValueError):
        return ""


def _wrong_mount(path: Path, error: Exception, flag: str = "--host.sysfs") -> tuple[str, str]:
    """Return problem and remedy."""
    reason = error.strerror if isinstance(error, OSError) else error
    return f"cannot use {path}: {reason}", f"name the right mount with {flag}"
