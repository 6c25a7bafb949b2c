"""`kepler-ebpf run` from start to end: a real process on the real kernel, read over HTTP."""

import fcntl
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from running import (
    ANY_PORT,
    CHECKOUT,
    COMMAND,
    GIVE_UP_S,
    Page,
    assert_conserved,
    in_kernel,
    refused,
    running,
    stepping,
)
from truth import Stopwatch
from workers import worker

QUICK = ("--interval", "100ms", "--meter", "fake")
STOPPING = (signal.SIGINT, signal.SIGTERM)
NO_RIGHTS = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")


def has_processes(page: Page) -> bool:
    """Whether the page shows the energy of any process."""
    return bool(page.find("kepler_process_cpu_joules_total"))


# --- start and stop ---------------------------------------------------------------------------


def test_start_is_one_line_and_then_quiet(tmp_path: Path) -> None:
    """The line tells loader, meter, zones and address; intervals and scrapes add none."""
    with running(tmp_path, *QUICK) as run:
        run.until(lambda page: page.intervals >= 5)
        assert run.log.count("\n") == 1
        assert "BPF loader core, meter fake" in run.started_line
        assert "zones package-0, core-0, dram-0" in run.started_line
        assert f"serving on {run.address}" in run.started_line


def test_start_says_plainly_that_figures_are_estimated(tmp_path: Path) -> None:
    """A host without energy counters is told why each meter does not work, and what is used."""
    with running(tmp_path, "--meter", "estimate") as run:
        assert "an ESTIMATE, not measured" in run.started_line
        page = run.until(has_processes)
    assert page.find("kepler_ebpf_info", meter="estimate", estimate="true")
    assert page.total("kepler_ebpf_meter_estimate") == 1


@pytest.mark.parametrize("signum", STOPPING)
def test_stop_leaves_nothing_in_the_kernel(tmp_path: Path, signum: signal.Signals) -> None:
    """Either signal ends it with status 0, and its programs, maps and links are gone."""
    with running(tmp_path, *QUICK) as run:
        held = run.kernel_objects()
        assert {kind for kind, _ in held} == {"prog", "map", "link"}
        assert run.end(signum) == 0
    await_gone(held)


def await_gone(held: set[tuple[str, int]]) -> None:
    """Wait until the kernel has freed every object in *held*: it does so soon, not at once."""
    give_up_at = time.monotonic() + GIVE_UP_S
    while left := held & all_in_kernel():
        assert time.monotonic() < give_up_at, f"still in the kernel: {left}"
        time.sleep(0.05)


def all_in_kernel() -> set[tuple[str, int]]:
    """Return kind and id of every BPF program, map and link there is."""
    return {(kind, id_) for kind in ("prog", "map", "link") for id_ in in_kernel(kind)}


def test_killed_run_leaves_nothing_and_starts_again(tmp_path: Path) -> None:
    """After SIGKILL the kernel frees everything, and the port can be had at once."""
    with running(tmp_path, *QUICK) as run:
        held, address = run.kernel_objects(), run.address
        assert run.end(signal.SIGKILL) == -signal.SIGKILL
    await_gone(held)
    with running(tmp_path, *QUICK, place=("--web.listen-address", address)) as again:
        again.until(has_processes)


def test_stop_during_a_scrape_is_clean(tmp_path: Path) -> None:
    """A client that holds its connection open does not keep the program from ending."""
    with running(tmp_path, *QUICK) as run:
        host, _, port = run.address.rpartition(":")
        client = subprocess.Popen(
            ["bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}; echo connected; read -r <&3"],
            stdout=subprocess.PIPE,
        )
        with client:
            assert client.stdout
            client.stdout.readline()
            assert run.end() == 0
            client.kill()


def test_two_instances_count_alike(tmp_path: Path, stopwatch: Stopwatch) -> None:
    """Each has programs of its own, and neither takes anything from the other."""
    with stepping(tmp_path, "--meter", "fake") as one, stepping(tmp_path, "--meter", "fake") as two:
        with worker(tmp_path, "shared-by-two") as hog:
            used_s = hog.spin()
            pages = [run.step() for run in (one, two)]
        assert one.kernel_objects().isdisjoint(two.kernel_objects())
        for page in pages:
            counted_s = page.total("kepler_process_cpu_seconds_total", comm="shared-by-two")
            assert stopwatch.agree(counted_s, used_s)


# --- refusals ---------------------------------------------------------------------------------


def test_taken_port_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    """Even without the right to load BPF programs it is the port that is complained of."""
    with running(tmp_path, *QUICK) as run:
        done = refused("--web.listen-address", run.address, wrapper=NO_RIGHTS)
        run.until(has_processes)
    assert done.returncode == 3
    error, hint = done.stderr.splitlines()
    assert error == f"error: cannot listen on {run.address}: Address already in use"
    assert hint.startswith("hint: ")
    assert "choose another port" in hint


