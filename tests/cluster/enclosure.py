"""Servers that leave nothing behind: all in namespaces of their own, which one process keeps."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

START_S = 120.0
"""How long a server may take to start: far more than it ever needs."""

STOP_S = 30.0

CGROUPS = Path("/sys/fs/cgroup")

TUNABLES = tuple(
    Path("/proc/sys") / name
    for name in (
        "kernel/keys/root_maxbytes",
        "kernel/keys/root_maxkeys",
        "kernel/panic",
        "kernel/panic_on_oops",
        "vm/overcommit_memory",
        "vm/panic_on_oom",
    )
)
"""What a kubelet sets on the host when it starts."""

KEEPER = """
trap '' CHLD
for folder in /run /var/lib /var/log; do mount -t tmpfs tmpfs $folder || exit; done
echo
exec sleep infinity
"""
"""The first process of the enclosure. The kernel buries orphans where their parent ignores it;
the folders are those that containerd and a kubelet write to whatever they are told."""


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(what: str, holds: Callable[[], bool], seconds: float = START_S) -> None:
    """Wait until *holds* is true; fails where it does not come true in time."""
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at, f"not in {seconds} s: {what}"
        time.sleep(0.05)


class Enclosure:
    """A mount and a PID namespace, and a cgroup in every hierarchy; all of it ends together."""

    def __init__(self, folder: Path, keeper: subprocess.Popen[bytes]) -> None:
        """Keep all files in *folder*; *keeper* is the process outside that holds the namespaces."""
        self.folder = folder
        self._keeper = keeper
        self._servers: list[Server] = []
        self.cgroup = f"/kepler-ebpf-test-cluster-{os.getpid()}"

    def command(self, arguments: Sequence[str | Path]) -> list[str | Path]:
        """Return the command that runs *arguments* inside."""
        (first,) = children(self._keeper.pid)
        return ["nsenter", f"--target={first}", "--mount", "--pid", *arguments]

    def server(self, name: str, arguments: Sequence[str | Path]) -> "Server":
        """Return a server that runs *arguments* inside; its log is called *name*."""
        made = Server(self.command(arguments), self.folder / f"{name}.log")
        self._servers.append(made)
        return made

    def end(self) -> None:
        """Kill every process inside."""
        self._keeper.kill()
        self._keeper.wait()
        for server in self._servers:
            server.kill()

    def make_cgroup(self) -> None:
        """Make the cgroup below which a kubelet makes its own."""
        for hierarchy in hierarchies():
            (hierarchy / self.cgroup[1:]).mkdir()

    def remove_cgroup(self) -> None:
        """Remove it with all below it, once the kernel is done with the processes in there."""
        for hierarchy in hierarchies():
            for directory, _, _ in os.walk(hierarchy / self.cgroup[1:], topdown=False):
                wait_for(f"{directory} is empty", partial(removed, Path(directory)))


def removed(directory: Path) -> bool:
    """Remove a cgroup; tell whether it is gone."""
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def hierarchies() -> list[Path]:
    """Return where each cgroup hierarchy is mounted; a link stands for a second controller."""
    if (CGROUPS / "cgroup.procs").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def children(pid: int) -> list[int]:
    """Return the processes that *pid* has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def enclosure(folder: Path) -> Iterator[Enclosure]:
    """Hold namespaces for servers, and put the host back as it was in the end."""
    before = {path: path.read_text() for path in TUNABLES if path.exists()}
    command = [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("sh", "-c", KEEPER),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout
        assert keeper.stdout.readline(), "there are no namespaces to be had"
        made = Enclosure(folder, keeper)
        try:
            made.make_cgroup()
            yield made
        finally:
            made.end()
            made.remove_cgroup()
            for path, text in before.items():
                path.write_text(text)
            shutil.rmtree(folder, ignore_errors=True)


class Server:
    """A program in the enclosure, which can be stopped and started again."""

    def __init__(self, command: Sequence[str | Path], log_file: Path) -> None:
        """Be ready to run *command*, which enters the enclosure and starts the program there."""
        self._command = command
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log_file.read_text("utf-8", "replace")

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Start it, and wait until *is_ready*."""
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            wait_for("the server is ready", lambda: self._alive() and is_ready())
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log[-4000:]}") from None

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is None:
            return
        if self._process.poll() is None:
            for pid in children(self._process.pid):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(STOP_S)
        self._process = None

    def _alive(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it has ended:\n{self.log[-4000:]}"
        return True
