"""What reads the text of others, each with inputs to try and what must hold for every one.

A target makes one input from a ``Random`` and uses it. It raises an AssertionError where a law does
not hold, and any other exception where the product does: that is a fault.
"""

from __future__ import annotations

import json
import lzma
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from generate import changed, many, mixed, octets, value
from recordings import batches_of, write
from snapshots import snapshot

from kepler_ebpf.config.load import load_config
from kepler_ebpf.config.option import Setting
from kepler_ebpf.config.options import OPTIONS
from kepler_ebpf.errors import ConfigError, KeplerError
from kepler_ebpf.exporters.accept import accepted
from kepler_ebpf.exporters.api import Api, parse_query
from kepler_ebpf.exporters.connection import HEAD_MAX_BYTES, Answer, Connection, Times
from kepler_ebpf.exporters.listen import parse_address
from kepler_ebpf.host.topology import Topology, parse_cpu_list, read_cpu_info
from kepler_ebpf.jobs.protocol import MAX_LINE_BYTES, SCOPES, answered, request, run_of_answer
from kepler_ebpf.meters.rapl import find_counters
from kepler_ebpf.meters.request import MeterRefusedError, MeterRequest
from kepler_ebpf.meters.zone_names import kind_of, package_of
from kepler_ebpf.names.cgroups.containers import resembles_container, short_id
from kepler_ebpf.names.cgroups.hierarchy import discover
from kepler_ebpf.names.kubernetes.api_errors import ApiError
from kepler_ebpf.names.kubernetes.objects import MalformedPodError, parse_pod
from kepler_ebpf.names.kubernetes.stream import ListBody, json_lines
from kepler_ebpf.names.processes.procfs import read_cmdline, read_process
from kepler_ebpf.names.processes.vms import helper_owner, is_hypervisor, match_vm
from kepler_ebpf.names.resolver import resolve
from kepler_ebpf.names.runtimes import RuntimeNames
from kepler_ebpf.profile.symbols.code_file import open_code
from kepler_ebpf.profile.symbols.demangle import readable
from kepler_ebpf.profile.symbols.kallsyms import Kallsyms
from kepler_ebpf.profile.symbols.perf_map import PerfMap
from kepler_ebpf.profile.symbols.rust import demangle_rust
from kepler_ebpf.recording.reader import open_recording

Target = Callable[[Random], None]
TARGETS: dict[str, Target] = {}
FOLDER = Path(tempfile.mkdtemp(prefix="kepler-ebpf-fuzz-"))
"""Where files are that a target reads; ``clean`` removes it."""


def target(function: Target) -> Target:
    """List a target by its name."""
    TARGETS[function.__name__.replace("_", " ")] = function
    return function


def assert_text(*texts: str) -> None:
    """Every text can be written on a page."""
    for text in texts:
        text.encode("utf-8")


def written(name: str, text: str) -> Path:
    """Write a file and return its path."""
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(octets(text))
    return path


# --- processes --------------------------------------------------------------------------------

ARGUMENTS = (
    *("qemu-system-x86_64", "/usr/bin/qemu-kvm", "kvm", "qemu-dm", "VBoxHeadless", "vmware-vmx"),
    *("firecracker-v1.7", "cloud-hypervisor", "-uuid", "5f0c2a54-0d5c-4f6e-8a77-aa1f3f0b9d01"),
    *("-name", "guest=web,debug-threads=on", "-smbios", "type=1,uuid=5f0c,,2", "-machine", "none"),
    *("--id", "vm1", "--startvm", "-d", "-xen-domid", "/vm/x.vmx", "--platform", "uuid=1"),
    *("--api-socket=path=/run/x", "--comment", "-M", "-id=", "vhost-12", "kvm-pit/99"),
)


@target
def command_lines(random: Random) -> None:
    """A VM is found, or none; its labels are parts of the line."""

    def argument(random: Random) -> str:
        text = random.choice(ARGUMENTS) if random.random() < 0.6 else mixed(random, ARGUMENTS)
        return octets(text).decode("utf-8", "replace")

    line = many(random, argument, 12)
    found = match_vm(line, 7, 9, argument(random))
    is_hypervisor(*line)
    helper_owner(argument(random))
    if found:
        assert found.vm_id
        assert found.vm_name
        assert found.hypervisor in {"kvm", "virtualbox", "vmware", "xen"}
        assert_text(found.vm_id, found.vm_name)
        assert len(found.vm_id) <= max(64, sum(map(len, line)))


