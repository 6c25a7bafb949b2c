"""The locked dependencies, and what is left of them in the image."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from kube_certificates import expired_oidc, write_login
from kube_runs import cluster
from kube_server import NODE, make_pod
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ("run", "build", "sbom")
RUN_EXTRAS = ("filters", "kubernetes", "otlp")
"""What a `run` may be asked for; the other extras are for people at a shell."""

PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
PIP = ("--quiet", "--disable-pip-version-check")


def locked(checkout: Path, name: str) -> list[tuple[Requirement, list[str]]]:
    """Return each requirement of a lock, with its hashes."""
    text = (checkout / "requirements" / f"{name}.txt").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if re.match(r"\w", line)]
    return [
        (Requirement(line.partition("--hash")[0]), re.findall(r"--hash=(\S+)", line))
        for line in lines
    ]


def wanted(checkout: Path, name: str) -> list[Requirement]:
    """Return what pyproject.toml asks for, of a lock."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    if name == "run":
        extras = project["project"]["optional-dependencies"]
        chosen = [each for extra in RUN_EXTRAS for each in extras[extra]]
        return [*map(Requirement, project["project"]["dependencies"] + chosen)]
    assert {*project["build-system"]["requires"]} == {*project["dependency-groups"]["build"]}
    return [*map(Requirement, project["dependency-groups"][name])]


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_lock_is_what_the_project_asks_for(
    checkout: Path, name: str, python: str, machine: str
) -> None:
    """On each Python and machine each dependency has one version, which is allowed."""
    here = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
    }
    lines = [each for each, _ in locked(checkout, name)]
    chosen = [each for each in lines if each.marker is None or each.marker.evaluate(here)]
    pins = {canonicalize_name(each.name): str(each.specifier) for each in chosen}
    assert len(pins) == len(chosen)
    for requirement in wanted(checkout, name):
        version = pins[canonicalize_name(requirement.name)].removeprefix("==")
        assert requirement.specifier.contains(version), f"{requirement}: run scripts/lock"


@pytest.mark.parametrize("name", LOCKS)
def test_every_file_is_known_by_its_hash(checkout: Path, name: str) -> None:
    """Nobody can put another file in place of one that was locked."""
    for requirement, hashes in locked(checkout, name):
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)


# --- the environment of the image -------------------------------------------------------------


@pytest.fixture(scope="module")
def pruned(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment as the image has: locked, from wheels alone, and pruned."""
    environment = tmp_path_factory.mktemp("pruned")
    pip = environment / "bin/pip"
    install = ("install", "--no-compile", "--require-hashes", "--only-binary=:all:")
    lock = checkout / "requirements/run.txt"
    for command in (
        (sys.executable, "-m", "venv", environment),
        (pip, *PIP, *install, "-r", lock),
        (checkout / "scripts/prune-venv", environment, pip),
    ):
        subprocess.run(command, check=True)
    return environment


def installed(environment: Path) -> dict[str, Distribution]:
    """Return the packages of an environment by name, but for pip and its like."""
    (folder,) = environment.glob("lib/python3.*/site-packages")
    found = {canonicalize_name(each.name): each for each in distributions(path=[str(folder)])}
    return {name: each for name, each in found.items() if name not in {"pip", "setuptools"}}


def needs(distribution: Distribution) -> Iterator[str]:
    """Yield the names of what a package requires here, without its extras."""
    for requirement in map(Requirement, distribution.requires or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def test_only_what_is_needed_stays(checkout: Path, pruned: Path) -> None:
    """What was removed is only the Kubernetes client's asyncio half, and nothing is left of it."""
    there = installed(pruned)
    reached: set[str] = {canonicalize_name(each.name) for each in wanted(checkout, "run")}
    missing = set()
    queue = list(reached)
    while queue:
        name = queue.pop()
        if name not in there:
            missing.add(name)
            continue
        fresh = {*needs(there[name])} - reached
        reached |= fresh
        queue += fresh
    assert missing == {"aiohttp", "aiohttp-retry"}
    assert {*there} == reached - missing


def test_pruned_environment_is_small(pruned: Path) -> None:
    """The Kubernetes client, two thirds of what was installed, has nearly vanished."""
    sizes = {
        folder: sum(path.stat().st_size for path in pruned.glob(f"lib/**/{folder}/**/*"))
        for folder in ("kubernetes", "numpy")
    }
    assert sizes["kubernetes"] < 5_000_000
    assert sizes["numpy"] < 60_000_000


@pytest.mark.parametrize("mode", ["apiserver", "kubelet"])
def test_pruned_client_gets_the_pods(
    checkout: Path, pruned: Path, tmp_path: Path, mode: str
) -> None:
    """All that we need of it is there: TLS, a token, a command and an identity provider."""
    kubeconfig = tmp_path / "kubeconfig"

    def check() -> str:
        command = (pruned / "bin/python", "-m", "kepler_ebpf", "check", "--config.file", config)
        node = ("--kube.node-name", NODE, "--kube.config", kubeconfig, "--kube.enable")
        done = subprocess.run(
            [*command, *node], cwd=checkout, capture_output=True, text=True, check=False
        )
        return next(line for line in done.stdout.splitlines() if "Kubernetes" in line)

    with cluster(tmp_path, mode) as there:
        config = tmp_path / "config.yaml"
        config.write_text(there.config)
        there.server.put(make_pod(1))
        expected = (
            f"ok    Kubernetes           {there.server.url} knows 1 pod(s) on the node {NODE}"
        )
        assert check() == expected
        server = {"server": there.server.url, "certificate-authority": str(tmp_path / "tls/ca.crt")}
        api = "client.authentication.k8s.io/v1"
        answer = f'{{"apiVersion":"{api}","kind":"ExecCredential","status":{{"token":"t0"}}}}'
        login = {"apiVersion": api, "command": "echo", "args": [answer]}
        write_login(kubeconfig, server, {"exec": login})
        assert check() == expected
        write_login(kubeconfig, server, expired_oidc("http://127.0.0.1:1"))
        assert "cannot be logged in" in check()
