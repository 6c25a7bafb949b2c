"""`kepler-ebpf check` for real: as root, with fewer rights, as nobody and in other namespaces."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest
from kube_certificates import make_certificate, write_kubeconfig
from kube_runs import cluster
from kube_server import NODE, make_pod, status
from powercap import CpuModel, PowercapTree, driven, host_busy_s
from running import ANY_PORT, in_container, running

from kepler_ebpf.check import gather, kernel
from kepler_ebpf.check.finding import CheckContext, Finding, Status
from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import ReadError, SetupError
from kepler_ebpf.kernel import cgroup_v1
from kepler_ebpf.kernel.libbpf import TestRun
from kepler_ebpf.kernel.loaders import choice
from kepler_ebpf.kernel.programs import LoadRequest
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy

ON_ANY_PORT = Config(listen_addresses=ANY_PORT[1:])
ALL_DROPPED = ("--inh-caps=-all", "--bounding-set=-all")
BPF_ONLY = ("--inh-caps=-all", "--bounding-set=-all,+bpf,+perfmon")
CHECK = (sys.executable, "-m", "kepler_ebpf", "check", "--json")
NO_PTRACE = "--inh-caps=-sys_ptrace --bounding-set=-sys_ptrace"
AS_NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups", *ALL_DROPPED)


@dataclass(frozen=True)
class Checked:
    """What one `check --json` gave."""

    status: int
    can_run: bool
    errors: str
    findings: dict[str, dict[str, object]] = field(repr=False)

    def status_of(self, name: str) -> object:
        """Return a finding's status."""
        return self.findings[name]["status"]

    def blocking(self) -> set[str]:
        """Return the names of what keeps `run` from working."""
        return {
            name
            for name, finding in self.findings.items()
            if finding["required"] and finding["status"] == "lack"
        }


Check = Callable[..., Checked]


@pytest.fixture
def run_check(checkout: Path) -> Check:
    """Run `check --json` behind a command that takes rights away, with more arguments if any.

    Unless they say where to serve, any free port will do.
    """

    def start(*wrapper: str, arguments: tuple[str, ...] = ()) -> Checked:
        place = () if "--web.listen-address" in arguments else ANY_PORT
        command = [*wrapper, *CHECK, *place, *arguments]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        answer = json.loads(done.stdout)
        findings = {finding["name"]: finding for finding in answer["findings"]}
        return Checked(done.returncode, answer["can_run"], done.stderr, findings)

    return start


def facts(config: Config | None = None, release: str = "6.1.0", *held: str) -> CheckContext:
    """Make the context of a host with this kernel and these capabilities."""
    return CheckContext(config or Config(), release, frozenset(held))


def programs_finding() -> Finding:
    """Load, attach and run the programs, and return what `check` finds of it."""
    return gather.judge("BPF programs", kernel.bpf_programs, facts(), is_trial=True)


# --- this host, with all rights and with fewer ------------------------------------------------


def test_root_can_run(run_check: Check) -> None:
    """With every right on this kernel nothing required is lacking."""
    checked = run_check()
    assert (checked.status, checked.can_run, checked.blocking()) == (0, True, set())
    assert checked.errors == ""


def test_bpf_and_perfmon_are_enough(run_check: Check) -> None:
    """The two capabilities load and attach the programs; the others are lacks."""
    checked = run_check("setpriv", *BPF_ONLY)
    assert (checked.status, checked.blocking()) == (0, set())
    assert checked.status_of("BPF programs") == "ok"
    assert checked.status_of("CAP_SYS_PTRACE") == "lack"
    assert checked.status_of("CAP_DAC_READ_SEARCH") == "lack"


