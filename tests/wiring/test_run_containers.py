"""Containers in a live `run`: real cgroups with container-shaped names, and real runtimes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cgroup_tree import Cgroup, CgroupTree, cgroup_tree, hierarchies
from running import CHECKOUT, GIVE_UP_S, Page, Run, assert_conserved, running, stepping
from truth import Stopwatch, may_be_hidden
from workers import LOOPS, worker

from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.names.naming import RETRY_S

POD_UID = "11111111-2222-3333-4444-555555555555"
SHORT_ONES = 200

REAL = f"/kepler-ebpf-test-runtimes-{os.getpid()}"
"""Above every cgroup that a real runtime makes here."""

VISITS = """
import os, sys, time
for directory in sys.argv[1:]:
    os.mkdir(directory)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with open(f"{directory}/cgroup.procs", "w") as procs:
            outside_s = time.thread_time()
            procs.write("0")
            procs.flush()
            until = time.thread_time() + 0.005
        os.write(writer, f"{outside_s} {until - 0.005}".encode())
        while time.thread_time() < until:
            pass
        os._exit(0)
    _, _, usage = os.wait4(child, 0)
    went_s, there_s = map(float, os.read(reader, 100).split())
    used_s = usage.ru_utime + usage.ru_stime
    print(used_s - there_s, used_s - went_s)
    os.close(reader)
    os.close(writer)
    while True:
        try:
            os.rmdir(directory)
            break
        except OSError:
            time.sleep(0.001)
"""
"""Makes each cgroup it is given, uses 5 ms of CPU in it, and removes it. Prints the least and the
most that this took: what the process had used when it was there, and when it went there, is not
the cgroup's."""


def container_id(name: str) -> str:
    """Return 64 hexadecimal digits that no other *name* has."""
    return hashlib.sha256(name.encode()).hexdigest()


@pytest.fixture(params=hierarchies(), ids=lambda hierarchy: hierarchy.name)
def hierarchy(request: pytest.FixtureRequest) -> CgroupHierarchy:
    """Return each hierarchy that this host can be counted by."""
    found: CgroupHierarchy = request.param
    return found


@pytest.fixture
def tree(hierarchy: CgroupHierarchy) -> Iterator[CgroupTree]:
    """Give a test its cgroups."""
    with cgroup_tree(hierarchy) as made:
        yield made


@contextmanager
def counted_by(folder: Path, hierarchy: CgroupHierarchy) -> Iterator[Run]:
    """Run with containers looked for in *hierarchy*."""
    arguments = ("--meter", "fake", "--cgroup-hierarchy", hierarchy.name)
    with stepping(folder, *arguments) as run:
        assert f"cgroups of {hierarchy.name}" in run.started_line
        yield run


# --- cgroups ----------------------------------------------------------------------------------


def test_process_in_a_container_is_labelled(
    tmp_path: Path, tree: CgroupTree, stopwatch: Stopwatch
) -> None:
    """The process names its container, and the container is the sum of its processes."""
    docker = container_id("docker")
    cgroup = tree.make(f"/docker/{docker}")
    with worker(tmp_path, "in-container") as inner, worker(tmp_path, "outside") as outer:
        cgroup.enter(inner.pid)
        with counted_by(tmp_path, tree.hierarchy) as run:
            used_s = inner.spin()
            outer.spin()
            page = run.step()
    labels = {"container_id": docker}
    assert page.total("kepler_process_cpu_seconds_total", comm="in-container", **labels) > 0
    assert not page.find("kepler_process_cpu_seconds_total", comm="outside", **labels)
    assert_sum_of_processes(page, docker)
    assert page.find("kepler_container_cpu_joules_total", **labels, runtime="docker")
    counted_s = page.total("kepler_container_cpu_seconds_total", **labels)
    assert stopwatch.agree(counted_s, used_s)


