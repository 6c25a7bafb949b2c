"""The text of the workload families."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample
from snapshots import CONTAINER_ID, GAP, POD_ID, Row, pod_info, process, snapshot

from kepler_ebpf.exporters.catalog import POD_INFO, WORKLOADS, selected
from kepler_ebpf.exporters.metric import Metric
from kepler_ebpf.exporters.workload_text import WorkloadText
from kepler_ebpf.model.bounds import MAX_LABEL_BYTES
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import State


def rendered(
    shown: Snapshot, *, openmetrics: bool = False, names: frozenset[str] = frozenset()
) -> str:
    """Return the whole workload text of a snapshot."""
    text = WorkloadText("node-1", WORKLOADS, POD_INFO)
    return "".join(text.chunks(shown, openmetrics=openmetrics, names=names))


def samples(text: str) -> list[Sample]:
    """Return every sample of a text page."""
    return [sample for family in parse_text(text) for sample in family.samples]


def of(text: str, name: str, **labels: str) -> list[float]:
    """Return the values of the samples with this name and at least these labels."""
    return [
        sample.value
        for sample in samples(text)
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def test_process_energy_is_in_joules_by_zone() -> None:
    """A process's total is microjoules over a million, one series for each zone."""
    text = rendered(snapshot([Row(process(), energy_uj=(2_000_000.0, 500_000.0))]))
    assert of(text, "kepler_process_cpu_joules_total", zone="package") == [2.0]
    assert of(text, "kepler_process_cpu_joules_total", zone="dram") == [0.5]


def test_process_power_is_the_mean_of_the_interval() -> None:
    """A quarter of a joule in half a second is half a watt."""
    text = rendered(snapshot([Row(process(), ran_uj=(250_000.0, 50_000.0))]))
    assert of(text, "kepler_process_cpu_watts", zone="package") == [0.5]
    assert of(text, "kepler_process_cpu_watts", zone="dram") == [0.1]


def test_process_that_did_not_run_draws_nothing() -> None:
    """A row outside of the rows that ran has 0 W and keeps its total."""
    text = rendered(snapshot([Row(process(1)), Row(process(2), ran_uj=None)]))
    assert of(text, "kepler_process_cpu_watts", pid="2") == [0.0, 0.0]
    assert of(text, "kepler_process_cpu_joules_total", pid="2") == [2.0, 0.5]


def test_running_process_without_energy_is_listed() -> None:
    """A process that has not used any energy yet has its series, at zero."""
    text = rendered(snapshot([Row(process(), (0.0, 0.0), 0, ran_uj=None)]))
    assert of(text, "kepler_process_cpu_joules_total") == [0.0, 0.0]
    assert of(text, "kepler_process_cpu_seconds_total") == [0.0]


def test_cpu_time_is_in_seconds() -> None:
    """CPU time is nanoseconds over a billion."""
    text = rendered(snapshot([Row(process(), cpu_ns=1_500_000_001)]))
    assert of(text, "kepler_process_cpu_seconds_total") == [1.500000001]


def test_gaps_are_not_exported() -> None:
    """A free row of the table gives no series."""
    text = rendered(snapshot([GAP, Row(process(7)), GAP]))
    assert {s.labels["pid"] for s in samples(text) if "process" in s.name} == {"7"}


def test_ended_process_is_listed_as_terminated() -> None:
    """An ended row that the snapshot still lists has state terminated."""
    text = rendered(snapshot([Row(process(), state=State.TERMINATED)]))
    assert of(text, "kepler_process_cpu_joules_total", state="terminated") == [2.0, 0.5]
    assert of(text, "kepler_process_cpu_joules_total", state="running") == []


@pytest.mark.parametrize("metric", WORKLOADS, ids=lambda metric: metric.name)
def test_labels_are_those_of_the_catalog(metric: Metric) -> None:
    """Each workload family has exactly its labels of the catalog and the node's name."""
    page = [sample for sample in samples(rendered(snapshot())) if sample.name == metric.name]
    assert {frozenset(s.labels) for s in page} == {frozenset(("node_name", *metric.labels))}
    assert {s.labels["node_name"] for s in page} == {"node-1"}


