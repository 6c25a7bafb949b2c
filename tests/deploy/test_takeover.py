"""What someone who takes the program over can do with its rights: the table of deploy/README.md."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from containment import contained
from manifests import DEPLOY, KUSTOMIZE, container, kustomize

from kepler_ebpf.host.rights import OTHER_USER

PROFILE = json.loads((DEPLOY / "seccomp" / "kepler-ebpf.json").read_text())
SECRET = "untouched"
PYTHON = str(Path(sys.executable).resolve())
"""In a folder that other users may enter, unlike the virtual environment's."""

NOBODY, SOMEBODY = 65_534, 12_345

TARGET = """
import ctypes, time
secret = ctypes.create_string_buffer(b"untouched")
print(ctypes.addressof(secret), flush=True)
while True:
    time.sleep(0.01)
"""

SPY = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct seen { char secret[9]; char may_signal; };
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct seen);
} seen SEC(".maps");
SEC("raw_tp/sched_switch")
int look(void *context)
{
	__u32 first = 0;
	struct seen *found = bpf_map_lookup_elem(&seen, &first);
	if (!found || bpf_get_current_pid_tgid() >> 32 != PID)
		return 0;
	bpf_probe_read_user(found->secret, sizeof(found->secret), (void *)ADDRESS);
	found->may_signal = !bpf_send_signal(23); /* SIGURG, which is ignored */
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""

INTRUDER = """
import ctypes, json, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libbpf = ctypes.CDLL("libbpf.so.1")
pid, address, bare, bare_address, private, spy = sys.argv[1:]

class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def reads_files():
    for path in private, f"/proc/{pid}/root{private}":
        try:
            return bool(open(path).read())
        except OSError:
            pass
    return False

def writes_memory(pid, address):
    try:
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(int(address))
            return memory.write(b"u") == 1
    except OSError:
        return False

def writes_vectors():
    here = Vector(ctypes.cast(ctypes.create_string_buffer(b"u"), ctypes.c_void_p), 1)
    there = Vector(int(address), 1)
    vectors = ctypes.byref(here), ctypes.c_ulong(1), ctypes.byref(there), ctypes.c_ulong(1)
    return libc.process_vm_writev(int(pid), *vectors, ctypes.c_ulong(0)) == 1

def attaches():
    PTRACE_SEIZE = 0x4206
    return libc.ptrace(PTRACE_SEIZE, int(pid), 0, 0) == 0

def spies():
    for name in "open_file", "find_map_by_name", "find_program_by_name":
        getattr(libbpf, f"bpf_object__{name}").restype = ctypes.c_void_p
    libbpf.bpf_program__attach.restype = ctypes.c_void_p
    libbpf.libbpf_set_print(None)
    program = ctypes.c_void_p(libbpf.bpf_object__open_file(spy.encode(), None))
    if libbpf.bpf_object__load(program):
        return False, False
    look = ctypes.c_void_p(libbpf.bpf_object__find_program_by_name(program, b"look"))
    seen = ctypes.c_void_p(libbpf.bpf_object__find_map_by_name(program, b"seen"))
    assert libbpf.bpf_program__attach(look)
    key, value = ctypes.c_uint32(0), ctypes.create_string_buffer(16)
    for _ in range(1000):
        libbpf.bpf_map_lookup_elem(libbpf.bpf_map__fd(seen), ctypes.byref(key), value)
        if any(value.raw):
            time.sleep(0.1)  # the program may have been in the middle of it
            libbpf.bpf_map_lookup_elem(libbpf.bpf_map__fd(seen), ctypes.byref(key), value)
            break
        time.sleep(0.01)
    return value.raw[:9] == b"untouched", value.raw[9] == 1

reads_memory, signals = spies()
print(json.dumps([
    reads_files(), reads_memory, signals, attaches(), writes_vectors(),
    writes_memory(pid, address), writes_memory(bare, bare_address),
]))
"""

OVERLAYS = ("least-privilege", "multi-tenant")


def table() -> dict[str, list[bool]]:
    """Return the README's table: what each row's process can do, in the order of INTRUDER."""
    text = (DEPLOY / "README.md").read_text()
    (lines,) = re.findall(r"^\| taken over with .*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines()]
    return {name: [{"yes": True, "no": False}[cell] for cell in cells] for name, *cells in rows}


def capabilities(overlay: str) -> list[str]:
    """Return what an overlay adds; STARTED is what the program keeps of everything."""
    if overlay == STARTED:
        return ["DAC_READ_SEARCH", "SYS_PTRACE"]
    if overlay == SHARED_STARTED:
        return []
    rights = container(kustomize(KUSTOMIZE / "overlays" / overlay))["securityContext"]
    return list(rights["capabilities"]["add"])


STARTED, SHARED_STARTED = "started", "multi-tenant, started"
"""What is left once it has started; test_privileges shows that of the running program."""

ROWS = {
    "privileged, started": (STARTED, None, OTHER_USER),
    "least-privilege": ("least-privilege", None, 0),
    "least-privilege, seccomp profile": ("least-privilege", PROFILE, 0),
    "least-privilege, systemd": ("least-privilege", PROFILE, NOBODY),
    "least-privilege, started": (STARTED, None, 0),
    "least-privilege, seccomp profile, started": (STARTED, PROFILE, 0),
    "least-privilege, systemd, started": (STARTED, PROFILE, NOBODY),
    "multi-tenant": ("multi-tenant", None, 0),
    "multi-tenant, seccomp profile": ("multi-tenant", PROFILE, 0),
    "multi-tenant, systemd": ("multi-tenant", PROFILE, NOBODY),
    "multi-tenant, started": (SHARED_STARTED, None, 0),
    "multi-tenant, systemd, started": (SHARED_STARTED, PROFILE, NOBODY),
}
"""Each row's overlay, seccomp profile and user."""


@contextmanager
def target(*wrapper: str) -> Iterator[tuple[str, str]]:
    """Run a process with a secret; give its pid and the address."""
    command = [*wrapper, PYTHON, "-c", TARGET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield str(process.pid), process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Return a folder that other users may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_every_row_is_tried() -> None:
    """The table has the rows that are tried here, no others."""
    assert table().keys() == ROWS.keys()


@pytest.mark.parametrize("row", ROWS)
def test_table_of_what_a_taken_process_can_do(tmp_path: Path, open_path: Path, row: str) -> None:
    """Files, memory and processes of others, tried with exactly the rights of the row.

    One target is root's with all capabilities, the other root's without any, as containers are
    that drop them.
    """
    overlay, profile, user = ROWS[row]
    private = open_path / "private"
    private.write_text(SECRET)
    private.chmod(0o600)
    shutil.chown(private, SOMEBODY)
    with ExitStack() as stack:
        pid, address = stack.enter_context(target())
        bare = stack.enter_context(target("setpriv", "--bounding-set=-all", "--inh-caps=-all"))
        spy = compiled(open_path, pid, address)
        rights = (tmp_path / "bundle", capabilities(overlay), profile, user)
        wrapper = stack.enter_context(contained(*rights))
        command = [*wrapper, PYTHON, "-c", INTRUDER, pid, address, *bare, str(private), str(spy)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == table()[row]


def compiled(folder: Path, pid: str, address: str) -> Path:
    """Compile the BPF program that reads the memory of *pid*."""
    (folder / "spy.c").write_text(SPY)
    includes = [f"-I{path}" for path in Path("/usr/include").glob("*-linux-gnu")]
    defines = (f"-DPID={pid}", f"-DADDRESS={address}ull")
    command = ("clang", "-g", "-O2", "-target", "bpf", *includes, *defines, "-c", "spy.c")
    subprocess.run(command, cwd=folder, check=True)
    (folder / "spy.o").chmod(0o644)
    return folder / "spy.o"