@pytest.mark.parametrize(
    ("wrapper", "lacking"),
    [
        (("setpriv", *ALL_DROPPED), {"CAP_BPF", "CAP_PERFMON"}),
        (("setpriv", *AS_NOBODY), {"CAP_BPF", "CAP_PERFMON"}),
        (("setpriv", "--inh-caps=-all", "--bounding-set=-bpf,-sys_admin"), {"CAP_BPF"}),
        (("setpriv", "--inh-caps=-all", "--bounding-set=-perfmon,-sys_admin"), {"CAP_PERFMON"}),
        (("capsh", "--drop=cap_bpf,cap_sys_admin", "--shell=/usr/bin/env", "--"), {"CAP_BPF"}),
    ],
)
def test_lacking_right_is_named(
    run_check: Check, wrapper: tuple[str, ...], lacking: set[str]
) -> None:
    """Exactly the missing capability is named, and the kernel's own refusal beside it."""
    checked = run_check(*wrapper)
    assert (checked.status, checked.can_run) == (1, False)
    assert checked.blocking() == {*lacking, "BPF programs"}
    assert all(checked.findings[name]["remedy"] for name in lacking)


def test_administrator_stands_in_for_bpf(run_check: Check) -> None:
    """CAP_SYS_ADMIN alone does, as it did before there was CAP_BPF."""
    checked = run_check("setpriv", "--inh-caps=-all", "--bounding-set=-all,+sys_admin")
    assert checked.blocking() == set()
    assert checked.findings["CAP_BPF"]["detail"] == "CAP_SYS_ADMIN includes it"


def test_rootless_container_is_recognised(run_check: Check) -> None:
    """In a user namespace all capabilities are held, yet BPF takes none of them."""
    checked = run_check("unshare", "--user", "--map-root-user")
    assert checked.status_of("CAP_BPF") == "ok"
    assert checked.blocking() == {"user namespace", "BPF programs"}


def test_container_pids_are_recognised(run_check: Check) -> None:
    """With a procfs of its own a container sees other PIDs than the kernel side reports."""
    checked = run_check("unshare", "--pid", "--fork", "--mount-proc")
    assert checked.status_of("host PIDs") == "lack"
    assert "hostPID" in str(checked.findings["host PIDs"]["remedy"])
    assert checked.can_run


def test_mounts_of_a_container_are_recognised(run_check: Check, tmp_path: Path) -> None:
    """Whoever forgot the host's PIDs and /sys learns of both; figures stay true without them."""
    checked = run_check(*in_container(tmp_path / "bundle"))
    assert (checked.status, checked.blocking()) == (0, set())
    for name, remedy in (("host PIDs", "hostPID"), ("cgroups", "--host.sysfs")):
        assert checked.status_of(name) == "lack"
        assert remedy in str(checked.findings[name]["remedy"])


def test_hosts_procfs_in_a_container_will_do(run_check: Check, tmp_path: Path) -> None:
    """A container whose manifest mounts the host's /proc sees the host's processes by it."""
    script = f'mount --bind /proc {tmp_path} && unshare --pid --fork --mount-proc "$@"'
    wrapper = ("unshare", "--mount", "sh", "-ec", script, "sh")
    checked = run_check(*wrapper, arguments=("--host.procfs", str(tmp_path)))
    assert checked.status_of("host PIDs") == "ok"


def test_hidden_processes_are_recognised(run_check: Check) -> None:
    """A procfs with hidepid shows an unprivileged process no others."""
    script = f'mount -o remount,hidepid=2 /proc; setpriv {" ".join(AS_NOBODY)} "$@"; exit $?'
    checked = run_check("unshare", "-mpf", "--mount-proc", "sh", "-c", script, "sh")
    assert "hidepid" in str(checked.findings["host PIDs"]["remedy"])


def test_missing_tracefs_does_not_matter(run_check: Check) -> None:
    """Raw tracepoints attach where no tracefs is mounted."""
    script = 'umount -l -t tracefs -a; exec "$@"'
    checked = run_check("unshare", "--mount", "sh", "-c", script, "sh")
    assert str(checked.findings["tracefs"]["detail"]).startswith("not mounted")
    assert checked.status_of("BPF programs") == "ok"


