"""The verbs of the command line: what each is called, what it runs and which flags it has."""

from __future__ import annotations

from dataclasses import dataclass

import click

from kepler_ebpf.profile.flags import FLAGS as PROFILE_FLAGS
from kepler_ebpf.recording.flags import RECORD_FLAGS, REPLAY_FLAGS
from kepler_ebpf.recording.report.flags import REPORT_FLAGS
from kepler_ebpf.stat.flags import COMPARE_FLAGS, EVENTS_FLAGS, OWN_FAILURE, STAT_FLAGS
from kepler_ebpf.top.flags import TOP_FLAGS


@dataclass(frozen=True, slots=True)
class Verb:
    """One command of the group, see ``VERBS``."""

    name: str
    function: str
    help: str
    """Its first sentence alone stands in the list of verbs: 65 characters are not cut."""
    flags: tuple[click.Parameter, ...] = ()
    log_level: str = ""
    """What is logged where nothing else is set."""
    error_status: int | None = None
    """The exit status of every error of ours, where other statuses are those of a command."""
    examples: tuple[str, ...] = ()
    """The end of the help."""
    rereads: bool = False
    """Whether SIGHUP has the settings read anew, see ``reread``."""
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
        examples=(
            "kepler-ebpf run --interval 5s --metrics node --metrics container",
            "kepler-ebpf run --web.listen-address 127.0.0.1:28282 --exporter.stdout",
        ),
        rereads=True,
    ),
    Verb(
        "check",
        "kepler_ebpf.check.gather:check",
        "Show what this host offers and lacks. The exit status is 0 where `run` can work with "
        "these flags.",
        (click.Option(["--json", "as_json"], is_flag=True, help="Write JSON."),),
        examples=("kepler-ebpf check", "kepler-ebpf check --meter rapl --kube.enable"),
    ),
    Verb(
        "stat",
        "kepler_ebpf.wiring.stat:stat",
        "Measure what a command costs, with all that it starts. The rest of the machine is shown "
        "beside it.",
        STAT_FLAGS,
        log_level="error",
        error_status=OWN_FAILURE,
        examples=(
            "kepler-ebpf stat -- make -j2",
            "kepler-ebpf stat -r 10 --warmup 1 -- ./program input",
            "kepler-ebpf stat --json -o result.json -- ./program",
            "kepler-ebpf stat --container web --timeout 60",
        ),
        settings=MEASURING | {"ebpf.jobsSocket"},
    ),
    Verb(
        "compare",
        "kepler_ebpf.wiring.compare:compare",
        "Tell whether command B costs more than command A. Each is one argument. Two files that "
        "stat --json has written are compared as well.",
        COMPARE_FLAGS,
        log_level="error",
        examples=(
            "kepler-ebpf compare -n 20 './old input' './new input'",
            "kepler-ebpf compare --shell 'gzip -1 <f >/dev/null' 'gzip -9 <f >/dev/null'",
            "kepler-ebpf compare before.json after.json",
        ),
        settings=MEASURING | {"ebpf.jobsSocket"},
    ),
    Verb(
        "events",
        "kepler_ebpf.wiring.events:events",
        "Print what each process has used when it ends. Each program that is executed has a line "
        "too. SIGINT ends it.",
        EVENTS_FLAGS,
        log_level="error",
        examples=(
            "kepler-ebpf events --comm gzip",
            "kepler-ebpf events --min-joules 1 --json --timeout 60 >minute.jsonl",
        ),
        settings=MEASURING,
    ),
    Verb(
        "profile",
        "kepler_ebpf.wiring.profile:profile",
        "Show which functions use the energy, as a flame graph. It is that of a command with all "
        "that it starts, of tasks that run anyway, or of the machine, and adds up to the account.",
        PROFILE_FLAGS,
        log_level="error",
        error_status=OWN_FAILURE,
        examples=(
            "kepler-ebpf profile -- make -j2",
            "kepler-ebpf profile -F 997 -o program.pb.gz -- ./program input",
            "kepler-ebpf profile --container web --timeout 30 -o web.svg",
            "kepler-ebpf profile -a --timeout 10 -o - --format folded | head",
        ),
        settings=MEASURING,
    ),
    Verb(
        "top",
        "kepler_ebpf.wiring.run:top",
        "Show what uses energy now, on a terminal or printed. The rows are processes, tasks, "
        "containers, pods, VMs, units or cgroups; with the rest they add up to the meter.",
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
        "Record measured intervals into a file or directory. It ends with the command, or by "
        "SIGINT. It needs the extra `record`.",
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
        "report",
        "kepler_ebpf.wiring.report:report",
        "Show what a recording has of a range of time. The rows are processes, containers and "
        "others; the form is text, CSV, JSON, Parquet, a picture or a page. It needs the extra "
        "`record`, and `report` for pictures.",
        REPORT_FLAGS,
        log_level="error",
        examples=(
            "kepler-ebpf report build.arrows --by comm --top 10",
            'kepler-ebpf report /var/lib/kepler-ebpf/ --since "10m ago" --by container',
            "kepler-ebpf report night.arrows --by pod --over-time --step 1m -o night.csv",
            "kepler-ebpf report night.arrows -o night.html",
        ),
        settings=frozenset(),
    ),
    Verb(
        "replay",
        "kepler_ebpf.wiring.replay:replay",
        "Attribute a recording anew, and show the difference. It needs the extra `record`.",
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