STAT = "1234 (comm) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123 1 2 18446744073709551615\n"


@target
def process_files(random: Random) -> None:
    """A process is read, or there is none."""
    written("proc/7/stat", changed(random, STAT))
    written("proc/7/cmdline", "\0".join(many(random, lambda r: mixed(r, ARGUMENTS), 5)))
    read_process(7, None, str(FOLDER / "proc"))
    info = read_process(7, 123 * 10_000_000, str(FOLDER / "proc"))
    if info:
        assert_text(info.exe, *read_cmdline(7, info.start_ticks, str(FOLDER / "proc")))


# --- cgroups ----------------------------------------------------------------------------------

ID = "0123456789abcdef" * 4
UID = "5f0c2a54-0d5c-4f6e-8a77-aa1f3f0b9d01"
PATHS = (
    *("/", "docker", ID, f"docker-{ID}.scope", f"cri-containerd-{ID}.scope", f"crio-{ID}.scope"),
    *("kubepods", "kubepods.slice", "burstable", f"pod{UID}", f"libpod-{ID}.scope", "conmon"),
    f"kubepods-besteffort-pod{UID.replace('-', '_')}.slice",
    *("lxc.payload.web", "machine-web\\x2d1.scope", "systemd-nspawn@web.service", "kata_overhead"),
    *("system.slice", "user.slice", "user-1000.slice", "user@1000.service", "session-1.scope"),
    *("slurm", "uid_1000", "job_12", "step_batch", "task_0", "buildkit", "0123456789ab-1234567890"),
    *("/" + ID, f"/kubepods/pod{UID}/{ID}", "/system.slice/web.service", "lxc/web/lxc/web"),
)


@target
def cgroup_paths(random: Random) -> None:
    """A path has one name, which is bounded by it; the same path has the same."""
    path = "/" + "/".join(many(random, lambda r: mixed(r, PATHS)[:400], 8))
    path = octets(path).decode("utf-8", "replace")
    name = resolve(path, ("unit",))
    resembles_container(path)
    assert name == resolve(path, ("unit",))
    assert name.path == path
    if name.container:
        assert 0 < len(name.container.container_id) <= len(path)
        assert len(short_id(name.container.container_id)) <= len(path)
        assert_text(name.container.container_id, name.container.runtime)


MOUNTS = (
    "35 24 0:30 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
    "36 24 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
    "21 1 8:1 / / rw - ext4 /dev/root rw\n",
    *(" - ", "cgroup", "cgroup2", "rw,cpuacct", "\\040", "\\777", "/sys/fs/cgroup", "pids"),
)


@target
def mountinfo(random: Random) -> None:
    """A hierarchy is found, or it is said that there is none."""
    path = written("mountinfo", mixed(random, MOUNTS))
    found = discover("auto", "/sys", str(path))
    assert found.name
    with suppress(KeplerError):
        discover("v2", "/sys", str(path))


# --- hardware ---------------------------------------------------------------------------------

CPUINFO = (
    "processor\t: 0\nvendor_id\t: Intel\nmodel name\t: Xeon\nphysical id\t: 0\ncore id\t: 0\n",
    "processor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n",
    *("\n\n", ":", "processor", "\t: ", "model name", "physical id"),
)


@target
def cpuinfo(random: Random) -> None:
    """The CPUs are listed, as text."""
    written("proc/cpuinfo", mixed(random, CPUINFO))
    for cpu in read_cpu_info(FOLDER / "proc", FOLDER / "sys"):
        assert cpu.processor.isdigit()


CPU_LISTS = ("0", "0-3", "0-3,6", "1,2,3", "0-65535", "0-65536", "3-1", ",", "-", "0-", "\n")


