"""Ways into the kernel: which one is taken, why one fails, and that nothing stays behind."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from trackers import Tracker, cpu_ns, loaded, of, opened

from kepler_ebpf.errors import SetupError
from kepler_ebpf.kernel import cgroup_v1, programs
from kepler_ebpf.kernel.loaders import LOADERS, bcc, choice, co_re
from kepler_ebpf.kernel.programs import LoadRequest, bpf_directory

pytest_plugins = ["kernel_fixtures"]

REQUEST = LoadRequest(cpus=os.cpu_count() or 1, task_entries=1024)
NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups")
HELD_ID = re.compile(r"^(prog|map)_id:\s+(\d+)$", re.MULTILINE)
NOTICES = 3000
"""Of 24 bytes each, more than the cgroup_notifier's 64 KiB."""

GONE_S = 10
"""The kernel frees programs and maps a moment after the last descriptor is closed."""

LOAD_AND_ATTACH = """
import sys
from kepler_ebpf.errors import SetupError
from kepler_ebpf.kernel.loaders import choice
from kepler_ebpf.kernel.programs import LoadRequest, bpf_directory
try:
    programs = choice.load(sys.argv[1], LoadRequest(1, 1024))
    programs.attach()
except SetupError as error:
    sys.exit(str(error))
print("attached", flush=True)
sys.stdin.read()
programs.close()
"""


def command(loader_name: str, *setpriv: str) -> list[str]:
    """Build the command that loads and attaches with other rights."""
    return ["setpriv", *setpriv, "--", sys.executable, "-c", LOAD_AND_ATTACH, loader_name]


def held_by(pid: int) -> set[tuple[str, int]]:
    """List what a process holds in the kernel, as ("prog" or "map", id)."""
    held = set()
    for descriptor in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # the one that read the directory
            found = HELD_ID.findall(descriptor.read_text())
            held |= {(kind, int(number)) for kind, number in found}
    return held


def in_kernel() -> set[tuple[str, int]]:
    """List every program and map in the kernel."""
    listed = set()
    for kind in ("prog", "map"):
        shown = subprocess.run(["bpftool", "-j", kind, "show"], check=True, stdout=subprocess.PIPE)
        listed |= {(kind, entry["id"]) for entry in json.loads(shown.stdout)}
    return listed