def test_missing_cgroup_mount_is_a_lack(run_check: Check) -> None:
    """Without a mounted hierarchy containers have no names, which is a lack."""
    script = 'umount -l -R /sys/fs/cgroup; exec "$@"'
    checked = run_check("unshare", "--mount", "sh", "-c", script, "sh")
    assert checked.status_of("cgroups") == "lack"
    assert checked.can_run


def test_check_keeps_nothing_of_the_kernels_open() -> None:
    """The programs that were loaded for a moment are let go, and with them their maps."""

    def held() -> list[str]:
        links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return [str(link) for link in links if "bpf" in str(link)]

    before = held()
    gather.gather(ON_ANY_PORT)
    assert held() == before


# --- what was asked for -----------------------------------------------------------------------


def test_hierarchy_asked_for_must_be_there(run_check: Check) -> None:
    """A hierarchy that is not mounted keeps `run` from starting with that flag."""
    script = 'umount -l -R /sys/fs/cgroup; exec "$@"'
    wrapper = ("unshare", "--mount", "sh", "-c", script, "sh")
    checked = run_check(*wrapper, arguments=("--cgroup-hierarchy", "v2"))
    assert (checked.status, checked.blocking()) == (1, {"cgroups"})


def test_meter_asked_for_must_be_there(run_check: Check, tmp_path: Path) -> None:
    """A meter asked for by name is required, others are only noted."""
    cpus = tmp_path / "devices/system"
    cpus.mkdir(parents=True)
    (cpus / "cpu").symlink_to("/sys/devices/system/cpu")
    arguments = ("--host.sysfs", str(tmp_path), "--meter")
    assert run_check(arguments=(*arguments, "rapl")).blocking() == {"meter rapl"}
    assert run_check(arguments=(*arguments, "auto")).blocking() == set()


def test_zones_asked_for_must_be_there(run_check: Check, tmp_path: Path) -> None:
    """`run` takes no other zone for one that the host lacks, and `check` foresees it."""
    cpus = tmp_path / "devices/system"
    cpus.mkdir(parents=True)
    (cpus / "cpu").symlink_to("/sys/devices/system/cpu")
    config = tmp_path / "zones.yaml"
    config.write_text("rapl: {zones: [psys]}\n")
    arguments = ("--host.sysfs", str(tmp_path), "--config.file", str(config))
    with driven(PowercapTree(tmp_path, "dual_socket"), CpuModel(20.0, 10.0, host_busy_s)):
        checked = run_check(arguments=arguments)
    assert (checked.status, checked.blocking()) == (1, {"meter rapl"})
    assert "psys" in str(checked.findings["meter rapl"]["detail"])


def test_closed_root_of_the_host_is_foreseen(run_check: Check, tmp_path: Path) -> None:
    """With another procfs and no right to follow its root, containers have only their ids."""
    script = (
        f'mount --make-rprivate /; mount --bind /proc {tmp_path}; setpriv {NO_PTRACE} "$@"; exit $?'
    )
    wrapper = ("unshare", "-mpf", "--mount-proc", "bash", "-c", script, "bash")
    checked = run_check(*wrapper, arguments=("--host.procfs", str(tmp_path)))
    assert (checked.status, checked.status_of("container names")) == (0, "lack")
    assert f"{tmp_path}/1/root" in str(checked.findings["container names"]["detail"])


def test_directories_of_container_runtimes_are_named(tmp_path: Path) -> None:
    """A reader of `check` sees where names are read, and where none can be."""
    context = facts(Config(procfs=str(tmp_path)))
    assert gather.container_names(context).status is Status.LACK
    root = tmp_path / "1/root"
    root.mkdir(parents=True)
    assert gather.container_names(context).status is Status.NOTE
    (root / "var/lib/docker").mkdir(parents=True)
    assert gather.container_names(context).detail == f"{root}/var/lib/docker"


def test_sysfs_without_cpus_is_a_lack(run_check: Check, tmp_path: Path) -> None:
    """A wrong --host.sysfs is found by what it does not show."""
    checked = run_check(arguments=("--host.sysfs", str(tmp_path)))
    assert {"CPUs", "meters"} <= checked.blocking()
    assert "--host.sysfs" in str(checked.findings["CPUs"]["remedy"])