def test_container_vm_and_pod_names_are_labels() -> None:
    """The other kinds of workload show who they are."""
    text = rendered(snapshot())
    assert of(
        text,
        "kepler_container_cpu_seconds_total",
        container_id=CONTAINER_ID,
        container_name="web",
        runtime="docker",
        state="running",
        pod_id=POD_ID,
    ) == [1.5]
    assert of(text, "kepler_vm_cpu_watts", vm_name="builder", hypervisor="kvm", zone="dram") == [
        0.1
    ]
    assert of(text, "kepler_pod_cpu_joules_total", pod_name="shop-0", zone="dram") == [0.5]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([State.FREE, State.RUNNING, State.TERMINATED]), st.floats(0, 1e12)
        ),
        max_size=12,
    )
)
def test_every_row_is_one_series_and_no_joule_is_lost(entries: list[tuple[State, float]]) -> None:
    """Whatever the rows, each is on the page once and the joules on it add up."""
    rows = [
        Row(process(pid), (uj, 0.0), state=state) if state else GAP
        for pid, (state, uj) in enumerate(entries)
    ]
    text = rendered(snapshot(rows))
    counts = Counter((s.name, frozenset(s.labels.items())) for s in samples(text))
    assert set(counts.values()) == {1}
    listed_j = sum(of(text, "kepler_process_cpu_joules_total", zone="package"))
    expected_j = sum(uj for state, uj in entries if state) / 1e6
    assert listed_j == pytest.approx(expected_j, rel=1e-12)


@given(st.text(max_size=40))
def test_any_text_is_a_label_value(comm: str) -> None:
    """A name of any characters comes back as it was, but for NUL and half surrogates."""
    text = rendered(snapshot([Row(process(comm=comm, exe=""))]))
    text.encode()
    expected = "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in comm)
    [shown] = [s for s in samples(text) if s.name == "kepler_process_cpu_seconds_total"]
    assert shown.labels["comm"] == expected


@pytest.mark.parametrize("comm", ['say "hi"', "back\\slash", "two\nlines", "\\n", 'end\\"'])
def test_special_characters_come_back_from_openmetrics(comm: str) -> None:
    """Quotes, backslashes and line ends are escaped as OpenMetrics wants them."""
    text = rendered(snapshot([Row(process(comm=comm))]), openmetrics=True) + "# EOF\n"
    families = parse_openmetrics(text)
    [family] = [f for f in families if f.name == "kepler_process_cpu_seconds"]
    assert family.samples[0].labels["comm"] == comm


def test_undecodable_bytes_become_valid_utf8() -> None:
    """A comm that is not UTF-8 shows the replacement character and spoils nothing else."""
    comm = b"caf\xe9 \xf0\x9f\x8e\x89".decode("utf-8", "surrogateescape")
    page = rendered(snapshot([Row(process(comm=comm))])).encode()
    assert 'comm="caf\ufffd 🎉"' in page.decode()


@pytest.mark.parametrize("letter", ["x", "é", "\N{PARTY POPPER}", "\ud800"])
def test_a_long_label_value_is_cut_and_stays_its_own(letter: str) -> None:
    """Of 4 kB no more than 256 bytes are exported; two that differ at the end are two."""
    rows = [Row(process(pid, exe=letter * 2048 + str(pid))) for pid in (1, 2)]
    shown = {s.labels["exe"] for s in samples(rendered(snapshot(rows))) if "exe" in s.labels}
    assert len(shown) == 2
    assert all(len(exe.encode()) <= MAX_LABEL_BYTES for exe in shown)


def test_a_label_value_of_the_greatest_length_is_whole() -> None:
    """Nothing is cut that fits."""
    exe = "/" + "x" * (MAX_LABEL_BYTES - 1)
    shown = samples(rendered(snapshot([Row(process(exe=exe))])))
    assert {s.labels["exe"] for s in shown if "exe" in s.labels} == {exe}


def test_changed_labels_object_is_rendered_anew() -> None:
    """A row whose labels object was replaced shows the new labels, the other row the old ones."""
    text = WorkloadText("node-1", WORKLOADS, POD_INFO)
    before = snapshot([Row(process(1, exe="")), Row(process(2))])
    "".join(text.chunks(before, openmetrics=False, names=frozenset()))
    view = before.workloads["process"]
    renamed = replace(view, labels=(process(1, exe="/bin/new"), view.labels[1]))
    after = replace(before, workloads={**before.workloads, "process": renamed})
    page = "".join(text.chunks(after, openmetrics=False, names=frozenset()))
    shown = {s.labels["pid"]: s.labels["exe"] for s in samples(page) if "pid" in s.labels}
    assert shown == {"1": "/bin/new", "2": "/usr/bin/worker"}


