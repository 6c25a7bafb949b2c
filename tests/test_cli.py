"""The command as its users meet it: started as a process, judged by output and exit status."""

import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kepler_ebpf import __version__, cli
from kepler_ebpf.config.options import OPTIONS, Config
from kepler_ebpf.config.unsupported import UNSUPPORTED
from kepler_ebpf.errors import ConfigError, KeplerError, ReadError, SetupError
from kepler_ebpf.verbs import VERBS, Verb

Run = Callable[..., subprocess.CompletedProcess[str]]

STOPPING = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def kepler(checkout: Path) -> Run:
    """Start `python -m kepler_ebpf` with these arguments and wait for its end."""

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kepler_ebpf", *arguments]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)

    return start


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Parse the arguments of `run` and return the Config it would run with."""
    monkeypatch.setattr(cli, "set_up", lambda *_: None)

    def parse(*arguments: str) -> Config:
        command = cli.main.commands["run"]
        with command.make_context("run", list(arguments)) as context:
            return cli.configure(context.params)

    return parse


# --- help and version -------------------------------------------------------------------------


def test_version(kepler: Run) -> None:
    """The version is the package's."""
    assert kepler("--version").stdout == f"kepler-ebpf, version {__version__}\n"


def test_help_says_what_each_verb_does(kepler: Run) -> None:
    """The list of verbs has a whole sentence for each."""
    text = kepler("--help").stdout
    commands = text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(commands) == len(VERBS)
    assert [line for line in commands if not re.search(r"[^.]\.$", line)] == []


def test_help_names_every_flag_of_ours(kepler: Run) -> None:
    """Each flag of the table is in the help of `run`; those without effect are not."""
    text = kepler("run", "--help").stdout
    assert all(flag in text for option in OPTIONS for flag in option.flags)
    assert not [
        flag for foreign in UNSUPPORTED for flag in foreign.keys.values() if flag and flag in text
    ]


