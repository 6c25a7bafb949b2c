"""What a host, a user or a process can do wrong to `run`: a clear error, and nothing lost."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgroup_tree import cgroup_tree, hierarchies
from powercap import PowercapTree, ZoneSpec
from running import (
    ANY_PORT,
    COMMAND,
    OPENMETRICS,
    Page,
    assert_conserved,
    in_container,
    page_of,
    refused,
    running,
    stepping,
)
from truth import Stopwatch
from workers import never_idle, worker

NOBODY = 65534
LITTLE = 10_000
"""Loops of a worker whose name is all that matters."""

DOCKER = "d0c4e2" + 58 * "0"
RIGHTS_OF_BPF = "-all,+bpf,+perfmon"
AS_ROOT_WITH_BPF_ONLY = ("setpriv", "--inh-caps=-all", f"--bounding-set={RIGHTS_OF_BPF}")
AS_NOBODY_WITH_BPF = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *(f"--{kind}-caps={RIGHTS_OF_BPF}" for kind in ("inh", "ambient")),
    f"--bounding-set={RIGHTS_OF_BPF}",
)
AS_NOBODY = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=-all", "--bounding-set=-all"),
)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user can read, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def without(*commands: str) -> tuple[str, ...]:
    """Return a wrapper that runs in a mount namespace in which *commands* were run first."""
    script = "; ".join((*commands, 'exec "$@"'))
    return ("unshare", "--mount", "sh", "-ec", script, "sh")


WITHOUT_BTF = without("mount -t tmpfs none /sys/kernel/btf")
WITHOUT_TRACEFS = without("umount -l -t tracefs -a")
WITHOUT_CGROUPS = without("umount -l -R /sys/fs/cgroup")


# --- rights and kernels -----------------------------------------------------------------------


@pytest.mark.parametrize("loader", ["core", "bcc"])
@pytest.mark.parametrize(
    "wrapper",
    [
        AS_NOBODY,
        ("setpriv", "--inh-caps=-all", "--bounding-set=-perfmon,-sys_admin"),
        ("setpriv", "--inh-caps=-all", "--bounding-set=-bpf,-sys_admin"),
    ],
    ids=["nobody", "no CAP_PERFMON", "no CAP_BPF"],
)
def test_lack_of_rights_is_told(wrapper: tuple[str, ...], loader: str) -> None:
    """What is refused is said in a line, what would be allowed in another."""
    done = refused(*ANY_PORT, "--bpf-loader", loader, wrapper=wrapper)
    assert done.returncode == 3
    error, hint = told(done)
    assert error.startswith("error: ")
    assert "Operation not permitted" in error
    assert hint == "hint: run as root, or with CAP_BPF and CAP_PERFMON"


def told(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """Return the error and the hint that a command ended with; there is no traceback."""
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()[-2:]
    return error, hint


@pytest.mark.parametrize("verb", ["run", "check"])
def test_clocks_of_another_time_namespace_are_told(verb: str) -> None:
    """Its monotonic clock is not the one of the kernel's records: nothing would fit together."""
    wrapper = ("unshare", "--time", "--monotonic", "100000", "--fork")
    done = refused(*ANY_PORT, wrapper=wrapper, command=(*COMMAND[:-1], verb))
    text = done.stdout + done.stderr
    assert done.returncode == {"run": 3, "check": 1}[verb]
    assert "the clocks of this time namespace differ from the host's" in text
    assert "nsenter --target 1 --time" in text


@pytest.mark.parametrize("loader", ["auto", "core", "bcc"])
def test_kernel_without_btf_and_headers_is_told(loader: str) -> None:
    """Neither loader can work there, and each says what it lacks."""
    done = refused(*ANY_PORT, "--bpf-loader", loader, wrapper=WITHOUT_BTF)
    assert done.returncode == 3
    error, hint = told(done)
    assert "no type information" in error or "neither type information" in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("wrapper", [WITHOUT_TRACEFS, WITHOUT_CGROUPS], ids=["tracefs", "cgroups"])