def assert_sum_of_processes(page: Page, id_: str) -> None:
    """Hold a container's joules and seconds against its processes'."""
    for name in ("cpu_seconds_total", "cpu_joules_total"):
        container = page.total(f"kepler_container_{name}", container_id=id_)
        processes = page.total(f"kepler_process_{name}", container_id=id_)
        assert container == pytest.approx(processes, rel=1e-9)
        assert container > 0


def test_pod_is_the_sum_of_its_containers(tmp_path: Path, tree: CgroupTree) -> None:
    """Without any API the pod's uid comes from the path, and its joules from its containers."""
    ids = [container_id(name) for name in ("one", "two")]
    cgroups = [tree.make(f"/kubepods/burstable/pod{POD_UID}/{id_}") for id_ in ids]
    with worker(tmp_path, "one") as one, worker(tmp_path, "two") as two:
        for cgroup, each in zip(cgroups, (one, two), strict=True):
            cgroup.enter(each.pid)
        with counted_by(tmp_path, tree.hierarchy) as run:
            one.spin()
            two.spin()
            page = run.step()
    for zone in page.zones():
        containers = [
            page.total("kepler_container_cpu_joules_total", container_id=id_, zone=zone)
            for id_ in ids
        ]
        assert min(containers) > 0
        pod = page.total("kepler_pod_cpu_joules_total", pod_id=POD_UID, zone=zone)
        assert pod == pytest.approx(sum(containers), rel=1e-9)


def test_sandbox_of_kata_and_its_overhead_are_of_the_pod(tmp_path: Path, tree: CgroupTree) -> None:
    """What Kata needs on the host, in a cgroup of its own, is in one container with the sandbox."""
    sandbox = container_id("sandbox")
    paths = (f"/kata_overhead/{sandbox}", f"/kubepods/pod{POD_UID}/kata_{sandbox}")
    cgroups = [tree.make(path) for path in paths]
    with worker(tmp_path, "vmm") as one, worker(tmp_path, "vcpu") as two:
        for cgroup, spinner in zip(cgroups, (one, two), strict=True):
            cgroup.enter(spinner.pid)
        with counted_by(tmp_path, tree.hierarchy) as run:
            one.spin()
            two.spin()
            run.step()
            time.sleep(RETRY_S)
            page = run.step()
    assert_sum_of_processes(page, sandbox)
    labels = {"container_id": sandbox, "pod_id": POD_UID, "runtime": "kubernetes"}
    container_j = page.total("kepler_container_cpu_joules_total", **labels)
    pod_j = page.total("kepler_pod_cpu_joules_total", pod_id=POD_UID)
    assert pod_j == pytest.approx(container_j, rel=1e-9)


@pytest.mark.parametrize("path", ["/batch/{}", "/ecs/task/{}", "/k8s.io/{}", "/x/runsc-{}.scope"])
def test_container_below_a_parent_of_any_name(tmp_path: Path, tree: CgroupTree, path: str) -> None:
    """A full id is a container's, wherever its runtime was told to put it."""
    id_ = container_id(path)
    cgroup = tree.make(path.format(id_))
    with worker(tmp_path, "inner") as inner:
        cgroup.enter(inner.pid)
        with counted_by(tmp_path, tree.hierarchy) as run:
            inner.spin()
            page = run.step()
    assert_sum_of_processes(page, id_)


def test_closed_root_of_the_host_costs_the_name(tmp_path: Path, tree: CgroupTree) -> None:
    """Without CAP_SYS_PTRACE the host's files are closed: a short id, a line in the log, no end."""
    id_, procfs = container_id("closed"), tmp_path / "proc"
    procfs.mkdir()
    drop = "setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace"
    script = f'mount --bind /proc "{procfs}" && exec {drop} "$@"'
    wrapper = ("unshare", "-m", "sh", "-c", script, "sh")
    cgroup = tree.make(f"/docker/{id_}")
    arguments = ("--meter", "fake", "--cgroup-hierarchy", tree.hierarchy.name)
    with worker(tmp_path, "inner") as inner:
        cgroup.enter(inner.pid)
        with stepping(tmp_path, *arguments, "--host.procfs", str(procfs), wrapper=wrapper) as run:
            inner.spin()
            page = run.step()
            log = run.log
    found = page.find("kepler_container_cpu_joules_total", container_id=id_)
    assert {sample.labels["container_name"] for sample in found} == {id_[:12]}
    assert f"{procfs}/1/root: Permission denied" in log


