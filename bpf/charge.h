/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The account itself: who is charged, in which map, and what a CPU's slot says meanwhile. */
#ifndef CHARGE_H
#define CHARGE_H

#define READ(ptr, field)                                                                           \
	({                                                                                         \
		typeof((ptr)->field) value_ = 0;                                                   \
		bpf_probe_read_kernel(&value_, sizeof(value_), &(ptr)->field);                     \
		value_;                                                                            \
	})

#define PF_EXITING 0x4
#define ROOT_CGROUP_ID 1
/* The slowest tick (HZ=100): a running task's own run time is not older than this. */
#define TICK_NS 10000000

/* The v1 controller's cgroup where there is one and the task is not in its root, else v2's. */
#define DEFINE_CGROUP_ID(name, GET)                                                                \
	static __always_inline __u64 name(struct task_struct *task)                                \
	{                                                                                          \
		struct css_set *set = GET(task, cgroups);                                          \
		struct cgroup *cgroup;                                                             \
		struct kernfs_node *kn;                                                            \
                                                                                                   \
		if (v1_subsys != KEPLER_NO_SUBSYS) {                                               \
			struct cgroup_subsys_state *css = GET(set, subsys[v1_subsys]);             \
			__u64 id;                                                                  \
                                                                                                   \
			cgroup = GET(css, cgroup);                                                 \
			kn = GET(cgroup, kn);                                                      \
			id = GET(kn, id);                                                          \
			if (id > ROOT_CGROUP_ID)                                                   \
				return id | KEPLER_CGROUP_V1;                                      \
		}                                                                                  \
		cgroup = GET(set, dfl_cgrp);                                                       \
		kn = GET(cgroup, kn);                                                              \
		return GET(kn, id);                                                                \
	}

DEFINE_CGROUP_ID(cgroup_id_load, LOAD)
DEFINE_CGROUP_ID(cgroup_id_read, READ)

static __always_inline __u32 ended_flag(struct task_struct *task)
{
	struct signal_struct *signal = READ(task, signal);
	int live = 1;

	bpf_probe_read_kernel(&live, sizeof(live), &signal->live);
	return live == 0 ? KEPLER_ENDED : 0;
}

/* As a string: before 5.17 the rest of the name the task had earlier stays behind the new one. */
static __always_inline void read_comms(struct task_usage *usage, struct task_struct *task)
{
	struct task_struct *leader = READ(task, group_leader);

	__builtin_memset(usage->comm, 0, sizeof(usage->comm));
	__builtin_memset(usage->process_comm, 0, sizeof(usage->process_comm));
	bpf_probe_read_kernel_str(usage->comm, sizeof(usage->comm), &task->comm);
	bpf_probe_read_kernel_str(usage->process_comm, sizeof(usage->process_comm), &leader->comm);
}

static __always_inline void describe(struct task_usage *usage, struct task_struct *task,
				     __u64 start_ns)
{
	struct task_struct *leader = READ(task, group_leader);
	struct task_struct *parent = READ(task, real_parent);

	usage->tgid = READ(task, tgid);
	usage->parent_tgid = READ(parent, tgid);
	usage->process_start_ns = READ(leader, start_boottime);
	usage->exec_id = READ(task, self_exec_id);
	read_comms(usage, task);
	/* The thread that dies last may outlive its leader's task_struct; its own start is at hand.
	 */
	if (READ(leader, tgid) != usage->tgid)
		usage->process_start_ns = start_ns;
}

static __always_inline void charge_cgroup(struct cpu_slot *slot, const struct task_key *task,
					  __u64 slice_ns)
{
	struct cgroup_key key = { .cgroup_id = task->cgroup_id, .socket = task->socket };
	struct cgroup_usage fresh = {}, *usage;

	usage = get_cgroup(slot->epoch, &key);
	if (!usage) {
		add_cgroup(slot->epoch, &key, &fresh);
		usage = get_cgroup(slot->epoch, &key);
	}
	if (!usage) {
		slot->lost_ns += slice_ns;
		return;
	}
	/* Every CPU of the socket may run tasks of this cgroup at once. */
	__sync_fetch_and_add(&usage->cpu_ns, slice_ns);
	__sync_fetch_and_add(&usage->switches, 1);
	slot->overflow_ns += slice_ns;
}