@target
def cpu_lists(random: Random) -> None:
    """A list is ascending, or refused."""
    text = mixed(random, CPU_LISTS)
    with suppress(ValueError):
        cpus = parse_cpu_list(text)
        assert list(cpus) == sorted(set(cpus))
        assert len(cpus) <= 1 << 16
    cpus_folder = FOLDER / "sys/devices/system/cpu"
    written("sys/devices/system/cpu/possible", "0-7\n")
    written("sys/devices/system/cpu/online", text)
    written("sys/devices/system/cpu/cpu0/topology/physical_package_id", mixed(random, CPU_LISTS))
    assert cpus_folder.is_dir()
    with suppress(KeplerError), Topology(FOLDER / "sys") as topology:
        assert topology.sockets >= 1


ZONE_NAMES = ("package-0", "package-1-die-2", "core", "uncore", "dram", "psys", "package-", "0")
NUMBERS = ("262143328850", "0", "-1", "1e9", "200000000", "\n")


@target
def powercap_trees(random: Random) -> None:
    """The zones are found that can be understood, or it is said that there is none."""
    for entry in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl-mmio:0"):
        folder = f"sys/class/powercap/{entry}"
        written(f"{folder}/name", mixed(random, ZONE_NAMES))
        written(f"{folder}/energy_uj", mixed(random, NUMBERS))
        written(f"{folder}/max_energy_range_uj", mixed(random, NUMBERS))
        written(f"{folder}/constraint_0_max_power_uw", mixed(random, NUMBERS))
    name = mixed(random, ZONE_NAMES)
    kind_of(name)
    package_of(name)
    request = MeterRequest(package_ids=(0,), cpus_per_socket=(2,), sysfs=str(FOLDER / "sys"))
    with suppress(MeterRefusedError):
        for zone in find_counters(request):
            assert zone.counter.max_wait_s > 0
            assert_text(zone.zone.kind, zone.zone.path)


# --- Kubernetes and runtimes ------------------------------------------------------------------

POD_WORDS = (
    *("metadata", "spec", "status", "uid", "name", "namespace", "annotations", "labels", "items"),
    *("ownerReferences", "controller", "kind", "ReplicaSet", "pod-template-hash", "nodeName"),
    *("containerStatuses", "containerID", "state", "lastState", "terminated", "PodList", "app"),
    *("containerd://" + ID, "kubernetes.io/config.hash", "kubernetes.io/config.mirror", UID),
)


def pod(random: Random) -> object:
    """Return what may be a pod."""
    if random.random() < 0.2:
        return value(random, POD_WORDS)
    return {
        key: value(random, POD_WORDS, 3) if random.random() < 0.3 else inner
        for key, inner in {
            "metadata": {
                "uid": UID,
                "name": "web",
                "annotations": value(random, POD_WORDS, 2),
                "labels": value(random, POD_WORDS, 2),
                "ownerReferences": [value(random, POD_WORDS, 2)],
            },
            "spec": {"nodeName": value(random, POD_WORDS, 0)},
            "status": {
                "containerStatuses": [
                    {"name": "c", "containerID": value(random, POD_WORDS, 1)},
                    value(random, POD_WORDS, 2),
                ],
            },
        }.items()
    }


@target
def pod_objects(random: Random) -> None:
    """A pod is understood, or refused; all that is kept of it can be written."""
    with suppress(MalformedPodError):
        info = parse_pod(pod(random), frozenset({"app"}))
        assert_text(info.pod_id, info.pod_name, info.pod_namespace, info.node, info.owner_name)
        for texts in (*info.labels, *info.containers):
            assert_text(*texts)
        hash(info)


def pieces(random: Random, body: bytes) -> list[bytes]:
    """Cut *body* into pieces as the network does."""
    cuts = sorted(random.randrange(len(body) + 1) for _ in range(random.randrange(4)))
    bounds = zip([0, *cuts], [*cuts, len(body)], strict=True)
    return [body[start:end] for start, end in bounds]


