"""Pods and units whose names, or whose other name, the ledger learns later."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import World, by, container, everything, record

from kepler_ebpf.ledger.ledger import Retention
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.model.workloads import PodLabels, State, UnitLabels

STATIC = CgroupName("/hash/a", container("a", "hash"), "hash")
UNIT = (("unit", UnitLabels("cron.service", "systemd")),)
NAMED = PodLabels("uid", "etcd-0", "kube-system")


def renamed(world: World) -> None:
    """Learn that the pod of a static pod's cgroups is the API's pod "uid"."""
    world.ledger.relabel_pod("hash", NAMED)


def test_a_pod_that_gets_its_other_id_keeps_its_energy():
    """A static pod is one pod, before and after the API told its uid."""
    world = World()
    world.names.cgroups[2] = STATIC
    world.interval(record(cgroup_id=2, cpu_ns=1_000))
    renamed(world)
    world.interval(record(cgroup_id=2, cpu_ns=5))
    assert by(world.pods, "pod_id") == {"uid": (1_005.0, 1_005, State.RUNNING)}
    assert by(world.containers, "pod_id") == {"uid": (1_005.0, 1_005, State.RUNNING)}


def test_two_ids_of_one_pod_become_one():
    """A container named by the API and one named by its path alone end up in the same pod."""
    world = World()
    world.names.cgroups[2] = STATIC
    world.names.cgroups[3] = CgroupName("/hash/b", container("b", "uid"), "uid")
    world.interval(record(cgroup_id=2, cpu_ns=1_000))
    world.credit(record(cgroup_id=2, cpu_ns=10), record(11, cgroup_id=3, cpu_ns=3))
    renamed(world)
    world.interval()
    assert by(world.pods, "pod_id") == {"uid": (1_013.0, 1_013, State.RUNNING)}
    # Both containers ran in this interval, and the pod drew what both did.
    assert world.pods.ran_uj[:, 0].tolist() == [13.0]
    world.ledger.ended_cgroups([2])
    world.interval()
    assert by(world.pods, "pod_id")["uid"][2] == State.RUNNING
    world.ledger.ended_cgroups([3])
    world.interval()
    assert by(world.pods, "pod_id")["uid"][2] == State.TERMINATED


def test_an_ended_pod_joins_the_one_that_runs():
    """What a static pod used before it was restarted is still its own."""
    world = World()
    world.names.cgroups[2] = STATIC
    world.names.cgroups[3] = CgroupName("/hash/b", container("b", "uid"), "uid")
    world.interval(record(cgroup_id=2, cpu_ns=1_000))
    world.ledger.ended_cgroups([2])
    world.interval(record(11, cgroup_id=3, cpu_ns=3))
    renamed(world)
    world.interval()
    assert by(world.pods, "pod_id") == {"uid": (1_003.0, 1_003, State.RUNNING)}


def test_a_pod_of_two_ids_is_listed_from_when_the_last_of_them_ended():
    """Its time in the list begins with the later end, whichever id that was of."""
    world = World(Retention(for_s=30.0, most=-1, min_uj=0.0))
    world.names.cgroups[2] = STATIC
    world.names.cgroups[3] = CgroupName("/hash/b", container("b", "uid"), "uid")
    world.interval(record(cgroup_id=2), record(11, cgroup_id=3))
    for cgroup_id in (3, 2):
        world.ledger.ended_cgroups([cgroup_id])
        world.interval(seconds=20.0)
    renamed(world)
    world.interval(seconds=20.0)
    assert set(by(world.pods, "pod_id")) == {"uid"}
    world.interval(seconds=20.0)
    assert by(world.pods, "pod_id") == {}


def test_a_container_that_ended_before_it_was_known_is_named():
    """Its cgroup has long been forgotten: the container is found by its id."""
    world = World()
    world.names.cgroups[2] = CgroupName("/docker/a", container("a"))
    world.interval(record(cgroup_id=2, cpu_ns=1_000))
    world.ledger.ended_cgroups([2])
    for _ in range(5):
        world.interval()
    assert not [label for label in world.cgroups.labels if label]
    world.ledger.relabel_cgroup(2, CgroupName("/docker/a", container("a", "uid"), "uid"))
    world.interval()
    assert by(world.containers, "pod_id") == {"uid": (1_000.0, 1_000, State.TERMINATED)}
    assert by(world.pods, "pod_id") == {"uid": (1_000.0, 1_000, State.TERMINATED)}


def test_a_container_shows_the_pod_that_has_its_energy():
    """A second cgroup that names another pod takes the container and its label along."""
    world = World()
    world.names.cgroups[2] = CgroupName("/p/a", container("a", "p"), "p")
    world.names.cgroups[3] = CgroupName("/q/a", container("a", "q"), "q")
    world.interval(record(cgroup_id=2, cpu_ns=10))
    world.interval(record(11, cgroup_id=3, cpu_ns=3))
    assert by(world.containers, "pod_id") == {"q": (13.0, 13, State.RUNNING)}
    pods = {pod: uj for pod, (uj, _, _) in by(world.pods, "pod_id").items()}
    assert pods == {"p": 10.0, "q": 3.0}


OTHER_IDS = {
    f"{old}-{n}": f"{new}-{n}" for n in (0, 1) for old, new in (("hash", "uid"), ("uid", "new"))
}
"""What the id of a pod may turn into: a static pod's mirror is learned of, and made anew."""

MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(2, 7), st.integers(1, 50)),
        st.tuples(st.just("end"), st.integers(2, 7), st.just(0)),
        st.tuples(st.just("learn"), st.sampled_from(sorted(OTHER_IDS)), st.just(0)),
        st.tuples(st.just("pass"), st.integers(1, 40), st.just(0)),
    ),
    max_size=30,
)


@given(MOVES)
def test_no_order_of_learning_loses_or_doubles_a_joule(moves):
    """At each level everything credited is there once, and a listed pod is its containers' sum."""
    world, credited = World(Retention(for_s=30.0, most=-1, min_uj=0.0)), 0
    for cgroup_id in range(2, 8):
        pod_id = f"{'uid' if cgroup_id > 5 else 'hash'}-{cgroup_id % 2}"
        labels = container(f"c{cgroup_id}", pod_id)
        world.names.cgroups[cgroup_id] = CgroupName(f"/{cgroup_id}", labels, pod_id, UNIT)
    for move, what, cpu_ns in moves:
        if move == "run":
            world.credit(record(what, cgroup_id=what, cpu_ns=cpu_ns))
            credited += cpu_ns
        elif move == "end":
            world.ledger.ended_cgroups([what])
        elif move == "learn":
            learn(world, what)
        world.interval(seconds=what if move == "pass" else 1)
        views = world.ledger.views()
        for view in (views["container"], views["pod"], views["unit"]):
            energy_uj, cpu_ns_all = everything(view)
            assert (energy_uj[0], cpu_ns_all) == (pytest.approx(credited), credited)
        assert_pods_add_up(world)


def learn(world: World, pod_id: str) -> None:
    """Learn of the other id of a pod; who asks for it by any earlier one is told that as well."""
    ids = world.names.pod_ids
    other = ids.get(OTHER_IDS[pod_id], OTHER_IDS[pod_id])
    ids |= {earlier: other for earlier, now in ids.items() if now == pod_id} | {pod_id: other}
    world.ledger.relabel_pod(pod_id, PodLabels(other, "n", "s"))


def assert_pods_add_up(world: World) -> None:
    """Hold each pod against the containers that name it, where none of them was retired."""
    if world.containers.retired_cpu_ns:
        return
    for pod_id, (_, cpu_ns, state) in by(world.pods, "pod_id").items():
        rows = [
            row
            for row, label in enumerate(world.containers.labels)
            if label and label.pod_id == pod_id
        ]
        assert int(world.containers.cpu_ns[rows].sum()) == cpu_ns
        assert bool((world.containers.state[rows] == State.RUNNING).any()) == (
            state == State.RUNNING
        )


# --- units


def test_a_unit_is_the_sum_of_its_cgroups():
    """Whatever else they are: a container that a unit started is the unit's as well."""
    world = World()
    world.names.cgroups[2] = CgroupName("/cron.service", groups=UNIT)
    world.names.cgroups[3] = CgroupName("/cron.service/a", container("a"), groups=UNIT)
    world.interval(record(cgroup_id=2, cpu_ns=10), record(11, cgroup_id=3, cpu_ns=3))
    units = world.units
    assert by(units, "unit") == {"cron.service": (13.0, 13, State.RUNNING)}
    assert units.ran_uj[:, 0].tolist() == [13.0]


def test_a_unit_ends_with_its_last_cgroup():
    """Restarted, it runs again under the same name and goes on counting."""
    world = World()
    world.names.cgroups |= {
        2: CgroupName("/u", groups=UNIT),
        3: CgroupName("/u", groups=UNIT),
    }
    world.interval(record(cgroup_id=2, cpu_ns=10))
    world.ledger.ended_cgroups([2])
    world.interval()
    assert by(world.units, "unit")["cron.service"][2] == State.TERMINATED
    world.interval(record(11, cgroup_id=3, cpu_ns=3))
    assert by(world.units, "unit") == {"cron.service": (13.0, 13, State.RUNNING)}


def test_a_unit_that_ended_is_folded_after_its_time():
    """Its energy is among the retired then, with what comes late."""
    world = World(Retention(for_s=2.0, most=-1, min_uj=0.0))
    world.names.cgroups[2] = CgroupName("/u", groups=UNIT)
    world.interval(record(cgroup_id=2, cpu_ns=10))
    world.ledger.ended_cgroups([2])
    world.interval()
    world.interval(seconds=5.0)
    units = world.units
    assert by(units, "unit") == {}
    assert (units.retired_uj[0], units.retired_cpu_ns) == (10.0, 10)


def test_a_path_learned_later_brings_the_units_energy():
    """A cgroup without a path is in no unit until it has one."""
    world = World()
    world.names.cgroups[2] = CgroupName("")
    world.interval(record(cgroup_id=2, cpu_ns=10))
    world.ledger.relabel_cgroup(2, CgroupName("/u", groups=UNIT))
    world.interval(record(cgroup_id=2, cpu_ns=3))
    units = world.units
    assert by(units, "unit") == {"cron.service": (13.0, 13, State.RUNNING)}
    np.testing.assert_array_equal(units.ran_uj[:, 0], [3.0])
