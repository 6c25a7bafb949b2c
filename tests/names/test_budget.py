"""Names within a budget: what is postponed, named in the time that is left, and told later."""

from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.workloads import PodLabels
from kepler_ebpf.names import budget
from kepler_ebpf.names.budget import NameBudget
from kepler_ebpf.names.resolver import Renewed

COST_S = 0.01
"""What it takes to look at one process."""

CGROUP = CgroupName("/work")
START_NS = 5_000


class SlowNaming:
    """Names that a test decides, each question about a process at the same cost."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.asked: list[int] = []
        self.exe = "/bin/true"
        self.better = Renewed({}, {})
        self.met: list[int] = []

    def clock(self) -> float:
        return self.now_s

    def meet(self, cgroup_id: int) -> None:
        self.met.append(cgroup_id)
        self.now_s += COST_S

    def cgroup(self, cgroup_id: int) -> CgroupName:
        return CgroupName(f"/{cgroup_id}")

    def pod(self, pod_id: str) -> PodLabels:
        return PodLabels(pod_id, "web", "shop")

    def process(self, tgid: int, start_ns: int, comm: str, cgroup: CgroupName) -> ProcessName:
        assert (start_ns, comm, cgroup) == (START_NS, "work", CGROUP)
        self.asked.append(tgid)
        self.now_s += COST_S
        return ProcessName(self.exe)

    def renewed(self) -> Renewed:
        return self.better


class World:
    """A patient naming over a slow one."""

    def __init__(self) -> None:
        self.slow = SlowNaming()
        self.naming = NameBudget(self.slow, self.slow.clock)  # type: ignore[arg-type]

    def interval(self, *pids: int, looks: float) -> list[str]:
        """Begin an interval with time for so many *looks*, and return each pid's exe."""
        self.naming.begin_interval(looks * COST_S / budget.BUDGET_SHARE)
        return [self.ask(pid) for pid in pids]

    def ask(self, pid: int) -> str:
        """Ask for a process as the ledger does."""
        return self.naming.process(pid, START_NS, "work", CGROUP).exe

    def work(self, looks: float) -> None:
        """Let it work in the time for so many *looks* before the next tick."""
        due_s = self.slow.now_s + looks * COST_S + budget.MARGIN_S
        self.naming.work(lambda: due_s - self.slow.now_s)

    def renewed(self) -> dict[int, str]:
        """Return what it tells of processes by pid."""
        told = self.naming.renewed().processes
        return {pid: name.exe for (pid, _), name in told.items()}


def test_within_the_budget_names_come_at_once() -> None:
    """There is nothing to tell later then."""
    world = World()
    assert world.interval(1, 2, looks=5) == ["/bin/true", "/bin/true"]
    world.work(looks=100)
    assert world.renewed() == {}


def test_beyond_the_budget_processes_wait() -> None:
    """They have no exe at first; the time before the next tick finds it, the newest first."""
    world = World()
    assert world.interval(1, 2, 3, 4, looks=1.5) == ["/bin/true", "/bin/true", "", ""]
    world.work(looks=0.5)
    assert world.slow.asked == [1, 2, 4]
    assert world.renewed() == {4: "/bin/true"}
    world.work(looks=100)
    assert world.renewed() == {3: "/bin/true"}
    assert world.renewed() == {}


def test_budget_is_granted_anew_each_interval() -> None:
    """One interval full of new processes does not silence the next."""
    world = World()
    assert world.interval(1, 2, looks=0.5) == ["/bin/true", ""]
    assert world.interval(3, looks=1) == ["/bin/true"]


def test_no_work_where_the_tick_is_due() -> None:
    """With no time left nothing is looked at, and nothing forgotten."""
    world = World()
    world.interval(1, looks=0)
    world.work(looks=-1)
    assert world.slow.asked == []
    world.work(looks=1)
    assert world.renewed() == {1: "/bin/true"}


def test_new_cgroups_are_met_before_processes_are_named() -> None:
    """Their containers may be gone first; each once, and only while there is time."""
    world = World()
    world.interval(1, looks=0)
    world.naming.meet([7, 8])
    assert world.slow.met == []
    world.work(looks=0.5)
    assert (world.slow.met, world.slow.asked) == ([7], [])
    world.work(looks=100)
    assert (world.slow.met, world.slow.asked) == ([7, 8], [1])


def test_newer_answer_is_not_replaced_by_an_older_one() -> None:
    """A process that called exec after it was looked at keeps the name of its new program."""
    world = World()
    world.interval(1, looks=0)
    world.work(looks=1)
    world.slow.exe = "/bin/false"
    assert world.interval(1, looks=1) == ["/bin/false"]
    assert world.renewed() == {}


def test_answered_process_waits_no_longer() -> None:
    """What was postponed once and answered since is not looked at a third time."""
    world = World()
    world.interval(1, looks=0)
    world.interval(1, looks=1)
    world.work(looks=100)
    assert world.slow.asked == [1]


def test_waiting_processes_are_bounded() -> None:
    """The oldest are given up when too many wait; the newest are named."""
    world = World()
    count = budget.MAX_POSTPONED + 10
    world.interval(*range(count), looks=0)
    world.work(looks=count)
    assert sorted(world.renewed()) == list(range(10, count))


def test_cgroups_and_pods_never_wait() -> None:
    """Energy hangs on them: they are asked for whatever the budget is."""
    world = World()
    world.interval(looks=0)
    assert world.naming.cgroup(7) == CgroupName("/7")
    assert world.naming.pod("uid").pod_name == "web"


def test_better_names_of_others_pass_through() -> None:
    """What the naming below has learned of cgroups and pods is told with it."""
    world = World()
    world.slow.better = Renewed({7: CgroupName("/seven")}, {"uid": PodLabels("uid", "web", "shop")})
    told = world.naming.renewed()
    assert told.cgroups == world.slow.better.cgroups
    assert told.pods == world.slow.better.pods