@pytest.mark.parametrize("interval", ["0", "-1s", "5ms", "100h", "soon"])
def test_interval_out_of_bounds_is_refused(interval: str) -> None:
    """The value and what is allowed are named."""
    done = refused("--interval", interval)
    assert done.returncode == 2
    assert f"--interval: '{interval}' is not allowed" in done.stderr
    assert "10ms to 1h" in done.stderr


def test_rapl_asked_for_and_not_there_is_refused(tmp_path: Path) -> None:
    """Who wants measured energy only does not get an estimate; the remedy is said."""
    (tmp_path / "devices/system").mkdir(parents=True)
    (tmp_path / "devices/system/cpu").symlink_to("/sys/devices/system/cpu")
    done = refused(*ANY_PORT, "--meter", "rapl", "--host.sysfs", str(tmp_path))
    assert done.returncode == 3
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: the rapl meter does not work here: there is no RAPL zone")
    assert hint.startswith("hint: ")
    assert "--meter estimate" in hint


# --- ways to run ------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", ["100ms", "10ms"])
def test_short_interval_loses_nothing(tmp_path: Path, stopwatch: Stopwatch, interval: str) -> None:
    """Intervals follow each other, none fails, and each is in the totals."""
    with (
        running(tmp_path, "--meter", "fake", "--interval", interval) as run,
        worker(tmp_path, "spinner") as spinner,
    ):
        run.until(lambda page: page.find("kepler_process_cpu_seconds_total", comm="spinner"))
        used_s = spinner.spin()
        last = run.scrape()
        page = run.until(lambda page: page.intervals > last.intervals + 10)
    assert page.total("kepler_ebpf_failed_intervals_total") == 0
    assert_conserved(page)
    counted_s = page.total("kepler_process_cpu_seconds_total", comm="spinner")
    assert stopwatch.agree(counted_s, used_s)


def test_each_interval_is_printed_however_short(tmp_path: Path) -> None:
    """Whoever follows them sees every one, or the number of those that are missing."""
    lines, scrapes = tmp_path / "lines", []

    def has_many(page: Page) -> bool:
        scrapes.append(page)
        return page.intervals > 20 + len(scrapes)

    options = ("--interval", "10ms", "--meter", "fake", "--exporter.stdout")
    wrapper = ("sh", "-c", f'exec "$@" >{lines}', "sh")
    with running(tmp_path, *options, "--stdout-format", "jsonl", wrapper=wrapper) as run:
        page = run.until(has_many)
        assert run.end() == 0
    dropped = page.total("kepler_ebpf_stdout_dropped_total")
    # A scrape may have a part of an interval measured, which is not printed by itself.
    assert len(lines.read_text().splitlines()) + dropped >= page.intervals - len(scrapes)


def test_readers_of_short_intervals_see_long_ones(tmp_path: Path) -> None:
    """However often they come: watts are of the served interval, and joules move as often."""
    served = ("--served-interval", "500ms")
    with running(tmp_path, "--meter", "fake", "--interval", "20ms", *served) as run:
        run.until(lambda page: page.total("kepler_ebpf_interval_duration_seconds") > 0.4)
        began_s = time.monotonic()
        pages = [run.scrape() for _ in range(200)]
        lasted_s = time.monotonic() - began_s
    assert len({page.intervals for page in pages}) <= 1 + lasted_s / 0.45
    for page in pages:
        assert page.total("kepler_ebpf_interval_duration_seconds") > 0.4
        assert_conserved(page)


def test_scrape_within_a_long_interval_has_fresh_figures(tmp_path: Path) -> None:
    """Where the figures are old, or there are none yet, what was used since then is measured."""
    with running(tmp_path, "--meter", "fake", "--interval", "2m") as run:
        first = run.until(has_processes)
        second = run.until(lambda page: page.intervals > first.intervals)
    assert second.total("kepler_ebpf_interval_duration_seconds") < 120
    assert second.total("kepler_ebpf_missed_ticks_total") == 0


def test_settings_are_read_anew_on_a_signal(tmp_path: Path) -> None:
    """SIGHUP changes the log, names what needs a restart, and a broken file changes nothing."""
    config = tmp_path / "config.yaml"
    config.write_text("log: {level: info}\n")
    with running(tmp_path, "--meter", "fake", "--config.file", str(config)) as run:

        def log_after(text: str) -> str:
            config.write_text(text)
            before, give_up_s = len(run.log), time.monotonic() + GIVE_UP_S
            run.process.send_signal(signal.SIGHUP)
            while "The settings" not in run.log[before:]:
                assert time.monotonic() < give_up_s
                time.sleep(0.05)
            time.sleep(0.1)
            return run.log[before:]

        assert "stay as they were" in log_after("log: {level: loud}\n")
        log = log_after("log: {level: debug}\nmonitor: {interval: 7s}\n")
        assert "Only a restart changes monitor.interval" in log
        run.scrape()
        assert "debug GET '/metrics'" in run.log
        assert run.end() == 0