@target
def pod_streams(random: Random) -> None:
    """Each object comes as it was sent, however the body is cut; what is broken is refused."""
    items = [pod(random) for _ in range(random.randrange(4))]
    text = json.dumps({"kind": "PodList", "metadata": {}, "items": items})
    body = octets(text)
    assert list(ListBody(iter(pieces(random, body))).items()) == json.loads(text)["items"]
    lines = octets("".join(json.dumps(item) + "\n" for item in items))
    read = list(json_lines(iter(pieces(random, lines))))
    assert read == [json.loads(json.dumps(item)) for item in items]
    broken = octets(changed(random, text))
    with suppress(ApiError):
        list(ListBody(iter(pieces(random, broken))).items())
    with suppress(ApiError):
        list(json_lines(iter(pieces(random, broken))))


RUNTIME_WORDS = (
    *("Name", "/web", "annotations", "io.kubernetes.cri.container-name", "nerdctl/name", "names"),
    *("k8s_web_pod_ns_uid_0", "k8s_", "id", ID, "data-root", "graph", "/var/lib/x", "/../../etc"),
    *('{"id":"' + ID + '"', "state = '/run/x'", "root", "graphroot", "imports = ['*']"),
)
RUNTIME_FILES = (
    f"var/lib/docker/containers/{ID}/config.v2.json",
    f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json",
    "var/lib/containers/storage/overlay-containers/containers.json",
    "etc/docker/daemon.json",
    "etc/containerd/config.toml",
    "etc/containers/storage.conf",
)


@target
def runtime_files(random: Random) -> None:
    """A container has a name, whatever its runtime's files hold."""
    for path in RUNTIME_FILES:
        is_json = random.random() < 0.6
        text = json.dumps(value(random, RUNTIME_WORDS)) if is_json else mixed(random, RUNTIME_WORDS)
        written(f"root/{path}", changed(random, text))
    runtime = random.choice(("docker", "containerd", "crio", "podman", "kubernetes", "unknown"))
    name = RuntimeNames(str(FOLDER / "root")).name(ID, runtime)
    assert name
    assert_text(name)


# --- settings ---------------------------------------------------------------------------------

SETTINGS = (
    *("monitor:\n  interval: 1s\n", "web: {listenAddresses: [':1']}\n", "rapl: {zones: [core]}\n"),
    *("ebpf: {meter: rapl}\n", "dev: {fake-cpu-meter: {enabled: true}}\n", "<<: *a\n", "&a {b: 1}"),
    *("monitor", ": ", "- ", "[", "{", "&a ", "*a", "!!python/object:os.system ", "? ", "| ", "\n"),
    *("[" * 300, "{a: " * 99, "&a [*a]", "&a {<<: *a}", "{a: 1, a: 2}", "\ufeff"),
    *("interval", "1s", "0", "true", "2026-11-26", "!!binary ", "%YAML 1.1\n---\n", "'", "#"),
)
VALUES = ("1s", "10ms", "true", "-1", "package", "container", "rapl", ":28282", "[::1]:9", "0.5")


def error_of(load: Callable[[], object]) -> ConfigError | None:
    """Return why a configuration is refused, None where it is not."""
    try:
        load()
    except ConfigError as error:
        return error
    return None


@target
def configuration_files(random: Random) -> None:
    """A file is a configuration, or its error names the file and has a remedy."""
    path = str(written("config.yaml", mixed(random, SETTINGS)))
    error = error_of(lambda: load_config({}, path))
    assert not error or (path in error.problem and error.remedy)


@target
def command_line_values(random: Random) -> None:
    """A value is understood, or its error has a remedy and is of bounded length."""
    option = random.choice(OPTIONS)
    text = octets(mixed(random, VALUES)).decode("utf-8", "replace")
    given = (text,) * random.randrange(1, 3) if option.is_list else text
    error = error_of(lambda: load_config({option.key: Setting(given, option.key)}))
    assert not error or (error.problem and error.remedy)


# --- HTTP -------------------------------------------------------------------------------------

HEADERS = (
    *("application/openmetrics-text", "text/plain", ";version=1.0.0", ";q=0.5", ";q=1.001", "*/*"),
    *("gzip", ", ", ";", "q=", "identity;q=0", "charset=utf-8"),
)