def test_help_imports_neither_numpy_nor_bcc(checkout: Path) -> None:
    """Help stays quick: a verb is imported when it is called."""
    code = (
        "import sys; from click.testing import CliRunner; from kepler_ebpf.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(main, ['run', '--help']).exit_code == 0\n"
        "print({'numpy', 'bcc', 'prometheus_client'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


COMPLETE = """
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
complete -p "$1" >/dev/null && _kepler_ebpf_completion "$1" && echo "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ([""], {verb.name for verb in VERBS}),
        (["re"], {"record", "report", "replay"}),
        (["stat", "--re"], {"--repeat"}),
        (["stat", "--format", ""], {"text", "go"}),
    ],
    ids=str,
)
def test_bash_completes_what_the_readme_says(
    words: list[str], completed: set[str], checkout: Path, tmp_path: Path
) -> None:
    """The README's line makes bash complete verbs, their flags, and the values of these."""
    program = tmp_path / "kepler-ebpf"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m kepler_ebpf "$@"\n')
    program.chmod(0o755)
    (line,) = re.findall(r"`(eval .*)`", (checkout / "README.md").read_text())
    done = subprocess.run(
        ["bash", "-c", line + COMPLETE, "bash", "kepler-ebpf", *words],
        cwd=checkout,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (set(done.stdout.split()), done.stderr) == (completed, "")


# --- verbs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_a_function_that_takes_the_config_and_its_flags(verb: Verb) -> None:
    """The table of verbs names modules that exist, and functions of the form that it describes."""
    module, _, function = verb.function.partition(":")
    signature = inspect.signature(getattr(import_module(module), function))
    flags = {str(flag.name): None for flag in verb.flags}
    assert next(iter(signature.bind(Config(), **flags).arguments)) == "config"


def test_verb_ends_with_the_status_of_its_function(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A new verb is a module and an entry: it has the Config, its own flags and a status."""
    (tmp_path / "new_verb.py").write_text("def act(config, *, times):\n    return int(times) + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli, "set_up", lambda *_: None)
    verb = Verb("act", "new_verb:act", "Act.", (click.Option(["--times"], default="2"),))
    result = CliRunner().invoke(cli.VerbCommand(verb), ["--interval", "2s", "--times", "6"])
    assert result.exit_code == 7


@pytest.mark.parametrize(
    ("verb", "status"), [("run", 2), ("top", 2), ("stat", 125), ("record", 125), ("profile", 125)]
)
def test_wrong_flag_has_the_status_that_errors_of_the_verb_have(verb: str, status: int) -> None:
    """Where other statuses are those of a command, a flag that does not exist is no exception."""
    assert CliRunner().invoke(cli.main, [verb, "--no-such-flag"]).exit_code == status


# --- signals while it gets ready ----------------------------------------------------------------


@pytest.fixture
def stopped(checkout: Path, tmp_path: Path) -> Callable[..., tuple[int, bytes]]:
    """Send the command a signal amid its first imports; returns its exit status and its words."""
    endless = tmp_path / "endless"
    os.mkfifo(endless)
    (tmp_path / "click.py").write_text(f"open({str(endless)!r}).read()")

    def stop(signum: signal.Signals, *arguments: str) -> tuple[int, bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "kepler_ebpf", *arguments],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        # Opens when the other side does: it is importing then.
        with process, endless.open("w"):
            process.send_signal(signum)
            said, _ = process.communicate(timeout=30)
        return process.returncode, said

    return stop


@pytest.mark.parametrize("signum", STOPPING)
def test_run_that_is_stopped_before_it_has_begun(
    stopped: Callable[..., tuple[int, bytes]], signum: signal.Signals
) -> None:
    """It ends as it would later: quietly and with status 0."""
    assert stopped(signum, "run", "--interval", "1s") == (0, b"")


@pytest.mark.parametrize("signum", STOPPING)
@pytest.mark.parametrize("argument", ["check", "--help"])
def test_other_commands_die_of_a_signal_quietly(
    stopped: Callable[..., tuple[int, bytes]], argument: str, signum: signal.Signals
) -> None:
    """A missing answer must not pass for a good one."""
    assert stopped(signum, argument) == (-signum, b"")


# --- flags ------------------------------------------------------------------------------------


def test_both_spellings_of_the_interval(configure: Callable[..., Config]) -> None:
    """Our short flag and Kepler's own are one setting."""
    assert configure("--interval", "100ms").interval_s == 0.1
    assert configure("--monitor.interval=100ms").interval_s == 0.1


@pytest.mark.parametrize(
    ("arguments", "enabled"),
    [
        ([], True),
        (["--exporter.prometheus"], True),
        (["--exporter.prometheus=true"], True),
        (["--exporter.prometheus=false"], False),
        (["--no-exporter.prometheus"], False),
    ],
)
def test_forms_of_a_switch(
    configure: Callable[..., Config], arguments: list[str], *, enabled: bool
) -> None:
    """A switch stands alone, with a value or negated, as Kepler's manifests write it."""
    assert configure(*arguments).prometheus_enabled is enabled


def test_repeated_flag_is_a_list(configure: Callable[..., Config]) -> None:
    """Levels and addresses are given one by one."""
    config = configure("--metrics", "node", "--metrics=pod", "--web.listen-address", "127.0.0.1:0")
    assert config.metrics_levels == {"node", "pod"}
    assert config.listen_addresses == ("127.0.0.1:0",)


def test_flags_of_a_kepler_manifest(configure: Callable[..., Config], tmp_path: Path) -> None:
    """The arguments of Kepler's DaemonSet are taken as they are."""
    path = tmp_path / "config.yaml"
    path.write_text("log: {level: warn}\nmonitor: {interval: 5s}\n")
    config = configure(
        f"--config.file={path}",
        "--kube.enable=true",
        "--kube.node-name=node-1",
        "--log.level=error",
        "--debug.pprof",
    )
    assert (config.interval_s, config.log_level, config.node_name) == (5.0, "error", "node-1")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--experimental.hwmon.force-enabled", "--experimental.hwmon.zones=power1"],
        ["--experimental.hwmon.zones", "power1", "--experimental.hwmon.zones", "power2"],
        ["--experimental.hwmon.enabled=true"],
    ],
)
def test_what_kepler_has_and_we_lack_is_named_once(
    configure: Callable[..., Config], caplog: pytest.LogCaptureFixture, arguments: list[str]
) -> None:
    """However many of its flags are given."""
    configure(*arguments)
    (message,) = caplog.messages
    assert message == f"{arguments[0].split('=')[0]} has no effect: hwmon metering is not supported"


@pytest.mark.parametrize(
    "flag", ["debug.pprof", "experimental.gpu.enabled", "experimental.hwmon.force-enabled"]
)
def test_what_we_lack_may_be_refused(
    configure: Callable[..., Config], caplog: pytest.LogCaptureFixture, flag: str
) -> None:
    """A feature that is switched off is not missing."""
    configure(f"--no-{flag}")
    assert caplog.messages == []


def test_negative_number_is_a_value(configure: Callable[..., Config]) -> None:
    """A minus sign after a flag does not make another flag."""
    assert configure("--monitor.max-terminated", "-1").max_terminated == -1


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("arguments", "problem", "hint"),
    [
        (["--interval", "0s"], "--interval: '0s' is not allowed", "want a duration from 10ms"),
        (["--interval", "-5s"], "--interval: '-5s' is not allowed", "want a duration"),
        (["--host.sysfs", "/nope"], "--host.sysfs: '/nope' is not a directory", "mounted"),
        (["--config.file", "/nope.yaml"], "/nope.yaml: No such file", "name a readable YAML"),
        (["--web.config-file", "/tls.yaml"], "/tls.yaml: No such file", "--web.config-file"),
        (["--kube.enable"], "the node's name in Kubernetes is not given", "--kube.node-name"),
        (["--kube.enable", "yes please"], "--kube.enable: 'yes please'", "want true or false"),
    ],
)
def test_wrong_setting_ends_with_error_hint_and_2(
    kepler: Run, command: str, arguments: list[str], problem: str, hint: str
) -> None:
    """A wrong setting gives one line of error, one of hint, and no traceback."""
    done = kepler(command, *arguments)
    error, tip = done.stderr.splitlines()
    assert done.returncode == 2
    assert error.startswith("error: ")
    assert problem in error
    assert tip.startswith("hint: ")
    assert hint in tip


