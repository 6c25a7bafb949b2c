"""The `kepler-ebpf` command: parses flags, runs a verb, turns errors into messages and statuses.

Each verb is imported when it is called, so that `--help` is quick.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any

import click

from kepler_ebpf import __version__
from kepler_ebpf.config.load import load_config
from kepler_ebpf.config.option import Option, Setting
from kepler_ebpf.config.options import OPTIONS, Config
from kepler_ebpf.config.unsupported import UNSUPPORTED_OPTIONS
from kepler_ebpf.errors import KeplerError
from kepler_ebpf.host.log import set_up
from kepler_ebpf.host.runtime import require_files
from kepler_ebpf.model.bounds import harmless
from kepler_ebpf.verbs import VERBS, Verb

LOG = logging.getLogger(__name__)

CONFIG_FILE = "config_file"
CONFIG_VARIABLE = "KEPLER_EBPF_CONFIG"
"""With it, `check` in a container judges by the configuration of `run` beside it."""


@contextmanager
def reported_errors(status: int | None = None) -> Iterator[None]:
    """Turn a KeplerError into a message, a hint and an exit with *status*, or the error's own."""
    try:
        yield
    except KeplerError as error:
        # They name files and workloads of strangers.
        for kind, text in (("error", error.problem), ("hint", error.remedy)):
            if text:
                shown = "\n".join(map(harmless, text.splitlines()))
                click.echo(f"{kind}: {shown}", err=True)
        sys.exit(status or error.exit_code)


# --- flags, from the tables of settings ---------------------------------------------------------

FLAGGED = [option for option in (*OPTIONS, *UNSUPPORTED_OPTIONS) if option.flags]
NEGATED = {
    f"--no-{flag.removeprefix('--')}": f"{flag}=false"
    for option in FLAGGED
    if option.is_switch
    for flag in option.flags
}


def _flag(option: Option, shown: frozenset[str] | None) -> click.Option:
    form: dict[str, Any] = {"metavar": "VALUE"}
    if option.is_switch:
        # It may stand alone or have a value, as in --kube.enable=true.
        form = {"is_flag": False, "flag_value": "true", "metavar": "[true|false]"}
    default = option.default if isinstance(option.default, str) else ", ".join(option.default)
    return click.Option(
        [*option.flags, _param_name(option)],
        multiple=option.is_list,
        help=f"{option.help}  [default: {default}]" if default else option.help,
        hidden=not option.help or (shown is not None and option.key not in shown),
        **form,
    )


def _param_name(option: Option) -> str:
    return option.key.replace(".", "_").replace("-", "_")


class VerbCommand(click.Command):
    """A verb with every setting as a flag, and ``--no-X`` for a switch ``--X``."""

    def __init__(self, verb: Verb) -> None:
        self._verb = verb
        super().__init__(
            verb.name,
            callback=self._call,
            help=verb.help,
            epilog="\b\nExamples:\n  " + "\n  ".join(verb.examples) if verb.examples else None,
            # What follows the first word of a command to run is the command's.
            context_settings={"allow_interspersed_args": all(f.nargs > 0 for f in verb.flags)},
        )

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its flags, made when they are asked for: those of all verbs take time."""
        self.params = self.params or [
            *self._verb.flags,
            click.Option(
                ["--config.file", CONFIG_FILE],
                metavar="FILE",
                envvar=CONFIG_VARIABLE,
                help="YAML file with Kepler's keys; flags override it.  "
                f"[default: the environment's {CONFIG_VARIABLE}]",
            ),
            *(_flag(option, self._verb.settings) for option in FLAGGED),
        ]
        return super().get_params(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let click parse, with each ``--no-X`` spelled ``--X=false``; not of a command to run."""
        ours = args.index("--") if "--" in args else len(args)
        spelled = [*(NEGATED.get(arg, arg) for arg in args[:ours]), *args[ours:]]
        try:
            with reported_errors(self._verb.error_status):  # Help is written meanwhile.
                return super().parse_args(ctx, spelled)
        except click.UsageError as error:
            if self._verb.error_status is None:
                raise
            error.show()
            ctx.exit(self._verb.error_status)

    def _call(self, **params: Any) -> None:
        with reported_errors(self._verb.error_status):
            require_files()
            config = configure(params, self._verb.log_level)
            if self._verb.rereads and not os.isatty(0):  # Of a terminal it is the end.
                signal.signal(signal.SIGHUP, lambda *_: reread(params, config))
            own_flags = {str(flag.name): params[str(flag.name)] for flag in self._verb.flags}
            status = _imported(self._verb.function)(config, **own_flags)
        sys.exit(status or 0)


def _imported(function: str) -> Callable[..., int | None]:
    """Import a verb's function.

    numpy's BLAS starts threads by default, which small arrays do not need. It reads the variable
    when it is loaded; commands that a verb runs do not get it from us.
    """
    name = "OPENBLAS_NUM_THREADS"
    is_set = name in os.environ
    os.environ.setdefault(name, "1")
    try:
        found: Callable[..., int | None] = resolve_name(function)
        return found
    finally:
        if not is_set:
            del os.environ[name]


def configure(params: Mapping[str, Any], log_level: str = "") -> Config:
    """Make the Config of what click parsed, set up the log, and log the settings' warnings.

    *params* has a text, texts, or None or () where not given, by the name of the parameter.
    *log_level* is what is logged where *params* has no level.
    """
    given = _given(params)
    if log_level:
        given.setdefault("log.level", Setting(log_level, "log.level"))
    loaded = load_config(given, params[CONFIG_FILE])
    set_up(loaded.config.log_level, loaded.config.log_format)
    for warning in loaded.warnings:
        LOG.warning(warning)
    return loaded.config


REREAD = frozenset(["log.level", "log.format"])
"""The settings that a running program takes on; the web configuration is read by its guard."""


def reread(params: Mapping[str, Any], config: Config) -> None:
    """Read the settings anew beside those of *config*: the log's are used, the others named."""
    try:
        new = load_config(_given(params), params[CONFIG_FILE]).config
    except KeplerError as error:
        LOG.warning("The settings stay as they were: %s", error)
        return
    set_up(new.log_level, new.log_format)
    changed = [
        option.key
        for option in OPTIONS
        if option.key not in REREAD and getattr(new, option.field) != getattr(config, option.field)
    ]
    LOG.info("The settings were read anew: the log has level %s", new.log_level)
    if changed:
        LOG.warning("Only a restart changes %s", ", ".join(changed))


def _given(params: Mapping[str, Any]) -> dict[str, Setting]:
    """Return the settings that the command line has, by key."""
    return {
        option.key: Setting(value, option.flags[0])
        for option in FLAGGED
        if (value := params[_param_name(option)]) not in (None, ())
    }


@click.group(
    commands=[VerbCommand(verb) for verb in VERBS],
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Begin with:
  kepler-ebpf check                 what this host offers and lacks
  kepler-ebpf top                   what uses energy now
  kepler-ebpf stat -- make -j2      what a command costs
  kepler-ebpf run                   serve metrics and a live page on :28282
""",
)
@click.version_option(__version__, prog_name="kepler-ebpf")
def main() -> None:
    """Energy of processes, containers, VMs and pods, by the CPU time that the kernel counts."""