def remaining(held: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Wait until what was held is gone, and return what is not."""
    end = time.monotonic() + GONE_S
    while (rest := held & in_kernel()) and time.monotonic() < end:
        time.sleep(0.05)
    return rest


# --- which one ----------------------------------------------------------------------------------


def test_auto_takes_the_compiled_object():
    """Where the kernel has type information the compiled object is used."""
    programs = choice.load("auto", REQUEST)
    programs.close()
    assert programs.loader == "core"


def test_auto_falls_back_to_bcc_and_says_why(monkeypatch, tmp_path, caplog):
    """Without the compiled object bcc is used, with a warning that names what is missing."""
    monkeypatch.setattr(co_re, "bpf_directory", lambda: tmp_path)
    programs = choice.load("auto", REQUEST)
    programs.close()
    assert programs.loader == "bcc"
    assert f"{tmp_path}/kepler.bpf.o is missing" in caplog.text


@pytest.fixture
def no_kernel_types(monkeypatch, tmp_path):
    """Hide the kernel's type information."""
    for module in (co_re, bcc):
        monkeypatch.setattr(module, "KERNEL_BTF", tmp_path / "vmlinux")


@pytest.mark.usefixtures("no_kernel_types")
def test_auto_without_types_and_headers_names_both(monkeypatch):
    """A kernel without type information and headers is an error with a reason for each loader."""
    monkeypatch.setattr(bcc, "headers_directory", lambda: None)
    with pytest.raises(SetupError) as raised:
        choice.load("auto", REQUEST)
    problem, _, remedy = str(raised.value).partition("\n")
    assert "core: the kernel has no type information" in problem
    assert f"nor headers for {os.uname().release}" in problem
    assert remedy


# --- what can be missing ------------------------------------------------------------------------


@pytest.mark.usefixtures("no_kernel_types")
def test_core_without_kernel_types_says_so():
    """The compiled object needs the kernel's type information."""
    with pytest.raises(SetupError, match=r"no type information .*vmlinux is missing\)\nuse "):
        choice.load("core", REQUEST)


def test_missing_object_is_named(monkeypatch, tmp_path):
    """A package without its compiled object says which file is missing."""
    monkeypatch.setattr(co_re, "bpf_directory", lambda: tmp_path)
    with pytest.raises(SetupError, match=r"kepler\.bpf\.o is missing .*\nuse --bpf-loader bcc"):
        choice.load("core", REQUEST)


@pytest.mark.parametrize("kept_bytes", [0, 7, 64, 4096])
def test_corrupt_object_is_named(monkeypatch, tmp_path, kept_bytes):
    """An object that is cut off anywhere is an error that names the file."""
    whole = (bpf_directory() / co_re.OBJECT).read_bytes()
    (tmp_path / co_re.OBJECT).write_bytes(whole[:kept_bytes])
    monkeypatch.setattr(co_re, "bpf_directory", lambda: tmp_path)
    with pytest.raises(SetupError, match=r"kepler\.bpf\.o is not a BPF object .*\nrebuild it"):
        choice.load("core", REQUEST)


@pytest.mark.parametrize("name", [b"on_exec", b"on_fork", b"cgroup_notifier"])
def test_object_of_another_version_is_named(monkeypatch, tmp_path, name):
    """An object without one of our programs or maps is an error that names both."""
    whole = (bpf_directory() / co_re.OBJECT).read_bytes()
    (tmp_path / co_re.OBJECT).write_bytes(whole.replace(name + b"\0", b"x" + name[1:] + b"\0"))
    monkeypatch.setattr(co_re, "bpf_directory", lambda: tmp_path)
    with pytest.raises(SetupError, match=rf"kepler\.bpf\.o .*has no {name.decode()}\nrebuild it"):
        choice.load("core", REQUEST)


def test_missing_bcc_names_its_package(monkeypatch, tmp_path):
    """Without bcc the error names the distribution's package, not the one on PyPI."""
    monkeypatch.setattr(bcc, "DISTRIBUTION_PACKAGES", str(tmp_path))
    with pytest.raises(SetupError, match=r"python3-bpfcc.*PyPI is another project.*\n"):
        choice.load("bcc", REQUEST)


def test_bcc_of_another_python_is_an_error(monkeypatch, tmp_path):
    """A bcc that cannot be imported says why, and what Python it wants."""
    package = tmp_path / "bcc"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('built for another Python')")
    monkeypatch.setattr(bcc, "DISTRIBUTION_PACKAGES", str(tmp_path))
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    with pytest.raises(SetupError, match=r"built for another Python\ninstall the distribution's"):
        choice.load("bcc", REQUEST)


def test_source_that_does_not_compile_is_an_error(monkeypatch, tmp_path):
    """What the compiler says is in the error, on one line."""
    for path in bpf_directory().glob("*.[ch]"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "charge.h").write_text("#error charge is broken\n")
    monkeypatch.setattr(bcc, "bpf_directory", lambda: tmp_path)
    with pytest.raises(SetupError) as raised:
        choice.load("bcc", REQUEST)
    problem, remedy = str(raised.value).split("\n")
    assert "charge is broken" in problem
    assert remedy.startswith("use --bpf-loader core")


def test_object_that_does_not_load_leaves_nothing_behind():
    """A map that is too large is refused, and what was made before it is freed."""
    before = held_by(os.getpid())
    with pytest.raises(SetupError, match=r"the kernel refuses the BPF programs .*\n"):
        choice.load("core", LoadRequest(1, 1 << 31))
    assert held_by(os.getpid()) == before


@pytest.mark.parametrize(("mode", "is_named"), [("confidentiality", True), ("integrity", False)])
def test_lockdown_is_named_where_it_forbids_to_load(monkeypatch, mode, is_named):
    """A kernel that lets no program read its memory refuses all, for no reason that it gives."""
    monkeypatch.setattr(choice, "lockdown", lambda: mode)
    with pytest.raises(SetupError) as raised:
        choice.load("core", LoadRequest(1, 1 << 31))
    assert ("lockdown mode confidentiality" in raised.value.problem) == is_named
    assert ("lockdown=integrity" in raised.value.remedy) == is_named
    assert "the kernel refuses the BPF programs" in raised.value.problem


def test_program_that_bcc_cannot_load_leaves_nothing_behind(monkeypatch):
    """Where one program is refused, those before it and the maps are freed."""
    before = held_by(os.getpid())
    monkeypatch.setattr(programs, "ON_DEMAND", ("rotate", "no_such_program"))
    with pytest.raises(SetupError, match=r"refuses the BPF program no_such_program: .*\n"):
        choice.load("bcc", REQUEST)
    assert held_by(os.getpid()) == before


@pytest.mark.parametrize(
    "rights",
    [NOBODY, ("--bounding-set=-bpf,-sys_admin",), ("--bounding-set=-perfmon,-sys_admin",)],
    ids=["nobody", "without CAP_BPF", "without CAP_PERFMON"],
)
def test_lack_of_rights_names_the_rights(loader_name, rights, checkout):
    """Whoever may not load BPF programs is told which rights it takes, in two lines."""
    ended = subprocess.run(
        command(loader_name, *rights), check=False, cwd=checkout, capture_output=True, text=True
    )
    assert ended.returncode == 1
    problem, remedy = ended.stderr.strip().split("\n")
    assert "Operation not permitted" in problem
    assert remedy == "run as root, or with CAP_BPF and CAP_PERFMON"


def test_two_capabilities_are_enough(loader_name, checkout):
    """CAP_BPF and CAP_PERFMON load and attach everything; no other right is needed."""
    ended = subprocess.run(
        command(loader_name, "--bounding-set=-all,+bpf,+perfmon"),
        check=True,
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ended.stdout == "attached\n"


# --- nothing stays behind -----------------------------------------------------------------------


def test_close_frees_everything_in_the_kernel(loader_name):
    """After close no program and no map is left, though the tracker still exists."""
    before = held_by(os.getpid())
    with opened(loader_name) as tracker:
        tracker.interval()
        held = held_by(os.getpid()) - before
    assert len(held) >= len(LOADERS)
    assert remaining(held) == set()
    assert tracker.stats.lost_ns >= 0


def test_close_twice_is_close_once(loader_name):
    """Closing again does nothing."""
    with loaded(loader_name) as (programs, _):
        programs.close()
        programs.close()


def test_killed_process_leaves_nothing_and_another_starts(loader_name, checkout):
    """After SIGKILL the kernel frees what was attached, and a new start works."""
    with subprocess.Popen(
        command(loader_name),
        cwd=checkout,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "attached\n"
        held = held_by(process.pid)
        process.send_signal(signal.SIGKILL)
    assert {"prog", "map"} == {kind for kind, _ in held}
    assert remaining(held) == set()
    with opened(loader_name) as tracker:
        assert tracker.interval().sockets.window_ns.sum() > 0


def test_several_samplers_see_the_same(loader_name, start):
    """Accounts beside each other charge a process the same, and one's end is not the other's."""
    load = start("burn_twice")
    with opened("core") as first:
        with opened(loader_name) as second:
            first.interval()
            second.interval()
            load.step()
            charged_ns = [
                cpu_ns(of(tracker.interval().tasks, tgid=load.pid)) for tracker in (first, second)
            ]
        load.step()
        again_ns = cpu_ns(of(first.interval().tasks, tgid=load.pid))
    assert charged_ns[0] == pytest.approx(charged_ns[1], rel=0.02)
    assert again_ns > 0


def test_notifier_is_readable_when_a_cgroup_was_made(loader_name, make_cgroup):
    """It stays so until it is acknowledged; more notices than it holds are no fault."""
    with opened(loader_name) as tracker:
        made = make_cgroup("v2")
        assert is_readable(tracker)
        assert made.name in {event.path for event in tracker.cgroup_events()}
        acknowledge(tracker)
        for _ in range(NOTICES):
            made.remove()
            made.directory.mkdir()
        assert is_readable(tracker)
        acknowledge(tracker)
        made.remove()
        made.directory.mkdir()
        assert is_readable(tracker)


def is_readable(tracker):
    """Whether a reader that waits for the notifier would wake up."""
    return bool(select.select([tracker.cgroup_notifier], [], [], 0.1)[0])


def acknowledge(tracker):
    """Acknowledge until nothing more comes: others on this host may make cgroups too."""
    end = time.monotonic() + GONE_S
    while is_readable(tracker):
        assert time.monotonic() < end
        tracker.cgroup_notifier.acknowledge()


def test_failed_attach_detaches_what_was_attached(loader_name):
    """Where one hook cannot be attached none stays attached."""
    with loaded(loader_name) as (programs, topology):
        programs.programs["on_cgroup_rmdir"] = -1
        tracker = Tracker(programs, topology, 16384)
        with pytest.raises(SetupError, match="cannot attach to tracepoint cgroup_rmdir"):
            tracker.start()
        programs.programs["on_cgroup_rmdir"] = programs.programs["on_cgroup_mkdir"]
        tracker.start()


# --- sizes and knobs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "cpus", "interval_s", "entries"),
    [
        (500, 2, 1.0, 500),
        (0, 2, 0.01, 1 << 12),
        (0, 2, 1.0, 1 << 14),
        (0, 8, 1.0, 1 << 15),
        (0, 9, 1.0, 1 << 16),
        (0, 1000, 60.0, 1 << 18),
    ],
)
def test_task_map_fits_the_host(wanted, cpus, interval_s, entries):
    """The map is as large as asked for, else by CPUs and interval, between two bounds."""
    assert choice.task_entries(wanted, cpus, interval_s) == entries


def test_subsystem_index_is_that_of_proc_cgroups():
    """With and without type information a controller has the same index, where all are listed."""
    listed = [line.split()[0] for line in Path("/proc/cgroups").read_text().splitlines()[1:]]
    assert [cgroup_v1.subsys_index(controller) for controller in listed] == list(range(len(listed)))


def test_unknown_controller_is_an_error_with_a_remedy():
    """A controller that this kernel has not is named."""
    with pytest.raises(SetupError, match=r"no cgroup controller nonesuch\nuse "):
        cgroup_v1.subsys_index("nonesuch")
