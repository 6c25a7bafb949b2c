"""The `kepler-ebpf` command, which is `python -m kepler_ebpf` too.

Sets its signal handlers before it imports anything that takes time: Python's own handler ends a
program with a traceback.
"""

import os
import signal
import sys

RESERVED_BYTES = 12 << 20
"""About what `run` has in small objects once it runs."""

STDERR = 2

BLOCK_BYTES = 440
BLOCKS_PER_ARENA = 2000
"""One block of each MiB is kept, so that no arena of the interpreter's is given back."""


def main() -> None:
    """Run the verb that the arguments name."""
    exit_quietly()
    fill_standard_streams()
    _arenas = _reserve_arenas() if sys.argv[1:2] == ["run"] else []
    from kepler_ebpf.cli import main as command  # noqa: PLC0415  - takes time
    from kepler_ebpf.cli import reported_errors  # noqa: PLC0415
    from kepler_ebpf.host.output import guard_standard_streams  # noqa: PLC0415

    guard_standard_streams()
    with reported_errors():
        command(prog_name="kepler-ebpf")


def _reserve_arenas() -> list[bytes]:
    """Have the interpreter get its memory for small objects in one piece, see ``host.memory``."""
    blocks = [bytes(BLOCK_BYTES) for _ in range(RESERVED_BYTES // BLOCK_BYTES)]
    return blocks[::BLOCKS_PER_ARENA]


def exit_quietly() -> None:
    """End at once at a signal: `run` with status 0, other verbs by the signal."""
    if sys.argv[1:2] == ["run"]:
        # There is nothing to undo before the loop starts, and the loop sets its own handlers.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(0))
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def fill_standard_streams() -> None:
    """Open /dev/null for each standard stream that is closed: no other file may get its number."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(opened, True)
    os.close(opened)


if __name__ == "__main__":
    main()
