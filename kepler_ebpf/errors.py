"""The errors a user can meet. Each names the thing that failed and, apart, what to do about it."""

import sys


class KeplerError(Exception):
    """Base of every error that is the host's or the user's, never a bug of ours.

    ``remedy`` is what to do, "" where there is nothing. ``exit_code`` is the exit status of the
    command line when the error ends it.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class ConfigError(KeplerError):
    """A flag, a configuration key or a file is wrong: names it, its value and what is allowed."""

    exit_code = 2


class SetupError(KeplerError):
    """The host lacks something `run` cannot do without."""

    exit_code = 3


class ReadError(KeplerError):
    """A read failed in this interval. The loop survives it: the next interval is longer."""


def how_to_install(extra: str) -> str:
    """Return what installs an extra beside this program: by the pip of its own Python."""
    return f"install it: {sys.executable} -m pip install 'kepler-ebpf[{extra}]'"