def test_bcc_loader_counts_the_same(tmp_path: Path, stopwatch: Stopwatch) -> None:
    """Compiled at start by bcc, the programs account as the compiled object does."""
    with stepping(tmp_path, "--meter", "fake", "--bpf-loader", "bcc") as run:
        with worker(tmp_path, "by-bcc") as hog:
            used_s = hog.spin()
            page = run.step()
        assert run.end() == 0
    assert page.find("kepler_ebpf_info", loader="bcc")
    counted_s = page.total("kepler_process_cpu_seconds_total", comm="by-bcc")
    assert stopwatch.agree(counted_s, used_s)


def test_bpf_statistics_tell_the_cost(tmp_path: Path) -> None:
    """With --bpf-stats the time and the number of our programs' runs are exported."""
    with running(tmp_path, *QUICK, "--bpf-stats") as run:
        page = run.until(lambda page: page.total("kepler_ebpf_bpf_runs_total"))
    assert page.total("kepler_ebpf_bpf_run_seconds_total") > 0


def test_json_log_is_json(tmp_path: Path) -> None:
    """Every line of the log is an object with its level and message."""
    with running(tmp_path, *QUICK, "--log.format", "json") as run:
        run.end()
        lines = [json.loads(line) for line in run.log.splitlines()]
    assert [line["level"] for line in lines] == ["info", "info"]
    assert lines[0]["msg"].startswith("started: ")
    assert lines[1]["msg"] == "stopped"


def test_intervals_are_printed_when_asked_for(tmp_path: Path) -> None:
    """The table goes to the standard output, interval after interval, the log does not."""
    with running(tmp_path, *QUICK, "--exporter.stdout") as run:
        printed_file = tmp_path / "run-0.out"
        run.until(lambda _: printed_file.read_text().count("meter fake") >= 2)
        assert run.end() == 0
    printed = printed_file.read_text()
    assert "started" not in printed


def test_without_an_exporter_nothing_is_served(tmp_path: Path) -> None:
    """Printing alone needs no port."""
    with running(tmp_path, *QUICK, "--exporter.stdout", "--no-exporter.prometheus") as run:
        assert run.address == "no address"
        assert run.end() == 0


@pytest.mark.parametrize("signum", STOPPING)
def test_reader_that_stops_reading_stops_nothing_else(
    tmp_path: Path, signum: signal.Signals
) -> None:
    """Intervals go on, those that are not printed are counted, and a signal still ends it."""
    options = ("--interval", "20ms", "--meter", "fake", "--exporter.stdout")
    pipe = tmp_path / "nobody-reads"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    wrapper = ("sh", "-c", f'exec "$@" >{pipe}', "sh")
    with running(tmp_path, *options, "--stdout-format", "jsonl", wrapper=wrapper) as run:
        page = run.until(lambda page: page.total("kepler_ebpf_stdout_dropped_total") > 2)
        run.until(lambda later: later.intervals > page.intervals + 2)
        assert run.end(signum) == 0
    os.close(reader)


def test_log_beside_what_nobody_reads_does_not_stop_it() -> None:
    """Also where the log goes into the same full pipe, a signal ends it."""
    options = ("--interval", "20ms", "--meter", "fake", "--exporter.stdout")
    command = [*COMMAND, *ANY_PORT, *options]
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=writer, stderr=writer) as process:
        try:
            while select.select((), (writer,), (), 0)[1]:
                time.sleep(0.05)
            process.terminate()
            assert process.wait(GIVE_UP_S) == 0
        finally:
            process.kill()
    os.close(reader)
    os.close(writer)


def test_full_disk_under_the_output_is_an_error() -> None:
    """What cannot be printed ends the run with a message, not with a traceback."""
    done = refused(*QUICK, *ANY_PORT, "--exporter.stdout", command=shell('"$@" >/dev/full'))
    assert done.returncode != 0
    assert "error: cannot write to the standard output: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_output_is_an_error() -> None:
    """A run that is to print and has no output at all says so, and what to do."""
    done = refused(*QUICK, *ANY_PORT, "--exporter.stdout", command=shell('"$@" >&-'))
    error, hint = done.stderr.splitlines()
    assert done.returncode == 3
    assert error == "error: cannot write to the standard output: it is closed"
    assert "leave out --exporter.stdout" in hint


def test_reader_that_has_seen_enough_ends_the_run_quietly() -> None:
    """As with any command in a pipe, a reader that has seen enough is no fault."""
    done = refused(*QUICK, *ANY_PORT, "--exporter.stdout", command=shell('"$@" | head -n 1'))
    assert "meter fake" in done.stdout
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


def shell(script: str) -> tuple[str, ...]:
    """Return a command that runs the program in *script*, where it is "$@"."""
    return ("sh", "-c", script, "sh", *COMMAND)
