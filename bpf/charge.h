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
		if (knobs.v1_subsys != KEPLER_NO_SUBSYS) {                                         \
			struct cgroup_subsys_state *css = GET(set, subsys[knobs.v1_subsys]);       \
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

/* The job of a task, 0 for none. Looked up for each new record, and so never at a switch. */
static __always_inline __u32 job_of(__u32 pid, __u64 start_ns)
{
	struct control *control = get_control();
	struct job_mark *mark;

	if (!control || !control->jobs)
		return 0;
	mark = get_mark(pid);
	if (!mark || (mark->flags & KEPLER_JOB_ARMED) ||
	    (mark->start_ns && mark->start_ns != start_ns))
		return 0;
	return mark->job;
}

/* The last thread may outlive the task_struct of its leader. */
static __always_inline __u64 process_start_ns(struct task_struct *task, __u32 tgid)
{
	struct task_struct *leader = READ(task, group_leader);

	return READ(READ(leader, tgid) == tgid ? leader : task, start_boottime);
}

static __always_inline void describe(struct task_usage *usage, struct task_struct *task)
{
	struct task_struct *parent = READ(task, real_parent);

	usage->tgid = READ(task, tgid);
	usage->parent_tgid = READ(parent, tgid);
	usage->process_start_ns = process_start_ns(task, usage->tgid);
	usage->exec_id = READ(task, self_exec_id);
	read_comms(usage, task);
	usage->flags = job_of(READ(task, pid), READ(task, start_boottime)) << KEPLER_JOB_SHIFT;
}

/* The record of a cgroup, added if there is none; NULL where that map is full. */
static __always_inline struct cgroup_usage *cgroup_of(struct cpu_slot *slot, __u64 cgroup_id,
						      __u32 socket)
{
	struct cgroup_key key = { .cgroup_id = cgroup_id, .socket = socket };
	struct cgroup_usage *usage = get_cgroup(slot->epoch, &key), fresh = {};

	return usage ? usage : add_cgroup(slot->epoch, &key, &fresh);
}

static __always_inline void charge_cgroup(struct cpu_slot *slot, const struct task_key *task,
					  __u64 slice_ns)
{
	struct cgroup_usage *usage = cgroup_of(slot, task->cgroup_id, task->socket);

	if (!usage) {
		slot->lost_ns += slice_ns;
		return;
	}
	/* All CPUs of the socket may run tasks of this cgroup. */
	__sync_fetch_and_add(&usage->cpu_ns, slice_ns);
	__sync_fetch_and_add(&usage->switches, 1);
	slot->overflow_ns += slice_ns;
}

/*
 * Whether a task without a record may have one. While room is scarce, a cgroup has no more of the
 * last records than half of those that are left, so that tasks of others still find room. Where
 * cgroups cannot be counted, since their map is full, the first to come has it.
 */
static __always_inline int finds_room(struct cpu_slot *slot, const struct task_key *task,
				      __u64 room, __u64 scarce)
{
	struct cgroup_usage *usage;

	if (room > scarce)
		return 1;
	usage = cgroup_of(slot, task->cgroup_id, 0); /* whichever socket it runs on */
	if (!usage)
		return 1;
	if (usage->tasks * 2 >= room)
		return 0;
	__sync_fetch_and_add(&usage->tasks, 1);
	return 1;
}

/* Adds a record; NULL where the task finds no room. */
static __always_inline struct task_usage *describe_task(struct cpu_slot *slot, struct task_key *key,
							struct task_struct *task)
{
	struct control *control = get_control();
	struct task_usage fresh = {}, *usage;
	__u64 *room;

	if (!control)
		return 0;
	room = slot->epoch & 1 ? &control->room_1 : &control->room_0;
	if (!finds_room(slot, key, *room, control->scarce))
		return 0;
	describe(&fresh, task);
	usage = add_task(slot->epoch, key, &fresh);
	if (usage)
		__sync_fetch_and_add(room, -1);
	return usage;
}

/* Charges a task that runs on this CPU and on no other; NULL where it has no record. */
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

static __always_inline void record_end(struct cpu_slot *slot, struct task_struct *task)
{
	struct process_end *end = get_end_scratch();
	struct control *control = get_control();

	if (!end || !control)
		return;
	end->epoch = slot->epoch;
	end->tgid = READ(task, tgid);
	end->start_ns = process_start_ns(task, end->tgid);
	if (put_end(end))
		__sync_fetch_and_add(&control->ends_lost, 1);
}

/* Updates what may have changed since the record was added: exec, and the process's end. */
static __always_inline void follow(struct cpu_slot *slot, struct task_usage *usage,
				   struct task_struct *task, __u32 task_flags, __u64 exec_id,
				   __u64 runtime_ns)
{
	if (!usage) {
		if (ended_flag(task, task_flags))
			record_end(slot, task);
		return;
	}
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

	follow(slot, charge_slice(slot, &key, task, ran_ns), task, READ(task, flags),
	       READ(task, self_exec_id), READ(task, se.sum_exec_runtime));
}

#endif
