"""What every test shares: root is required, and hypothesis runs the same way everywhere."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from truth import stopwatch as stopwatch  # noqa: PLC0414 - a fixture for every test

MESSAGE_CHARS = 300
"""What is shown of a failure in the last lines."""

settings.register_profile(
    "kepler",
    # The machine that runs the tests is often busy: time per example says nothing about us.
    deadline=None,
    max_examples=50,
    # A failure in CI is the same failure on a desk.
    derandomize="CI" in os.environ,
    print_blob=True,
)
settings.load_profile("kepler")
settings.register_profile("deep", settings.get_profile("kepler"), max_examples=2_000)


def pytest_configure() -> None:
    """Refuse to start without root: a skipped BPF test would look like a passed one.

    What tests start inherits that a signal is ignored, as SIGINT and SIGQUIT are in a shell's
    background and SIGHUP with `nohup`, but no handler.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if os.geteuid() != 0:
        raise pytest.UsageError("the tests load BPF programs, so they need root: sudo scripts/test")


@pytest.fixture(autouse=True)
def _log_stays() -> Iterator[None]:
    """Undo what a command that was called in this process did to the log."""
    root, ours = logging.getLogger(), logging.getLogger("kepler_ebpf")
    levels, handlers = (root.level, ours.level), root.handlers.copy()
    yield
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Return the folder that holds bpf/, kepler_ebpf/ and scripts/."""
    return Path(__file__).resolve().parent.parent


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the faults that were injected, see faults/README.md, each with its outcome."""
    outcomes = {
        report.nodeid.partition("[")[2].rstrip("]"): outcome
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if "test_survives[" in report.nodeid
    }
    if outcomes:
        survived = list(outcomes.values()).count("passed")
        terminalreporter.section(f"{survived} of {len(outcomes)} faults survived")
        for name, outcome in outcomes.items():
            terminalreporter.write_line(f"{outcome}  {name}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Name what failed once more at the very end: a whole page of metrics may stand above it."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    for outcome in ("failed", "error"):
        for report in reporter.getreports(outcome):
            message = getattr(getattr(report.longrepr, "reprcrash", None), "message", "")
            reporter.write_line(f"{outcome}: {report.nodeid}: {message[:MESSAGE_CHARS]}")