@target
def accept_headers(random: Random) -> None:
    """Qualities are from 0 to 1, the best first."""
    qualities = [each.quality for each in accepted(mixed(random, HEADERS))]
    assert qualities == sorted(qualities, reverse=True)
    assert all(0 < each <= 1 for each in qualities)


REQUESTS = (
    *(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "HEAD",
        "POST ",
        "GET ",
    ),
    *(
        "\r\n",
        "\n",
        "Host: localhost\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
    ),
    *(
        "Accept: " + "," * 2000 + "\r\n",
        " HTTP/1.1",
        "http://x/metrics?name[]=a",
        "X: " + "y" * 9000,
    ),
    "Expect: 100-continue\r\n",
)


@target
def http_requests(random: Random) -> None:
    """A request is taken, refused or waited for; what is kept of it is bounded."""
    client, server = socket.socketpair()
    with client, server:
        server.setblocking(False)
        connection = Connection(server, "host", Times())
        for piece in pieces(random, octets(mixed(random, REQUESTS))):
            client.sendall(piece)
            with suppress(OSError):
                request = connection.advance()
                if request:
                    assert_text(request.target, *request.headers.values())
                    assert len(request.target) <= HEAD_MAX_BYTES
                    connection.answer(Answer(b"page"))


QUERIES = (
    *("level=process", "level=pod", "level=", "sort=name", "sort=", "top=5", "top=", "points=9"),
    *("filter=*[!a", "filter=", "?" * 300, "zone=dram", "zone=", "key=100-1", "key=", "color=red"),
    *("&", "=", ";", "+", "%00", "%F0%9F", "%ED%B3%BF", "\xff", "9" * 20),
)
SHOWN = snapshot()
API = Api("node-1")
API.history.take(SHOWN)
API.history.take(snapshot(end_s=SHOWN.end_s + 1))


@target
def api_queries(random: Random) -> None:
    """A query is refused with the reason, or answered in JSON."""
    text, is_history = mixed(random, QUERIES), random.random() < 0.3
    try:
        asked = parse_query(text, is_history=is_history, is_gzipped=False)
    except ValueError as error:
        assert_text(str(error))
        return
    json.loads(API.render(SHOWN, asked).body)


ADDRESSES = (":28282", "127.0.0.1:0", "[::1]:80", "host.name:65535", "[", "]:", "99999", ":")
SOCKETS = ("unix:", "/run/kepler-ebpf/metrics.sock")


@target
def listen_addresses(random: Random) -> None:
    """An address is host and port, or a path, or refused."""
    with suppress(ConfigError):
        host, port = parse_address(mixed(random, ADDRESSES + SOCKETS))
        assert host.startswith("/") if port is None else 0 <= port <= 65535


# --- names of functions -----------------------------------------------------------------------


@cache
def real_elf() -> bytes:
    """Return a small file with symbols, a build id, a link and packed symbols."""
    path = FOLDER / "real"
    FOLDER.mkdir(exist_ok=True)
    source = "int inner(int x) { return x * 3; } void _start(void) { for (;;) inner(2); }"
    command = ("gcc", "-nostdlib", "-x", "c", "-", "-Wl,--build-id", "-o", str(path))
    subprocess.run(command, input=source, text=True, check=True)
    packed = written("packed", "")
    packed.write_bytes(lzma.compress(path.read_bytes()))
    added = (f"--add-section=.gnu_debugdata={packed}", f"--add-gnu-debuglink={packed}")
    subprocess.run(("objcopy", *added, str(path)), check=True)
    return path.read_bytes()


def damaged(random: Random, data: bytes) -> bytes:
    """Return *data* with words in it that mean something else, or without its end."""
    changes = bytearray(data)
    headers = int.from_bytes(data[40:48], "little")
    for _ in range(random.randrange(12)):
        width = random.choice((1, 2, 4, 8))
        place = random.choice((random.randrange(64), headers, random.randrange(len(data))))
        place = min(place + random.randrange(200), len(data) - width)
        value = random.choice((0, 1, 2**63, 2**64 - 1, len(data), random.getrandbits(64)))
        changes[place : place + width] = (value % 256**width).to_bytes(width, "little")
    return bytes(changes[: len(data) if random.random() < 0.8 else random.randrange(len(data))])


