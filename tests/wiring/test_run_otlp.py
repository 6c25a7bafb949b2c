"""A live `run` that pushes to a real collector, and what it refuses to begin with."""

import subprocess
from pathlib import Path

import pytest
from collector import Received, collecting
from kube_certificates import make_certificate
from running import refused, running

PUSHING = (
    *("--meter", "fake", "--interval", "200ms", "--served-interval", "1s"),
    *("--exporter.otlp", "--otlp-interval", "1s"),
)
ACTIVE = {"kepler_ebpf.zone": "package", "kepler_ebpf.split": "active"}
PACKAGE = {"kepler_ebpf.zone": "package"}
VARIABLES = "OTEL_EXPORTER_OTLP_"


def found(points: list[Received], name: str, **attributes: object) -> list[Received]:
    """Return the points of a metric with these attributes."""
    return [
        point
        for point in points
        if point.name == name and attributes.items() <= point.attributes.items()
    ]


def spins(points: list[Received], pid: int) -> list[Received]:
    """Return the CPU times of a process."""
    return found(points, "kepler_ebpf.process.cpu.time", **{"process.pid": str(pid)})


def test_a_collector_has_what_was_measured(tmp_path: Path) -> None:
    """Each push adds up, sums rise from their start, and what begins later has a later start."""
    with (
        collecting(tmp_path) as collector,
        running(tmp_path, *PUSHING, "--otlp-endpoint", collector.endpoint) as run,
    ):
        first_ns = collector.until(lambda points: found(points, "hw.energy"))[0].time_ns
        with subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"]) as spinner:
            try:
                points = collector.until(lambda points: len(spins(points, spinner.pid)) > 2)
            finally:
                spinner.kill()
        page = run.until(
            lambda page: page.total("kepler_ebpf_otlp_exports_total", result="sent") > 2
        )
        assert page.total("kepler_ebpf_otlp_exports_total", result="failed") == 0
    last_ns = spins(points, spinner.pid)[1].time_ns
    push = [point for point in points if point.time_ns == last_ns]
    active_j = sum(point.value for point in found(push, "kepler_ebpf.node.energy", **ACTIVE))
    placed_j = sum(
        point.value
        for name in ("kepler_ebpf.process.energy", "kepler_ebpf.node.unattributed.energy")
        for point in found(push, name, **PACKAGE)
    )
    assert placed_j == pytest.approx(active_j, rel=1e-9)
    assert active_j > 0
    cpu_times = spins(points, spinner.pid)
    assert {each.start_ns for each in cpu_times} == {cpu_times[0].start_ns}
    assert first_ns <= cpu_times[0].start_ns < cpu_times[0].time_ns
    values = [each.value for each in cpu_times]
    assert values == sorted(values)
    resource = push[0].resource
    assert resource["service.name"] == "kepler-ebpf"
    assert resource["kepler_ebpf.meter"] == "fake"
    assert all(point.start_ns < point.time_ns for point in push if point.kind == "sum")


def test_a_collector_behind_tls_that_wants_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the standard variables, of which those of metrics come first."""
    server, client = make_certificate(tmp_path / "server"), make_certificate(tmp_path / "client")
    tls = {
        "cert_file": str(server.certificate),
        "key_file": str(server.key),
        "client_ca_file": str(client.ca),
    }
    with collecting(tmp_path, **tls) as collector:
        for name, value in {
            "ENDPOINT": "http://192.0.2.1:1",
            "METRICS_ENDPOINT": f"{collector.endpoint}/v1/metrics",
            "CERTIFICATE": str(server.ca),
            "CLIENT_CERTIFICATE": str(client.certificate),
            "CLIENT_KEY": str(client.key),
            "HEADERS": "x-token=a%20b",
        }.items():
            monkeypatch.setenv(f"{VARIABLES}{name}", value)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "power")
        with running(tmp_path, *PUSHING):
            points = collector.until(lambda points: found(points, "hw.power"))
    assert points[0].resource["deployment.environment.name"] == "test"
    assert points[0].resource["service.name"] == "power"


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("ENDPOINT", "localhost:4318", "OTEL_EXPORTER_OTLP_ENDPOINT: no address"),
        ("METRICS_ENDPOINT", "ftp://h", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: no address"),
        ("ENDPOINT", "http://user:secret@h", "without a user"),
        ("ENDPOINT", "http://h?key=secret", "without a user or a query"),
        ("ENDPOINT", "http://h:99999", "no address"),
        ("PROTOCOL", "grpc", "'grpc' is not supported"),
        ("COMPRESSION", "zstd", "want one of gzip, none"),
        ("TIMEOUT", "10s", "want milliseconds"),
        ("TIMEOUT", "0", "want milliseconds"),
        ("HEADERS", "a b=c", "no header of HTTP"),
        ("HEADERS", "a=b%0d%0ac", "no header of HTTP"),
        ("HEADERS", "secret", "an item has no name"),
    ],
)
def test_a_variable_that_cannot_work_is_refused(
    name: str, value: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named; what may be secret is not shown."""
    monkeypatch.setenv(f"{VARIABLES}{name}", value)
    ended = refused("--exporter.otlp")
    assert ended.returncode == 2
    assert wanted in ended.stderr
    assert "secret" not in ended.stderr


@pytest.mark.parametrize("name", ["CERTIFICATE", "CLIENT_CERTIFICATE"])
@pytest.mark.parametrize("text", [None, "no PEM"])
def test_a_certificate_that_cannot_work_is_refused(
    name: str, text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, or not one."""
    path = tmp_path / "file.pem"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv(f"{VARIABLES}{name}", str(path))
    ended = refused("--exporter.otlp", "--otlp-endpoint", "https://localhost:4318")
    assert ended.returncode == 2
    assert str(path) in ended.stderr


def test_figures_of_short_times_are_not_sent() -> None:
    """They show what other programs compute."""
    ended = refused(
        *("--exporter.otlp", "--served-interval", "100ms"),
        *("--web.listen-address", "127.0.0.1:0"),
    )
    assert ended.returncode == 2
    assert "--exporter.otlp sends figures to another program" in ended.stderr