def test_run_works_without_a_mount(
    tmp_path: Path, wrapper: tuple[str, ...], stopwatch: Stopwatch
) -> None:
    """Without tracefs nothing is missed; without cgroup mounts only containers' names."""
    with stepping(tmp_path, "--meter", "fake", wrapper=wrapper) as run:
        with worker(tmp_path, "mountless") as hog:
            used_s = hog.spin()
            page = run.step()
        assert run.end() == 0
    counted_s = page.total("kepler_process_cpu_seconds_total", comm="mountless")
    assert stopwatch.agree(counted_s, used_s)


def test_mounts_of_a_container_are_warned_of(tmp_path: Path) -> None:
    """With neither the host's PIDs nor its /sys it runs, and the log has a line for each."""
    with running(tmp_path, "--meter", "fake", wrapper=in_container(tmp_path / "bundle")) as run:
        assert run.scrape().total("kepler_node_cpu_active_joules_total") >= 0
        warned = [line for line in run.log.splitlines() if "WARN" in line.upper()]
        assert run.end() == 0
    assert [any(remedy in line for line in warned) for remedy in ("hostPID", "--host.sysfs")] == [
        True,
        True,
    ]


def test_mounts_of_the_host_are_not_warned_of(tmp_path: Path) -> None:
    """Where all is shared there is nothing to say."""
    with running(tmp_path, "--meter", "fake") as run:
        assert "shows" not in run.log


@pytest.mark.parametrize("loader", ["core", "bcc"])
def test_two_capabilities_are_enough(open_folder: Path, loader: str, stopwatch: Stopwatch) -> None:
    """As another user with CAP_BPF and CAP_PERFMON it counts every process, root's too."""
    arguments = ("--meter", "fake", "--bpf-loader", loader)
    with stepping(open_folder, *arguments, wrapper=AS_NOBODY_WITH_BPF) as run:
        with worker(open_folder, "of-root") as hog:
            used_s = hog.spin()
            page = run.step()
        assert run.end() == 0
    counted_s = page.total("kepler_process_cpu_seconds_total", comm="of-root")
    assert stopwatch.agree(counted_s, used_s)
    assert_conserved(page)


def test_unreadable_counters_are_told(open_folder: Path) -> None:
    """Who may not read energy_uj learns that root may."""
    (open_folder / "devices/system").mkdir(parents=True)
    (open_folder / "devices/system/cpu").symlink_to("/sys/devices/system/cpu")
    PowercapTree(open_folder, "single_socket")
    arguments = (*ANY_PORT, "--meter", "rapl", "--host.sysfs", str(open_folder))
    error, hint = told(refused(*arguments, wrapper=AS_NOBODY_WITH_BPF))
    assert "intel-rapl:0: Permission denied" in error
    assert "run as root" in hint


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"monitor: [", "not valid YAML"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
        (b"- monitor\n- web\n", "list"),
        (b"monitor: 5s\n", "monitor"),
        (b"monitor: {interval: [1s, 2s]}\n", "monitor.interval"),
        (b"monitor: {interval: never}\n", "monitor.interval"),
        (b"web: {listenAddresses: 28282}\n", "web.listenAddresses"),
    ],
)
def test_wrong_configuration_file_is_told(tmp_path: Path, text: bytes, problem: str) -> None:
    """The file and what is wrong in it are named, and what it should be."""
    path = tmp_path / "config.yaml"
    path.write_bytes(text)
    done = refused("--config.file", str(path))
    assert done.returncode == 2
    error, hint = told(done)
    assert str(path) in error
    assert problem in error
    assert hint.startswith("hint: ")


def test_missing_configuration_file_is_told(tmp_path: Path) -> None:
    """A file that is not there is an error: its settings were meant."""
    done = refused(*ANY_PORT, "--config.file", str(tmp_path / "none.yaml"))
    assert done.returncode == 2
    assert "none.yaml: No such file or directory" in told(done)[0]


