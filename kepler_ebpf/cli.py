"""The `kepler-ebpf` command: parses flags, runs a verb, turns errors into messages and statuses.

Each verb is imported when it is called, so that `--help` is quick.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

import click

from kepler_ebpf import __version__
from kepler_ebpf.config.file import Setting
from kepler_ebpf.config.load import load_config
from kepler_ebpf.config.option import Option
from kepler_ebpf.config.options import OPTIONS, Config
from kepler_ebpf.config.unsupported import UNSUPPORTED_OPTIONS
from kepler_ebpf.errors import KeplerError
from kepler_ebpf.host.log import set_up
from kepler_ebpf.host.runtime import require_files
from kepler_ebpf.recording.flags import RECORD_FLAGS, REPLAY_FLAGS
from kepler_ebpf.stat.flags import COMPARE_FLAGS, EVENTS_FLAGS, OWN_FAILURE, STAT_FLAGS
from kepler_ebpf.top.flags import TOP_FLAGS

LOG = logging.getLogger(__name__)

CONFIG_FILE = "config_file"
CONFIG_VARIABLE = "KEPLER_EBPF_CONFIG"
"""With it, `check` in a container judges by the configuration of `run` beside it."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One command of the group, see ``VERBS``."""

    name: str
    function: str
    help: str
    flags: tuple[click.Parameter, ...] = ()
    log_level: str = ""
    """What is logged where nothing else is set."""
    error_status: int | None = None
    """The exit status of every error of ours, where other statuses are those of a command."""
    examples: tuple[str, ...] = ()
    """The end of the help."""
    settings: frozenset[str] | None = None
    """The keys of the settings that its help shows, None for all; the others are accepted too."""


MEASURING = frozenset(
    [
        "host.sysfs",
        "host.procfs",
        "log.level",
        "log.format",
        "ebpf.meter",
        "ebpf.loader",
        "ebpf.mapEntries",
        "ebpf.cgroupHierarchy",
    ]
)
"""The settings of verbs that measure and serve nothing."""

VERBS = (
    Verb(
        "run",
        "kepler_ebpf.wiring.run:run",
        "Measure, attribute and serve until stopped by SIGINT or SIGTERM.",
    ),
    Verb(
        "check",
        "kepler_ebpf.check.gather:check",
        "Show what this host offers and lacks; exit status 0 when `run` can work with these flags.",
        (click.Option(["--json", "as_json"], is_flag=True, help="Print JSON, not a table."),),
    ),
    Verb(
        "stat",
        "kepler_ebpf.wiring.stat:stat",
        "Measure what a command costs, with all that it starts, beside the rest of the machine.",
        STAT_FLAGS,
        log_level="error",
        error_status=OWN_FAILURE,
        examples=(
            "kepler-ebpf stat -- make -j2",
            "kepler-ebpf stat -r 10 --warmup 1 -- ./program input",
            "kepler-ebpf stat --json -o result.json -- ./program",
            "kepler-ebpf stat --container web --timeout 60",
        ),
        settings=MEASURING,
    ),
    Verb(
        "compare",
        "kepler_ebpf.wiring.compare:compare",
        "Tell whether command B costs more than command A: each is one argument. Two files that "
        "stat --json has written are compared as well.",
        COMPARE_FLAGS,
        log_level="error",
        examples=(
            "kepler-ebpf compare -n 20 './old input' './new input'",
            "kepler-ebpf compare --shell 'gzip -1 <f >/dev/null' 'gzip -9 <f >/dev/null'",
            "kepler-ebpf compare before.json after.json",
        ),
        settings=MEASURING,
    ),
    Verb(
        "events",
        "kepler_ebpf.wiring.events:events",
        "Print a line for each program that is executed and each process that ends, with what it "
        "has used, until SIGINT.",
        EVENTS_FLAGS,
        log_level="error",
        settings=MEASURING,
    ),
    Verb(
        "top",
        "kepler_ebpf.wiring.run:top",
        "Show what uses energy now: processes, containers, pods, VMs, units or cgroups by watts, "
        "and that they and the rest add up to the meter.",
        TOP_FLAGS,
        log_level="error",
        examples=(
            "kepler-ebpf top --view container",
            "kepler-ebpf top --once --sort cpu --top 10",
            "kepler-ebpf top --batch -n 60 --format csv --filter postgres >minute.csv",
        ),
        settings=MEASURING | {"monitor.interval", "kube.enabled", "kube.nodeName"},
    ),
    Verb(
        "record",
        "kepler_ebpf.wiring.record:record",
        "Record measured intervals into a file or directory, of a command or until SIGINT; needs "
        "the extra `record`.",
        RECORD_FLAGS,
        log_level="error",
        error_status=OWN_FAILURE,
        examples=(
            "kepler-ebpf record -o build.arrows --interval 10ms -- make -j2",
            "kepler-ebpf record -o /var/lib/kepler-ebpf/ --max-size 2GB",
        ),
        settings=MEASURING | {"monitor.interval", "kube.enabled", "kube.nodeName"},
    ),
    Verb(
        "replay",
        "kepler_ebpf.wiring.replay:replay",
        "Attribute a recording anew, and show the difference to what was live; needs the extra "
        "`record`.",
        REPLAY_FLAGS,
        log_level="error",
        examples=(
            "kepler-ebpf replay build.arrows --split all --by comm",
            "kepler-ebpf replay /var/lib/kepler-ebpf/ --idle-watts package=12.5 --by container",
        ),
        settings=frozenset(),
    ),
)
"""Every verb of the command line.

A new verb is one module and one entry here. ``function`` names "module:function". The function
takes the Config as its only positional argument and each of the verb's own ``flags`` as a keyword
argument; every setting of the Config is a flag of every verb already. It returns the exit status,
or None for 0, and raises KeplerError for what the user can mend. Its module is imported when the
verb is called, and may therefore import numpy. A started tracker, a meter and a loop come from
``kepler_ebpf.wiring``.
"""