def test_container_that_came_and_went_is_exported(tmp_path: Path, tree: CgroupTree) -> None:
    """Made, used and removed within one interval, it is listed by id as terminated."""
    brief = container_id("brief")
    with counted_by(tmp_path, tree.hierarchy) as run:
        with worker(tmp_path, "brief") as inner:
            cgroup = tree.make(f"/docker/{brief}")
            cgroup.enter(inner.pid)
            inner.spin()
            inner.end()
            cgroup.remove()
        page = run.step()
    found = page.find("kepler_container_cpu_joules_total", container_id=brief)
    assert len(found) == len(page.zones())
    assert {each.labels["state"] for each in found} == {"terminated"}
    assert all(each.value > 0 for each in found)


def test_container_of_a_few_short_intervals_is_exported(
    tmp_path: Path, tree: CgroupTree, stopwatch: Stopwatch
) -> None:
    """It ends between others that are accounted for with its own, and has all it used."""
    brief, arguments = container_id("few"), ("--meter", "fake", "--interval", "10ms")
    with (
        running(tmp_path, *arguments, "--cgroup-hierarchy", tree.hierarchy.name) as run,
        worker(tmp_path, "brief") as inner,
    ):
        cgroup = tree.make(f"/docker/{brief}")
        cgroup.enter(inner.pid)
        used_s = inner.spin()
        inner.end()
        cgroup.remove()
        labels = {"container_id": brief, "state": "terminated"}
        page = run.until(lambda page: page.find("kepler_container_cpu_joules_total", **labels))
    assert not page.find("kepler_container_cpu_joules_total", container_id=brief, state="running")
    counted_s = page.total("kepler_container_cpu_seconds_total", **labels)
    assert stopwatch.agree(counted_s, used_s)
    assert_conserved(page)


def test_name_of_a_container_that_its_runtime_has_forgotten(
    tmp_path: Path, tree: CgroupTree
) -> None:
    """It is read when the container is made: --rm drops it with the container."""
    brief = container_id("removed")
    lib = tmp_path / "lib"
    config = lib / f"docker/containers/{brief}/config.v2.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"Name": "/web"}')
    os.utime(config, (0, time.time()))
    script = f'mount --bind "{lib}" /var/lib && exec "$@"'
    wrapper = ("unshare", "-m", "sh", "-c", script, "sh")
    arguments = ("--meter", "fake", "--cgroup-hierarchy", tree.hierarchy.name)
    with stepping(tmp_path, *arguments, wrapper=wrapper) as run:
        with worker(tmp_path, "brief") as inner:
            cgroup = tree.make(f"/docker/{brief}")
            cgroup.enter(inner.pid)
            inner.spin()
            await_read(config)
            inner.end()
        cgroup.remove()
        shutil.rmtree(config.parent)
        page = run.step()
    found = page.find("kepler_container_cpu_joules_total", container_id=brief)
    assert {each.labels["container_name"] for each in found} == {"web"}


def await_read(path: Path) -> None:
    """Wait until somebody has read a file whose access time was 0."""
    give_up_at = time.monotonic() + GIVE_UP_S
    while path.stat().st_atime_ns == 0:
        assert time.monotonic() < give_up_at, f"nobody reads {path}"
        time.sleep(0.01)