def test_bcc_loader_is_tried_when_asked_for(run_check: Check) -> None:
    """With --bpf-loader bcc it is bcc that loads the programs."""
    checked = run_check(arguments=("--bpf-loader", "bcc"))
    assert checked.findings["BPF programs"]["detail"] == "loaded, attached and run by bcc"


def test_programs_are_loaded_for_the_cgroups_that_run_would_count_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a v1 controller they are others than without, and the kernel may refuse them."""
    asked: list[LoadRequest] = []

    def refuse(_: str, request: LoadRequest) -> NoReturn:
        asked.append(request)
        raise SetupError("refused", "nothing helps")

    monkeypatch.setattr(choice, "load", refuse)
    for name, v1_root in (("v2", None), ("cpu", "/sys/fs/cgroup/cpu")):
        chosen = CgroupHierarchy(name, v1_root, None)
        monkeypatch.setattr(kernel, "choose_hierarchy", lambda _, chosen=chosen: chosen)
        assert programs_finding().blocks
    assert [request.v1_subsys for request in asked] == [None, cgroup_v1.subsys_index("cpu")]


def test_programs_that_cannot_be_run_are_a_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel may load and attach programs and refuse to run them on demand."""

    def fail(_: TestRun, cpu: int) -> NoReturn:
        raise ReadError(f"cannot close the interval on CPU {cpu}")

    monkeypatch.setattr(TestRun, "on_cpu", fail)
    finding = programs_finding()
    assert finding.blocks
    assert "cannot close the interval on CPU 0" in finding.detail


