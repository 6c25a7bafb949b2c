"""What snapshots tell of Kubernetes."""

from dataclasses import dataclass, field, replace

from kube_server import NODE, make_pod

from kepler_ebpf.model.pods import PodInfo, PodSourceHealth
from kepler_ebpf.model.workloads import PodLabels
from kepler_ebpf.names.kubernetes.index import NamedContainer, PodIndex
from kepler_ebpf.names.kubernetes.objects import parse_pod
from kepler_ebpf.names.kubernetes.pod_infos import PodInfos

LABELS = frozenset({"app"})
HEALTH = PodSourceHealth(up=True, last_sync_s=5.0, errors={"network": 1})


class Clock:
    """A clock that a test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Source:
    """A pod source without a server."""

    clock: Clock = field(default_factory=Clock)
    status: PodSourceHealth = HEALTH
    index: PodIndex = field(init=False)

    def __post_init__(self) -> None:
        self.index = PodIndex(retention_s=100.0, clock=self.clock)

    def find(self, container_id: str) -> NamedContainer | None:
        return self.index.find(container_id)


def state(number: int) -> PodInfo:
    """Return pod *number* as its source parsed it."""
    return parse_pod(make_pod(number), LABELS)


def listed(number: int) -> tuple[PodLabels | None, ...]:
    """Return the labels of a ledger that lists pod *number*."""
    return (None, PodLabels(state(number).pod_id, "", ""))


def test_a_pod_is_described_as_kubernetes_does() -> None:
    """Every field that one may want to join on."""
    source = Source()
    source.index.apply(state(1))
    pod = state(1)
    assert PodInfos(source).infos(()) == (pod,)
    assert (pod.pod_namespace, pod.node, pod.owner_kind, pod.owner_name) == (
        "shop",
        NODE,
        "Deployment",
        "web",
    )
    assert (pod.qos_class, pod.labels) == ("Burstable", (("app", "web"),))


def test_pods_are_the_same_object_until_they_change() -> None:
    """Nothing is rebuilt, here or by an exporter, while the pods stay as they are."""
    source = Source()
    book = PodInfos(source)
    assert book.infos(()) is book.infos(())
    source.index.apply(state(1))
    known = book.infos(())
    source.index.apply(state(1))
    assert book.infos(()) is known
    assert book.infos(listed(1)) is known
    source.index.apply(state(2))
    assert len(book.infos(())) == 2


def test_an_ended_pod_is_told_of_until_it_is_forgotten() -> None:
    """It is joined on for as long as its energy may be listed, and no longer."""
    source = Source()
    book = PodInfos(source)
    source.index.apply(state(1))
    source.index.remove(state(1).pod_id)
    assert len(book.infos(())) == 1
    source.clock.now_s = 101.0
    source.index.expire()
    assert book.infos(()) == ()


def test_a_listed_pod_is_told_of_for_as_long_as_it_is() -> None:
    """One that was deleted at the API while it goes on running, for years if need be."""
    source = Source()
    book = PodInfos(source)
    source.index.apply(state(1))
    book.infos(listed(1))
    source.index.remove(state(1).pod_id)
    for _ in range(5):
        source.clock.now_s += 1000.0
        source.index.expire()
        assert [info.pod_id for info in book.infos(listed(1))] == [state(1).pod_id]
    book.infos((None,))
    source.clock.now_s += 1000.0
    source.index.expire()
    assert book.infos((None,)) == ()


def test_a_static_pod_is_told_of_once() -> None:
    """Its mirror that was replaced is not there beside the new one, unless it is listed still."""
    source = Source()
    book = PodInfos(source)
    for number in (1, 2):
        source.index.apply(replace(state(number), cgroup_pod_id="hash"))
    shown = {info.pod_id: info.cgroup_pod_id for info in book.infos(())}
    assert shown == {state(2).pod_id: "hash"}
    shown = {info.pod_id: info.cgroup_pod_id for info in book.infos(listed(1))}
    assert shown == {state(1).pod_id: "hash", state(2).pod_id: "hash"}


def test_state_of_the_source_is_shown() -> None:
    """As the source has it."""
    assert PodInfos(Source()).health() == HEALTH


def test_without_a_source_there_is_nothing() -> None:
    """Kubernetes is off."""
    assert (PodInfos(None).infos(()), PodInfos(None).health()) == ((), None)