def test_wrong_procfs_is_told(tmp_path: Path) -> None:
    """A folder that is no procfs is found out, with the flag that names another."""
    error, hint = told(refused(*ANY_PORT, "--host.procfs", str(tmp_path)))
    assert str(tmp_path) in error
    assert "--host.procfs" in hint


@pytest.mark.parametrize("file", ["energy_uj", "online", "possible"])
def test_fifo_in_a_mounted_tree_is_told(tmp_path: Path, file: str) -> None:
    """A tree with one in the place of a file is an error, and no wait that nothing can end."""
    tree = PowercapTree(tmp_path, [ZoneSpec("intel-rapl:0", "package-0")])
    cpus = tmp_path / "devices/system/cpu"
    cpus.mkdir(parents=True)
    for name in ("online", "possible"):
        (cpus / name).write_text("0\n")
    path = tree.counter("intel-rapl:0") if file == "energy_uj" else cpus / file
    path.unlink()
    os.mkfifo(path)
    done = refused(*ANY_PORT, "--meter", "rapl", "--host.sysfs", str(tmp_path))
    assert done.returncode == 3
    assert "Not a regular file" in told(done)[0]


# --- processes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrapper", [AS_ROOT_WITH_BPF_ONLY, AS_NOBODY_WITH_BPF], ids=["root", "nobody"]
)
def test_process_closed_to_us_is_counted(
    open_folder: Path, wrapper: tuple[str, ...], stopwatch: Stopwatch
) -> None:
    """Where exe may not be read it is empty; comm and container come from the kernel."""
    with cgroup_tree(hierarchies()[0]) as tree, worker(open_folder, "closed") as hog:
        tree.make(f"/docker/{DOCKER}").enter(hog.pid)
        with stepping(open_folder, "--meter", "fake", wrapper=wrapper) as run:
            used_s = hog.spin()
            page = run.until(
                lambda page: page.find("kepler_container_cpu_seconds_total", container_id=DOCKER)
            )
            log = run.log
        hog.end()
    (found,) = page.find("kepler_process_cpu_seconds_total", comm="closed")
    assert (found.labels["exe"], found.labels["container_id"]) == ("", DOCKER)
    assert stopwatch.agree(found.value, used_s)
    first, *others = log.splitlines()
    assert "started: " in first
    assert all("has its id for a name" in line for line in others), others
    assert_conserved(page)


STRANGE_NAMES = (
    b'a"b\\c"',
    b"a\nb\tc",
    b"caf\xe9\xff",
    b"{a=,b} # 1",
    "fourteen_byte\N{EURO SIGN}".encode(),
)
"""Quotes, line breaks, bytes that are no UTF-8, Prometheus's own syntax, a character cut in two."""


def test_strange_names_are_valid_labels(tmp_path: Path) -> None:
    """Names and command lines that no parser likes come out as labels that every parser reads."""
    arguments = (b'"', b"\n", b"\xff\xfe", b"x" * 4096)
    with stepping(tmp_path, "--meter", "fake") as run:
        for name in STRANGE_NAMES:
            with worker(tmp_path, name, *arguments) as hog:
                hog.spin(LITTLE)
                hog.end()
        pages = [run.step(), run.scrape(OPENMETRICS)]
    assert checked_by_promtool(pages[0]) == ""
    for page in pages:
        shown = {each.labels["comm"] for each in page.find("kepler_process_cpu_seconds_total")}
        assert {name[:15].decode("utf-8", "replace") for name in STRANGE_NAMES} <= shown


def checked_by_promtool(page: Page) -> str:
    """Return what Prometheus's own checker has to say; nothing is best."""
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=page.text.encode(), capture_output=True, check=False)
    return (done.stdout + done.stderr).decode()


