"""The socket at which a `run` has jobs of other processes measured."""

from __future__ import annotations

import os
from contextlib import ExitStack

from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.unix_socket import UnixListener
from kepler_ebpf.jobs.accounts import Accounts
from kepler_ebpf.jobs.peers import Marker
from kepler_ebpf.jobs.server import JobServer
from kepler_ebpf.loop.ticker import Ticker
from kepler_ebpf.wiring.measuring import Measuring

MODE = 0o666
"""Every user may connect: that is what it is for."""

BACKLOG = 64


def open_jobs_socket(stack: ExitStack, config: Config) -> UnixListener:
    """Listen for jobs. Raises SetupError."""
    path = config.jobs_socket
    try:
        return stack.enter_context(UnixListener(path, MODE, BACKLOG))
    except OSError as error:
        problem = f"cannot listen for jobs on {path}: {error.strerror or error}"
        remedy = "name a short path that is free, in a folder that this program may write"
        raise SetupError(problem, remedy) from error


def serve_jobs(
    stack: ExitStack, listener: UnixListener, measuring: Measuring, ticker: Ticker
) -> Accounts:
    """Serve jobs on *listener*; *measuring* has started. Raises SetupError."""
    tracker = measuring.tracker
    if tracker.self_process[0] != os.getpid() or tracker.jobs is None:
        problem = "who connects to --jobs-socket cannot be known in a PID namespace of its own"
        raise SetupError(problem, "run in the host's PID namespace (hostPID), or leave it out")
    procfs = measuring.config.procfs
    # Of two rights the second lets the thread become a user that owns nothing.
    keep = frozenset({"CAP_BPF", "CAP_DAC_READ_SEARCH"} if tracker.needs_rights else ())
    server = JobServer(listener, Marker(tracker.jobs, procfs), procfs, keep)
    accounts = Accounts(measuring.meter, ticker.end_now, server.turned)
    server.start(accounts)
    stack.callback(server.close)
    return accounts
