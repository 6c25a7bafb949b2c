"""The syscall filters of deploy/: what runs use is let through, what takes a host is not.

The one list is scripts/system_calls.py; unit, compose and the seccomp profile have it.
"""

import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cgroup_tree import cgroup_tree, hierarchies
from containment import contained
from kube_runs import cluster, source_up
from manifests import DEPLOY, chart, container
from running import COMMAND, OPENMETRICS, Page, refused, running
from workers import worker

PROFILE = json.loads((DEPLOY / "seccomp" / "kepler-ebpf.json").read_text())
CAPABILITIES = tuple(
    container(chart("profile=least-privilege"))["securityContext"]["capabilities"]["add"]
)
LOADERS = {"core": "apiserver", "bcc": "kubelet"}
"""Each loader, with the mode of pods that is tried beside it."""

CONTAINER_ID = "d" * 64

REFUSED = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp"),
    *("pidfd_open", "pidfd_getfd", "kill", "tkill", "tgkill", "rt_sigqueueinfo"),
    *("mount", "umount2", "pivot_root", "chroot", "fsopen", "open_tree", "move_mount"),
    *("setns", "unshare", "init_module", "finit_module", "kexec_load", "reboot", "swapon"),
    *("setuid", "setgid", "setresuid", "setgroups", "userfaultfd", "io_uring_setup"),
    *("add_key", "keyctl", "settimeofday", "clock_settime", "sethostname", "syslog", "acct"),
)
"""What reaches other processes, mounts, namespaces, users or the kernel."""

TRY = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
for number in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    # No argument is valid, so that a call that is let through does nothing.
    libc.syscall(number, *[ctypes.c_long(-1)] * 6)
    print(ctypes.get_errno())
"""


@cache
def seccomp() -> ctypes.CDLL:
    """Return the library that every runtime uses."""
    return ctypes.CDLL("libseccomp.so.2")


def number_of(call: str, architecture: int = 0) -> int:
    """Return the number of a call, on this machine or another; -1 for none of that name."""
    return int(seccomp().seccomp_syscall_resolve_name_arch(architecture, call.encode()))


def allowed(profile: dict[str, Any]) -> set[str]:
    """Return the calls that *profile* lets through, on whatever condition."""
    return {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" or "errnoRet" in rule
        for name in rule["names"]
    }


def profile_without(call: str) -> dict[str, Any]:
    """Return the profile with one call less."""
    rules = [
        {**rule, "names": [name for name in rule["names"] if name != call]}
        for rule in PROFILE["syscalls"]
    ]
    return {**PROFILE, "syscalls": [rule for rule in rules if rule["names"]]}


# --- what is used -----------------------------------------------------------------------------


def everything(folder: Path, loader: str, wrapper: tuple[str, ...]) -> Page:
    """Run with all parts on, start to stop, beside a new process in a new container."""
    with ExitStack() as stack:
        kube = stack.enter_context(cluster(folder, LOADERS[loader]))
        arguments = ("--bpf-loader", loader, "--exporter.stdout", *kube.arguments)
        run = stack.enter_context(
            running(folder, *arguments, config=f"{kube.config}{LISTED}", wrapper=wrapper)
        )
        tree = stack.enter_context(cgroup_tree(hierarchies()[0]))
        new = stack.enter_context(worker(folder, "seen"))
        tree.make(f"/docker/{CONTAINER_ID}").enter(new.pid)
        new.spin()
        page = run.until(
            lambda page: (
                page.find("kepler_container_cpu_joules_total", container_id=CONTAINER_ID)
                and source_up(page)
            )
        )
        run.scrape(OPENMETRICS)
        assert run.end() == 0
        assert "Traceback" not in run.log
    return page


LISTED = "monitor: {minTerminatedEnergyThreshold: 0}\n"


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return every call that runs with either loader and a check of the host make."""
    found = set()
    folders = {loader: tmp_path_factory.mktemp(loader) for loader in LOADERS}
    for loader, folder in folders.items():
        everything(folder, loader, tracing(folder))
    folder = tmp_path_factory.mktemp("check")
    refused("--web.listen-address", "127.0.0.1:0", wrapper=tracing(folder), command=CHECK)
    for traces in (*folders.values(), folder):
        for line in (traces / "calls").read_text().splitlines():
            found |= set(re.findall(r"^\d+ +(\w+)\(", line))
    return found


