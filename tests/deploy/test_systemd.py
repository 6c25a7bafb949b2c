"""The systemd unit and its install script, for real but below a folder of their own."""

import configparser
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from manifests import DEPLOY

from kepler_ebpf import __version__
from kepler_ebpf.config.load import load_config
from kepler_ebpf.errors import ConfigError

UNIT = DEPLOY / "systemd" / "kepler-ebpf.service"
INSTALL = DEPLOY / "systemd" / "install.sh"
LEAST_EXPOSURE = 30
"""Of `systemd-analyze security`, in tenths: below 5.0 it calls a service OK; ours is better."""


def install(*arguments: str | Path, into: Path, umask: int = -1, status: int = 0) -> str:
    """Run install.sh for the root file system *into*, and return what it said."""
    done = subprocess.run(
        [INSTALL, *arguments],
        env={**os.environ, "DESTDIR": str(into)},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """Return a folder into which an administrator with a closed umask installed the checkout."""
    with opened() as into:
        install(into=into, umask=0o077)
        yield into


@pytest.fixture(scope="module")
def wheel(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel of the checkout, built by the installed environment's pip."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (installed / "opt/kepler-ebpf/bin/python", "-m", "pip", "--disable-pip-version-check")
    build = ("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, DEPLOY.parent)
    subprocess.run((*pip, *build), check=True)
    (made,) = folder.glob("*.whl")
    return made


@contextmanager
def opened() -> Iterator[Path]:
    """Give a folder that every user can read, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user can read."""
    with opened() as folder:
        yield folder


def test_installed_program_runs(installed: Path) -> None:
    """The environment is whole: the program starts, and names the place it will have."""
    program = installed / "opt/kepler-ebpf/bin/kepler-ebpf"
    assert program.read_text().startswith("#!/opt/kepler-ebpf/bin/python\n")
    command = (installed / "opt/kepler-ebpf/bin/python", "-m", "kepler_ebpf", "--version")
    said = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True).stdout
    assert __version__ in said


def test_installed_configuration_is_read_without_a_warning(installed: Path) -> None:
    """What the unit passes is what the program takes."""
    loaded = load_config({}, str(installed / "etc/kepler-ebpf/config.yaml"))
    assert loaded.warnings == ()
    assert loaded.config.listen_addresses == (":28282",)


def test_unit_starts_what_is_installed(installed: Path) -> None:
    """The paths in the unit are those that the script fills."""
    unit = read_unit(installed / "etc/systemd/system/kepler-ebpf.service")
    program, verb, config, options = unit["Service"]["ExecStart"].split()
    assert (installed / program[1:]).exists()
    assert verb == "run"
    assert (installed / config.partition("=")[2][1:]).exists()
    assert options == "$OPTIONS"
    assert (installed / unit["Service"]["EnvironmentFile"].removeprefix("-/")).exists()


def test_socket_unit_is_installed_and_holds_the_port(installed: Path) -> None:
    """Systemd finds nothing wrong in it, and it is the port that the program would take."""
    path = installed / "etc/systemd/system/kepler-ebpf.socket"
    listened = read_unit(path)["Socket"]["ListenStream"]
    assert f":{listened}" in load_config({}).config.listen_addresses
    service = path.with_suffix(".service")
    text = service.read_text()
    service.write_text(re.sub("^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", path, service], capture_output=True, text=True, check=False
    )
    service.write_text(text)
    assert (done.returncode, done.stderr) == (0, "")


def test_second_install_keeps_what_a_user_changed(wheel: Path, tmp_path: Path) -> None:
    """A changed configuration stays; the new one lies beside it."""
    copy = tmp_path / "system"
    (copy / "etc/kepler-ebpf").mkdir(parents=True)
    (copy / "etc/kepler-ebpf/config.yaml").write_text("monitor: {interval: 5s}\n")
    said = install(wheel, into=copy)
    assert "config.yaml is as it was" in said
    assert (copy / "etc/kepler-ebpf/config.yaml").read_text() == "monitor: {interval: 5s}\n"
    assert (copy / "etc/kepler-ebpf/config.yaml.new").exists()


def test_service_starts_whatever_the_umask(installed: Path) -> None:
    """A user that owns nothing runs what an administrator with a closed umask installed."""
    program = installed / "opt/kepler-ebpf/bin/python"
    owns_nothing = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    command = (*owns_nothing, program, "-I", "-m", "kepler_ebpf", "--version")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert __version__ in said
    for name in ("etc/kepler-ebpf/config.yaml", "etc/systemd/system/kepler-ebpf.service"):
        subprocess.run([*owns_nothing, "cat", installed / name], capture_output=True, check=True)


def broken(wheel: Path, folder: Path) -> Path:
    """Return a copy of a wheel whose program cannot start."""
    folder.mkdir()
    copy = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            if not name.endswith("RECORD"):
                text = (
                    b"raise SystemExit(1)" if name == "kepler_ebpf/__main__.py" else old.read(name)
                )
                new.writestr(name, text)
            else:
                new.writestr(name, b"")
    return copy


def test_upgrade_that_cannot_start_changes_nothing(open_folder: Path, wheel: Path) -> None:
    """The new program is tried before the old one goes."""
    old = open_folder / "opt/kepler-ebpf/bin/kepler-ebpf"
    old.parent.mkdir(parents=True)
    old.write_text("the old one")
    said = install(broken(wheel, open_folder / "broken"), into=open_folder, status=1)
    assert "does not start" in said
    assert old.read_text() == "the old one"
    assert [path.name for path in (open_folder / "opt").iterdir()] == ["kepler-ebpf"]
    assert not (open_folder / "etc").exists()


SYSTEM = """
mount -t tmpfs none /opt; mount -t tmpfs none /etc/systemd; mount -t tmpfs none /etc/default
mkdir -p /etc/kepler-ebpf /run/systemd/system; mount -t tmpfs none /etc/kepler-ebpf
mkdir -p /opt/kepler-ebpf /etc/systemd/system
echo old >/opt/kepler-ebpf/version; echo old >/etc/systemd/system/kepler-ebpf.service
"$@" && status=0 || status=$?
cat /opt/kepler-ebpf/version /etc/systemd/system/kepler-ebpf.service; ls /opt
exit $status
"""
"""A host with an older version, in a mount namespace; prints what is there in the end."""


def test_upgrade_that_does_not_stay_up_is_taken_back(tmp_path: Path, wheel: Path) -> None:
    """The service runs the version before, with its unit, and the administrator knows."""
    systemctl = tmp_path / "bin/systemctl"
    systemctl.parent.mkdir()
    calls = tmp_path / "calls"
    systemctl.write_text(f'#!/bin/sh\necho "$1" >>{calls}\n[ "$1" != is-active ]\n')
    systemctl.chmod(0o755)
    command = ("unshare", "--mount", "sh", "-ec", SYSTEM, "sh", INSTALL, wheel)
    path = f"{systemctl.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "The old one is back" in done.stderr
    assert done.stdout.split() == ["old", "old", "kepler-ebpf"]
    restarts = ["daemon-reload", "enable", "restart", "is-active", "daemon-reload", "restart"]
    assert calls.read_text().split() == restarts


def test_uninstall_leaves_the_configuration(installed: Path, tmp_path: Path) -> None:
    """The program and its unit are gone, what a user wrote is not."""
    copy = tmp_path / "system"
    shutil.copytree(installed / "etc", copy / "etc")
    (copy / "opt/kepler-ebpf").mkdir(parents=True)
    install("--uninstall", into=copy)
    left = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file())
    assert left == ["etc/default/kepler-ebpf", "etc/kepler-ebpf/config.yaml"]


def read_unit(path: Path) -> configparser.ConfigParser:
    """Parse a unit file; of a setting that stands there more than once, the last is kept."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text())
    return unit


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Systemd finds nothing to complain of in it, nor in the drop-in."""
    checked = tmp_path / UNIT.name
    # It also looks for the program, which is not at its place here.
    checked.write_text(UNIT.read_text().replace("/opt/kepler-ebpf/bin/kepler-ebpf", "/bin/true"))
    (tmp_path / f"{UNIT.name}.d").mkdir()
    shutil.copy(UNIT.parent / "multi-tenant.conf", tmp_path / f"{UNIT.name}.d")
    done = subprocess.run(
        ["systemd-analyze", "verify", checked], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_wrong_configuration_is_not_tried_for_ever() -> None:
    """A restart mends no typo, so the unit stays failed, where an administrator sees it."""
    assert (
        str(ConfigError.exit_code) in read_unit(UNIT)["Service"]["RestartPreventExitStatus"].split()
    )


def test_unit_is_hardened() -> None:
    """By systemd's own measure the service is hardly exposed."""
    threshold = f"--threshold={LEAST_EXPOSURE}"
    command = ("systemd-analyze", "security", "--offline=yes", threshold, str(UNIT))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
