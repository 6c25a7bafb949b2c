"""A running program to do harm to, and the checks of its health that hold for every fault.

Each kind of bed is one way to run the program. It serves many faults, one after the other.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from kube_runs import Cluster, cluster, first_cgroup, uid_of
from kube_server import container_id, make_pod
from powercap import PowercapTree
from running import GIVE_UP_S, Page, Run, assert_conserved, in_kernel, running
from workers import Worker, worker

CONTAINER = "fa" * 32
POD = os.getpid()
"""The number of the pod: other tests on this host may have pods too."""

PLACES = ("var/lib", "run")
RIGHTS_OF_BPF = "-all,+bpf,+perfmon"
AS_NOBODY_WITH_BPF = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *(f"--{kind}={RIGHTS_OF_BPF}" for kind in ("inh-caps", "ambient-caps", "bounding-set")),
)
INSIDE = Path(__file__).with_name("inside.py")
LOOPS = 20_000
TOLERANCE = 1e-9
DRIVE_PERIOD_S = 0.01
ZONE_W = 20.0
SOME_INTERVALS = 3
DEBUG = ("--log.level", "debug")
FRESH = "monitor: {staleness: 50ms}\n"
"""A page is never older, where intervals are long."""


class Bed:
    """The program under test, with what it measures. ``restart`` after it has ended.

    Each kind of bed sets what its faults need.
    """

    tree: DrivenTree
    stdout: Pump
    stderr: Pump
    disk: Path
    procfs: Path
    root: Path
    kube: Cluster
    control: Path

    def __init__(self, folder: Path, start: Callable[[Bed], Iterator[Run]]) -> None:
        self.folder = folder
        self._start = contextmanager(start)
        self._last: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        with ExitStack() as stack:
            self.cgroups: CgroupTree = stack.enter_context(cgroup_tree(hierarchies()[0]))
            self.canary: Worker = stack.enter_context(worker(folder, "canary"))
            self.cgroups.make(f"/docker/{CONTAINER}").enter(self.canary.pid)
            self.container_id, self.pod_uid = CONTAINER, ""
            self.judged = 0
            """Characters of the log that were looked at."""
            self._running = stack.enter_context(ExitStack())
            self.run: Run = self._running.enter_context(self._start(self))
            self._stack = stack.pop_all()

    @property
    def pid(self) -> int:
        """The program's process."""
        return self.run.process.pid

    def close(self) -> None:
        """End everything."""
        self._stack.close()

    def restart(self) -> None:
        """Start the program anew: its totals begin at 0 again."""
        self._running.close()
        self._last, self.judged = {}, 0
        self.run = self._running.enter_context(self._start(self))

    # --- what must hold

    def page(self) -> Page:
        """Return a page; its sums are closed, and no counter has fallen since the last one."""
        page = self.run.scrape()
        for zone in page.zones():
            node, active, idle = (
                page.total(f"kepler_node_cpu_{part}joules_total", zone=zone)
                for part in ("", "active_", "idle_")
            )
            assert active + idle == pytest.approx(node, rel=TOLERANCE)
        assert_conserved(page)
        self._assert_closed(page)
        now = {
            (each.name, frozenset(each.labels.items())): each.value
            for each in page.samples
            if each.name.startswith("kepler_") and each.name.endswith("_total")
        }
        fallen = {key: (self._last[key], now[key]) for key in now.keys() & self._last.keys()}
        fallen = {key: pair for key, pair in fallen.items() if pair[1] < pair[0]}
        assert fallen == {}, f"counters fell: {list(fallen.items())[:5]}"
        self._last = now
        return page

    def _assert_closed(self, page: Page) -> None:
        """Hold the container and its pod against their processes."""
        joules = "cpu_joules_total"
        for zone in page.zones():
            processes, *levels = (
                page.total(f"kepler_process_{joules}", zone=zone, container_id=self.container_id),
                page.total(f"kepler_container_{joules}", zone=zone, container_id=self.container_id),
                *(
                    each.value
                    for each in page.find(f"kepler_pod_{joules}", zone=zone, pod_id=self.pod_uid)
                ),
            )
            assert levels == pytest.approx([processes] * len(levels), rel=TOLERANCE)

    def until(self, holds: Callable[[Page], object], why: str = "") -> Page:
        """Take pages until one satisfies *holds*, and return it."""
        give_up_at = time.monotonic() + GIVE_UP_S
        while not holds(page := self.page()):
            assert self.run.process.poll() is None, f"it has ended:\n{self.run.log}"
            assert time.monotonic() < give_up_at, f"{why} not in {GIVE_UP_S} s:\n{self.run.log}"
            time.sleep(0.02)
        return page

    def served(self) -> None:
        """Wait until a page is served: those who kept the server busy may still be there."""
        give_up_at = time.monotonic() + GIVE_UP_S
        while True:
            try:
                self.probe("metrics")
            except OSError:
                assert time.monotonic() < give_up_at, f"nothing is served:\n{self.run.log}"
                time.sleep(0.02)
            else:
                return

    def healthy(self) -> Page:
        """Return a page of a program that measures, is ready, and attributes what is used."""

        def whole(page: Page) -> bool:
            seen = page.intervals, page.total("kepler_ebpf_failed_intervals_total")
            later = self.until(lambda page: page.intervals >= seen[0] + SOME_INTERVALS)
            return later.total("kepler_ebpf_failed_intervals_total") == seen[1]

        before = self.until(whole, "intervals without a failure")
        self.canary.spin(LOOPS)
        after = self.until(
            lambda page: (
                self.used_s(page) > self.used_s(before) and self.joules(page) > self.joules(before)
            ),
            "joules of a process",
        )
        assert self.probe("readyz") == "ready\n"
        assert "Traceback" not in self.run.log[self.judged :]
        self.judged = len(self.run.log)
        return after

    def used_s(self, page: Page) -> float:
        """Return the CPU time of the canary."""
        labels = {"comm": "canary", "container_id": self.container_id}
        return page.total("kepler_process_cpu_seconds_total", **labels)

    def joules(self, page: Page) -> float:
        """Return the energy of the container of the canary."""
        return page.total("kepler_container_cpu_joules_total", container_id=self.container_id)

    def measures_on(self) -> None:
        """Wait until some more intervals have been closed in the kernel: no page is needed."""
        seen, give_up_at = self.epoch(), time.monotonic() + GIVE_UP_S
        while self.epoch() < seen + SOME_INTERVALS:
            assert self.run.process.poll() is None, f"it has ended:\n{self.run.log}"
            assert time.monotonic() < give_up_at, f"no interval in {GIVE_UP_S} s:\n{self.run.log}"
            time.sleep(0.02)

    def probe(self, path: str) -> str:
        """Return what a path serves; a status that is no success raises."""
        url = f"http://{self.run.address}/{path}"
        with urllib.request.urlopen(url, timeout=GIVE_UP_S) as answer:
            return str(answer.read(), "utf-8")

    def epoch(self) -> int:
        """Return the number of intervals begun, as it stands in the kernel."""
        control = self.map_ids("control").pop()
        command = [
            "bpftool",
            "-j",
            "map",
            "lookup",
            "id",
            f"{control}",
            *["key", "0", "0", "0", "0"],
        ]
        done = subprocess.run(command, capture_output=True, check=True)
        octets = [int(octet, 16) for octet in json.loads(done.stdout)["value"][:8]]
        return int.from_bytes(bytes(octets), "little")

    def map_ids(self, name: str) -> set[int]:
        """Return the ids of the program's maps of that name."""
        named = {number for number, text in in_kernel("map").items() if text == name}
        return named & {number for kind, number in self.run.kernel_objects() if kind == "map"}