def test_table_that_grows_and_shrinks_shows_its_rows() -> None:
    """Rows that were added or dropped between two pages are rendered or gone."""
    text = WorkloadText("node-1", WORKLOADS, POD_INFO)
    for pids in ((1, 2), (1, 2, 3), (3,)):
        shown = snapshot([Row(process(pid)) for pid in pids])
        page = "".join(text.chunks(shown, openmetrics=False, names=frozenset()))
        found = {s.labels["pid"] for s in samples(page) if "pid" in s.labels}
        assert found == {str(pid) for pid in pids}


def test_families_longer_than_a_chunk_are_whole() -> None:
    """A table of a thousand rows gives a thousand series, each with its own figure."""
    rows = [Row(process(pid), (pid * 1e6, 0.0)) for pid in range(1, 1001)]
    text = rendered(snapshot(rows))
    figures = of(text, "kepler_process_cpu_joules_total", zone="package")
    assert figures == [float(pid) for pid in range(1, 1001)]


def test_figures_keep_every_bit() -> None:
    """A total that no short decimal holds is parsed back to the same float."""
    energy_uj = 123_456_789.123_456_78
    text = rendered(snapshot([Row(process(), (energy_uj, 1e-9))]))
    assert of(text, "kepler_process_cpu_joules_total") == [energy_uj / 1e6, 1e-9 / 1e6]


def test_levels_choose_the_families() -> None:
    """A level that was not chosen has neither series nor headers."""
    text = "".join(
        WorkloadText("node-1", selected(WORKLOADS, frozenset({"node", "pod"})), POD_INFO).chunks(
            snapshot(), openmetrics=False, names=frozenset()
        )
    )
    assert {family.name for family in parse_text(text)} == {
        "kepler_pod_cpu_joules",
        "kepler_pod_cpu_watts",
        "kepler_ebpf_pod_info",
    }


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_chosen_labels_of_a_pod_are_on_its_info(openmetrics: bool) -> None:
    """Their names are made of what Prometheus knows, their values are whatever they were."""
    info = pod_info(POD_ID, ("app.kubernetes.io/name", 'a "b"\n\\c'), ("tier", "größe"))
    text = rendered(replace(snapshot(), pod_infos=(info,)), openmetrics=openmetrics)
    families = parse_openmetrics(f"{text}# EOF\n") if openmetrics else parse_text(text)
    [sample] = [s for family in families for s in family.samples if s.name.endswith("pod_info")]
    assert sample.labels["label_app_kubernetes_io_name"] == 'a "b"\n\\c'
    assert sample.labels["label_tier"] == "größe"
    assert (sample.labels["owner_kind"], sample.labels["qos_class"]) == ("Deployment", "Burstable")
    assert sample.value == 1.0


def test_pods_that_changed_are_rendered_anew() -> None:
    """The text follows the tuple of pods, and is no other page's."""
    text = WorkloadText("node-1", WORKLOADS, POD_INFO)

    def pods_of(*ids: str) -> set[str]:
        shown = replace(snapshot(), pod_infos=tuple(map(pod_info, ids)))
        page = "".join(text.chunks(shown, openmetrics=False, names=frozenset()))
        found = [s for s in samples(page) if s.name == "kepler_ebpf_pod_info"]
        return {s.labels["pod_id"] for s in found}

    assert [pods_of("a", "b"), pods_of("b"), pods_of()] == [{"a", "b"}, {"b"}, set()]


def test_names_choose_the_families() -> None:
    """A name filter keeps only the requested metrics."""
    text = rendered(snapshot(), names=frozenset({"kepler_vm_cpu_watts", "unknown"}))
    assert {sample.name for sample in samples(text)} == {"kepler_vm_cpu_watts"}


def test_openmetrics_names_a_counter_without_its_suffix() -> None:
    """OpenMetrics declares the family, the text format the sample."""
    shown = snapshot()
    name = "kepler_process_cpu_joules"
    assert f"# TYPE {name} counter\n" in rendered(shown, openmetrics=True)
    assert f"# TYPE {name}_total counter\n" in rendered(shown)


def test_rendering_changes_no_figure() -> None:
    """Reading twice gives the same page twice."""
    shown = snapshot([Row(process(), state=State.TERMINATED), Row(process(2))])
    assert rendered(shown) == rendered(shown)