def test_strange_executable_is_a_valid_label(tmp_path: Path) -> None:
    """The path of the executable is shown with what it can be shown of it."""
    with stepping(tmp_path, "--meter", "fake") as run, worker(tmp_path, b'q"\n\xff') as hog:
        hog.spin(LITTLE)
        page = run.step()
    exes = {each.labels["exe"] for each in page.find("kepler_process_cpu_seconds_total")}
    assert f'{tmp_path}/q"\n\N{REPLACEMENT CHARACTER}' in exes
    assert page_of(page.text) == page


def test_deleted_executable_is_shown_as_the_kernel_does(tmp_path: Path) -> None:
    """A program whose file was replaced, as in any upgrade, still has its path."""
    with worker(tmp_path, "upgraded") as hog:
        (tmp_path / "upgraded").unlink()
        with stepping(tmp_path, "--meter", "fake") as run:
            hog.spin(LITTLE)
            page = run.step()
    (found,) = page.find("kepler_process_cpu_seconds_total", comm="upgraded")
    assert found.labels["exe"] == f"{tmp_path}/upgraded (deleted)"


def test_executable_is_what_it_was_at_exec(tmp_path: Path) -> None:
    """A file that is removed while its program runs makes no other series of it."""
    with stepping(tmp_path, "--meter", "fake") as run, worker(tmp_path, "removed") as hog:
        hog.spin(LITTLE)
        before = run.step()
        (tmp_path / "removed").unlink()
        hog.spin(LITTLE)
        after = run.step()
    for page in (before, after):
        (found,) = page.find("kepler_process_cpu_seconds_total", comm="removed")
        assert found.labels["exe"] == f"{tmp_path}/removed"


FORKS = 2000
FORK_STORM = f"i=0; while [ $i -lt {FORKS} ]; do (:); i=$((i+1)); done"


def test_full_map_is_counted_not_hidden(tmp_path: Path, stopwatch: Stopwatch) -> None:
    """Tasks that find no room are their cgroup's [overflow] time; no joule is lost."""
    shell = tmp_path / "storm"
    shutil.copy("/bin/sh", shell)
    with cgroup_tree(hierarchies()[0]) as tree:
        cgroup = tree.make(f"/docker/{DOCKER}")
        enter = f"echo 0 > {cgroup.directory}/cgroup.procs; "
        arguments = ("--meter", "fake", "--interval", "1h", "--bpf-map-entries", "1024")
        with running(tmp_path, *arguments, config="monitor: {staleness: 100ms}\n") as run:
            run.step()
            with never_idle(tmp_path, cpu=0):
                subprocess.run(["taskset", "-c", "0", shell, "-c", enter + FORK_STORM], check=True)
            truth_s = cgroup.cpu_s
            full = run.step()
            after = run.step()
    name = "kepler_process_cpu_seconds_total"
    untracked_s = full.total(name, comm="[overflow]", container_id=DOCKER)
    assert 0 < untracked_s <= full.total("kepler_ebpf_overflow_cpu_seconds_total")
    counted_s = full.total("kepler_container_cpu_seconds_total", container_id=DOCKER)
    assert stopwatch.agree(counted_s, truth_s)
    assert full.total("kepler_ebpf_map_fill_ratio") > 0.9
    assert after.total("kepler_ebpf_map_fill_ratio") < 0.9
    for page in (full, after):
        assert page.total("kepler_ebpf_accounting_error_ratio") <= 1e-3
        assert_conserved(page)


def test_processes_that_vanish_while_being_read(tmp_path: Path) -> None:
    """Names are asked for while thousands of processes come and go; nothing is lost."""
    arguments = ("--meter", "fake", "--interval", "10ms")
    with running(tmp_path, *arguments) as run:
        subprocess.run(["sh", "-c", FORK_STORM], check=True)
        page = run.scrape()
        log = run.log
    assert page.total("kepler_ebpf_failed_intervals_total") == 0
    assert log.count("\n") == 1
    assert_conserved(page)
