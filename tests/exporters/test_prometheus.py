"""The whole metrics page, as Prometheus and its tools read it."""

import gzip
import shutil
import subprocess
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import CollectorRegistry
from snapshots import HOST, Row, node, process, snapshot

from kepler_ebpf.exporters.catalog import METRICS, SAMPLED
from kepler_ebpf.exporters.metric import Metric
from kepler_ebpf.exporters.page import Variant, negotiated
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.exporters.web_config import WebReload
from kepler_ebpf.model.levels import LEVELS
from kepler_ebpf.model.pods import PodSourceHealth
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.stats import ProgramStats

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
Page = dict[str, Family]
"""The parsed families of a page by name."""

END_S = 5_000.0
AGE_S = 1.25


def page_of(levels: frozenset[str] = frozenset(LEVELS), *debug: str) -> MetricsPage:
    """Return a page whose clock stands a little after the snapshot."""
    web = WebReload(successful=True, success_at_s=1.0, certificate_end_s=2.0)
    return MetricsPage(replace(HOST, levels=levels), debug, lambda: END_S + AGE_S, lambda: web)


def families(shown: Snapshot | None, accept: str = "", page: MetricsPage | None = None) -> Page:
    """Return the parsed families of a rendered page by name."""
    rendered = (page or page_of()).render(shown, negotiated(accept))
    parse = parse_openmetrics if "openmetrics" in rendered.content_type else parse_text
    return {family.name: family for family in parse(rendered.body.decode())}


def values(family: Family, *labels: str) -> dict[tuple[str, ...], float]:
    """Return a family's figures by the values of these labels."""
    return {tuple(s.labels[name] for name in labels): s.value for s in family.samples}


def zones_of(page: Page) -> set[str]:
    """Return every value of the label zone on a page."""
    samples = [sample for family in page.values() for sample in family.samples]
    return {sample.labels["zone"] for sample in samples if "zone" in sample.labels}


@pytest.fixture(scope="module", params=["", OPENMETRICS], ids=["text", "openmetrics"])
def shown(request: pytest.FixtureRequest) -> Page:
    """The parsed families of a full page in either format."""
    return families(snapshot(), request.param)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_of_the_catalog_is_on_the_page(metric: Metric, shown: Page) -> None:
    """The page has each metric of the catalog with its type, its labels and its help."""
    family = shown[metric.family]
    assert (family.type, family.documentation) == (metric.type, metric.help)
    labels = {"node_name"} if metric.node_name else set()
    assert {s.name for s in family.samples} == {metric.name}
    assert {frozenset(s.labels) for s in family.samples} == {frozenset(labels | {*metric.labels})}


def test_page_has_nothing_beside_the_catalog(shown: Page) -> None:
    """No family is exported that the catalog does not list."""
    assert set(shown) == {metric.family for metric in METRICS}


def test_node_zones_of_one_kind_are_summed(shown: Page) -> None:
    """Two sockets are one zone with Kepler's path; a single zone keeps its own path."""
    joules = values(shown["kepler_node_cpu_joules"], "zone", "path")
    assert joules == {
        ("package", "aggregated-package"): 30.0,
        ("dram", "/sys/class/powercap/intel-rapl:0:0"): 5.0,
    }


def test_node_split_and_power(shown: Page) -> None:
    """Active and idle have their own families, and watts are the interval's mean."""
    assert values(shown["kepler_node_cpu_active_joules"], "zone") == {
        ("package",): 12.0,
        ("dram",): 1.0,
    }
    assert values(shown["kepler_node_cpu_idle_joules"], "zone")["package",] == 18.0
    assert values(shown["kepler_node_cpu_watts"], "zone") == {("package",): 6.0, ("dram",): 1.0}
    assert values(shown["kepler_node_cpu_active_watts"], "zone")["package",] == pytest.approx(2.4)
    assert values(shown["kepler_node_cpu_idle_watts"], "zone")["package",] == pytest.approx(3.6)


