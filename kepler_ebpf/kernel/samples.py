"""Samples: what the running task of each CPU was doing, each time that a timer fired.

The kernel side reads the stacks; see ``bpf/profile.h``.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.perf_event import open_event
from kepler_ebpf.kernel.layout import SAMPLE
from kepler_ebpf.kernel.libbpf import describe_errno
from kepler_ebpf.kernel.programs import RIGHTS, Programs
from kepler_ebpf.kernel.ring import BUSY, HEADER_BYTES, DataRing
from kepler_ebpf.model.arrays import Ints, Records
from kepler_ebpf.model.energy import NS_PER_S

_SOFTWARE, _CPU_CLOCK = 1, 0
_SET_BPF = 0x40042408
"""``PERF_EVENT_IOC_SET_BPF``."""

_BYTES_A_SAMPLE = 1024
"""Of a stack that is deeper than most."""

_SPARE = 4
MIN_RING_BYTES, MAX_RING_BYTES = 1 << 20, 1 << 26


def ring_bytes(cpus: int, frequency_hz: int, step_s: float) -> int:
    """Return the size of the ring of samples, a power of two, that is drained each *step_s*."""
    wanted = int(cpus * frequency_hz * step_s * _BYTES_A_SAMPLE * _SPARE)
    return 1 << (min(max(wanted, MIN_RING_BYTES), MAX_RING_BYTES) - 1).bit_length()


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples in the order of the ring.

    ``heads`` (N,) are of dtype ``layout.SAMPLE`` without its stack. ``stacks`` is the text of the
    ring and ``offsets`` (N,) where in it the stacks begin: addresses in the kernel, then frames in
    user space.
    """

    heads: Records
    stacks: bytes
    offsets: Ints


HEAD = np.dtype([(name, SAMPLE[name]) for name in (SAMPLE.names or ())[:-1]])


class Samples:
    """The timers and their samples, for programs that were loaded with them."""

    def __init__(
        self,
        programs: Programs,
        control: Callable[[], Records],
        online: Callable[[], tuple[int, ...]],
    ) -> None:
        """*control* returns the shared control record, *online* the numbers of the CPUs online."""
        self._program = programs.programs["on_sample"]
        self._ring = _SampleRing(programs.maps["samples"])
        self._control, self.online = control, online
        self._period_ns = 0
        self._timers: dict[int, int] = {}

    def start(self, frequency_hz: int, *, everything: bool = False) -> None:
        """Sample tasks of jobs, or *everything* but idle, so often on each CPU.

        Raises SetupError where the kernel refuses.
        """
        self.stop()
        self._control()["sample_all"] = everything
        self._period_ns = NS_PER_S // frequency_hz
        self.follow_cpus()

    def follow_cpus(self) -> None:
        """Start timers on CPUs that have come online, and drop those of CPUs that went offline."""
        online = self.online()
        for cpu in self._timers.keys() - set(online):
            os.close(self._timers.pop(cpu))
        for cpu in online:
            if cpu not in self._timers:
                self._start_timer(cpu)

    def take(self) -> Batch:
        """Return the samples since the last call."""
        return self._ring.take()

    def stop(self) -> None:
        """Stop the timers; a second call does nothing."""
        while self._timers:
            os.close(self._timers.popitem()[1])

    def close(self) -> None:
        """Stop, and let go of the shared memory."""
        self.stop()
        self._ring.close()

    @property
    def lost(self) -> int:
        """How many samples found no room in the ring."""
        return int(self._control()["samples_lost"][0])

    def _start_timer(self, cpu: int) -> None:
        try:
            event = open_event(_SOFTWARE, _CPU_CLOCK, cpu, self._period_ns)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return  # it has gone offline meanwhile
            raise _refused(error) from None
        try:
            fcntl.ioctl(event, _SET_BPF, self._program)
        except OSError as error:
            os.close(event)
            raise _refused(error) from None
        self._timers[cpu] = event


class _SampleRing(DataRing):
    """The ring of samples."""

    def take(self) -> Batch:
        """Find the records in the ring, and then copy those that are whole."""
        begin, end = self._consumed[0], self._produced[0]
        first = begin % self.size_bytes
        words, position, offsets = self._data[first : first + end - begin].cast("I"), 0, []
        while position < end - begin:
            size = words[position >> 2]
            if size & BUSY:
                break
            offsets.append(position + HEADER_BYTES)
            position += (size + HEADER_BYTES + 7) & ~7
        text = bytes(self._data[first : first + position])
        self._consumed[0] = begin + position
        starts = np.array(offsets, np.int64)
        raw = np.frombuffer(text, np.uint8)[starts[:, None] + np.arange(HEAD.itemsize)]
        return Batch(raw.view(HEAD)[:, 0], text, starts + HEAD.itemsize)


def _refused(error: OSError) -> SetupError:
    why = describe_errno(error.errno or 0)
    remedy = RIGHTS if error.errno in {errno.EPERM, errno.EACCES} else "use Linux 5.10 or later"
    return SetupError(f"the kernel refuses a timer that samples ({why})", remedy)
