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
from typing import Any, Self

from kepler_ebpf.errors import ConfigError, SetupError

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
    """A running command, in a context that ends after it.

    From its start to the end of the context, signals are passed on to it and do not end us. A
    handler that the caller has set is called too; what the caller has had ignored stays ignored, as
    it does in the command.
    """

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
        self._descriptor = -1
        self._missed: list[int] = []
        self._handlers: dict[int, Any] = {
            number: handler
            for number in (*FORWARDED, *FROM_TERMINAL)
            if (handler := signal.getsignal(number)) != signal.SIG_IGN
        }
        for number in self._handlers:
            signal.signal(number, self._forward)
        try:
            self._process = _started(arguments, identity, before)
        except BaseException:
            self.__exit__()
            raise
        self._descriptor = os.pidfd_open(self._process.pid)
        for number in self._missed:
            self._send(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def ends_within(self, wait_s: float | None) -> bool:
        """Wait for its end, no longer than *wait_s* if that is given; it is not reaped by that."""
        longest_s = None if wait_s is None else max(wait_s, 0.0)
        return bool(select.select([self._descriptor], (), (), longest_s)[0])

    def reap(self) -> int:
        """Return its exit status as the shell reports it, when it has ended."""
        os.close(self._descriptor)
        status: int = self._process.wait()
        return status if status >= 0 else BY_SIGNAL - status

    def _forward(self, number: int, frame: FrameType | None) -> None:
        # The terminal has sent its signals to the command too.
        if number not in FROM_TERMINAL:
            if self._descriptor < 0:
                self._missed.append(number)
            else:
                self._send(number)
        handler = self._handlers[number]
        if callable(handler):
            handler(number, frame)

    def _send(self, number: int) -> None:
        with suppress(OSError):
            signal.pidfd_send_signal(self._descriptor, number)


def _started(
    arguments: Sequence[str], identity: dict[str, Any], before: Callable[[], None]
) -> subprocess.Popen[Any]:
    # All descriptors that we opened are closed by exec; those of the caller pass.
    start = partial(subprocess.Popen, close_fds=False, **identity)
    before()
    try:
        return start(arguments)
    except OSError as error:
        script = shutil.which(arguments[0]) if error.errno == errno.ENOEXEC else None
        if script is None:
            raise _refusal(arguments[0], error) from None
        before()
        # A text without an interpreter of its own is the shell's, as it is for a shell.
        return start(["/bin/sh", script, *arguments[1:]])


def run_shell(text: str) -> int:
    """Run a shell command with its signals passed on, and return its exit status.

    Raises SetupError where there is no shell.
    """
    try:
        with Command(("/bin/sh", "-c", text)) as command:
            command.ends_within(None)
            return command.reap()
    except CommandError as error:
        raise SetupError(str(error), "leave out what the shell is to run") from None


@contextmanager
def command_has_run(arguments: Sequence[str], exit_status: int) -> Iterator[None]:
    """Have an error of writing name the *exit_status* of a command, which is not that of ours."""
    try:
        yield
    except SetupError as error:
        if not arguments:
            raise
        ended = f"the command has run, and ended with status {exit_status}"
        raise SetupError(f"{error.problem}; {ended}", error.remedy) from None


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
