"""Writes the generated files of deploy/: dashboards, kustomize's PrometheusRule, syscall filters.

Run it after a change here, in system_calls.py or in deploy/prometheus/rules; a test compares the
files with its output. Takes the folder to write to; without one, deploy/ of this checkout.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from dashboards import DASHBOARDS
from system_calls import seccomp_profile, unit_lines

RULES = ("recording", "alerts")
"""The rule files that need no factor of the user."""

OPERATOR = Path("kustomize/components/prometheus-operator/prometheusrule.yaml")

SECCOMP = (
    Path("seccomp/kepler-ebpf.json"),
    # Kustomize reads no file outside of a component's folder.
    Path("kustomize/components/seccomp/kepler-ebpf.json"),
)

UNIT = Path("systemd/kepler-ebpf.service")
BEGIN, END = "# Written by scripts/render_deploy.py:\n", "# All others:\n"
"""Around the unit's system calls."""


def rendered(deploy: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file below *deploy* with the text that it must hold."""
    for name, dashboard in DASHBOARDS.items():
        text = json.dumps(dashboard, indent=2, ensure_ascii=False)
        yield deploy / "grafana" / "dashboards" / f"{name}.json", f"{text}\n"
    yield deploy / OPERATOR, prometheus_rule(deploy / "prometheus" / "rules")
    for path in SECCOMP:
        yield deploy / path, f"{json.dumps(seccomp_profile(), indent=2)}\n"
    before, begin, rest = (deploy / UNIT).read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    yield (
        deploy / UNIT,
        "".join((before, begin, *(f"{line}\n" for line in unit_lines()), end, after)),
    )


def prometheus_rule(rules: Path) -> str:
    """Return the rule files of the folder *rules* as one object for the Prometheus operator."""
    groups = [
        group
        for name in RULES
        for group in yaml.safe_load((rules / f"{name}.yaml").read_text())["groups"]
    ]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "kepler-ebpf",
            "namespace": "kepler-ebpf",
            "labels": {"app.kubernetes.io/name": "kepler-ebpf"},
        },
        "spec": {"groups": groups},
    }
    text = yaml.safe_dump(rule, sort_keys=False, width=100)
    return f"# Made by scripts/render_deploy.py from deploy/prometheus/rules.\n{text}"


def main(arguments: list[str]) -> None:
    """Write every file below the folder that *arguments* name."""
    checkout = Path(__file__).resolve().parent.parent
    for path, text in rendered(Path(*arguments) if arguments else checkout / "deploy"):
        path.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