def test_taken_port_is_a_lack(run_check: Check) -> None:
    """`run` does not start where it cannot serve."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        serve = ("--web.listen-address", address)
        checked = run_check(arguments=serve)
        assert (checked.status, checked.blocking()) == (1, {"addresses"})
        assert address in str(checked.findings["addresses"]["detail"])
        unserved = run_check(arguments=(*serve, "--no-exporter.prometheus", "--exporter.stdout"))
        assert (unserved.status, unserved.status_of("addresses")) == (0, "note")
    assert run_check(arguments=serve).status_of("addresses") == "ok"


@pytest.mark.parametrize("has_tls", [False, True])
def test_port_that_our_run_serves_is_no_lack(
    run_check: Check, tmp_path: Path, *, has_tls: bool
) -> None:
    """`check` beside a `run`, as in its container, judges all but the port that it has."""
    made = make_certificate(tmp_path / "tls")
    web = tmp_path / "web.yaml"
    web.write_text(f"tls_server_config: {{cert_file: {made.certificate}, key_file: {made.key}}}")
    with running(tmp_path, *(("--web.config-file", str(web)) if has_tls else ())) as run:
        checked = run_check(arguments=("--web.listen-address", run.address))
    assert (checked.status, checked.blocking()) == (0, set())
    assert "served by a kepler-ebpf" in str(checked.findings["addresses"]["detail"])


@pytest.mark.parametrize("is_trial", [False, True])
def test_error_while_judging_is_a_finding(*, is_trial: bool) -> None:
    """A file that cannot be read is a lack; it keeps `run` from working if `run` reads it too."""

    def fail(_: CheckContext) -> NoReturn:
        raise PermissionError(13, "Permission denied", "/proc/1/root")

    finding = gather.judge("a file", fail, facts(), is_trial=is_trial)
    assert (finding.name, finding.status, finding.blocks) == ("a file", Status.LACK, is_trial)
    assert "/proc/1/root" in finding.detail


# --- hosts that this one is not ---------------------------------------------------------------


def test_old_kernel_is_a_lack() -> None:
    """Before 5.10 an interval cannot be closed on a chosen CPU."""
    finding = kernel.kernel(facts(release="5.4.0-42-generic"))
    assert finding.blocks
    assert "5.10" in finding.remedy


@pytest.mark.parametrize(("release", "status"), [("5.10.0-32", "lack"), ("5.11.0", "note")])
def test_locked_memory_binds_old_kernels(release: str, status: str) -> None:
    """Before 5.11 a small limit without the right to raise it keeps maps from being made."""
    code = (
        "import resource, kepler_ebpf.check.kernel as kernel\n"
        "from kepler_ebpf.check.finding import CheckContext\n"
        "from kepler_ebpf.config.options import Config\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))\n"
        "facts = CheckContext(Config(), %r, frozenset())\n"
        "print(kernel.locked_memory(facts).status)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code % release], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == status


def test_right_to_raise_locked_memory_will_do() -> None:
    """With CAP_SYS_RESOURCE the limit is no obstacle."""
    finding = kernel.locked_memory(facts(None, "5.10.0", "CAP_SYS_RESOURCE"))
    assert finding.status is Status.OK


def test_statistics_need_the_administrator() -> None:
    """CAP_SYS_ADMIN is missed only where --bpf-stats asks for it."""

    def status(*, asked: bool) -> Status:
        return gather.LOOKS["CAP_SYS_ADMIN"](facts(Config(bpf_stats=asked))).status

    assert (status(asked=False), status(asked=True)) == (Status.NOTE, Status.LACK)


# --- all findings together --------------------------------------------------------------------


def test_kubernetes_needs_credentials_when_it_is_on(run_check: Check, tmp_path: Path) -> None:
    """Without a kubeconfig `run` does not start; without an answer it starts without names."""
    arguments = ("--kube.enable", "--kube.node-name", "127.0.0.1", "--kube.config")
    checked = run_check(arguments=(*arguments, str(tmp_path / "missing")))
    assert checked.blocking() == {"Kubernetes"}
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    checked = run_check(arguments=(*arguments, kubeconfig))
    assert (checked.status, checked.status_of("Kubernetes")) == (0, "lack")
    assert "https://127.0.0.1:10250" in str(checked.findings["Kubernetes"]["detail"])


@pytest.mark.parametrize("mode", ["apiserver", "kubelet"])
def test_kubernetes_is_really_asked(
    run_check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """With the environment of its pod alone, `check` makes each request that `run` needs."""
    with cluster(tmp_path, mode) as there:
        config = tmp_path / "config.yaml"
        kubeconfig = f"kube: {{enabled: true, config: {tmp_path}/kubeconfig, "
        config.write_text(there.config.replace("kube: {", kubeconfig, 1))
        monkeypatch.setenv("KEPLER_EBPF_CONFIG", str(config))
        monkeypatch.setenv("NODE_NAME", NODE)

        def finding() -> tuple[object, str]:
            found = run_check().findings["Kubernetes"]
            return found["status"], f"{found['detail']} {found['remedy']}"

        assert "knows no pod on the node" in finding()[1]
        there.server.put(make_pod(1))
        assert finding() == ("ok", f"{there.server.url} knows 1 pod(s) on the node {NODE} ")
        for kind in {"list", "watch"} if mode == "apiserver" else {"pods"}:
            there.server.answer_next(kind, status(403, "not yours"))
            said = finding()
            assert said[0] == "lack"
            assert "not yours" in said[1]
            assert "grant a ClusterRole" in said[1]
        (tmp_path / "tls").rename(tmp_path / "before")
        other = make_certificate(tmp_path / "tls")
        write_kubeconfig(tmp_path / "kubeconfig", there.server.url, other.ca)
        assert "does not verify" in finding()[1]


def test_every_lack_has_a_way_out(run_check: Check) -> None:
    """Each lack has advice, on a host that lacks nearly everything."""
    checked = run_check("setpriv", *AS_NOBODY)
    lacks = [finding for finding in checked.findings.values() if finding["status"] == "lack"]
    assert lacks
    assert all(finding["remedy"] or ": " in str(finding["detail"]) for finding in lacks)


def test_every_finding_has_its_own_name() -> None:
    """Scripts find a finding by its name."""
    names = [finding.name for finding in gather.gather(ON_ANY_PORT)]
    assert len(set(names)) == len(names)