/* Gives CPU time to a task that runs on this CPU and no other; NULL where the map is full. */
static __always_inline struct task_usage *charge(struct cpu_slot *slot, struct task_key *key,
						 struct task_struct *task, __u64 slice_ns)
{
	struct task_usage fresh = {}, *usage;

	slot->busy_ns += slice_ns;
	key->socket = slot->socket;
	usage = get_task(slot->epoch, key);
	if (!usage) {
		describe(&fresh, task, key->start_ns);
		add_task(slot->epoch, key, &fresh);
		usage = get_task(slot->epoch, key);
		if (!usage) {
			charge_cgroup(slot, key, slice_ns);
			return usage;
		}
	}
	usage->cpu_ns += slice_ns;
	usage->switches += 1;
	return usage;
}

/* Notes what the task did since its record was made: exec, and the end of its process. */
static __always_inline void follow(struct task_usage *usage, struct task_struct *task,
				   __u32 task_flags, __u64 exec_id, __u64 runtime_ns)
{
	if (!usage)
		return;
	usage->runtime_ns = runtime_ns;
	if (usage->exec_id != exec_id) {
		usage->exec_id = exec_id;
		read_comms(usage, task);
	}
	if (task_flags & PF_EXITING)
		usage->flags |= ended_flag(task);
}

/* Moves the CPU to a new epoch's set of maps, and notes its figures at that instant. */
static __always_inline void enter_epoch(struct cpu_slot *slot, __u64 epoch, __u64 now_ns)
{
	if (slot->epoch == epoch)
		return;
	slot->epoch = epoch;
	slot->closed_at_ns = now_ns;
	slot->closed_busy_ns = slot->busy_ns;
	slot->closed_lost_ns = slot->lost_ns;
	slot->closed_overflow_ns = slot->overflow_ns;
	slot->closed_idle_ns = slot->idle_ns < 0 ? slot->idle_ns + now_ns : slot->idle_ns;
}

/*
 * The atomic add puts this CPU's "no longer idle" before its read of the epoch, and user space
 * raises the epoch before it looks who is idle: one of the two sees the other.
 */
static __always_inline void leave_idle(struct cpu_slot *slot, __u64 now_ns)
{
	struct control *control = get_control();

	if (slot->idle_ns < 0)
		__sync_fetch_and_add(&slot->idle_ns, now_ns);
	if (control)
		enter_epoch(slot, *(volatile __u64 *)&control->epoch, now_ns);
}

static __always_inline void enter_idle(struct cpu_slot *slot, __u64 now_ns)
{
	if (slot->idle_ns >= 0)
		__sync_fetch_and_add(&slot->idle_ns, -now_ns);
}

static __always_inline __u64 lesser(__u64 one, __u64 other)
{
	return one < other ? one : other;
}

/*
 * The slice that began at since_ns in the key's cgroup. A task that was moved meanwhile leaves
 * there what it had run until then.
 */
static __always_inline struct task_usage *charge_slice(struct cpu_slot *slot, struct task_key *key,
						       struct task_struct *task, __u64 ran_ns)
{
	__u64 moved_ns = *(volatile __u64 *)&slot->moved_ns, before_ns;

	if (moved_ns > slot->since_ns) {
		before_ns = lesser(moved_ns - slot->since_ns, ran_ns);
		charge(slot, key, task, before_ns);
		key->cgroup_id = cgroup_id_read(task);
		ran_ns -= before_ns;
	}
	return charge(slot, key, task, ran_ns);
}

/* For a task that no tracepoint handed over: every field is a checked read. */
static __always_inline void charge_by_reads(struct cpu_slot *slot, struct task_struct *task,
					    __u64 cgroup_id, __u64 ran_ns)
{
	struct task_key key = {
		.pid = READ(task, pid),
		.start_ns = READ(task, start_boottime),
		.cgroup_id = cgroup_id,
	};

	follow(charge_slice(slot, &key, task, ran_ns), task, READ(task, flags),
	       READ(task, self_exec_id), READ(task, se.sum_exec_runtime));
}