def test_zones_of_each_socket_are_ours(shown: Page) -> None:
    """Our own family keeps the sockets and the split apart; a node-wide zone has no socket."""
    joules = values(shown["kepler_ebpf_zone_joules"], "zone", "socket", "split")
    assert joules["package", "1", "active"] == 8.0
    assert joules["dram", "", "idle"] == 4.0
    left = values(shown["kepler_ebpf_unattributed_joules"], "zone", "socket")
    assert left["package", "0"] == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kepler_node_cpu_usage_ratio", 0.4),
        ("kepler_ebpf_meter_estimate", 0.0),
        ("kepler_ebpf_residual_ratio", 1e-12),
        ("kepler_ebpf_accounting_error_ratio", 1e-4),
        ("kepler_ebpf_lost_cpu_seconds", 7.0),
        ("kepler_ebpf_overflow_cpu_seconds", 8.0),
        ("kepler_ebpf_map_fill_ratio", 0.09),
        ("kepler_ebpf_interval_duration_seconds", 0.5),
        ("kepler_ebpf_interval_lateness_seconds", 0.004),
        ("kepler_ebpf_drain_seconds", 0.005),
        ("kepler_ebpf_work_seconds", 0.006),
        ("kepler_ebpf_intervals", 101.0),
        ("kepler_ebpf_failed_intervals", 2.0),
        ("kepler_ebpf_missed_ticks", 3.0),
        ("kepler_ebpf_stdout_dropped", 19.0),
        ("kepler_ebpf_otlp_exports", 24.0),
        ("kepler_ebpf_snapshot_age_seconds", AGE_S),
        ("kepler_ebpf_meter_errors", 12.0),
        ("kepler_ebpf_bpf_run_seconds", 13.0),
        ("kepler_ebpf_bpf_runs", 14.0),
        ("kepler_ebpf_bpf_missed_runs", 15.0),
        ("kepler_ebpf_own_cpu_seconds", 16.0),
        ("kepler_ebpf_lost_cgroup_events", 4.0),
        ("kepler_ebpf_lost_exec_events", 20.0),
        ("kepler_ebpf_lost_process_ends", 23.0),
        ("kepler_ebpf_hidden_cpu_seconds", 5.0),
        ("kepler_ebpf_pod_source_up", 1.0),
        ("kepler_ebpf_pod_source_last_sync_timestamp_seconds", 999_999.0),
        ("kepler_ebpf_pod_source_errors", 18.0),
    ],
)
def test_figure_about_ourselves(name: str, value: float, shown: Page) -> None:
    """Each figure of the run about itself comes from its own field, in seconds or counts."""
    [sample] = shown[name].samples
    assert sample.value == value


def test_retired_and_own_joules(shown: Page) -> None:
    """Energy that is no longer listed has level and zone; our own energy has its zone."""
    retired = values(shown["kepler_ebpf_retired_joules"], "level", "zone")
    assert retired["vm", "dram"] == 3.0
    assert len(retired) == 10
    assert values(shown["kepler_ebpf_retired_cpu_seconds"], "level")["pod",] == 4.0
    assert values(shown["kepler_ebpf_own_joules"], "zone") == {("package",): 17.0, ("dram",): 18.0}


@pytest.mark.parametrize("accept", ["", OPENMETRICS], ids=["text", "openmetrics"])
def test_a_kind_that_could_not_be_read_has_energy_and_no_power(accept: str) -> None:
    """What a failing zone draws now is not known, so no family shows watts of its kind."""
    page = families(replace(snapshot(), unread_kinds=frozenset({"dram"})), accept)
    zones = {
        name: {sample.labels["zone"] for sample in family.samples}
        for name, family in page.items()
        if family.samples and "zone" in family.samples[0].labels and "ebpf" not in name
    }
    assert {name for name, shown in zones.items() if "dram" not in shown} == {
        name for name in zones if name.endswith("_watts")
    }


@pytest.mark.parametrize("accept", ["", OPENMETRICS], ids=["text", "openmetrics"])
def test_a_kind_that_never_moved_is_left_out_until_it_moves(accept: str) -> None:
    """A counter that stands at 0 since start has no series; the other kinds keep theirs."""
    still = replace(snapshot(), node=replace(node(), energy_uj=np.array([10e6, 20e6, 0.0])))
    assert zones_of(families(still, accept)) == {"package"}
    assert zones_of(families(snapshot(), accept)) == {"package", "dram"}


