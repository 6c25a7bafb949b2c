"""Pod objects to what we keep of them, and the index that containers are looked up in."""

import logging
import threading
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kube_server import NODE, container_id, container_statuses, make_pod, recorded
from kubernetes.client import ApiClient, V1Pod

from kepler_ebpf.model.pods import PodInfo
from kepler_ebpf.names.kubernetes.index import MAX_PODS, PodIndex, UnknownIds
from kepler_ebpf.names.kubernetes.objects import (
    MAX_CHARS,
    MAX_CONTAINERS,
    MalformedPodError,
    parse_pod,
)

RETENTION_S = 100.0
NO_LABELS: frozenset[str] = frozenset()
HASH = "0f" * 16
MIRROR = {"kubernetes.io/config.hash": HASH, "kubernetes.io/config.mirror": HASH}
BY_NODE = {"kind": "Node", "name": NODE, "controller": True}
FORGED: tuple[dict[str, Any], ...] = (
    {
        "annotations": {**MIRROR, "kubernetes.io/config.mirror": "1" * 32},
        "ownerReferences": [BY_NODE],
    },
    {"annotations": {**MIRROR, "kubernetes.io/config.mirror": ""}, "ownerReferences": [BY_NODE]},
    {"annotations": MIRROR, "ownerReferences": []},
    {"annotations": MIRROR, "ownerReferences": [{**BY_NODE, "name": "node-b"}]},
    {"annotations": MIRROR, "ownerReferences": [{**BY_NODE, "controller": False}]},
    {"annotations": MIRROR, "ownerReferences": [{**BY_NODE, "kind": "Job"}]},
)


class FakeClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        """Start at 0."""
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_s


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that moves when told."""
    return FakeClock()


@pytest.fixture
def index(clock: FakeClock) -> PodIndex:
    """Return an empty index on the fake clock."""
    return PodIndex(RETENTION_S, clock)


def state(number: int, **changed: Any) -> PodInfo:
    """Return pod *number* with its one container, fields of the pod *changed*."""
    fields = {
        "cgroup_pod_id": f"cg-{number}",
        "containers": ((container_id(number), "web"),),
        **changed,
    }
    return replace(parse_pod(make_pod(number), NO_LABELS), **fields)


class TestParsing:
    """A Pod object as the API sends it."""

    @pytest.mark.parametrize("name", ["deployment", "static_mirror", "static_kubelet"])
    def test_fixtures_are_pods_of_the_current_api(self, name: str) -> None:
        """The recorded objects hold no field that the client's models of the API do not know."""
        value = recorded(name)
        model = V1Pod.from_dict(value)
        kept = ApiClient().sanitize_for_serialization(model)
        assert not list(lost_fields(value, kept))

    def test_identity_owner_and_qos(self) -> None:
        """Names, node, QoS and the Deployment above the ReplicaSet are kept."""
        pod = parse_pod(recorded("deployment"), NO_LABELS)
        assert replace(pod, containers=()) == PodInfo(
            pod_id="8a2c6f5e-3f0d-4c1a-b1c9-7d2f6f0a1b11",
            pod_name="web-6d4b75cb6d-hx8p2",
            pod_namespace="shop",
            cgroup_pod_id="8a2c6f5e-3f0d-4c1a-b1c9-7d2f6f0a1b11",
            node="node-a",
            owner_kind="Deployment",
            owner_name="web",
            qos_class="Burstable",
            labels=(),
            created="2026-11-24T09:00:00Z",
        )

    def test_every_kind_of_container_is_known(self) -> None:
        """Ordinary, init and ephemeral containers have their names, and a previous run its too."""
        containers = parse_pod(recorded("deployment"), NO_LABELS).containers
        assert {(name, container_id[:2]) for container_id, name in containers} == {
            ("web", "a1"),
            ("web", "a0"),
            ("sidecar", "b1"),
            ("migrate", "c1"),
            ("debugger-q7z4m", "e1"),
        }

    @pytest.mark.parametrize("runtime", ["containerd", "docker", "cri-o"])
    def test_container_id_of_every_runtime(self, runtime: str) -> None:
        """The id is what follows the runtime's name."""
        value = make_pod(1)
        container_statuses(value)[0]["containerID"] = f"{runtime}://{'ab' * 32}"
        assert parse_pod(value, NO_LABELS).containers[0][0] == "ab" * 32

    def test_container_not_started_has_no_id(self) -> None:
        """A container that waits is left out until it has an id."""
        value = make_pod(1)
        for entry in container_statuses(value):
            entry["containerID"] = ""
        del container_statuses(value)[0]["containerID"]
        assert parse_pod(value, NO_LABELS).containers == ()

    @pytest.mark.parametrize("name", ["static_mirror", "static_kubelet"])
    def test_static_pod_has_the_uid_of_its_cgroup(self, name: str) -> None:
        """A static pod is known by its manifest's hash, from the API as from the kubelet."""
        pod = parse_pod(recorded(name), NO_LABELS)
        assert pod.cgroup_pod_id == "3f5b0c1d9e8a7b6c5d4e3f2a1b0c9d8e"

    def test_hash_annotation_alone_does_not_make_a_static_pod(self) -> None:
        """A user's pod that carries the annotation keeps its own uid."""
        value = make_pod(1)
        value["metadata"]["annotations"] = {"kubernetes.io/config.hash": "0" * 32}
        pod = parse_pod(value, NO_LABELS)
        assert pod.cgroup_pod_id == pod.pod_id

    @pytest.mark.parametrize("forged", FORGED)
    def test_annotations_do_not_make_a_static_pod(self, forged: dict[str, Any]) -> None:
        """Only what the kubelet makes of its own node is a mirror, with one hash in both places."""
        value = make_pod(1)
        value["metadata"] |= forged
        pod = parse_pod(value, NO_LABELS)
        assert pod.cgroup_pod_id == pod.pod_id

    def test_mirror_that_the_kubelet_runs_nothing_for_is_none(self) -> None:
        """All but the status of a pod is what its maker wrote: that has its containers."""
        value = recorded("static_mirror")
        assert parse_pod(value, NO_LABELS).cgroup_pod_id != value["metadata"]["uid"]
        value["status"]["containerStatuses"] = []
        assert parse_pod(value, NO_LABELS).cgroup_pod_id == value["metadata"]["uid"]

    @pytest.mark.parametrize("source", ["file", "http", "api"])
    def test_source_annotation_does_not_make_a_static_pod(self, source: str) -> None:
        """What the kubelet writes of where a pod is from, a user may write too."""
        value = make_pod(1)
        value["metadata"]["annotations"] = {
            "kubernetes.io/config.hash": HASH,
            "kubernetes.io/config.source": source,
        }
        pod = parse_pod(value, NO_LABELS)
        assert pod.cgroup_pod_id == pod.pod_id

    def test_what_is_kept_of_a_pod_is_bounded(self) -> None:
        """Whatever the length of its texts and the number of its containers."""
        value = make_pod(1)
        entries = [
            {"name": "n" * 5_000, "containerID": f"containerd://{number:04}{'f' * 5_000}"}
            for number in range(2 * MAX_CONTAINERS)
        ]
        value["status"] |= {"containerStatuses": entries, "qosClass": "q" * 5_000}
        value["metadata"]["labels"]["app"] = "l" * 5_000
        for field in ("uid", "name", "namespace", "creationTimestamp"):
            value["metadata"][field] = "m" * 5_000
        value["metadata"]["ownerReferences"][0] |= {"kind": "k" * 5_000, "name": "o" * 5_000}
        pod = parse_pod(value, frozenset({"app"}))
        assert len(pod.containers) == MAX_CONTAINERS
        assert {len(name) for _, name in pod.containers} == {MAX_CHARS}
        assert len(repr(pod)) < (len(pod.containers) + 10) * 2 * (MAX_CHARS + 20)

    @pytest.mark.parametrize(
        ("job", "owner"),
        [
            ("backup-29734560", ("CronJob", "backup")),
            ("nightly-2-29734560", ("CronJob", "nightly-2")),
            ("backup-20261126", ("Job", "backup-20261126")),
            ("backup-2973456", ("Job", "backup-2973456")),
            ("29734560", ("Job", "29734560")),
        ],
    )
    def test_runs_of_a_cron_job_have_one_owner(self, job: str, owner: tuple[str, str]) -> None:
        """A Job is of the CronJob whose name it has before the minute, which no date looks like."""
        value = make_pod(1)
        value["metadata"]["ownerReferences"][0] |= {"kind": "Job", "name": job}
        pod = parse_pod(value, NO_LABELS)
        assert (pod.owner_kind, pod.owner_name) == owner

    def test_owner_that_is_no_replica_set_of_a_deployment(self) -> None:
        """The controller is named as it is."""
        value = make_pod(1)
        value["metadata"]["ownerReferences"][0] |= {"kind": "DaemonSet", "name": "agent"}
        pod = parse_pod(value, NO_LABELS)
        assert (pod.owner_kind, pod.owner_name) == ("DaemonSet", "agent")

    def test_pod_without_owner(self) -> None:
        """A bare pod has an empty owner."""
        value = make_pod(1)
        del value["metadata"]["ownerReferences"]
        pod = parse_pod(value, NO_LABELS)
        assert (pod.owner_kind, pod.owner_name) == ("", "")

    def test_thousands_of_labels_keep_the_allowed(self) -> None:
        """Of 5,000 labels only the allowed ones are kept, in name order."""
        value = make_pod(1)
        value["metadata"]["labels"] |= {f"label-{number}": "x" * 63 for number in range(5000)}
        pod = parse_pod(value, frozenset({"team", "label-7", "absent"}))
        assert pod.labels == (("label-7", "x" * 63), ("team", "shop"))

    @pytest.mark.parametrize("name", ['pod-"quoted"\\', "pod-ü-日本-🐙", "pod\nwith\nlines"])
    def test_unusual_names_pass_unchanged(self, name: str) -> None:
        """Unicode, quotes and newlines are kept: escaping is the exporter's business."""
        value = make_pod(1)
        value["metadata"]["name"] = name
        assert parse_pod(value, NO_LABELS).pod_name == name

    def test_half_a_surrogate_is_mended(self) -> None:
        """Text that cannot be written as UTF-8 becomes text that can."""
        value = make_pod(1)
        value["metadata"]["name"] = "web-\ud83d"
        assert parse_pod(value, NO_LABELS).pod_name == "web-?"

    @pytest.mark.parametrize("value", [None, [], "pod", {}, {"metadata": {"uid": "u"}}])
    def test_what_is_no_pod_is_refused(self, value: object) -> None:
        """An object without uid or name is no pod."""
        with pytest.raises(MalformedPodError):
            parse_pod(value, NO_LABELS)

    @given(st.sampled_from(["metadata", "spec", "status"]), st.data())
    def test_fields_of_the_wrong_type_count_as_absent(self, part: str, data: st.DataObject) -> None:
        """Whatever one field holds, parsing gives text or refuses; it never fails otherwise."""
        value = make_pod(1)
        field = data.draw(st.sampled_from(sorted(value[part])))
        leaf = st.none() | st.booleans() | st.integers() | st.text()
        value[part][field] = data.draw(leaf | st.lists(leaf) | st.dictionaries(st.text(), leaf))
        try:
            pod = parse_pod(value, frozenset({"app"}))
        except MalformedPodError:
            return
        assert all(
            isinstance(text, str)
            for text in (pod.pod_name, pod.node, pod.qos_class, pod.owner_name)
        )


