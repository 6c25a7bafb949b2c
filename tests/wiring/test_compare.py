"""`kepler-ebpf compare` as its users have it."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from running import CHECKOUT, GIVE_UP_S

from kepler_ebpf.stat.result import NOT_COUNTED

COMMAND = (sys.executable, "-m", "kepler_ebpf")
BURN = f"{sys.executable} -Ss -c 'import time\nwhile time.process_time() < {{}}: pass'"


def kepler(*arguments):
    """Run a verb until it ends."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
        check=False,
    )


def test_twice_the_work_is_different():
    """A command that uses twice the CPU time is found to, with what it did in figures."""
    done = kepler("compare", "--json", "-n", "8", BURN.format(0.1), BURN.format(0.2))
    result = json.loads(done.stdout)
    assert result["verdict"] == "different"
    assert 0.7 < result["ratios"]["cpu_s"]["more"] < 1.3
    assert (len(result["a"]["runs"]), len(result["b"]["runs"])) == (8, 8)


def test_table_has_the_answer_first():
    """The first line is the verdict with its zone; the estimate is labelled."""
    first, *rest = kepler(
        "compare", "-n", "2", "--meter", "estimate", BURN.format(0.02), BURN.format(0.02)
    ).stdout.splitlines()
    assert first.strip().startswith(("cannot tell", "different", "same"))
    assert "estimate" in first
    assert any("95% interval" in line for line in rest)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Give a file that `stat --json` has written."""
    path = tmp_path_factory.mktemp("saved") / "a.json"
    kepler("stat", "--json", "-r", "3", "-o", str(path), "--", "true")
    return path


def test_saved_results_are_compared(saved):
    """Two files are compared without a run, and said not to be interleaved."""
    done = kepler("compare", str(saved), str(saved))
    assert done.returncode == 0
    assert "not interleaved" in done.stdout


def with_governor(saved, path, governor):
    """Write the saved result again, of a host with that governor; None: of an older version."""
    result = json.loads(saved.read_text())
    result["host"].pop("governor")
    if governor is not None:
        result["host"]["governor"] = governor
    path.write_text(json.dumps(result))
    return str(path)


@pytest.mark.parametrize(
    ("a", "b", "named"),
    [
        ("schedutil", "schedutil", "governor is schedutil:"),
        ("powersave", "performance", "governor is powersave for A and performance for B:"),
        (None, "ondemand", "governor is not known for A and ondemand for B:"),
        ("performance", "performance", ""),
        (None, "performance", ""),
        (None, "", ""),
    ],
)
def test_governor_that_moves_the_frequency_is_told(saved, tmp_path, a, b, named):
    """It is noise, and a difference of A and B; what is not known is no reason to warn."""
    files = (with_governor(saved, tmp_path / name, each) for name, each in (("a", a), ("b", b)))
    done = kepler("compare", *files)
    assert done.returncode == 0
    assert named in done.stdout
    assert ("governor" in done.stdout) == bool(named)


def test_results_have_the_governor_of_their_host(tmp_path):
    """It is read below --host.sysfs, from each CPU that is online."""
    folder = tmp_path / "devices/system/cpu"
    for cpu in os.sched_getaffinity(0):
        (folder / f"cpu{cpu}/cpufreq").mkdir(parents=True)
        (folder / f"cpu{cpu}/cpufreq/scaling_governor").write_text("schedutil\n")
    for name in ("online", "possible"):
        (folder / name).write_text(Path("/sys/devices/system/cpu", name).read_text())
    done = kepler("stat", "--json", "--host.sysfs", str(tmp_path), "--", "true")
    assert json.loads(done.stderr)["host"]["governor"] == "schedutil"


def test_result_with_intervals_is_compared_as_a_whole(tmp_path):
    """What -I adds to a saved result does not matter."""
    path = tmp_path / "rows.json"
    kepler("stat", "--json", "-I", "10", "-r", "3", "-o", str(path), "--shell", BURN.format(0.02))
    assert json.loads(path.read_text())["runs"][0]["intervals"]
    assert kepler("compare", str(path), str(path)).returncode == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"meter": "rapl"}, "meter"),
        ({"estimate": False}, "estimate"),
        ({"host": {"cpu": "another"}}, "cpu"),
        ({"host": "none"}, "no result"),
        ({"runs": []}, "0 run(s)"),
        ({"runs": [asdict(NOT_COUNTED)] * 2}, "before it was counted"),
        ({"runs": [{"wall_s": 1}]}, "no result"),
    ],
    ids=str,
)
def test_results_of_other_worlds_are_refused(saved, tmp_path, change, named):
    """Another meter, model or CPU, and files that are no results, are refused by name."""
    other = tmp_path / "b.json"
    other.write_text(json.dumps(json.loads(saved.read_text()) | change))
    done = kepler("compare", str(saved), str(other))
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("true", "no-such-program"), "no-such-program"),
        (("true", "false"), "false"),
        (("true", ""), "B is empty"),
        (("true", "'"), "B is no command"),
        (("--zone", "psys", "-n", "2", "true", "true"), "psys"),
    ],
    ids=str,
)
def test_bad_input_is_named(arguments, named):
    """What cannot be compared is named with what to do."""
    done = kepler("compare", *arguments)
    assert done.returncode in {2, 3}
    assert named in done.stderr
    assert "hint: " in done.stderr
