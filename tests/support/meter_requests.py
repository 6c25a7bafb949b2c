"""What meters are opened with in tests: requests and CPU time that the test decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kepler_ebpf.meters.request import BusyTime, MeterRequest

SECOND_NS = 1_000_000_000


def request_for(sysfs: object, sockets: int = 1, **wishes: Any) -> MeterRequest:
    """Return a request for a host with these sockets, of two CPUs each."""
    asked = MeterRequest(
        package_ids=tuple(range(sockets)),
        cpus_per_socket=(2,) * sockets,
        cpu_vendor="AuthenticAMD",
        cpu_architecture="x86_64",
        sysfs=str(sysfs),
    )
    return replace(asked, **wishes)


class Cpus:
    """CPU time and a clock that a test sets; a busy source when called."""

    def __init__(self, sockets: int = 1) -> None:
        self.now_ns = 0
        self.busy_ns = [0] * sockets

    def __call__(self) -> BusyTime:
        return BusyTime(self.now_ns, tuple(self.busy_ns))

    def clock(self) -> int:
        """Return the time in ns."""
        return self.now_ns

    def work(self, seconds: float, share: float = 1.0, socket: int = 0) -> None:
        """Let time pass, and one CPU of a socket be busy for this share of it."""
        self.now_ns += round(seconds * SECOND_NS)
        self.busy_ns[socket] += round(share * seconds * SECOND_NS)
