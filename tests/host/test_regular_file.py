"""Reading a path that may be anything: it never waits."""

import os
from pathlib import Path

import pytest
from descriptors import open_files

from kepler_ebpf.host.regular_file import open_regular, read_regular


def test_files_of_the_kernel_are_regular() -> None:
    """Those of procfs and sysfs can be read whole."""
    assert read_regular("/proc/self/mountinfo", "utf-8", "replace").endswith("\n")
    assert read_regular(Path("/sys/devices/system/cpu/possible")).startswith("0")


def test_fifo_is_an_error_at_once(tmp_path: Path) -> None:
    """Opening one waits for a writer, for ever if there is none."""
    os.mkfifo(tmp_path / "fifo")
    before = open_files()
    with pytest.raises(OSError, match="Not a regular file"):
        read_regular(tmp_path / "fifo")
    assert open_files() == before


def test_directory_is_an_error_of_its_own(tmp_path: Path) -> None:
    """The error is the one that a read of a directory gives."""
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


def test_device_is_no_file() -> None:
    """A device could be read without end."""
    with pytest.raises(OSError, match="Not a regular file"):
        open_regular("/dev/zero")
