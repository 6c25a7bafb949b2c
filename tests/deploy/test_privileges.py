"""Least-privilege and multi-tenant: the same everywhere, enough to sample, and nothing too much.

The program is started under exactly the capabilities that the manifests name.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from cgroup_tree import cgroup_tree, hierarchies
from manifests import DEPLOY, KUSTOMIZE, Json, chart, container, kustomize
from powercap import CpuModel, PowercapTree, driven, host_busy_s
from running import ANY_PORT, COMMAND, Page, Run, refused, running, stepping
from workers import SCRIPT, Worker, worker

from kepler_ebpf.check.kernel import NEEDS
from kepler_ebpf.host.rights import OTHER_USER

CONTAINER_ID = "c" * 64
NOBODY = 65_534
PROFILES = ("least-privilege", "multi-tenant")
VM_ID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
TENANTS = {"DAC_READ_SEARCH", "SYS_PTRACE"}
"""What multi-tenant leaves out: the ways to others' files and processes."""


def rights_of_helm(profile: str = "least-privilege") -> Json:
    """Return the security context of a profile of the chart."""
    return dict(container(chart(f"profile={profile}"))["securityContext"])


def rights_of_kustomize(profile: str) -> Json:
    """Return the security context of an overlay."""
    return dict(container(kustomize(KUSTOMIZE / "overlays" / profile))["securityContext"])


def rights_of_systemd(file: str) -> tuple[str, ...]:
    """Return the capabilities of the unit or a drop-in, which are bounding and ambient alike."""
    text = (DEPLOY / "systemd" / file).read_text()
    found = {
        setting: re.findall(rf"^{setting}=(.*)$", text, re.MULTILINE)
        for setting in ("CapabilityBoundingSet", "AmbientCapabilities")
    }
    bounding, ambient = found.values()
    assert bounding == ambient
    return tuple(each.removeprefix("CAP_") for each in bounding[-1].split())


CAPABILITIES = tuple(rights_of_helm()["capabilities"]["add"])
"""What the profile adds, without the CAP_ that Kubernetes leaves out."""


def under(capabilities: tuple[str, ...], user: int = 0) -> tuple[str, ...]:
    """Return a command prefix that leaves exactly these capabilities, for good."""
    kept = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities)])
    sets = (f"--inh-caps={kept}", f"--bounding-set={kept}", "--no-new-privs")
    other = (f"--reuid={user}", f"--regid={user}", "--clear-groups", f"--ambient-caps={kept}")
    return ("setpriv", *sets, *(other if user else ()))


def without(name: str) -> tuple[str, ...]:
    """Return the profile's capabilities but one."""
    return tuple(each for each in CAPABILITIES if each != name)


# --- what the manifests say -------------------------------------------------------------------


def test_profiles_are_the_same_in_every_way_to_install() -> None:
    """Helm, kustomize, compose and systemd name the same capabilities, and `check` knows each."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["kepler-ebpf"]
    for profile in PROFILES:
        assert rights_of_kustomize(profile) == rights_of_helm(profile)
    assert tuple(compose["cap_add"]) == rights_of_systemd("kepler-ebpf.service") == CAPABILITIES
    assert {f"CAP_{name}" for name in CAPABILITIES} == {need.capability for need in NEEDS}


def test_multi_tenant_is_least_privilege_without_others_files_and_processes() -> None:
    """All else is the same, with a value of `capabilities` too."""
    least, shared = map(rights_of_helm, PROFILES)
    assert shared["capabilities"].pop("add") == [
        each for each in least["capabilities"].pop("add") if each not in TENANTS
    ]
    assert shared == least
    chosen = chart("profile=multi-tenant", "capabilities={BPF,SYS_PTRACE,SYS_RESOURCE}")
    assert container(chosen)["securityContext"]["capabilities"]["add"] == ["BPF", "SYS_RESOURCE"]
    assert set(rights_of_systemd("multi-tenant.conf")) == set(CAPABILITIES) - TENANTS


def test_profile_drops_all_else() -> None:
    """No other capability, no way to more, a read-only root and the runtime's seccomp profile."""
    rights = rights_of_helm()
    assert rights["capabilities"]["drop"] == ["ALL"]
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["privileged"] is False
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}


