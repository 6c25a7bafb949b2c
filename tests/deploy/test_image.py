"""The Dockerfile and the compose file, read as text: no container engine is needed."""

import fnmatch
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import yaml
from containment import contained
from manifests import DEPLOY, Json
from running import GIVE_UP_S, running

from kepler_ebpf import __version__

COMPILERS = {"clang", "gcc", "llvm", "make", "build-essential", "python3-pip"}
CORE, BCC = "core", "bcc"


def instructions(checkout: Path) -> list[tuple[str, str]]:
    """Return (instruction, arguments) of the Dockerfile, continued lines joined."""
    lines = (checkout / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text)
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line]  # type: ignore[misc]


def stages(checkout: Path) -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage, those of the stage it is made from first."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for word, rest in instructions(checkout):
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            found[name] = list(found.get(source, ()))
        elif name:
            found[name].append((word, rest))
    return found


def packages(stage: list[tuple[str, str]]) -> set[str]:
    """Return the distribution's packages that a stage installs."""
    runs = " ".join(rest for word, rest in stage if word == "RUN")
    words = re.findall(r"apt-get install -y --no-install-recommends ([^&]+)", runs)
    return {package for group in words for package in group.split()}


def test_what_is_copied_is_there_and_in_the_context(checkout: Path) -> None:
    """Each source of a COPY exists, and .dockerignore lets it through."""
    copies = [rest.split() for word, rest in stages(checkout)["build"] if word == "COPY"]
    # A file of its own, before the folder it is in, is for the build's cache.
    sources = {source.split("/")[0] for *sources, _ in copies for source in sources}
    assert {"pyproject.toml", "README.md", "bpf", "scripts", "kepler_ebpf"} <= sources
    ignore = (checkout / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignore if line.startswith("!")}
    assert ignore[1] == "*"
    assert sources == let_through
    for source in sources:
        assert (checkout / source).exists(), source


def test_everything_the_build_reads_is_copied(checkout: Path) -> None:
    """What pyproject.toml names as part of the package reaches the build stage."""
    text = (checkout / "pyproject.toml").read_text()
    named = re.findall(r'^readme = "(.+)"$|license-files = \["(LICENSE)"', text, re.MULTILINE)
    copied = (checkout / ".dockerignore").read_text()
    for name in filter(None, (name for pair in named for name in pair)):
        assert f"!{name}\n" in copied


def test_no_compiler_reaches_a_final_stage(checkout: Path) -> None:
    """The compiler stays in the build stage; bcc, which brings one, is only in its own image."""
    found = stages(checkout)
    assert "clang" in packages(found["build"])
    assert packages(found[CORE]) == {"libbpf1", "python3"}
    assert packages(found[BCC]) == {"libbpf1", "python3", "python3-bpfcc"}
    assert not COMPILERS & packages(found[CORE])


def test_last_stage_is_the_one_without_bcc(checkout: Path) -> None:
    """A build that names no target gets the compiled programs alone."""
    assert list(stages(checkout))[-1] == CORE


def test_base_image_is_a_plain_name_of_one_release(checkout: Path) -> None:
    """All stages are of one Debian, named as every engine and mirror knows it."""
    pairs = [pair for word, pair in instructions(checkout) if word == "ARG" and "=" in pair]
    arguments = dict(pair.split("=") for pair in pairs)
    assert re.fullmatch(r"debian:\d+-slim", arguments["DEBIAN"])
    bases = {rest.split()[0] for word, rest in instructions(checkout) if word == "FROM"}
    assert bases == {"${DEBIAN}", "base", "build", "scratch"}


def test_nothing_is_installed_but_what_is_locked(checkout: Path) -> None:
    """Each pip takes a lock, with hashes and without builds from source, or no index at all."""
    build = stages(checkout)["listed"]
    (environment,) = (rest for word, rest in build if word == "ENV")
    assert "PIP_ONLY_BINARY=:all:" in environment
    runs = " && ".join(rest for word, rest in build if word == "RUN")
    steps = [
        step for step in runs.split(" && ") if re.search(r"pip (\S+ \S+ +)?(install|wheel)", step)
    ]
    assert len(steps) == 5
    for step in steps:
        assert re.search(r"--require-hashes -r requirements/\w+.txt$|--no-deps", step), step


