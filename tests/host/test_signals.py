"""Signals end the program whatever its main thread does."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kepler_ebpf.host.signals import SIGNALS

GIVE_UP_S = 30.0
PROGRAM = """
import logging, threading
from kepler_ebpf.host.signals import end_on_signals
logging.basicConfig(format="%(message)s")
stopped = threading.Event()
end_on_signals(stopped.set, {grace_s})
print("ready", flush=True)
{main}
"""
STOPS = "stopped.wait()"


@contextmanager
def program(checkout: Path, main: str, grace_s: float) -> Iterator[subprocess.Popen[str]]:
    """Run a program whose main thread does *main* when it is ready for signals."""
    code = PROGRAM.format(main=main, grace_s=grace_s)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=checkout,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("signum", SIGNALS)
def test_signal_stops_the_program(checkout: Path, signum: signal.Signals) -> None:
    """It ends by itself, long before its time is over."""
    with program(checkout, STOPS, 3600.0) as process:
        process.send_signal(signum)
        assert process.wait(GIVE_UP_S) == 0


@pytest.mark.parametrize("signum", SIGNALS)
def test_program_that_does_not_stop_is_ended(checkout: Path, signum: signal.Signals) -> None:
    """A main thread inside a system call never comes to a handler of Python's."""
    with program(checkout, "import os; os.read(0, 1)\nos.read(0, 1)", 0.1) as process:
        process.send_signal(signum)
        assert process.wait(GIVE_UP_S) == 1
        assert process.stderr
        said = process.stderr.read()
    assert said == f"{signum.name} did not stop the program within 0.1 s: it ends at once\n"
