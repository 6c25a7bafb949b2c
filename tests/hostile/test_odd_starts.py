"""A `run` that is started in an odd way: few files, closed streams, under a service manager."""

import socket
from pathlib import Path

import pytest
from running import ANY_PORT, refused, running

FAKE = ("--meter", "fake")


@pytest.mark.parametrize("limit", [8, 16, 24, 32, 40, 63])
def test_too_few_files_are_told(limit: int) -> None:
    """In a sentence, with what to do."""
    done = refused(*ANY_PORT, *FAKE, wrapper=("prlimit", f"--nofile={limit}:{limit}"))
    assert done.returncode == 3
    error, hint = done.stderr.splitlines()
    assert error == f"error: the limit of open files is {limit}"
    assert "LimitNOFILE" in hint


def test_smallest_allowed_number_of_files_is_enough(tmp_path: Path) -> None:
    """It measures and serves with no more than it asks for."""
    with running(tmp_path, *FAKE, wrapper=("prlimit", "--nofile=64:64")) as run:
        run.until(lambda page: page.intervals > 2)
        assert run.end() == 0


def test_closed_standard_streams_are_no_files_of_ours(tmp_path: Path) -> None:
    """What is printed by mistake goes to /dev/null, and not into a socket or a map."""
    wrapper = ("sh", "-c", 'exec "$@" <&- >&-', "sh")
    with running(tmp_path, *FAKE, wrapper=wrapper) as run:
        descriptors = Path(f"/proc/{run.process.pid}/fd")
        assert {str((descriptors / number).readlink()) for number in "01"} == {"/dev/null"}
        run.until(lambda page: page.intervals > 2)
        assert run.end() == 0


def test_service_manager_learns_that_the_loop_goes_on(tmp_path: Path) -> None:
    """It is ready when an interval has ended, and gets a sign of life from time to time."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(30.0)
        wrapper = ("env", f"NOTIFY_SOCKET={address}")
        with running(tmp_path, *FAKE, "--interval", "100ms", wrapper=wrapper):
            assert manager.recv(100) == b"READY=1\nWATCHDOG=1"
            assert manager.recv(100) == b"WATCHDOG=1"
