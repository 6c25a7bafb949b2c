"""`kepler-ebpf compare` as its users have it."""

import json
import subprocess
import sys

import pytest
from running import CHECKOUT, GIVE_UP_S

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
        "compare", "-n", "2", "--meter", "estimate", "true", "true"
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


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"meter": "rapl"}, "meter"),
        ({"estimate": False}, "estimate"),
        ({"host": {"cpu": "another"}}, "cpu"),
        ({"runs": []}, "0 run(s)"),
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