class DrivenTree(PowercapTree):
    """A powercap tree that moves by itself, but for the zones in ``held``."""

    def __init__(self, sysfs: Path) -> None:
        cpus = sysfs / "devices/system/cpu"
        cpus.mkdir(parents=True)
        for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*"):
            (cpus / path.name).symlink_to(path)
        for name in ("online", "possible"):
            (cpus / name).write_text(Path("/sys/devices/system/cpu", name).read_text())
        self.online = cpus / "online"
        super().__init__(sysfs, "single_socket")
        self.held: set[str] = set()
        self.lock = threading.Lock()

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Let it move as long as the context is open."""
        stop = threading.Event()
        thread = threading.Thread(target=self._drive, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    @contextmanager
    def holding(self, *entries: str) -> Iterator[None]:
        """Let these zones stand, and in the end show where they have got to meanwhile."""
        with self.lock:
            self.held.update(entries)
        try:
            yield
        finally:
            with self.lock:
                self.held.difference_update(entries)

    def _drive(self, stop: threading.Event) -> None:
        last_s = time.monotonic()
        while not stop.wait(DRIVE_PERIOD_S):
            now_s = time.monotonic()
            with self.lock:
                for entry in self.entries:
                    self.energy_uj[entry] += (now_s - last_s) * ZONE_W * 1e6
                    if entry not in self.held:
                        self.set(entry, self.energy_uj[entry])
            last_s = now_s


# --- kinds of beds ----------------------------------------------------------------------------


def rapl(bed: Bed) -> Iterator[Run]:
    """Measure a powercap tree of a single socket, at 20 intervals a second."""
    number = len(list(bed.folder.glob("sys*")))
    bed.tree = DrivenTree(bed.folder / f"sys{number}")
    arguments = ("--meter", "rapl", "--host.sysfs", str(bed.tree.sysfs), "--interval", "50ms")
    with bed.tree.driven(), running(bed.folder, *arguments) as run:
        yield run


def small(bed: Bed) -> Iterator[Run]:
    """Have the smallest task map."""
    arguments = ("--meter", "fake", "--bpf-map-entries", "1024", "--interval", "200ms")
    with running(bed.folder, *arguments, config=FRESH) as run:
        yield run


class Pump:
    """Reads a FIFO that the program writes to, and copies it to a file; it can be paused."""

    def __init__(self, fifo: Path, copy: Path) -> None:
        os.mkfifo(fifo)
        self.path = fifo
        self._copy = copy
        self._reads = threading.Event()
        self._reads.set()
        # For writing as well, so that neither side waits for the other at the start.
        self._descriptor = os.open(fifo, os.O_RDWR)
        fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, 4096)
        self._stop = os.eventfd(0)
        self._thread = threading.Thread(target=self._pump)
        self._thread.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let nobody read for the length of the context."""
        self._reads.clear()
        yield
        self._reads.set()

    def close(self) -> None:
        """Read no more, and close the reading end: the program's next write fails."""
        if self._thread.is_alive():
            self._reads.set()
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            os.close(self._descriptor)
            os.close(self._stop)

    def _pump(self) -> None:
        while True:
            ready, _, _ = select.select((self._descriptor, self._stop), (), ())
            if self._stop in ready:
                return
            self._reads.wait()
            with self._copy.open("ab", buffering=0) as copy:
                copy.write(os.read(self._descriptor, 65536))