def test_unknown_flag_is_refused_with_a_suggestion(kepler: Run) -> None:
    """An unknown flag ends the command, and the message has the flag that is most like it."""
    done = kepler("run", "--intervall", "1s")
    assert done.returncode == 2
    assert "--interval" in done.stderr


def test_unknown_key_is_a_warning_in_the_log(kepler: Run, tmp_path: Path) -> None:
    """A key without effect is a warning on stderr, and the command goes on."""
    path = tmp_path / "config.yaml"
    path.write_text("monitor:\n  intervall: 5s\n")
    done = kepler("check", "--config.file", str(path))
    assert "warn  " in done.stderr
    assert "line 2: the key monitor.intervall is unknown" in done.stderr
    assert "kernel" in done.stdout


@pytest.mark.parametrize(
    ("error", "status"), [(ConfigError, 2), (SetupError, 3), (ReadError, 1), (KeplerError, 1)]
)
def test_every_error_leaves_with_its_own_status(
    error: type[KeplerError], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kind of an error is the exit status; its remedy is the hint."""
    with pytest.raises(SystemExit) as left, cli.reported_errors():
        raise error("it broke", "mend it")
    assert left.value.code == status
    assert capsys.readouterr().err == "error: it broke\nhint: mend it\n"


def test_error_without_a_remedy_has_no_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """The problem alone is printed."""
    with pytest.raises(SystemExit), cli.reported_errors():
        raise SetupError("it broke: mend it")
    assert capsys.readouterr().err == "error: it broke: mend it\n"


def test_bug_is_not_hidden() -> None:
    """What is no KeplerError comes through as it is."""
    with pytest.raises(ZeroDivisionError), cli.reported_errors():
        _ = 1 // 0
