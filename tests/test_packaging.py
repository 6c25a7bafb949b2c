"""The sdist, the wheel built from it, that wheel in a fresh environment, and the set-up scripts."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from kepler_ebpf import __version__

GIVE_UP_S = 30
"""How long the started program may take to serve a process series before the test fails."""

SHELL_TOOLS = ("cat", "dirname", "find", "grep", "id", "readlink", "sh", "sha256sum", "uname")


def run(*command: str | Path, cwd: Path) -> str:
    """Return what *command* prints; a failure of it fails the test and shows the same."""
    done = attempt(*command, cwd=cwd)
    assert done.returncode == 0, f"{command} exited {done.returncode}:\n{done.stdout}"
    return done.stdout


def attempt(
    *command: str | Path, cwd: Path, path: str = os.environ["PATH"], user: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run *command* with only *path* to find tools in, as *user*; stderr joins stdout."""
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": path},
        user=user,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def build(kind: str, source: Path, out: Path) -> Path:
    """Build *kind* (sdist or wheel) of *source* into the empty folder *out*."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out, cwd=source)
    (made,) = out.iterdir()
    return made


def unpack(sdist: Path, into: Path) -> Path:
    """Unpack *sdist* and return its one top folder."""
    into.mkdir(exist_ok=True)
    run("tar", "-xf", sdist, cwd=into)
    (top,) = into.iterdir()
    return top


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source archive of the checkout."""
    return build("sdist", checkout, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel built from the sdist, so from nothing that only a checkout has."""
    source = unpack(sdist, tmp_path_factory.mktemp("unpacked"))
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return bin/kepler-ebpf of a fresh environment with the wheel and its dependencies."""
    home = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", home, cwd=home)
    run(home / "bin" / "pip", "install", "--quiet", wheel, cwd=home)
    return home / "bin" / "kepler-ebpf"


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """Return a PATH with the shell's tools only: no apt-get, no compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in SHELL_TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    return str(folder)


def test_sdist_holds_no_built_file(sdist: Path) -> None:
    """The archive is sources: no object of this machine's compiler, no bytecode."""
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert [name for name in names if name.endswith((".o", ".pyc", ".so"))] == []


def test_wheel_carries_every_bpf_source_and_the_object(wheel: Path, checkout: Path) -> None:
    """The loaders find in the wheel what they find in a checkout."""
    sources = {path.name for path in (checkout / "bpf").glob("*.[ch]")}
    with zipfile.ZipFile(wheel) as archive:
        packed = {Path(name).name for name in archive.namelist() if "kepler_ebpf/bpf/" in name}
    assert packed == sources | {"kepler.bpf.o"}


def test_wheel_carries_the_flame_graph(wheel: Path, checkout: Path) -> None:
    """The page, its style and its script are files beside the module that reads them."""
    formats = checkout / "kepler_ebpf" / "profile" / "formats"
    with zipfile.ZipFile(wheel) as archive:
        packed = {Path(name).name for name in archive.namelist() if "/profile/formats/" in name}
    assert {path.name for path in formats.glob("flamegraph.*")} <= packed


def test_wheel_knows_its_revision(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    """It is the environment's, else the repository's, else unknown."""

    def source(made: Path) -> Any:
        with zipfile.ZipFile(made) as archive:
            return json.loads(archive.read("kepler_ebpf/source.json"))

    assert source(wheel) == {"revision": "", "branch": ""}
    given = {"KEPLER_EBPF_REVISION": "abc", "KEPLER_EBPF_BRANCH": "main"}
    (tmp_path / "given").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        made = build("wheel", checkout, tmp_path / "given")
    assert source(made) == {"revision": "abc", "branch": "main"}

    repository = unpack(build("sdist", checkout, tmp_path / "sdist"), tmp_path / "repository")
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "-b", "topic"), ("add", "."), (*author, "commit", "-qm", "x")):
        run("git", *command, cwd=repository)
    revision = run("git", "rev-parse", "HEAD", cwd=repository).strip()
    made = build("wheel", repository, tmp_path / "wheel")
    assert source(made) == {"revision": revision, "branch": "topic"}


def test_wheel_installs_one_package(wheel: Path) -> None:
    """Tests, scripts and manifests stay out of site-packages."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"kepler_ebpf", f"kepler_ebpf-{__version__}.dist-info"}


def test_wheel_is_typed(wheel: Path) -> None:
    """Type checkers of programs that use `measure` read our annotations."""
    with zipfile.ZipFile(wheel) as archive:
        assert {"kepler_ebpf/py.typed", "kepler_ebpf/__init__.pyi"} <= set(archive.namelist())


def test_wheel_object_keeps_btf_and_tells_no_path(wheel: Path) -> None:
    """CO-RE needs the BTF; where the object was compiled is nobody's business."""
    with zipfile.ZipFile(wheel) as archive:
        compiled = archive.read("kepler_ebpf/bpf/kepler.bpf.o")
    assert b".BTF.ext\0" in compiled
    assert tempfile.gettempdir().encode() not in compiled