def test_compose_is_bounded_as_the_unit_is() -> None:
    """Without a limit of memory or tasks, what grows would take the host's."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["kepler-ebpf"]
    unit = (DEPLOY / "systemd" / "kepler-ebpf.service").read_text()
    assert f"\nMemoryMax={compose['mem_limit'].upper()}\n" in unit
    assert f"\nTasksMax={compose['pids_limit']}\n" in unit


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
    """Run under *capabilities* beside a stranger, a VM and a container; return a page of them.

    One more process, "later", starts when the run has started.
    """
    with ExitStack() as stack:
        tree = stack.enter_context(cgroup_tree(hierarchies()[0]))
        workers = [
            stack.enter_context(worker(folder, "stranger", user=NOBODY)),
            stack.enter_context(worker(folder, "inside")),
            stack.enter_context(disguised_vm(folder)),
        ]
        tree.make(f"/docker/{CONTAINER_ID}").enter(workers[1].pid)
        run = stack.enter_context(stepping(folder, wrapper=under(capabilities)))
        workers.append(stack.enter_context(worker(folder, "later", user=NOBODY)))
        for each in workers:
            each.spin()
        # On a busy host a name comes after the first page of a process.
        run.step()
        return run.step()


@contextmanager
def disguised_vm(folder: Path) -> Iterator[Worker]:
    """Run what only its executable shows to be a VM, as another user."""
    with worker(folder, "qemu-system-x86_64"):
        pass
    program = folder / "qemu-system-x86_64"
    command = ("guest", "-c", SCRIPT, "-uuid", VM_ID)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, executable=program, stdin=pipe, stdout=pipe, user=NOBODY
    ) as process:
        yield Worker(process)
        process.kill()


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


# --- what it keeps once it has started --------------------------------------------------------

READING = frozenset({"DAC_READ_SEARCH", "SYS_PTRACE"})
BITS = {"DAC_READ_SEARCH": 2, "SYS_PTRACE": 19}


def rights_of_threads(run: Run) -> dict[str, tuple[int, frozenset[str], bool]]:
    """Return user, capabilities and whether no more can be gained, the main thread's first."""
    found = []
    for task in sorted(Path(f"/proc/{run.process.pid}/task").iterdir(), key=lambda p: int(p.name)):
        try:
            text = (task / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):  # one that has read names
            continue
        status = dict(re.findall(r"^(\w+):\s+(.*)$", text, re.MULTILINE))
        held = int(status["CapPrm"], 16) | int(status["CapEff"], 16) | int(status["CapAmb"], 16)
        names = [name for name, bit in BITS.items() if held >> bit & 1]
        assert held == sum(1 << BITS[name] for name in names), "it holds another capability"
        user = int(status["Uid"].split()[0])
        found.append((user, frozenset(names), status["NoNewPrivs"] == "1"))
    return {"main": found[0]} | {f"thread {number}": each for number, each in enumerate(found[1:])}


@pytest.mark.parametrize(
    ("wrapper", "user", "kept"),
    [
        pytest.param((), OTHER_USER, READING, id="privileged"),
        pytest.param(under(CAPABILITIES), 0, READING, id="least-privilege"),
        pytest.param(under(CAPABILITIES, NOBODY), NOBODY, READING, id="least-privilege-systemd"),
        pytest.param(under(("BPF", "PERFMON")), 0, frozenset(), id="multi-tenant"),
        pytest.param(
            under(("BPF", "PERFMON"), NOBODY), NOBODY, frozenset(), id="multi-tenant-systemd"
        ),
    ],
)
def test_only_what_reading_needs_is_kept(
    open_path: Path, wrapper: tuple[str, ...], user: int, kept: frozenset[str]
) -> None:
    """The loop keeps the way to others' files and executables, the other threads nothing."""
    with running(open_path, "--meter", "fake", "--exporter.stdout", wrapper=wrapper) as run:
        run.until(lambda page: page.intervals > 1)
        main, *others = rights_of_threads(run).values()
    assert main == (user, kept, True)
    # Those that read names have the loop's rights.
    assert {held for _, held, _ in others} <= {frozenset(), kept}
    assert [held for _, held, _ in others].count(frozenset()) >= 4
    assert all(cannot_gain for *_, cannot_gain in others)
    assert {each for each, *_ in others} <= {user, OTHER_USER}


def test_rights_are_kept_where_asked_for(tmp_path: Path) -> None:
    """The loop is root's then, with all of root's capabilities."""
    with running(tmp_path, "--meter", "fake", "--keep-privileges") as run:
        run.until(lambda page: page.intervals > 1)
        status = Path(f"/proc/{run.process.pid}/status").read_text()
    own = Path("/proc/self/status").read_text()
    for name in ("Uid", "CapPrm", "CapEff"):
        pattern = rf"^{name}:.*$"
        assert re.findall(pattern, status, re.MULTILINE) == re.findall(pattern, own, re.MULTILINE)


# --- what multi-tenant loses ------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages() -> dict[str, Page]:
    """Return a page of each profile."""
    found = {}
    for profile in PROFILES:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            found[profile] = sampled(Path(folder), capabilities_of(profile))
    return found