@target
def code_files(random: Random) -> None:
    """A file has names for places in it, or none; they can be shown."""
    path = written("code", "")
    path.write_bytes(damaged(random, real_elf()))
    file = open_code(str(path))
    if file:
        assert len(file.build_id) <= 20
        offsets = np.array([random.randrange(2**14) for _ in range(50)] + [2**62, -1])
        names = file.names(offsets, str(FOLDER))
        assert len(names) == len(offsets)
        assert_text(*map(readable, names))


MAP_LINES = (
    *("7f0000001000 40 JS:*spin app.js:1\n", "7f0000001040 10 py::run\n", "0x10 0x20 a b c\n"),
    *("ffffffffffffffff 1 high\n", "-5 10 low\n", "10 -5 low\n", "1_0 2_0 under\n", "zz 1 x\n"),
)


@target
def perf_maps(random: Random) -> None:
    """A map of code names addresses, or does not."""
    found = PerfMap(octets(mixed(random, MAP_LINES))).find(
        np.array([0x7F0000001000, 0x10, 0, 2**63 - 1, -1])
    )
    assert_text(*found)


SYMBOL_LINES = (
    *(
        "ffffffff81000000 T _stext\n",
        "ffffffff81000010 t one\t[module]\n",
        "0000000000000000 A x\n",
    ),
    *("ffffffff81000020 T \n", "ffffffff8100002 T short\n", "gggggggggggggggg W z\n", "T\n"),
)


@target
def kernel_symbols(random: Random) -> None:
    """A table of the kernel names addresses, or does not."""
    table = Kallsyms(octets(mixed(random, SYMBOL_LINES)))
    for frame in table.find(np.array([-(2**31) + 2**24 + 5, 0, -1])):
        assert_text(*frame[:2])


RUST = ("_R", "Nv", "INv", "C1a", "1b", "s_", "B_", "B0_", "T", "E", "h", "R", "Kj7b_", "DG_", "L_")


@target
def mangled_names(random: Random) -> None:
    """A Rust name is demangled to a text of bounded length, or not."""
    found = demangle_rust(
        octets(random.choice(("_R", "_ZN")) + mixed(random, RUST)).decode("utf-8", "replace")
    )
    assert len(found) <= 20_000
    assert_text(readable(found))


JOB_LINES = (
    '{"begin":"process","children":false}',
    '{"begin":"thread","children":true,"thread":7}',
    '{"begin":"command","thread":7}',
    '{"end":true}',
    '{"run":{"wall_s":1.0,"zones":{"package":{"joules":1.0}}},"lost_children":0}',
    '{"error":"no","remedy":""}',
)


@target
def job_lines(random: Random) -> None:
    """A line of the socket of jobs is one of the forms, or refused, on both sides."""
    line = mixed(random, JOB_LINES).encode("utf-8", "surrogatepass")
    with suppress(ConfigError):
        asked = request(line[:MAX_LINE_BYTES])
        assert asked is None or asked.scope in SCOPES
    with suppress(KeplerError):
        run_of_answer(answered(line))


@cache
def _recording() -> bytes:
    write(FOLDER / "whole.arrows", batches_of(1, 3))
    return (FOLDER / "whole.arrows").read_bytes()


@target
def recordings(random: Random) -> None:
    """A recording in which bytes were put in, cut out or changed is not called whole."""
    raw = _recording()
    at, end = sorted(random.choices(range(len(raw)), k=2))
    damage = raw[:at] + random.choice((b"", random.randbytes(9), raw[at:end] * 2)) + raw[end:]
    path = FOLDER / "damaged.arrows"
    path.write_bytes(damage)
    with suppress(KeplerError):
        recording = open_recording(path)
        for batch in recording.batches():
            assert batch.measured.intervals
        assert recording.problems or damage == raw


def clean() -> None:
    """Remove the files."""
    for folder, _, files in os.walk(FOLDER, topdown=False):
        for file in files:
            Path(folder, file).unlink()
        Path(folder).rmdir()