def test_a_socket_that_never_moved_is_left_out_of_its_kind() -> None:
    """Families by socket leave out one at 0; the kind's sum keeps the path of all its sockets."""
    still = replace(snapshot(), node=replace(node(), energy_uj=np.array([10e6, 0.0, 5e6])))
    page = families(still)
    for name in ("kepler_ebpf_zone_joules", "kepler_ebpf_unattributed_joules"):
        assert {s.labels["socket"] for s in page[name].samples} == {"0", ""}
    joules = values(page["kepler_node_cpu_joules"], "zone", "path")
    assert joules["package", "aggregated-package"] == 10.0


def test_build_and_cpu_info_have_no_node_name(shown: Page) -> None:
    """Kepler leaves the node's name off these two."""
    [build] = shown["kepler_build_info"].samples
    assert build.labels == {
        "arch": "x86_64",
        "branch": "main",
        "revision": "abc123",
        "version": "0.1.0",
        "goversion": "3.11.2",
    }
    [cpu] = shown["kepler_node_cpu_info"].samples
    assert (cpu.value, cpu.labels["model_name"]) == (1.0, "A CPU @ 2 GHz")


def test_run_info_has_loader_meter_and_estimate(shown: Page) -> None:
    """One series has the sources of the figures."""
    [info] = shown["kepler_ebpf_info"].samples
    assert info.labels == {
        "node_name": "node-1",
        "loader": "core",
        "meter": "rapl",
        "estimate": "false",
    }


def test_bpf_time_is_absent_without_kernel_statistics() -> None:
    """A kernel that does not time programs gives no series rather than zeros."""
    untimed = replace(snapshot().stats, programs=ProgramStats())
    shown = families(replace(snapshot(), stats=untimed))
    assert shown["kepler_ebpf_bpf_run_seconds"].samples == []
    assert shown["kepler_ebpf_bpf_runs"].samples == []


def test_without_kubernetes_there_is_no_metric_of_it() -> None:
    """Neither pods nor their source are on the page of a host that has none."""
    page = families(replace(snapshot(), pod_infos=(), pod_source=None))
    assert not [name for name in page if name.startswith("kepler_ebpf_pod")]


def test_a_source_without_an_answer_has_no_time() -> None:
    """Before the first answer from the server there is no time of the last one."""
    source = PodSourceHealth(up=False, last_sync_s=None, errors={})
    page = families(replace(snapshot(), pod_source=source))
    assert page["kepler_ebpf_pod_source_up"].samples[0].value == 0.0
    assert not page["kepler_ebpf_pod_source_last_sync_timestamp_seconds"].samples


def test_page_before_the_first_snapshot_has_the_host_only() -> None:
    """Before the first interval the page has the build and the CPUs, and no figure."""
    shown = set(families(None, page=MetricsPage(HOST)))
    assert shown == {"kepler_build_info", "kepler_node_cpu_info"}


