"""The errors a user can meet. Each names the thing that failed and what to do about it."""


class KeplerError(Exception):
    """Base of every error that is the host's or the user's, never a bug of ours.

    ``exit_code`` is what the command line leaves with when the error is not survived.
    """

    exit_code = 1


class ConfigError(KeplerError):
    """A flag, a configuration key or a file is wrong: says which, its value and what is allowed."""

    exit_code = 2


class SetupError(KeplerError):
    """The host lacks something `run` cannot do without: says what and the remedy."""

    exit_code = 3


class ReadError(KeplerError):
    """A read failed in this interval. The loop survives it: the next interval is longer."""