def test_two_hundred_short_containers_are_all_there(
    tmp_path: Path, tree: CgroupTree, stopwatch: Stopwatch
) -> None:
    """Each has its id, and together they have the CPU time that was used in them."""
    base = tree.make("/docker").directory
    ids = [container_id(f"short-{number}") for number in range(SHORT_ONES)]
    with counted_by(tmp_path, tree.hierarchy) as run:
        done = subprocess.run(
            [sys.executable, "-c", VISITS, *(str(base / id_) for id_ in ids)],
            stdout=subprocess.PIPE,
            check=True,
        )
        page = run.step()
    counted_s = {
        each.labels["container_id"]: each.value
        for each in page.find("kepler_container_cpu_seconds_total", state="terminated")
    }
    told_s = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    least_s, most_s = map(sum, zip(*told_s, strict=True))
    # All that one has used may be hidden.
    missing_s = {
        id_: used_s for id_, (used_s, _) in zip(ids, told_s, strict=True) if id_ not in counted_s
    }
    hidden_s = page.total("kepler_ebpf_hidden_cpu_seconds_total")
    assert may_be_hidden(missing_s.values(), hidden_s), missing_s
    sum_s = sum(counted_s.get(id_, 0.0) for id_ in ids)
    lost_s = page.total("kepler_ebpf_lost_cpu_seconds_total")
    assert stopwatch.agree(sum_s, least_s, most_s, within=0.01, lost_s=lost_s)


def test_process_that_moves_takes_its_label_along(
    tmp_path: Path, tree: CgroupTree, stopwatch: Stopwatch
) -> None:
    """The label follows the cgroup; each container keeps what was used in it."""
    ids = [container_id(name) for name in ("from", "to")]
    here, there = (tree.make(f"/docker/{id_}") for id_ in ids)
    with worker(tmp_path, "mover") as mover, counted_by(tmp_path, tree.hierarchy) as run:
        used_s = []
        for cgroup in (here, there):
            cgroup.enter(mover.pid)
            used_s.append(mover.spin())
            page = run.step()
    assert page.find("kepler_process_cpu_joules_total", comm="mover", container_id=ids[1])
    assert not page.find("kepler_process_cpu_joules_total", comm="mover", container_id=ids[0])
    for id_, truth_s in zip(ids, used_s, strict=True):
        counted_s = page.total("kepler_container_cpu_seconds_total", container_id=id_)
        assert stopwatch.agree(counted_s, truth_s)


