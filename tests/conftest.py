"""What every test shares: root is required, and hypothesis runs the same way everywhere."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from truth import Stopwatch

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


def pytest_configure() -> None:
    """Refuse to start without root: a skipped BPF test would look like a passed one."""
    if os.geteuid() != 0:
        raise pytest.UsageError("the tests load BPF programs, so they need root: sudo scripts/test")


@pytest.fixture
def stopwatch() -> Stopwatch:
    """Return what judges CPU time that is used during this test."""
    return Stopwatch()


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Return the folder that holds bpf/, kepler_ebpf/ and scripts/."""
    return Path(__file__).resolve().parent.parent