@contextmanager
def reported_errors(status: int | None = None) -> Iterator[None]:
    """Turn a KeplerError into a message, a hint and an exit with *status*, or the error's own."""
    try:
        yield
    except KeplerError as error:
        click.echo(f"error: {error.problem}", err=True)
        if error.remedy:
            click.echo(f"hint: {error.remedy}", err=True)
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
        params: list[click.Parameter] = [
            *verb.flags,
            click.Option(
                ["--config.file", CONFIG_FILE],
                metavar="FILE",
                envvar=CONFIG_VARIABLE,
                help="YAML file with Kepler's keys; flags override it.  "
                f"[default: the environment's {CONFIG_VARIABLE}]",
            ),
            *(_flag(option, verb.settings) for option in FLAGGED),
        ]
        super().__init__(
            verb.name,
            callback=self._call,
            params=params,
            help=verb.help,
            epilog="\b\nExamples:\n  " + "\n  ".join(verb.examples) if verb.examples else None,
            # What follows the first word of a command to run is the command's.
            context_settings={"allow_interspersed_args": all(f.nargs > 0 for f in verb.flags)},
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let click parse, with each ``--no-X`` spelled ``--X=false``; not of a command to run."""
        ours = args.index("--") if "--" in args else len(args)
        return super().parse_args(
            ctx, [*(NEGATED.get(arg, arg) for arg in args[:ours]), *args[ours:]]
        )

    def _call(self, **params: Any) -> None:
        with reported_errors(self._verb.error_status):
            require_files()
            config = configure(params, self._verb.log_level)
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
    given = {
        option.key: Setting(value, option.flags[0])
        for option in FLAGGED
        if (value := params[_param_name(option)]) not in (None, ())
    }
    if log_level:
        given.setdefault("log.level", Setting(log_level, "log.level"))
    loaded = load_config(given, params[CONFIG_FILE])
    set_up(loaded.config.log_level, loaded.config.log_format)
    for warning in loaded.warnings:
        LOG.warning(warning)
    return loaded.config


@click.group(
    commands=[VerbCommand(verb) for verb in VERBS],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="kepler-ebpf")
def main() -> None:
    """Energy of processes, containers, VMs and pods, by the CPU time that the kernel counts."""
