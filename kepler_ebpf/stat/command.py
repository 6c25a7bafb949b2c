"""Runs a command as its caller would: with its terminal, descriptors, signals and status."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

from kepler_ebpf.errors import ConfigError

NOT_FOUND, NOT_EXECUTABLE, BY_SIGNAL = 127, 126, 128
"""Exit statuses as the shell gives them; that of a signal is added to the last."""

FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""The terminal sends these to the command as well: it decides what they do."""


class CommandError(Exception):
    """The command could not be started; ``exit_status`` is what the shell would report."""

    def __init__(self, problem: str, exit_status: int) -> None:
        super().__init__(problem)
        self.exit_status = exit_status


class Command:
    """A running command."""

    def __init__(
        self,
        arguments: Sequence[str],
        user: str | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Start it, as *user* where that is given, from the calling thread, *before* that call.

        Raises CommandError where it cannot be executed, ConfigError for an unknown user.
        """
        identity = {} if user is None else _identity(user)
        # All descriptors that we opened are closed by exec; those of the caller pass.
        start = partial(subprocess.Popen, close_fds=False, **identity)
        before()
        try:
            self._process = start(arguments)
        except OSError as error:
            script = shutil.which(arguments[0]) if error.errno == errno.ENOEXEC else None
            if script is None:
                raise _refusal(arguments[0], error) from None
            before()
            # A text without an interpreter of its own is the shell's, as it is for a shell.
            self._process = start(["/bin/sh", script, *arguments[1:]])
        self._descriptor = os.pidfd_open(self._process.pid)

    def ends_within(self, wait_s: float | None) -> bool:
        """Wait for its end, no longer than *wait_s* if that is given; it is not reaped by that."""
        longest_s = None if wait_s is None else max(wait_s, 0.0)
        return bool(select.select([self._descriptor], (), (), longest_s)[0])

    def reap(self) -> int:
        """Return its exit status as the shell reports it, when it has ended."""
        os.close(self._descriptor)
        status: int = self._process.wait()
        return status if status >= 0 else BY_SIGNAL - status

    @contextmanager
    def forwarded_signals(self) -> Iterator[None]:
        """Pass signals on to the command while the context lasts, and do not end by them."""

        def forward(number: int, _: FrameType | None) -> None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

        def leave(_: int, __: FrameType | None) -> None:
            """Do nothing: the terminal has sent it to the command too."""

        # What the caller has had ignored stays ignored, as it does in the command.
        handlers = dict.fromkeys(FORWARDED, forward) | dict.fromkeys(FROM_TERMINAL, leave)
        taken = [number for number in handlers if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, handlers[number]) for number in taken}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _refusal(program: str, error: OSError) -> CommandError:
    if not program or error.errno == errno.ENOENT:
        return CommandError(f"{program}: command not found", NOT_FOUND)
    return CommandError(f"{program}: {error.strerror}", NOT_EXECUTABLE)


def _identity(user: str) -> dict[str, Any]:
    """Return the arguments of Popen that make a command the *user*'s, a name or a number."""
    import pwd  # noqa: PLC0415 - needed by few

    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"--user: there is no user {user!r}", "give a name or a uid") from None
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}
