"""Faults in the program's own process: its clock and its threads."""

import contextlib
from collections.abc import Iterator

from bed import Bed
from fault import fault
from network_faults import connect
from pod_faults import ERRORS, recovers

HOUR_S = 3600


def clock_is_ahead(bed: Bed, seconds: float) -> Iterator[None]:
    """Put the wall clock ahead, and back in the end."""
    bed.control.write_text(f"clock {seconds}\n")
    # Both are of the monotonic clock: a step is not seen in them.
    bed.until(lambda page: page.total("kepler_ebpf_snapshot_age_seconds") < HOUR_S / 2)
    assert bed.probe("readyz") == "ready\n"
    yield
    bed.control.write_text("clock 0\n")


@fault("apiserver", "ages and power are right")
def clock_steps_forward(bed: Bed) -> Iterator[None]:
    """The wall clock is put ahead by an hour, and back."""
    yield from clock_is_ahead(bed, HOUR_S)


@fault("apiserver", "ages and power are right")
def clock_steps_back(bed: Bed) -> Iterator[None]:
    """The wall clock is put back by 30 years, and forward."""
    yield from clock_is_ahead(bed, -30 * 365 * 24 * HOUR_S)


@fault("apiserver", "it is logged; it serves on")
def thread_of_the_server_fails(bed: Bed) -> Iterator[None]:
    """The server's thread fails (MemoryError)."""
    bed.control.write_text("raise http\n")
    with contextlib.suppress(OSError), connect(bed):
        pass  # It wakes up, to fail.
    yield
    bed.judged = len(bed.run.log)


@fault("apiserver", "counted; it begins again", counted=ERRORS)
def thread_of_the_pods_fails(bed: Bed) -> Iterator[None]:
    """The thread that follows pods fails (MemoryError)."""
    bed.control.write_text("raise kepler-pods\n")
    bed.kube.server.bookmark()
    yield
    recovers(bed)