/*
 * The slice belongs to the interval that is running, or to the one that is being closed. A CPU that
 * missed a closing, as it was offline or taken for idle, was left with its figures of since_ns.
 */
static __always_inline void recover_epoch(struct cpu_slot *slot, __u32 closing)
{
	struct control *control = get_control();

	if (slot->idle_ns < 0)
		__sync_fetch_and_add(&slot->idle_ns, slot->since_ns);
	if (control && slot->epoch + closing < control->epoch)
		enter_epoch(slot, control->epoch - closing, slot->since_ns);
}

/*
 * The run time of the task switched in last when it left this CPU. Where it went on elsewhere, that
 * is charged there, and what it had on arrival there is what it left with.
 */
static __always_inline __u64 left_with_ns(struct cpu_slot *slot, struct task_struct *task)
{
	__u32 cpu = READ(task, wake_cpu);
	struct cpu_slot *other;

	if (cpu == bpf_get_smp_processor_id())
		return READ(task, se.sum_exec_runtime);
	other = get_slot(cpu);
	if (other && other->running_task == (__u64)task)
		return other->running_runtime_ns;
	return slot->running_runtime_ns;
}

/*
 * How long the current task has been running unseen, by the scheduler's own sum for it: since it
 * was charged last in this interval, under this key. If it was not, since the scheduler put it on
 * the CPU; that may have been anew meanwhile, as on exit and where a task is reniced or moved, and
 * only the fair class notes it at all. So it is the most that may be claimed, and claimed last.
 */
static __always_inline __u64 hidden_so_far_ns(struct cpu_slot *slot, struct task_struct *task)
{
	struct task_key key = {
		.pid = READ(task, pid),
		.start_ns = READ(task, start_boottime),
		.cgroup_id = cgroup_id_read(task),
		.socket = slot->socket,
	};
	struct task_usage *usage = get_task(slot->epoch, &key);
	__u64 now_ns = READ(task, se.sum_exec_runtime), since_ns = usage ? usage->runtime_ns : 0;

	/* A thread that calls exec takes over the key of its leader, which may have run for longer.
	 */
	if (!since_ns || since_ns > now_ns)
		since_ns = READ(task, se.prev_sum_exec_runtime);
	return now_ns - since_ns;
}

/*
 * A switch went unseen: a CPU that goes offline is not traced to its end, and some kernels keep
 * tracing off certain tasks. The current task's own run time says how long it has been here; when
 * closing it is running still, and that is up to a tick late. The task switched in last says how
 * long it ran. What neither claims was idle if the CPU is idle now; else it is not known whose it
 * was.
 */
static __always_inline void recover_slice(struct cpu_slot *slot, struct task_struct *current_task,
					  __u32 closing, __u64 now_ns)
{
	struct task_struct *task = (struct task_struct *)slot->running_task;
	__u64 rest_ns = now_ns - slot->since_ns, left_ns, ran_ns, current_ns;
	struct control *control = get_control();

	if (!slot->since_ns)
		return;
	if (control)
		__sync_fetch_and_add(&control->recovered, 1);
	recover_epoch(slot, closing);
	if (slot->running && READ(task, pid) == slot->running) {
		left_ns = left_with_ns(slot, task);
		ran_ns =
		    left_ns > slot->running_runtime_ns ? left_ns - slot->running_runtime_ns : 0;
		ran_ns = lesser(ran_ns, rest_ns);
		charge_by_reads(slot, task, slot->running_cgroup_id, ran_ns);
		rest_ns -= ran_ns;
	}
	if (!READ(current_task, pid)) {
		enter_idle(slot, now_ns - rest_ns);
		return;
	}
	current_ns = lesser(hidden_so_far_ns(slot, current_task), rest_ns);
	rest_ns -= current_ns;
	if (closing && rest_ns <= TICK_NS) {
		current_ns += rest_ns;
		rest_ns = 0;
	}
	charge_by_reads(slot, current_task, cgroup_id_read(current_task), current_ns);
	slot->busy_ns += rest_ns;
	slot->lost_ns += rest_ns;
	if (control && rest_ns)
		__sync_fetch_and_add(&control->hidden_ns, rest_ns);
}

#endif
