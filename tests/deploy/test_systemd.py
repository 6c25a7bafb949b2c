"""The systemd unit and its install script, for real but below a folder of their own."""

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from manifests import DEPLOY

from kepler_ebpf import __version__
from kepler_ebpf.config.load import load_config

UNIT = DEPLOY / "systemd" / "kepler-ebpf.service"
LEAST_EXPOSURE = 30
"""Of `systemd-analyze security`, in tenths: below 5.0 it calls a service OK; ours is better."""


def install(*arguments: str | Path, into: Path) -> str:
    """Run install.sh for the root file system *into*, and return what it said."""
    done = subprocess.run(
        [DEPLOY / "systemd" / "install.sh", *arguments],
        env={**os.environ, "DESTDIR": str(into)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which the checkout was installed."""
    into = tmp_path_factory.mktemp("system")
    install(into=into)
    return into


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


def test_second_install_keeps_what_a_user_changed(installed: Path, tmp_path: Path) -> None:
    """A changed configuration stays; the new one lies beside it."""
    copy = tmp_path / "system"
    (copy / "etc/kepler-ebpf").mkdir(parents=True)
    (copy / "etc/kepler-ebpf/config.yaml").write_text("monitor: {interval: 5s}\n")
    said = install(built_wheel(installed, tmp_path), into=copy)
    assert "config.yaml is as it was" in said
    assert (copy / "etc/kepler-ebpf/config.yaml").read_text() == "monitor: {interval: 5s}\n"
    assert (copy / "etc/kepler-ebpf/config.yaml.new").exists()


def built_wheel(installed: Path, folder: Path) -> Path:
    """Return a wheel of the checkout, built by the installed environment's pip."""
    pip = (installed / "opt/kepler-ebpf/bin/python", "-m", "pip", "--disable-pip-version-check")
    wheel = ("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, DEPLOY.parent)
    subprocess.run((*pip, *wheel), check=True)
    (made,) = folder.glob("*.whl")
    return made


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


def test_unit_is_hardened() -> None:
    """By systemd's own measure the service is hardly exposed."""
    threshold = f"--threshold={LEAST_EXPOSURE}"
    command = ("systemd-analyze", "security", "--offline=yes", threshold, str(UNIT))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