def test_bcc_is_no_dependency(wheel: Path) -> None:
    """The package called bcc on PyPI is another project: installing it would break the loader."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"kepler_ebpf-{__version__}.dist-info/METADATA")
    required = message_from_bytes(metadata).get_all("Requires-Dist", [])
    assert len(required) > 0
    assert [name for name in required if name.lower().startswith("bcc")] == []


def test_build_without_compiler_says_what_to_install(
    sdist: Path, tmp_path: Path, bare_path: str
) -> None:
    """A wheel without its object is not built; the message names clang and the package."""
    source = unpack(sdist, tmp_path / "unpacked")
    done = attempt(
        sys.executable, "-m", "hatchling", "build", "-t", "wheel", cwd=source, path=bare_path
    )
    assert done.returncode != 0
    assert "lacks:\n  clang\n" in done.stdout
    assert "apt-get install" in done.stdout
    assert "Traceback" not in done.stdout


def test_installed_command_tells_its_version(command: Path, tmp_path: Path) -> None:
    """The version is the package's own."""
    assert __version__ in run(command, "--version", cwd=tmp_path)


def test_installed_check_passes_on_this_host(command: Path, tmp_path: Path) -> None:
    """Nothing that `run` needs is missing from the wheel."""
    run(command, "check", "--web.listen-address", "127.0.0.1:0", cwd=tmp_path)


def test_installed_run_serves_process_series_and_stops_clean(command: Path, tmp_path: Path) -> None:
    """The wheel's own object is loaded, a process is seen, SIGINT ends it with status 0."""
    with started(command, tmp_path) as (process, port):
        await_series("kepler_process_cpu_joules_total{", process, port)
        process.send_signal(signal.SIGINT)
        assert process.wait(GIVE_UP_S) == 0


@contextmanager
def started(command: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start `run` on a free port of the loopback; what it prints is shown when the test fails."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = ["--web.listen-address", f"127.0.0.1:{port}", "--interval", "100ms"]
    process = subprocess.Popen([command, "run", *options], cwd=folder)
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def await_series(name: str, process: subprocess.Popen[bytes], port: int) -> None:
    """Scrape until *name* is served; the program's end or GIVE_UP_S fails the test."""
    give_up_at = time.monotonic() + GIVE_UP_S
    while name not in scrape(port):
        assert process.poll() is None, f"`run` ended with status {process.returncode}"
        assert time.monotonic() < give_up_at, f"no {name} after {GIVE_UP_S} s"
        time.sleep(0.05)


def scrape(port: int) -> str:
    """Return the metrics page, or nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=GIVE_UP_S) as page:
            return str(page.read(), "utf-8")
    except (ConnectionError, urllib.error.URLError):
        return ""


def test_run_refuses_another_user(checkout: Path) -> None:
    """Without root the script installs nothing and says why it needs it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # another user has to read the copy
        shutil.copytree(checkout / "scripts", Path(folder) / "scripts")
        done = attempt(Path(folder) / "scripts" / "run", cwd=Path(folder), user=65534)
    assert done.returncode == 1
    assert "must run as root" in done.stdout


def test_run_lists_packages_where_there_is_no_apt(
    checkout: Path, tmp_path: Path, bare_path: str
) -> None:
    """On another distribution one learns what is missing and what it is called there."""
    shutil.copytree(checkout / "scripts", tmp_path / "scripts")
    done = attempt(tmp_path / "scripts" / "run", cwd=tmp_path, path=bare_path)
    assert done.returncode == 1
    assert "lacks:\n  clang\n" in done.stdout
    for manager in ("dnf install", "pacman -S", "zypper install", "apk add"):
        assert manager in done.stdout


@pytest.mark.parametrize(
    ("arguments", "config", "parts"),
    [
        ((), "", set()),
        (("--interval", "1s"), "", set()),
        (("--bpf-loader", "bcc"), "", {"bcc"}),
        (("--bpf-loader=bcc",), "", {"bcc"}),
        (("--kube.enable", "--kube.node-name", "n"), "", {"kube"}),
        (("--kube.enable=true",), "", {"kube"}),
        (("--config.file", "FILE"), "ebpf: {loader: bcc}", {"bcc"}),
        (("--config.file=FILE", "--units"), 'ebpf:\n  loader: "bcc"\n', {"bcc"}),
        (("--config.file", "FILE"), "kube:\n  enabled: true\n", {"kube"}),
        (("--config.file=FILE",), "{kube: {enabled: yes}, ebpf: {loader: bcc}}", {"kube", "bcc"}),
        (("--config.file=FILE",), "# kube and bcc\n  # kube: {}\nlog: {level: warn}\n", set()),
        (("--config.file=FILE",), "ebpf: {kubelet: {host: a}}", set()),
        (("--config.file", "/none.yaml"), "", set()),
    ],
)
def test_run_installs_what_arguments_and_file_ask_for(
    checkout: Path, tmp_path: Path, arguments: tuple[str, ...], config: str, parts: set[str]
) -> None:
    """Kubernetes' client and bcc are heavy: they come where a flag or the file speaks of them."""
    file = tmp_path / "config.yaml"
    file.write_text(config)
    given = [argument.replace("FILE", str(file)) for argument in arguments]
    script = f'set -eu; root={checkout}; . "$root/scripts/lib"; mentions "$@"'
    asked = {
        word
        for word in ("kube", "bcc")
        if attempt("sh", "-c", script, "sh", word, *given, cwd=tmp_path).returncode == 0
    }
    assert asked == parts