def printing(bed: Bed) -> Iterator[Run]:
    """Print JSON lines to a pipe and the log to another, of one page each."""
    number = len(list(bed.folder.glob("run-*.log")))
    bed.stdout, bed.stderr = (
        Pump(bed.folder / f"{kind}-{number}.fifo", bed.folder / f"run-{number}.{kind}")
        for kind in ("out", "log")
    )
    into_pipes = ("sh", "-c", f'exec "$@" >{bed.stdout.path} 2>{bed.stderr.path}', "sh")
    to_stdout = ("--exporter.stdout", "--stdout-format", "jsonl")
    arguments = ("--meter", "fake", "--interval", "50ms", *DEBUG, *to_stdout)
    try:
        with running(bed.folder, *arguments, wrapper=into_pipes) as run:
            yield run
    finally:
        bed.stdout.close()
        bed.stderr.close()


def full_disk(bed: Bed) -> Iterator[Run]:
    """Write the log to a small disk."""
    bed.disk = bed.folder / f"disk-{len(list(bed.folder.glob('disk-*')))}"
    bed.disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", bed.disk], check=True)
    try:
        with running(bed.disk, "--meter", "fake", "--interval", "50ms", *DEBUG) as run:
            yield run
    finally:
        subprocess.run(["umount", "--lazy", bed.disk], check=True)


def _pods(mode: str) -> Callable[[Bed], Iterator[Run]]:
    """Name pods; beside the program a thread does what ``control`` reads, see inside.py."""

    def start(bed: Bed) -> Iterator[Run]:
        folder = bed.folder / f"kube-{len(list(bed.folder.glob('kube-*')))}"
        folder.mkdir()
        with cluster(folder, mode) as bed.kube:
            bed.kube.server.put(make_pod(POD))
            bed.container_id, bed.pod_uid = container_id(POD), uid_of(make_pod(POD))
            first_cgroup(bed.cgroups, POD).enter(bed.canary.pid)
            bed.control = folder / "control"
            os.mkfifo(bed.control)
            inside = (sys.executable, str(INSIDE), str(bed.control))
            arguments = (*bed.kube.arguments, "--interval", "50ms")
            with running(folder, *arguments, config=bed.kube.config, wrapper=inside) as run:
                yield run

    return start


def own_procfs(bed: Bed) -> Iterator[Run]:
    """Run as nobody with the rights for BPF, over a mount of procfs that is the bed's own."""
    bed.procfs = Path(tempfile.mkdtemp())
    bed.procfs.chmod(0o755)
    subprocess.run(["mount", "-t", "proc", "proc", bed.procfs], check=True)
    arguments = ("--meter", "fake", "--interval", "50ms", "--host.procfs", str(bed.procfs))
    try:
        with running(bed.folder, *arguments, wrapper=AS_NOBODY_WITH_BPF) as run:
            yield run
    finally:
        subprocess.run(["umount", "--lazy", bed.procfs], check=True)
        bed.procfs.rmdir()


def own_runtime_files(bed: Bed) -> Iterator[Run]:
    """Run with folders of the bed's own in the places of /var/lib and /run."""
    bed.root = bed.folder / f"root-{len(list(bed.folder.glob('root-*')))}"
    for place in PLACES:
        (bed.root / place).mkdir(parents=True)
    binds = "; ".join(f"mount --bind {bed.root / place} /{place}" for place in PLACES)
    wrapper = ("unshare", "--mount", "sh", "-ec", f'{binds}; exec "$@"', "sh")
    with running(bed.folder, "--meter", "fake", "--interval", "50ms", wrapper=wrapper) as run:
        yield run


BEDS: dict[str, Callable[[Bed], Iterator[Run]]] = {
    "rapl": rapl,
    "small": small,
    "printing": printing,
    "disk": full_disk,
    "procfs": own_procfs,
    "containers": own_runtime_files,
    "apiserver": _pods("apiserver"),
    "kubelet": _pods("kubelet"),
}
"""Each way to run the program that there is."""