@pytest.mark.parametrize("accept", ["", OPENMETRICS], ids=["text", "openmetrics"])
@pytest.mark.parametrize("level", LEVELS)
def test_level_filter(level: str, accept: str) -> None:
    """A run with one metric level exports that level and what is always there."""
    shown = families(snapshot(), accept, page_of(frozenset({level})))
    assert set(shown) == {m.family for m in METRICS if m.level in {level, "always"}}
    retired = {s.labels["level"] for s in shown["kepler_ebpf_retired_joules"].samples}
    assert retired == {level} - {"node"}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=x.y", "text/plain; version=0.0.4; charset=utf-8"),
        (";;,=", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "text/plain;version=1.0.0;escaping=dots",
            "text/plain; version=0.0.4; charset=utf-8",
        ),
        (
            "application/openmetrics-text;version=0.0.1",
            "text/plain; version=0.0.4; charset=utf-8",
        ),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;q=0", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;q=0.3,text/plain;q=0.7",
            "text/plain; version=0.0.4; charset=utf-8",
        ),
        ("application/openmetrics-text;q=0.3, */*", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "text/plain;q=0.3,Application/OpenMetrics-Text;q=0.7",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        (
            "text/plain, application/openmetrics-text",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        (PROMETHEUS_2, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (PROMETHEUS_3, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            "application/openmetrics-text;version=9.0.0",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
def test_negotiated_format(accept: str, content_type: str) -> None:
    """The client gets OpenMetrics 1.0 where it wants that no less than text; nonsense gets text."""
    page = page_of().render(snapshot(), negotiated(accept))
    assert page.content_type == content_type
    assert page.body.endswith(b"# EOF\n") == ("openmetrics" in content_type)
    assert b"\n# TYPE kepler_node_cpu_watts gauge\n" in page.body
    assert page.body.count(b"# EOF") == page.body.endswith(b"# EOF\n")


@pytest.mark.parametrize("accept", ["", OPENMETRICS], ids=["text", "openmetrics"])
def test_no_series_twice(accept: str) -> None:
    """No name and label set is on the page twice, nor is a family declared twice."""
    page = page_of(frozenset(LEVELS), "process", "go").render(
        snapshot([Row(process()), Row(process(2))]), negotiated(accept)
    )
    lines = page.body.decode().splitlines()
    series = Counter(line.rpartition(" ")[0] for line in lines if not line.startswith("# "))
    types = Counter(line.split()[2] for line in lines if line.startswith("# TYPE"))
    assert set(series.values()) == {1}
    assert set(types.values()) == {1}


def test_gzipped_page_is_the_same_page() -> None:
    """Compression changes the transfer and nothing else."""
    page = page_of()
    plain = page.render(snapshot(), Variant()).body
    assert gzip.decompress(page.render(snapshot(), Variant(is_gzipped=True)).body) == plain


def test_name_filter_keeps_metrics_of_both_ways() -> None:
    """Only the requested metrics are rendered, as text or by the client library."""
    wanted = frozenset({"kepler_node_cpu_watts", "kepler_process_cpu_joules_total"})
    body = page_of().render(snapshot(), Variant(names=wanted)).body.decode()
    assert {s.name for family in parse_text(body) for s in family.samples} == wanted


def test_debug_collectors_add_the_runtime_and_the_process() -> None:
    """Kepler's two debug collectors exist: the language runtime's and the process's figures."""
    runtime = families(None, page=page_of(frozenset(), "go"))
    assert {"python_info", "python_gc_collections"} <= set(runtime)
    own = families(None, page=page_of(frozenset(), "process"))
    assert {"process_cpu_seconds", "process_resident_memory_bytes"} <= set(own)


def test_collector_describes_its_families_without_samples() -> None:
    """A registry sees every name before the first scrape, and so any name taken twice."""
    collector = MetricsPage(HOST)
    described = list(collector.describe())
    assert {f.name for f in described} == {m.family for m in SAMPLED}
    assert not any(family.samples for family in described)
    registry = CollectorRegistry()
    registry.register(collector)
    with pytest.raises(ValueError, match="kepler_build_info"):
        registry.register(MetricsPage(HOST))


def test_labels_of_the_host_are_valid_utf8() -> None:
    """A node name or path with undecodable bytes does not spoil the page."""
    broken = b"caf\xe9".decode("utf-8", "surrogateescape")
    page = MetricsPage(replace(HOST, node_name=broken))
    assert 'node_name="caf\ufffd"' in page.render(snapshot(), Variant()).body.decode()


@pytest.mark.parametrize("accept", ["", OPENMETRICS], ids=["text", "openmetrics"])
def test_reading_changes_nothing(accept: str) -> None:
    """The same snapshot gives the same page to every reader."""
    page = page_of()
    variant = negotiated(accept)
    assert page.render(snapshot(), variant).body == page.render(snapshot(), variant).body


@pytest.mark.parametrize("levels", [LEVELS, ("node",)], ids=["all", "node"])
def test_promtool_accepts_the_page(levels: tuple[str, ...]) -> None:
    """Prometheus's own checker finds no fault with the text page."""
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: install Debian's package prometheus"
    body = page_of(frozenset(levels), "process").render(snapshot(), Variant()).body
    command = [promtool, "check", "metrics"]
    checked = subprocess.run(command, input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
