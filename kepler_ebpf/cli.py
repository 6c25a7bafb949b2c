"""The `kepler-ebpf` command. Parses, hands over, and turns errors into messages and exit codes.

Everything heavy is imported by the command that needs it, so that `--help` is quick.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from kepler_ebpf import __version__
from kepler_ebpf.check.finding import can_run, to_json, to_table
from kepler_ebpf.config.file import Setting
from kepler_ebpf.config.load import load_config
from kepler_ebpf.config.options import OPTIONS, Config, Option
from kepler_ebpf.config.unsupported import UNSUPPORTED
from kepler_ebpf.errors import KeplerError
from kepler_ebpf.host.log import set_up

LOG = logging.getLogger(__name__)

Params = Mapping[str, Any]
"""What click parsed, by parameter name: text, texts, or None and () where not given."""

CONFIG_FILE = "config_file"


@contextmanager
def reported_errors() -> Iterator[None]:
    """Leave with a message, a hint and the error's exit code where a KeplerError comes through.

    The hint is what follows the first line of the error's text.
    """
    try:
        yield
    except KeplerError as error:
        problem, _, remedy = str(error).partition("\n")
        click.echo(f"error: {problem}", err=True)
        if remedy:
            click.echo(f"hint: {remedy}", err=True)
        sys.exit(error.exit_code)


# --- flags, from the tables of settings ---------------------------------------------------------


def _own_flag(option: Option) -> click.Option:
    default = option.default if isinstance(option.default, str) else ", ".join(option.default)
    return click.Option(
        [*option.flags, _param_name(option.key)],
        multiple=option.is_list,
        help=f"{option.help}  [default: {default}]" if default else option.help,
        **_value_form(switch=option.is_switch),
    )


def _foreign_flag(key: str, flag: str, *, switch: bool) -> click.Option:
    return click.Option([flag, _param_name(key)], hidden=True, **_value_form(switch=switch))


def _value_form(*, switch: bool) -> dict[str, Any]:
    # A switch may stand alone or have a value, as in --kube.enable=true.
    if switch:
        return {"is_flag": False, "flag_value": "true", "metavar": "[true|false]"}
    return {"metavar": "VALUE"}


def _param_name(key: str) -> str:
    return key.replace(".", "_").replace("-", "_")


def _foreign_keys() -> Iterator[tuple[str, str, bool]]:
    for foreign in UNSUPPORTED:
        for key, flag in foreign.keys.items():
            if flag:
                yield key, flag, foreign.is_switch(key)


FLAGS = {option.key: option.flags[0] for option in OPTIONS if option.flags} | {
    key: flag for key, flag, _ in _foreign_keys()
}
"""The flag that messages name, by YAML key."""

SWITCHES = [flag for option in OPTIONS if option.is_switch for flag in option.flags] + [
    flag for _, flag, is_switch in _foreign_keys() if is_switch
]
NEGATED = {f"--no-{flag.removeprefix('--')}": f"{flag}=false" for flag in SWITCHES}


class ConfiguredCommand(click.Command):
    """A command that takes every setting as a flag, and ``--no-X`` for a switch ``--X``."""

    def __init__(self, name: str, callback: Callable[..., None], *extra: click.Parameter) -> None:
        params: list[click.Parameter] = [
            *extra,
            click.Option(
                ["--config.file", CONFIG_FILE],
                metavar="FILE",
                help="A YAML file, with Kepler's keys; flags win over it.",
            ),
            *(_own_flag(option) for option in OPTIONS if option.flags),
            *(_foreign_flag(key, flag, switch=switch) for key, flag, switch in _foreign_keys()),
        ]
        super().__init__(name, callback=callback, params=params, help=callback.__doc__)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let click parse, with each ``--no-X`` spelled ``--X=false``."""
        return super().parse_args(ctx, [NEGATED.get(arg, arg) for arg in args])


def configure(params: Params) -> Config:
    """Make the Config of what click parsed, set up the log, and log the settings' warnings."""
    given = {
        key: Setting(value, flag)
        for key, flag in FLAGS.items()
        if (value := params[_param_name(key)]) not in (None, ())
    }
    loaded = load_config(given, params[CONFIG_FILE])
    set_up(loaded.config.log_level, loaded.config.log_format)
    for warning in loaded.warnings:
        LOG.warning(warning)
    return loaded.config


# --- commands -----------------------------------------------------------------------------------


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kepler-ebpf")
def main() -> None:
    """Energy of processes, containers, VMs and pods, from the kernel's account of CPU time."""


def run(**params: Any) -> None:
    """Measure, attribute and serve until stopped by SIGINT or SIGTERM."""
    with reported_errors():
        config = configure(params)
        # Our arrays are small: the threads numpy's BLAS starts by default only cost.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from kepler_ebpf.wiring.run import run as run_app  # noqa: PLC0415 - numpy and more

        run_app(config)


def check(*, as_json: bool, **params: Any) -> None:
    """Show what this host offers and lacks; exit status 0 when `run` can work with these flags."""
    with reported_errors():
        config = configure(params)
        from kepler_ebpf.check.gather import gather  # noqa: PLC0415 - numpy and more, not for --help

        findings = gather(config)
    click.echo(to_json(findings) if as_json else to_table(findings))
    sys.exit(0 if can_run(findings) else 1)


JSON_FLAG = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of a table.")
main.add_command(ConfiguredCommand("run", run))
main.add_command(ConfiguredCommand("check", check, JSON_FLAG))
