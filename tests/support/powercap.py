"""Builds real powercap trees in a directory, for tests and benchmarks on hosts without RAPL.

A tree looks to a reader as the kernel's: same names, same files, counters that wrap. Its energy is
known exactly, since whoever holds the tree puts it there. Run as a program, it drives a tree from
the CPU time the host really uses::

    python tests/support/powercap.py DIRECTORY --machine dual_socket --idle-w 20 --busy-w 10
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RANGE_UJ = 262_143_328_850
"""The range of a 32-bit counter in steps of 61 microjoules, as most Intel parts show it."""

DRAM_RANGE_UJ = 65_712_999_613
"""The range of a server's dram counter, in steps of 15.3 microjoules."""

_WIDTH = 24
_DRIVE_PERIOD_S = 0.005


@dataclass(frozen=True)
class ZoneSpec:
    """One zone of a machine: its directory, kernel name, range and constraint (None: no file)."""

    entry: str
    name: str
    range_uj: int = RANGE_UJ
    max_power_uw: int | None = None


def _socket(index: int, name: str, *below: str) -> list[ZoneSpec]:
    zones = [ZoneSpec(f"intel-rapl:{index}", name, max_power_uw=200_000_000)]
    for sub, kind in enumerate(below):
        range_uj = DRAM_RANGE_UJ if kind == "dram" else RANGE_UJ
        zones.append(ZoneSpec(f"intel-rapl:{index}:{sub}", kind, range_uj))
    return zones


MACHINES: Mapping[str, list[ZoneSpec]] = {
    "single_socket": _socket(0, "package-0", "core", "uncore", "dram"),
    "dual_socket": _socket(0, "package-0", "dram") + _socket(1, "package-1", "dram"),
    "dual_die": [
        zone
        for index, (package, die) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1)))
        for zone in _socket(index, f"package-{package}-die-{die}", "dram")
    ],
    "laptop": [
        *_socket(0, "package-0", "core", "uncore"),
        ZoneSpec("intel-rapl:1", "psys"),
        ZoneSpec("intel-rapl-mmio:0", "package-0", max_power_uw=15_000_000),
    ],
    "amd": _socket(0, "package-0", "core"),
    "no_dram": _socket(0, "package-0", "core", "uncore"),
}
"""Trees as real hosts show them."""


