"""What can be wrong with what the program writes to: pipes, disks, their readers."""

from collections.abc import Iterator

from bed import Bed
from fault import fault, total


@fault(
    "printing",
    "intervals that were not printed are counted",
    counted=total("kepler_ebpf_stdout_dropped_total"),
)
def stdout_is_blocked(bed: Bed) -> Iterator[None]:
    """Nobody reads the standard output."""
    with bed.stdout.paused():
        yield


@fault("printing", "what does not fit is dropped")
def stderr_is_blocked(bed: Bed) -> Iterator[None]:
    """Nobody reads the log."""
    with bed.stderr.paused():
        for _ in range(100):
            bed.probe("healthz")  # one line each
        yield


@fault("printing", "it is not logged any more")
def stderr_is_closed(bed: Bed) -> Iterator[None]:
    """The reader of the log has gone."""
    bed.stderr.close()
    yield
    bed.probe("healthz")


@fault(
    "printing", "it ends, as any program in a pipe; the kernel has nothing left of it", ends=True
)
def stdout_is_closed(bed: Bed) -> Iterator[None]:
    """The reader of the standard output has gone."""
    bed.stdout.close()
    yield


@fault("disk", "what does not fit is dropped")
def disk_is_full(bed: Bed) -> Iterator[None]:
    """The disk of the log is full (ENOSPC)."""
    filler = bed.disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                break
    for _ in range(50):
        bed.probe("healthz")
    yield
    filler.unlink()
