"""The Prometheus rules: promtool's unit tests, and names against the catalog of our metrics."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from manifests import DEPLOY, JOB, Json

from kepler_ebpf.exporters.catalog import METRICS

PROMETHEUS = DEPLOY / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))

NAME = re.compile(r"\b[a-z_]*:?kepler_\w+(?::\w+)?|\bkepler_ebpf:\w+")
OPERATIONS = (
    r"joules(_before|_renamed|_step|1h)?|watts5m|names|owners|last|watched"
    r"|cost_per_hour|grams_co2e_per_hour"
)


def promtool(*arguments: str | Path) -> str:
    """Run promtool and return what it says; a failure of it fails the test and shows the same."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> Iterator[Json]:
    """Yield every rule of every file."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_rules_do_what_they_should(path: Path) -> None:
    """Promtool runs the rules over made-up series and finds what the unit tests expect."""
    promtool("test", "rules", path)


def test_prometheus_takes_the_configuration() -> None:
    """The shipped configuration, and each rule file that it names, is valid."""
    said = promtool("check", "config", PROMETHEUS / "prometheus.yaml")
    for path in RULES:
        assert path.name in said


def test_rules_ask_for_metrics_that_exist() -> None:
    """Each name in an expression is a metric of ours or a series that a rule records."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    exported = {metric.name for metric in METRICS}
    for rule in rules():
        unknown = set(NAME.findall(rule["expr"])) - recorded - exported
        assert unknown == set(), rule


def test_rules_ask_for_the_job_that_deploy_sets_up() -> None:
    """The job of the rules is that of the shipped configuration."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    (scrape,) = config["scrape_configs"]
    asked = {job for rule in rules() for job in re.findall(r'job="([^"]*)"', rule["expr"])}
    assert asked == {scrape["job_name"]} == {JOB}


def test_recorded_names_tell_level_metric_and_operation() -> None:
    """Names follow Prometheus' convention, so that they sort and read alike."""
    factors = {"kepler_ebpf:price_per_kwh", "kepler_ebpf:grams_co2e_per_kwh"}
    for name in {rule["record"] for rule in rules() if "record" in rule} - factors:
        assert re.fullmatch(rf"[a-z]+(_zone)?:kepler_\w+:({OPERATIONS})", name), name


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    """No alert is without a unit test, a severity, a summary and a description."""
    tests = (PROMETHEUS / "tests" / "alerts.yaml").read_text()
    alerts = [rule for rule in rules() if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert f'alertname="{alert["alert"]}"' in tests
        assert alert["labels"]["severity"] in {"info", "warning", "critical"}
        assert alert["annotations"].keys() == {"summary", "description"}


def test_pods_are_looked_at_before_they_are_forgotten() -> None:
    """The rules of pods run at least twice while an ended pod is still listed."""
    groups = yaml.safe_load((PROMETHEUS / "rules" / "recording.yaml").read_text())["groups"]
    (interval,) = {group["interval"] for group in groups}
    assert interval == "30s"
    scrape = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())["global"]
    assert scrape["scrape_interval"] == "15s"