class PowercapTree:
    """A powercap tree below ``sysfs``. Energies are cumulative microjoules, the files wrap them.

    Counters are written in place, so that a reader that keeps a file open sees them move.
    """

    def __init__(self, sysfs: Path, zones: str | list[ZoneSpec], energy_uj: float = 1e9) -> None:
        """Create a named machine or a list of zones, the first counter at ``energy_uj``.

        Each next one is a microjoule ahead: counters of two parts never stand alike.
        """
        self.sysfs = sysfs
        self._specs: dict[str, ZoneSpec] = {}
        self.energy_uj: dict[str, float] = {}
        for index, spec in enumerate(MACHINES[zones] if isinstance(zones, str) else zones):
            self.add(spec, energy_uj + index)

    @property
    def entries(self) -> list[str]:
        """The zones' directory names."""
        return list(self._specs)

    def directory(self, entry: str) -> Path:
        """Return the directory of a zone."""
        return self.sysfs / "class" / "powercap" / entry

    def counter(self, entry: str) -> Path:
        """Return the counter file of a zone."""
        return self.directory(entry) / "energy_uj"

    def add(self, spec: ZoneSpec, energy_uj: float = 1e9) -> None:
        """Create one more zone."""
        directory = self.directory(spec.entry)
        directory.mkdir(parents=True)
        (directory / "name").write_text(f"{spec.name}\n")
        (directory / "max_energy_range_uj").write_text(f"{spec.range_uj}\n")
        if spec.max_power_uw is not None:
            (directory / "constraint_0_max_power_uw").write_text(f"{spec.max_power_uw}\n")
        self._specs[spec.entry] = spec
        self.set(spec.entry, energy_uj)

    def set(self, entry: str, energy_uj: float) -> None:
        """Put a counter somewhere, as a reset or a fault would."""
        self.energy_uj[entry] = energy_uj
        self._write(entry, f"{int(energy_uj) % self._specs[entry].range_uj}")

    def advance(self, energy_uj: float | Mapping[str, float]) -> None:
        """Let every zone, or each named one, consume so much."""
        if not isinstance(energy_uj, Mapping):
            energy_uj = dict.fromkeys(self._specs, energy_uj)
        for entry, used_uj in energy_uj.items():
            self.set(entry, self.energy_uj[entry] + used_uj)

    def show(self, entry: str, text: str) -> None:
        """Make a counter file hold any text; ``advance`` and ``set`` bring the number back."""
        self._write(entry, text)

    def vanish(self, entry: str) -> None:
        """Remove a counter file; ``set`` creates it anew."""
        self.counter(entry).unlink()

    def block(self, entry: str) -> None:
        """Make a counter unreadable even for root: a directory in the place of the file."""
        self.counter(entry).unlink()
        self.counter(entry).mkdir()

    def unblock(self, entry: str) -> None:
        """Take the directory away and show the number again."""
        self.counter(entry).rmdir()
        self.set(entry, self.energy_uj[entry])

    def _write(self, entry: str, text: str) -> None:
        # One write of one size: a reader sees the old number or the new one, never a part.
        fd = os.open(self.counter(entry), os.O_WRONLY | os.O_CREAT, 0o400)
        try:
            if text:
                os.pwrite(fd, f"{text}\n".ljust(_WIDTH).encode(), 0)
            os.ftruncate(fd, _WIDTH if text else 0)
        finally:
            os.close(fd)


@dataclass(frozen=True)
class CpuModel:
    """Gives each zone's energy from the CPU time that the host has used.

    Every zone draws ``idle_w``, and ``busy_w`` for each busy CPU on top; ``busy_s`` tells the
    host's cumulative busy CPU seconds.
    """

    idle_w: float
    busy_w: float
    busy_s: Callable[[], float]

    def energy_uj(self) -> float:
        """Return the energy since some fixed moment."""
        return 1e6 * (self.idle_w * time.monotonic() + self.busy_w * self.busy_s())


def host_busy_s() -> float:
    """Read the host's busy CPU seconds since boot, in steps of a clock tick."""
    with Path("/proc/stat").open("rb") as stat:
        user, nice, system, _, _, irq, softirq = map(int, stat.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


@contextmanager
def driven(tree: PowercapTree, model: CpuModel) -> Iterator[None]:
    """Advance every zone of the tree by the model, in a thread, as long as the context is open."""
    stop = threading.Event()
    thread = threading.Thread(target=_drive, args=(tree, model, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _drive(tree: PowercapTree, model: CpuModel, stop: threading.Event) -> None:
    last_uj = model.energy_uj()
    while not stop.wait(_DRIVE_PERIOD_S):
        now_uj = model.energy_uj()
        tree.advance(now_uj - last_uj)
        last_uj = now_uj


def main() -> None:
    """Drive a tree until SIGINT or SIGTERM; prints a line when it is ready."""
    parser = argparse.ArgumentParser(description="Drive a powercap tree from real CPU use.")
    parser.add_argument(
        "sysfs", type=Path, help="directory to create it in: give it as --host.sysfs"
    )
    parser.add_argument("--machine", choices=sorted(MACHINES), default="single_socket")
    parser.add_argument("--idle-w", type=float, default=20.0)
    parser.add_argument("--busy-w", type=float, default=10.0)
    given = parser.parse_args()
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    tree = PowercapTree(given.sysfs, given.machine)
    print(f"driving {len(tree.entries)} zones in {given.sysfs}", flush=True)  # noqa: T201
    _drive(tree, CpuModel(given.idle_w, given.busy_w, host_busy_s), stop)


if __name__ == "__main__":
    main()