def capabilities_of(profile: str) -> tuple[str, ...]:
    """Return what a profile adds."""
    return tuple(rights_of_helm(profile)["capabilities"]["add"])


def finding(name: str, wrapper: tuple[str, ...], *arguments: str) -> dict[str, str]:
    """Return what `check` under these rights finds of *name*."""
    command = (*COMMAND[:-1], "check", "--json")
    done = refused(*ANY_PORT, *arguments, wrapper=wrapper, command=command)
    (found,) = (each for each in json.loads(done.stdout)["findings"] if each["name"] == name)
    return dict(found)


def reads_rapl(profile: str, folder: Path) -> bool:
    """Tell whether counters of root's are read by the user that systemd chooses."""
    sysfs = folder / "sys"
    (sysfs / "devices/system").mkdir(parents=True)
    (sysfs / "devices/system/cpu").symlink_to("/sys/devices/system/cpu")
    tree = PowercapTree(sysfs, "single_socket")
    with driven(tree, CpuModel(idle_w=5, busy_w=5, busy_s=host_busy_s)):
        rights = under(capabilities_of(profile), NOBODY)
        return finding("meter rapl", rights, "--host.sysfs", str(sysfs))["status"] == "ok"


def reads_runtimes(profile: str, folder: Path) -> bool:
    """Tell whether a container reads the files of the host's runtimes, by way of its /proc."""
    procfs = folder / "proc"
    procfs.mkdir()
    for entry in Path("/proc").iterdir():
        (procfs / entry.name).symlink_to(entry)
    # A process of root's with all capabilities; some hosts keep their first from everybody.
    (procfs / "1").unlink()
    (procfs / "1").symlink_to(f"/proc/{os.getpid()}")
    rights = under(capabilities_of(profile))
    return finding("container names", rights, "--host.procfs", str(procfs))["status"] != "lack"


def test_check_names_the_profile_and_the_next_better_one() -> None:
    """Whoever has more rights than a profile is told of that profile, in one line."""
    least, shared = (finding("profile", under(capabilities_of(each))) for each in PROFILES)
    privileged = finding("profile", ())
    assert "privileged: who takes this process over has the host" in privileged["detail"]
    assert "least-privilege is enough" in privileged["remedy"]
    assert least["detail"].startswith("least-privilege: ")
    assert "multi-tenant" in least["remedy"]
    assert (shared["status"], shared["remedy"]) == ("ok", "")
    assert "all memory by BPF" in shared["detail"]
    assert "root's without capabilities" in shared["detail"]


IN_A_PAGE: dict[str, Callable[[Page], bool]] = {
    "CPU time and energy of all": lambda page: all(
        page.total(f"kepler_process_cpu_{unit}_total", comm=comm) > 0
        for unit in ("seconds", "joules")
        for comm in ("stranger", "inside", "later", "qemu-system-x86")
    ),
    "containers, pods and units by their cgroups": lambda page: bool(
        page.find("kepler_container_cpu_joules_total", container_id=CONTAINER_ID)
    ),
    "executables of processes that start after it": lambda page: executables(page, "later") != {""},
    "executables of processes that are older": lambda page: executables(page, "stranger") != {""},
    "older VMs that only their executable shows": lambda page: bool(
        page.find("kepler_vm_cpu_joules_total", vm_id=VM_ID)
    ),
}
IN_A_CHECK = {
    "names in the runtimes' files, from a container": reads_runtimes,
    "RAPL counters, as another user than 0 (systemd)": reads_rapl,
}


def losses() -> dict[str, tuple[str, str]]:
    """Return the README's table of what both profiles know."""
    text = (DEPLOY / "README.md").read_text()
    (lines,) = re.findall(r"^\| known of .*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines()]
    return {name: (least, shared) for name, least, shared in rows}


def test_every_loss_is_tried() -> None:
    """The table has the rows that are tried here, no others."""
    assert losses().keys() == {**IN_A_PAGE, **IN_A_CHECK}.keys()


@pytest.mark.parametrize("what", IN_A_PAGE)
def test_table_of_what_a_run_knows(pages: dict[str, Page], what: str) -> None:
    """The running program knows what the table says, under either profile."""
    known = (IN_A_PAGE[what](pages[profile]) for profile in PROFILES)
    assert tuple("yes" if each else "no" for each in known) == losses()[what]


@pytest.mark.parametrize("what", IN_A_CHECK)
def test_table_of_what_can_be_read(open_path: Path, what: str) -> None:
    """What is read at start is as the table says, under either profile."""
    known = []
    for profile in PROFILES:
        (open_path / profile).mkdir(mode=0o755)
        known.append(IN_A_CHECK[what](profile, open_path / profile))
    assert tuple("yes" if each else "no" for each in known) == losses()[what]