CHECK = (*COMMAND[:-1], "check")


def tracing(folder: Path) -> tuple[str, ...]:
    """Return the wrapper that writes the calls of a command to "calls" in *folder*."""
    return ("strace", "-D", "-f", "-qq", "-o", str(folder / "calls"))


def test_every_call_that_is_made_is_let_through(traced: set[str]) -> None:
    """The profile has each call of runs with all parts on, but for a change of user.

    Under the profile there is none: the program stays who it is, with the same few capabilities.
    """
    assert traced - allowed(PROFILE) == {"setgroups", "setresgid", "setresuid"}


def test_every_family_is_used(traced: set[str]) -> None:
    """Each group of calls is in the profile since a run makes one of them."""
    # The C library uses either, and clone() where the other is refused.
    used = traced | {"clone", "clone3"} if traced & {"clone", "clone3"} else traced
    for rule in PROFILE["syscalls"]:
        assert used & set(rule["names"]), f"nothing makes any of {rule['names']}"


def test_every_call_exists() -> None:
    """A name that is misspelled would let nothing through; each rule holds on aarch64 too."""
    aarch64 = int(seccomp().seccomp_arch_resolve_name(b"aarch64"))
    assert {name for name in allowed(PROFILE) if number_of(name) == -1} == set()
    for rule in PROFILE["syscalls"]:
        assert any(number_of(name, aarch64) >= 0 for name in rule["names"])


# --- what the filter does ---------------------------------------------------------------------


@pytest.mark.parametrize("loader", LOADERS)
def test_run_under_the_profile_works(tmp_path: Path, loader: str) -> None:
    """With the four capabilities and the filter, a container and its process are measured."""
    with contained(tmp_path / "bundle", CAPABILITIES, PROFILE) as wrapper:
        page = everything(tmp_path, loader, wrapper)
    (row, *_) = page.find("kepler_process_cpu_joules_total", comm="seen")
    assert row.labels["exe"].endswith("/seen")
    assert row.labels["container_id"] == CONTAINER_ID


def test_check_under_the_profile_works(tmp_path: Path) -> None:
    """So does the verb that an operator runs inside the container."""
    with contained(tmp_path / "bundle", CAPABILITIES, PROFILE) as wrapper:
        done = refused("--web.listen-address", "127.0.0.1:0", wrapper=wrapper, command=CHECK)
    assert (done.returncode, done.stderr) == (0, "")


