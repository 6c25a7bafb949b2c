"""The least-privilege profile: the same everywhere, enough to sample, and nothing too much.

The program is started under exactly the capabilities that the manifests name.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cgroup_tree import cgroup_tree, hierarchies
from manifests import DEPLOY, KUSTOMIZE, Json, chart, container, kustomize
from running import COMMAND, Page, refused, stepping
from workers import worker

from kepler_ebpf.check.kernel import NEEDS

CONTAINER_ID = "c" * 64
NOBODY = 65_534


def rights_of_helm() -> Json:
    """Return the security context of the chart's least-privilege profile."""
    return dict(container(chart("profile=least-privilege"))["securityContext"])


def rights_of_kustomize() -> Json:
    """Return the security context of the least-privilege overlay."""
    return dict(container(kustomize(KUSTOMIZE / "overlays/least-privilege"))["securityContext"])


CAPABILITIES = tuple(rights_of_helm()["capabilities"]["add"])
"""What the profile adds, without the CAP_ that Kubernetes leaves out."""


def under(capabilities: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command prefix that leaves root exactly these capabilities, for good."""
    kept = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities)])
    return ("setpriv", f"--inh-caps={kept}", f"--bounding-set={kept}", "--no-new-privs")


def without(name: str) -> tuple[str, ...]:
    """Return the profile's capabilities but one."""
    return tuple(each for each in CAPABILITIES if each != name)


# --- what the manifests say -------------------------------------------------------------------


def test_profile_is_the_same_in_every_way_to_install() -> None:
    """Helm, kustomize, compose and systemd name the same capabilities, and `check` knows each."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["kepler-ebpf"]
    unit = (DEPLOY / "systemd" / "kepler-ebpf.service").read_text()
    (bounding,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    (ambient,) = re.findall(r"^AmbientCapabilities=(.*)$", unit, re.MULTILINE)
    assert rights_of_kustomize() == rights_of_helm()
    assert tuple(compose["cap_add"]) == CAPABILITIES
    assert bounding == ambient == " ".join(f"CAP_{name}" for name in CAPABILITIES)
    assert {f"CAP_{name}" for name in CAPABILITIES} == {need.capability for need in NEEDS}


def test_profile_drops_all_else() -> None:
    """No other capability, no way to more, a read-only root and the runtime's seccomp profile."""
    rights = rights_of_helm()
    assert rights["capabilities"]["drop"] == ["ALL"]
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["privileged"] is False
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}


def test_profile_names_no_administrator() -> None:
    """The capabilities that amount to root are not among them."""
    assert not {"SYS_ADMIN", "NET_ADMIN", "SYS_RAWIO", "SYS_MODULE"} & set(CAPABILITIES)


# --- what the program does with them ----------------------------------------------------------


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Return a folder that other users may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def sampled(folder: Path, capabilities: tuple[str, ...]) -> Page:
    """Run under *capabilities* beside a stranger and a container, and return a page of both."""
    with (
        cgroup_tree(hierarchies()[0]) as tree,
        worker(folder, "stranger", user=NOBODY) as stranger,
        worker(folder, "inside") as inside,
    ):
        tree.make(f"/docker/{CONTAINER_ID}").enter(inside.pid)
        with stepping(folder, wrapper=under(capabilities)) as run:
            stranger.spin()
            inside.spin()
            return run.step()


def executables(page: Page, comm: str) -> set[str]:
    """Return what the page says that processes called *comm* run."""
    return {each.labels["exe"] for each in page.find("kepler_process_cpu_joules_total", comm=comm)}


def test_profile_is_enough(open_path: Path) -> None:
    """Under it there are processes, another user's executable, containers and node figures."""
    page = sampled(open_path, CAPABILITIES)
    (executable,) = executables(page, "stranger")
    assert executable.endswith("/stranger")
    assert page.total("kepler_process_cpu_seconds_total", comm="stranger") > 0
    assert page.total("kepler_container_cpu_seconds_total", container_id=CONTAINER_ID) > 0
    assert page.total("kepler_node_cpu_joules_total") > 0


@pytest.mark.parametrize("name", ["BPF", "PERFMON"])
def test_without_these_nothing_is_measured(name: str) -> None:
    """Each is needed: without it the program ends, and says which right it lacks."""
    done = refused("--web.listen-address", "127.0.0.1:0", wrapper=under(without(name)))
    assert done.returncode != 0
    assert f"CAP_{name}" in done.stderr


def test_without_ptrace_another_users_executable_is_unknown(open_path: Path) -> None:
    """SYS_PTRACE is needed: without it the process is counted, by its short name alone."""
    page = sampled(open_path, without("SYS_PTRACE"))
    assert executables(page, "stranger") == {""}
    assert page.total("kepler_process_cpu_seconds_total", comm="stranger") > 0


def test_without_read_search_no_cgroup_is_found_by_its_id() -> None:
    """DAC_READ_SEARCH is needed: without it the kernel opens nothing by handle."""
    root = hierarchies()[0].v1_root or hierarchies()[0].v2_root
    script = (
        "from kepler_ebpf.names.cgroups.kernfs import HandleResolver, make_resolver\n"
        f"print(isinstance(make_resolver({str(root)!r}), HandleResolver))"
    )
    for capabilities, found in ((CAPABILITIES, "True"), (without("DAC_READ_SEARCH"), "False")):
        command = [*under(capabilities), COMMAND[0], "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == found