# --- real runtimes ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root file system of one static busybox."""
    root = tmp_path_factory.mktemp("container") / "rootfs"
    (root / "bin").mkdir(parents=True)
    for name in ("proc", "sys", "dev", "tmp", "etc"):
        (root / name).mkdir()
    shutil.copy("/usr/bin/busybox", root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    return root


BUSY = ("/bin/sh", "-c", f"i=0; while [ $i -lt {LOOPS} ]; do i=$((i+1)); done")
"""What the containers run."""


def test_runc(tmp_path: Path, rootfs: Path) -> None:
    """A container of runc's own, in docker's place in the tree, is seen and named."""
    id_ = container_id("runc")
    command = runc_command(tmp_path, rootfs, id_, BUSY)
    page = page_after(tmp_path, lambda: command_done(command, tmp_path))
    assert_seen(page, id_, "docker")


def test_stat_measures_a_container_that_runs(tmp_path: Path, rootfs: Path) -> None:
    """By the first characters of its id: its tasks, and nothing beside it."""
    id_ = container_id("measured")
    endless = ("/bin/sh", "-c", "echo runs; while :; do :; done")
    command = runc_command(tmp_path, rootfs, id_, endless)
    try:
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as runc:
            assert runc.stdout
            assert runc.stdout.readline() == b"runs\n"
            stat = (sys.executable, "-m", "kepler_ebpf", "stat", "--meter", "fake", "--json")
            arguments = ("--container", id_[:12], "--timeout", "0.6")
            done = subprocess.run(
                [*stat, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True
            )
            subprocess.run([*command[:3], "kill", id_, "KILL"], check=True)
    finally:
        remove_left_cgroups()
    result = json.loads(done.stderr)
    (measured,) = result["runs"]
    assert result["subject"] == f"--container {id_[:12]}"
    assert measured["tasks"] == 1
    assert measured["cpu_s"] > 0
    assert measured["zones"]["package"]["joules"] > 0


def runc_command(
    folder: Path, rootfs: Path, id_: str, arguments: Sequence[str]
) -> list[str | Path]:
    """Return the command that runs *arguments* as a container, in docker's place in the tree."""
    subprocess.run(["runc", "spec"], cwd=folder, check=True)
    spec = json.loads((folder / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": arguments}
    spec["root"]["path"] = str(rootfs)
    spec["linux"]["cgroupsPath"] = f"{REAL}/docker/{id_}"
    (folder / "config.json").write_text(json.dumps(spec))
    return ["runc", "--root", folder / "state", "run", id_]


def test_podman(tmp_path: Path, rootfs: Path) -> None:
    """A container of podman, which chooses its id, is seen with it."""
    id_file = tmp_path / "id"
    command: list[str | Path] = [
        *("podman", "--root", tmp_path / "root", "--runroot", tmp_path / "state"),
        *("--cgroup-manager=cgroupfs", "--runtime", "runc", "--log-level=error"),
        *("run", "--rm", "--network=none", f"--cidfile={id_file}"),
        f"--cgroup-parent={REAL}",
        *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"),
        *("--rootfs", rootfs, *BUSY),
    ]
    page = page_after(tmp_path, lambda: command_done(command, tmp_path))
    assert_seen(page, id_file.read_text(), "podman")


def test_containerd(tmp_path: Path, rootfs: Path) -> None:
    """A container of containerd in a pod's cgroup is part of that pod."""
    id_ = container_id("containerd")
    cgroup = f"{REAL}/kubepods/burstable/pod{POD_UID}/{id_}"
    with containerd(tmp_path) as socket:
        command: list[str | Path] = [
            *("ctr", "--address", socket, "run", "--rm", "--snapshotter", "native"),
            *("--cgroup", cgroup, "--rootfs", rootfs, id_, *BUSY),
        ]
        page = page_after(tmp_path, lambda: command_done(command, tmp_path))
    assert_seen(page, id_, "kubernetes")
    assert page.total("kepler_pod_cpu_joules_total", pod_id=POD_UID) > 0


def page_after(folder: Path, act: Callable[[], None]) -> Page:
    """Run, act, and return the page of the interval in which that happened."""
    try:
        with stepping(folder, "--meter", "fake") as run:
            act()
            return run.step()
    finally:
        remove_left_cgroups()


def command_done(command: Sequence[str | Path], folder: Path) -> None:
    """Run a command to its end; a failure of it fails the test and shows what it said."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=GIVE_UP_S, check=False
    )
    assert done.returncode == 0, done.stderr


def assert_seen(page: Page, id_: str, runtime: str) -> None:
    """Hold the container's series against the time that it must have used."""
    found = page.find("kepler_container_cpu_joules_total", container_id=id_, runtime=runtime)
    assert len(found) == len(page.zones())
    assert all(each.value > 0 for each in found)
    assert page.find("kepler_process_cpu_seconds_total", comm="sh", container_id=id_)


@contextmanager
def containerd(folder: Path) -> Iterator[str]:
    """Start a containerd with all its state in *folder*, and give its socket."""
    socket = folder / "containerd.sock"
    config = folder / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{socket}"\n[ttrpc]\naddress = "{socket}.ttrpc"\n'
    )
    with (folder / "containerd.log").open("wb") as log:
        server = subprocess.Popen(["containerd", "-c", config], stdout=log, stderr=log)
    try:
        give_up_at = time.monotonic() + GIVE_UP_S
        while not socket.exists():
            assert server.poll() is None, (folder / "containerd.log").read_text()
            assert time.monotonic() < give_up_at, "containerd does not listen"
            time.sleep(0.05)
        yield str(socket)
    finally:
        server.terminate()
        server.wait(GIVE_UP_S)


def remove_left_cgroups() -> None:
    """Remove the parents that the runtimes leave in every hierarchy."""
    mounted = Path("/sys/fs/cgroup")
    for root in (mounted / REAL[1:], *mounted.glob(f"*{REAL}")):
        for directory, _, _ in os.walk(root, topdown=False):
            Cgroup(0, "", Path(directory)).remove()