def test_labels_describe_the_image(checkout: Path) -> None:
    """They are OCI's names, of this version, and of the revision that is built."""
    (label,) = (rest for word, rest in stages(checkout)[CORE] if word == "LABEL")
    labels = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', label))
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    assert labels["version"] == __version__
    assert labels["licenses"] == project["license"]
    assert (labels["revision"], labels["base.name"]) == ("${REVISION}", "${DEBIAN}")
    known = {
        word for word, rest in stages(checkout)[CORE] if word == "ARG" for word in rest.split()
    }
    assert known >= {"REVISION", "DEBIAN"}


def test_image_starts_the_program(checkout: Path) -> None:
    """With no arguments it runs, with others it does those; the bcc image loads with bcc."""
    core, bcc = (dict(stages(checkout)[name]) for name in (CORE, BCC))
    assert (core["ENTRYPOINT"], core["CMD"]) == ('["kepler-ebpf"]', '["run"]')
    assert bcc["CMD"] == '["run", "--bpf-loader=bcc"]'
    assert core["STOPSIGNAL"] == "SIGTERM"


def compose() -> Json:
    """Return the compose file."""
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


def test_compose_mounts_what_is_there() -> None:
    """Each file of ours that a service mounts exists."""
    for service in compose()["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in compose()["volumes"] or (DEPLOY / source).exists(), volume


def test_compose_scrapes_its_own_service() -> None:
    """Prometheus' one target is the service by its name there, with the rules' job."""
    services = compose()["services"]
    (job,) = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())["scrape_configs"]
    assert job["job_name"] == "kepler-ebpf"
    (target,) = job["static_configs"][0]["targets"]
    assert target.split(":")[0] in services
    assert target.endswith(":28282")


def test_grafana_of_compose_finds_prometheus_and_dashboards() -> None:
    """The provisioning files name the service and the folder that compose gives them."""
    folder = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    provider = yaml.safe_load((folder / "dashboards/kepler-ebpf.yaml").read_text())["providers"][0]
    mounts = [volume.split(":")[1] for volume in compose()["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounts


def test_project_is_called_after_the_program() -> None:
    """Not after the folder that the file is in: containers and volumes have its name."""
    assert compose()["name"] == "kepler-ebpf"


def test_health_check_asks_the_run_beside_it(tmp_path: Path) -> None:
    """It succeeds where the program serves on its port, under its rights, and fails elsewhere."""
    check = compose()["services"]["kepler-ebpf"]["healthcheck"]["test"]
    (port,) = compose()["services"]["kepler-ebpf"]["ports"]
    assert f"/127.0.0.1/{port.split(':')[-1]} " in check[-1]
    profile = json.loads((DEPLOY / "seccomp/kepler-ebpf.json").read_text())

    def status(when: str) -> int:
        command = [each.replace("$$", "$") for each in check[1:]]
        command[-1] = command[-1].replace("127.0.0.1/28282", address.replace(":", "/"))
        with contained(tmp_path / when, (), profile) as wrapper:
            return subprocess.run([*wrapper, *command], check=False, timeout=GIVE_UP_S).returncode

    with running(tmp_path) as run:
        address = run.address
        assert status("serving") == 0
        run.end()
        assert status("ended") != 0


def test_settings_are_readable_whatever_the_umask(tmp_path: Path) -> None:
    """Another user reads the copies of files that the checkout's owner keeps for himself."""
    service = compose()["services"]["settings"]
    for place in ("from/prometheus", "from/grafana"):
        shutil.copytree(DEPLOY / place.split("/")[1], tmp_path / place)
    for path in [tmp_path / "from", *(tmp_path / "from").rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    for volume in service["volumes"]:
        (tmp_path / volume.split(":")[1][1:]).mkdir(parents=True, exist_ok=True)
    (script,) = service["command"]
    script = re.sub(r" /(from|to)", rf" {tmp_path}/\1", script)
    subprocess.run([*service["entrypoint"], script], umask=0o077, check=True)
    copies = [path for path in (tmp_path / "to").rglob("*") if path.is_file()]
    assert {"prometheus.yaml", "alerts.yaml", "node.json"} <= {path.name for path in copies}
    assert all(path.stat().st_mode & 0o004 for path in copies)
    assert all(path.stat().st_mode & 0o005 == 0o005 for path in (tmp_path / "to").glob("**/"))


def test_images_of_others_are_pinned() -> None:
    """A compose file of last year starts what it started then."""
    for name, service in compose()["services"].items():
        if "build" not in service:
            assert fnmatch.fnmatch(service["image"], "*/*:*[0-9].[0-9]*"), name