class TestIndex:
    """Containers and pods come, change and go."""

    def test_container_and_pod_are_found(self, index: PodIndex) -> None:
        """A pod taken in is found by container id, by uid and by the uid of its cgroup."""
        index.apply(state(1))
        found = index.find(container_id(1))
        assert found is not None
        name, pod = found
        assert name == "web"
        assert index.pod(pod.pod_id) == index.pod("cg-1") == pod

    def test_unknown_is_none(self, index: PodIndex) -> None:
        """What was never seen is not found."""
        assert index.find("f" * 64) is None
        assert index.pod("nobody") is None

    def test_version_grows_when_something_changed(self, index: PodIndex) -> None:
        """A pod that is new, different or gone is a change."""
        versions = [index.version]
        index.apply(state(1))
        versions.append(index.version)
        index.apply(state(1, qos_class="Guaranteed"))
        versions.append(index.version)
        index.remove(state(1).pod_id)
        versions.append(index.version)
        assert versions == sorted(set(versions))

    def test_version_stays_when_nothing_changed(self, index: PodIndex) -> None:
        """Hearing the same again, or of the end of an unknown pod, is no change."""
        index.apply(state(1))
        version = index.version
        index.apply(state(1))
        index.replace([state(1)])
        index.remove("nobody")
        assert index.version == version

    def test_ended_pod_stays_known_for_the_retention(
        self, index: PodIndex, clock: FakeClock
    ) -> None:
        """Its container and both its uids answer until the retention is over, then not."""
        index.apply(state(1))
        index.remove(state(1).pod_id)
        clock.now_s = RETENTION_S - 1
        index.expire()
        assert index.find(container_id(1))
        assert index.pod("cg-1")
        clock.now_s = RETENTION_S
        index.expire()
        assert index.find(container_id(1)) is None
        assert index.pod("cg-1") is None
        assert index.pods() == ()

    def test_full_list_ends_what_is_not_in_it(self, index: PodIndex, clock: FakeClock) -> None:
        """After a list, pods that are not in it are ended ones."""
        index.replace([state(1), state(2)])
        index.replace([state(2)])
        assert index.live_pods == 1
        clock.now_s = RETENTION_S
        index.expire()
        assert [pod.pod_id for pod in index.pods()] == [state(2).pod_id]

    def test_restarted_container_leaves_its_old_id_known(
        self, index: PodIndex, clock: FakeClock
    ) -> None:
        """An id that a live pod no longer lists stays known for the retention."""
        index.apply(state(1))
        pod = state(1)
        index.apply(replace(pod, containers=(("new", "web"),)))
        assert index.find(container_id(1))
        clock.now_s = RETENTION_S
        index.expire()
        assert index.find(container_id(1)) is None
        assert index.find("new")

    def test_pod_that_comes_back_is_not_forgotten(self, index: PodIndex, clock: FakeClock) -> None:
        """A pod missing from one list and present in the next lives on."""
        index.replace([state(1)])
        index.replace([])
        index.replace([state(1)])
        clock.now_s = RETENTION_S
        index.expire()
        assert index.find(container_id(1))

    @pytest.mark.parametrize("newer_first", [True, False])
    def test_two_pods_claim_one_container(
        self, index: PodIndex, caplog: pytest.LogCaptureFixture, *, newer_first: bool
    ) -> None:
        """The newer pod gets it, in whatever order they are heard of, and it is logged once."""
        older, newer = claims("2026-11-24T09:00:00Z", "2026-11-24T10:00:00Z")
        states = [newer, older] if newer_first else [older, newer]
        for claim in states:
            index.apply(claim)
        index.apply(replace(states[0], qos_class="Guaranteed"))
        found = index.find("shared")
        assert found is not None
        assert found[1].pod_id == newer.pod_id
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "claimed by two pods" in caplog.text

    def test_id_reused_after_its_pod_ended(
        self, index: PodIndex, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A reused id is the new pod's, for good, even where the ended one was created later."""
        ended, reuser = claims("2026-11-24T10:00:00Z", "2026-11-24T09:00:00Z")
        index.apply(ended)
        index.remove(ended.pod_id)
        index.apply(reuser)
        clock.now_s = RETENTION_S
        index.expire()
        found = index.find("shared")
        assert found is not None
        assert found[1].pod_id == reuser.pod_id
        assert not caplog.records

    def test_end_of_the_loser_leaves_the_container(self, index: PodIndex, clock: FakeClock) -> None:
        """A pod that lost its claim does not take the container along when it ends."""
        older, newer = claims("2026-11-24T09:00:00Z", "2026-11-24T10:00:00Z")
        index.apply(older)
        index.apply(newer)
        index.remove(older.pod_id)
        clock.now_s = RETENTION_S
        index.expire()
        assert index.find("shared")

    def test_replaced_mirror_pod_keeps_its_cgroup_known(
        self, index: PodIndex, clock: FakeClock
    ) -> None:
        """A static pod whose mirror was made anew answers with the new one, and goes on to."""
        first, second = state(1, cgroup_pod_id="hash"), state(2, cgroup_pod_id="hash")
        index.apply(first)
        index.apply(second)
        index.remove(first.pod_id)
        clock.now_s = RETENTION_S
        index.expire()
        assert index.pod("hash") == second

    def test_replaced_mirror_pod_is_the_one_that_replaced_it(self, index: PodIndex) -> None:
        """Asked for by the uid of the first mirror, the second answers, and goes on to."""
        first, second = (
            state(number, cgroup_pod_id="hash", created=f"2026-01-0{number}T00:00:00Z")
            for number in (1, 2)
        )
        index.apply(first)
        assert index.pod(first.pod_id) == first
        index.apply(second)
        index.apply(replace(first, qos_class="Guaranteed"))
        index.remove(first.pod_id)
        assert index.pod(first.pod_id) == index.pod("hash") == second

    def test_mirror_that_ended_is_replaced_whatever_the_time(self, index: PodIndex) -> None:
        """A clock that was set back does not leave a static pod with a mirror that is gone."""
        first, second = (
            state(number, cgroup_pod_id="hash", created=f"2026-01-0{3 - number}T00:00:00Z")
            for number in (1, 2)
        )
        index.apply(first)
        index.remove(first.pod_id)
        index.apply(second)
        assert index.pod("hash") == second

    @pytest.mark.parametrize("real_first", [True, False])
    def test_uid_of_a_pod_is_no_other_pods(self, index: PodIndex, *, real_first: bool) -> None:
        """A mirror that claims the uid of another pod has its own alone, whichever comes first."""
        real = parse_pod(make_pod(1), NO_LABELS)
        claimant = state(2, cgroup_pod_id=real.pod_id, created="2027-01-01T00:00:00Z")
        for pod in (real, claimant) if real_first else (claimant, real):
            index.apply(pod)
        assert index.pod(real.pod_id) == real
        index.replace([claimant, real])
        assert index.pod(real.pod_id) == real
        assert index.pod(claimant.pod_id) == claimant
        assert {pod.cgroup_pod_id for pod in index.pods()} == {real.pod_id, claimant.pod_id}
        index.remove(real.pod_id)
        assert index.pod(real.pod_id) == real

    def test_mirror_is_not_replaced_while_it_is_there(self, index: PodIndex) -> None:
        """A younger pod that claims a static pod's hash has it once the older one has ended."""
        first, second = (
            state(number, cgroup_pod_id="hash", created=f"2026-01-0{number}T00:00:00Z")
            for number in (1, 2)
        )
        index.apply(first)
        index.apply(second)
        assert index.pod("hash") == first
        index.remove(first.pod_id)
        assert index.pod("hash") == second

    def test_pod_that_is_kept_is_not_forgotten(self, clock: FakeClock) -> None:
        """For as long as it is kept, in time and in number, and its retention after that."""
        index = PodIndex(RETENTION_S, clock, max_ended=2)
        index.keep(frozenset({state(1).pod_id}))
        for number in range(1, 6):
            index.apply(state(number))
            index.remove(state(number).pod_id)
        for _ in range(10):
            clock.now_s += RETENTION_S
            index.expire()
        assert index.pods() == (state(1),)
        index.keep(frozenset())
        clock.now_s += RETENTION_S - 1
        index.expire()
        assert index.pod("cg-1")
        clock.now_s += 1
        index.expire()
        assert index.pods() == ()

    def test_ended_pods_are_bounded(self, clock: FakeClock) -> None:
        """However many pods end, no more than the limit is kept, the latest."""
        index = PodIndex(RETENTION_S, clock, max_ended=10)
        for number in range(100):
            index.apply(state(number))
            index.remove(state(number).pod_id)
        assert [pod.pod_id for pod in index.pods()] == [state(n).pod_id for n in range(90, 100)]
        assert index.find(container_id(89)) is None
        assert index.find(container_id(90))

    def test_pods_of_a_node_are_bounded(
        self, index: PodIndex, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whoever makes pods for a node without number takes no other's name, and it is logged."""
        pod = state(0)
        index.replace(replace(pod, pod_id=f"{number}") for number in range(MAX_PODS))
        index.apply(replace(pod, pod_id="more"))
        index.apply(replace(pod, pod_id="1", qos_class="Guaranteed"))
        assert index.live_pods == MAX_PODS
        assert "not all are named" in caplog.text
        assert [index.pod(uid) is not None for uid in ("1", "more")] == [True, False]
        index.remove("2")
        index.apply(replace(pod, pod_id="more"))
        assert index.pod("more")

    def test_readers_need_no_lock(self) -> None:
        """Look-ups while another thread changes everything find right answers or none."""
        index = PodIndex(retention_s=0.0)
        wrong: list[object] = []
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                for number in range(20):
                    found = index.find(container_id(number))
                    if found is not None and found[1].pod_id != f"{number}":
                        wrong.append(found)
                index.pods()

        reader = threading.Thread(target=read)
        reader.start()
        states = [state(number, pod_id=f"{number}") for number in range(20)]
        for round_number in range(100):
            index.replace(states[round_number % 5 :])
        stop.set()
        reader.join()
        assert not wrong


class TestUnknownIds:
    """Ids that nobody could name."""

    def test_unknown_is_news_once_in_a_while(self, clock: FakeClock) -> None:
        """An id is news at first, not again while it is remembered, and again after that."""
        unknown = UnknownIds(300.0, clock)
        assert unknown.is_news("pause")
        clock.now_s = 299.0
        assert not unknown.is_news("pause")
        clock.now_s = 300.0
        assert unknown.is_news("pause")

    def test_memory_is_bounded(self, clock: FakeClock) -> None:
        """However many ids are unknown, no more than the limit is remembered."""
        unknown = UnknownIds(300.0, clock, limit=100)
        for number in range(1000):
            unknown.is_news(str(number))
        remembered = [n for n in reversed(range(1000)) if not unknown.is_news(str(n))]
        assert remembered[0] == 999
        assert 90 < len(remembered) <= 100


def claims(*created: str) -> list[PodInfo]:
    """Return pods made at these times that all claim the container "shared"."""
    containers = (("shared", "web"),)
    return [
        state(number, created=when, containers=containers) for number, when in enumerate(created)
    ]


def lost_fields(value: Any, kept: Any, path: str = "") -> Any:
    """Yield the path of every field of *value* that has a value and is not in *kept*."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if inner is not None and name not in kept:
                yield f"{path}.{name}"
            elif inner is not None:
                yield from lost_fields(inner, kept[name], f"{path}.{name}")
    elif isinstance(value, list):
        for inner, kept_inner in zip(value, kept, strict=True):
            yield from lost_fields(inner, kept_inner, f"{path}[]")
