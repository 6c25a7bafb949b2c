"""What may happen to a ledger, in any order: strategies of steps, and of what users choose."""

import numpy as np
from hypothesis import strategies as st
from ledger_world import container, record, vm

from kepler_ebpf.ledger.ledger import Retention
from kepler_ebpf.model.bounds import MaxListed
from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.selection import EVERYTHING, Filter, Selection
from kepler_ebpf.model.workloads import PodLabels, UnitLabels

PIDS, STARTS, CGROUPS = st.integers(1, 3), st.sampled_from([100, 200]), st.integers(1, 5)

RECORDS = st.lists(
    st.builds(
        record,
        pid=PIDS,
        start=STARTS,
        cgroup_id=CGROUPS,
        cpu_ns=st.integers(1, 1_000),
        exec_id=st.integers(0, 1),
        process_comm=st.sampled_from([b"sh", b"work"]),
        parent_tgid=st.integers(0, 3),
        ended=st.booleans(),
    ),
    max_size=5,
)
CGROUP_NAMES = st.builds(
    lambda container_id, pod_id, unit: CgroupName(
        "/x",
        container(container_id, pod_id) if container_id else None,
        pod_id,
        (("unit", UnitLabels(unit, "systemd")),) if unit else (),
        container_id,
    ),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["", "p", "q"]),
    st.sampled_from(["", "u"]),
)
PROCESS_NAMES = st.builds(
    ProcessName, st.sampled_from(["", "/e", "/f"]), st.sampled_from([None, vm("m"), vm("n")])
)


def end_process(world, pid, start_ns):
    """Note that a process is gone."""
    world.ledger.ended_processes(np.array([pid], np.uint32), np.array([start_ns], np.uint64))


STEPS = st.one_of(
    st.builds(lambda now: lambda world: world.batch(*now), st.lists(RECORDS, min_size=1)),
    st.builds(lambda now: lambda world: world.credit(*now), RECORDS),
    st.builds(lambda s: lambda world: world.interval(seconds=s), st.integers(1, 40)),
    st.builds(lambda id_: lambda world: world.ledger.ended_cgroups([id_]), CGROUPS),
    st.builds(lambda *one: lambda world: end_process(world, *one), PIDS, STARTS),
    st.builds(
        lambda *name: lambda world: world.ledger.relabel_cgroup(*name), CGROUPS, CGROUP_NAMES
    ),
    st.builds(
        lambda *name: lambda world: world.ledger.relabel_process(*name),
        PIDS,
        STARTS,
        PROCESS_NAMES,
    ),
    st.builds(
        lambda old, new: lambda world: world.ledger.relabel_pod(old, PodLabels(new, "n", "s")),
        st.sampled_from(["p", "q"]),
        st.sampled_from(["p", "q", "r"]),
    ),
    st.builds(
        lambda id_, name: lambda world: world.names.cgroups.update({id_: name}),
        CGROUPS,
        CGROUP_NAMES,
    ),
    st.builds(
        lambda pid, name: lambda world: world.names.processes.update({pid: name}),
        PIDS,
        PROCESS_NAMES,
    ),
)
RETENTIONS = st.builds(
    Retention,
    for_s=st.sampled_from([0.0, 1.5, 30.0]),
    most=st.sampled_from([-1, 0, 1, 2]),
    min_uj=st.sampled_from([0.0, 600.0]),
)


PLACES = st.builds(MaxListed, st.sampled_from([1, 3, 100]), st.sampled_from([1, 2, 100]))
SELECTIONS = st.builds(
    Selection,
    top_n=st.sampled_from([0, 1, 2]),
    min_uj=st.sampled_from([0.0, 500.0]),
    comm=st.sampled_from([EVERYTHING, Filter(deny=["s."]), Filter(allow=["wo.*"])]),
    cgroup=st.sampled_from([EVERYTHING, Filter(deny=["/[12]"]), Filter(allow=["/x"])]),
    namespace=st.sampled_from([EVERYTHING, Filter(deny=["s"]), Filter(allow=["s", ""])]),
    always=st.sampled_from([0, 2]),
)
