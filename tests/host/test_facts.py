"""Facts about the host: what cannot be read is not made up."""

from pathlib import Path

import pytest

from kepler_ebpf.host import facts


def test_unreadable_procfs_gives_no_rights(tmp_path: Path) -> None:
    """A procfs without files gives no capability and no mount."""
    assert facts.effective_capabilities(str(tmp_path)) == frozenset()
    assert not facts.shows_kernel_threads(str(tmp_path))
    assert not facts.is_host_user_namespace(str(tmp_path))
    assert facts.mount_point(str(tmp_path), "tracefs") is None


def test_garbled_procfs_gives_no_rights(tmp_path: Path) -> None:
    """A file of another form is as one that cannot be read."""
    own = tmp_path / "self"
    own.mkdir()
    (own / "status").write_text("CapEff: zz\nno colon\n")
    (own / "mounts").write_text("none\n\nnone /sys/kernel/tracing tracefs rw 0 0\n")
    assert facts.effective_capabilities(str(tmp_path)) == frozenset()
    assert facts.mount_point(str(tmp_path), "tracefs") == "/sys/kernel/tracing"


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.18.44-fc", (6, 18)), ("5.10.0-32-cloud", (5, 10)), ("5.4", (5, 4)), ("odd", (0, 0))],
)
def test_kernel_version_is_read(release: str, version: tuple[int, int]) -> None:
    """Only major and minor count, whatever a distribution adds."""
    assert facts.kernel_version(release) == version


def test_lockdown_is_the_mode_in_brackets(tmp_path: Path) -> None:
    """Of the modes the kernel marks its own; where securityfs is not mounted there is none."""
    assert facts.lockdown(str(tmp_path)) == ""
    (tmp_path / "kernel/security").mkdir(parents=True)
    (tmp_path / "kernel/security/lockdown").write_text("none integrity [confidentiality]\n")
    assert facts.lockdown(str(tmp_path)) == "confidentiality"


def test_kernel_threads_are_the_hosts(tmp_path: Path) -> None:
    """PID 2 is the kernel's own in the host's procfs, and somebody else in a container's."""
    (tmp_path / "2").mkdir()
    (tmp_path / "2/comm").write_text("nginx\n")
    assert facts.shows_kernel_threads("/proc")
    assert not facts.shows_kernel_threads(str(tmp_path))
