"""The `kepler-ebpf` command, which is `python -m kepler_ebpf` too.

Sees to signals before it imports anything that takes time, so that none meets Python's own
handling, which ends a program with a traceback.
"""

import os
import signal
import sys


def main() -> None:
    """Run the command that the arguments name."""
    exit_quietly()
    from kepler_ebpf.cli import main as command  # noqa: PLC0415  takes time

    command(prog_name="kepler-ebpf")


def exit_quietly() -> None:
    """End at once at a signal: as told to, where it is `run`, else as any command does."""
    if sys.argv[1:2] == ["run"]:
        # There is nothing to undo before its loop, which has handlers of its own.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(0))
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