def all_capabilities() -> list[str]:
    """Return what root has on this host, without CAP_."""
    (mask,) = re.findall(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    command = ("capsh", f"--decode={mask}")
    decoded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [name.upper() for name in re.findall(r"cap_(\w+)", decoded)]


def errnos(folder: Path, profile: dict[str, Any] | None, script: str = TRY) -> list[int]:
    """Return the errno of each refused call, with all capabilities, in a container."""
    numbers = [number_of(name) for name in REFUSED]
    assert min(numbers) >= 0
    with contained(folder, all_capabilities(), profile) as wrapper:
        command = (*wrapper, sys.executable, "-c", script, json.dumps(numbers))
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


def test_what_takes_a_host_is_refused(tmp_path: Path) -> None:
    """The filter refuses, not a missing right: without it, root is told that its arguments are bad.

    EPERM is 1.
    """
    unfiltered = errnos(tmp_path / "unfiltered", None)
    assert [name for name, errno in zip(REFUSED, unfiltered, strict=True) if errno == 1] == []
    assert set(errnos(tmp_path / "filtered", PROFILE)) == {1}


CONDITIONS = """
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
for number in {clone}, {clone3}:
    # A mount namespace for threads that share their folders: EINVAL where flags are looked at.
    libc.syscall(number, ctypes.c_long({flags}), *[ctypes.c_long(0)] * 4)
    print(ctypes.get_errno())
for family in socket.AF_NETLINK, socket.AF_PACKET, socket.AF_UNIX, socket.AF_INET, socket.AF_INET6:
    try:
        socket.socket(family, socket.SOCK_RAW if family > 10 else socket.SOCK_STREAM).close()
        print(0)
    except OSError as error:
        print(error.errno)
"""


def test_no_namespace_and_no_other_network_by_a_detour(tmp_path: Path) -> None:
    """Threads are let through, namespaces not; sockets of HTTP and of the journal, no others."""
    script = CONDITIONS.format(
        clone=number_of("clone"), clone3=number_of("clone3"), flags=0x00020000 | 0x200
    )
    assert errnos(tmp_path / "unfiltered", None, script) == [22, 22, 0, 0, 0, 0, 0]
    assert errnos(tmp_path / "filtered", PROFILE, script) == [1, 38, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("call", "said"),
    [("bpf", "the kernel refuses the BPF programs (EPERM"), ("socket", "cannot listen on")],
)
def test_without_a_call_run_ends_and_names_it(tmp_path: Path, call: str, said: str) -> None:
    """What nothing works without ends the run with an error that says so."""
    with contained(tmp_path / "bundle", CAPABILITIES, profile_without(call)) as wrapper:
        done = refused("--web.listen-address", "127.0.0.1:0", wrapper=wrapper)
    assert done.returncode != 0
    assert said in done.stderr


PARTS = {
    "open_by_handle_at": (
        "from kepler_ebpf.names.cgroups.kernfs import HandleResolver, make_resolver\n"
        f"root = {str(hierarchies()[0].v1_root or hierarchies()[0].v2_root)!r}\n"
        "assert isinstance(make_resolver(root), HandleResolver), 'the tree is walked'"
    ),
    # A clock in software: the way to every PMU is the same.
    "perf_event_open": (
        "from kepler_ebpf.host.perf_event import open_event\n"
        "open_event(pmu_type=1, config=0, cpu=0)"
    ),
}
"""What of the program stops without a call that a run does not end for."""


@pytest.mark.parametrize("call", PARTS)
@pytest.mark.parametrize("is_allowed", [True, False])
def test_without_a_call_its_part_stops(tmp_path: Path, call: str, is_allowed: bool) -> None:
    """With the profile the part works, with the one call less it does not."""
    profile = PROFILE if is_allowed else profile_without(call)
    with contained(tmp_path / "bundle", CAPABILITIES, profile) as wrapper:
        command = (*wrapper, sys.executable, "-c", PARTS[call])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is is_allowed, done.stderr


# --- where it is used -------------------------------------------------------------------------


def unit_calls() -> Iterator[str]:
    """Yield the calls that the unit allows."""
    text = (DEPLOY / "systemd" / "kepler-ebpf.service").read_text()
    for line in re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE):
        assert not line.startswith("~"), "the unit only allows"
        for word in line.split():
            yield from spelled_out(word)


def spelled_out(word: str) -> Iterator[str]:
    """Yield the calls of a group of systemd's, or the one call that *word* is."""
    if not word.startswith("@"):
        yield word
        return
    command = ("systemd-analyze", "syscall-filter", word)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for member in re.findall(r"^ +(@?[\w-]+)$", done.stdout, re.MULTILINE):
        yield from spelled_out(member)


def test_unit_allows_the_same_calls() -> None:
    """Systemd's filter is the profile; its own settings see to namespaces and sockets."""
    assert set(unit_calls()) == allowed(PROFILE)
    text = (DEPLOY / "systemd" / "kepler-ebpf.service").read_text()
    assert "\nRestrictNamespaces=yes\n" in text
    assert "\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n" in text


def test_unit_refuses_what_takes_a_host() -> None:
    """None of systemd's groups brings back a call that reaches other processes or the kernel."""
    assert set(unit_calls()) & set(REFUSED) == set()


def test_compose_names_the_profile() -> None:
    """The file is where compose looks: beside compose.yaml."""
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["kepler-ebpf"]
    (path,) = (
        each.removeprefix("seccomp=")
        for each in service["security_opt"]
        if each.startswith("seccomp=")
    )
    assert json.loads((DEPLOY / path).read_text()) == PROFILE
