/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which task a slice of CPU time is charged to, in which map, and what a CPU's slot holds. */
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

/* KEPLER_ENDED if the last thread of the task's process has exited. */
static __always_inline __u32 ended_flag(struct task_struct *task, __u32 task_flags)
{
	struct signal_struct *signal;
	int live = 1;

	if (!(task_flags & PF_EXITING))
		return 0;
	signal = READ(task, signal);
	bpf_probe_read_kernel(&live, sizeof(live), &signal->live);
	return live == 0 ? KEPLER_ENDED : 0;
}

/* As strings: before 5.17 the end of a longer, earlier name stays behind the terminator. */
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
	/* The last thread may outlive the task_struct of its leader. */
	if (READ(leader, tgid) != usage->tgid)
		usage->process_start_ns = start_ns;
}

static __always_inline void charge_cgroup(struct cpu_slot *slot, const struct task_key *task,
					  __u64 slice_ns)
{
	struct cgroup_key key = { .cgroup_id = task->cgroup_id, .socket = task->socket };
	struct cgroup_usage *usage = get_cgroup(slot->epoch, &key), fresh = {};

	if (!usage)
		usage = add_cgroup(slot->epoch, &key, &fresh);
	if (!usage) {
		slot->lost_ns += slice_ns;
		return;
	}
	/* All CPUs of the socket may run tasks of this cgroup. */
	__sync_fetch_and_add(&usage->cpu_ns, slice_ns);
	__sync_fetch_and_add(&usage->switches, 1);
	slot->overflow_ns += slice_ns;
}

/* Adds a record; NULL where the map is full. */
static __always_inline struct task_usage *describe_task(struct cpu_slot *slot, struct task_key *key,
							struct task_struct *task)
{
	struct task_usage fresh = {};

	describe(&fresh, task, key->start_ns);
	return add_task(slot->epoch, key, &fresh);
}

/* Charges a task that runs on this CPU and on no other; NULL where the map is full. */
static __always_inline struct task_usage *charge(struct cpu_slot *slot, struct task_key *key,
						 struct task_struct *task, __u64 slice_ns)
{
	struct task_usage *usage;

	slot->busy_ns += slice_ns;
	key->socket = slot->socket;
	usage = get_task(slot->epoch, key);
	if (!usage)
		usage = describe_task(slot, key, task);
	if (!usage) {
		charge_cgroup(slot, key, slice_ns);
		return usage;
	}
	usage->cpu_ns += slice_ns;
	usage->switches += 1;
	return usage;
}

/* Updates what may have changed since the record was added: exec, and the process's end. */
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
	usage->flags |= ended_flag(task, task_flags);
}

/* Switches the CPU to the maps of a new epoch, and keeps its figures at that instant. */
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
 * The atomic add orders the end of idle before the read of the epoch. User space raises the epoch
 * before it reads which CPUs are idle. So either this CPU reads the new epoch, or user space reads
 * that this CPU is not idle.
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
 * Charges the slice that began at since_ns in the key's cgroup. If the task was moved to another
 * cgroup meanwhile, the time until then is charged to the old one.
 */
static __always_inline struct task_usage *charge_slice(struct cpu_slot *slot, struct task_key *key,
						       struct task_struct *task, __u64 ran_ns)
{
	__u64 moved_ns = *(volatile __u64 *)&slot->moved_ns, before_ns;

	if (moved_ns > slot->since_ns && moved_ns - slot->since_ns < ran_ns) {
		before_ns = moved_ns - slot->since_ns;
		charge(slot, key, task, before_ns);
		key->cgroup_id = cgroup_id_read(task);
		ran_ns -= before_ns;
	}
	return charge(slot, key, task, ran_ns);
}

/* For a task that is no argument of the tracepoint: every field is a checked read. */
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

#endif
