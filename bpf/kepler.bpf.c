// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * CPU time by task, from the scheduler's own switches.
 *
 * At a switch the outgoing task is still current and is charged the slice it ran. User space closes
 * an interval: it raises control.epoch and runs `rotate` on every CPU that is not idle. `rotate`
 * charges the running slice to the old set of maps and moves the CPU to the new one. An idle CPU
 * charges nothing, and moves by itself when it leaves idle. So once every busy CPU has rotated,
 * nothing writes to the old set, and it can be drained at leisure.
 *
 * Only on_switch and rotate write to the tasks and slots, on their own CPU and with interrupts or
 * preemption off: neither can run inside the other. So exits, and new names after an exec, are not
 * recorded by programs of their own: they are read from the task at its next switch.
 */
#ifdef KEPLER_BCC
#include "dialect_bcc.h"
#else
#include "dialect_co_re.h"
#endif

#include "maps.h"
#include "map_helpers.h"
#include "charge.h"
#include "boundary.h"
#include "recover.h"
#include "exec.h"
#include "job.h"
#include "profile.h"

#define MAX_CPUS 1024 /* of one loop: the verifier follows each branch of each round */

ENTRY(on_switch, BY_TYPE_INFO("sched_switch"))
{
	struct task_struct *prev = ARG(struct task_struct *, 1);
	struct task_struct *next = ARG(struct task_struct *, 2);
	struct cpu_slot *slot = get_slot(bpf_get_smp_processor_id());
	__u64 now_ns = bpf_ktime_get_ns(), runtime_ns;
	__u32 prev_pid = CURRENT_PID(prev), next_pid = LOAD(next, pid);
	struct task_usage *usage;
	struct task_key key;

	if (!slot)
		return 0;
	if ((__u64)prev != slot->running_task) {
		recover_slice(slot, prev, 0, now_ns);
	} else if (prev_pid && slot->since_ns) {
		runtime_ns = LOAD(prev, se.sum_exec_runtime);
		if (next_pid)
			now_ns -= switch_delay_ns(slot, prev, runtime_ns, now_ns);
		key.start_ns = LOAD(prev, start_boottime);
		key.cgroup_id = slot->running_cgroup_id;
		key.pid = prev_pid;
		usage = charge_slice(slot, &key, prev, now_ns - slot->since_ns);
		follow(slot, usage, prev, LOAD(prev, flags), LOAD(prev, self_exec_id), runtime_ns);
	}
	if (!prev_pid)
		leave_idle(slot, now_ns);
	slot->running = next_pid;
	slot->running_task = (__u64)next;
	slot->running_runtime_ns = LOAD(next, se.sum_exec_runtime);
	if (next_pid)
		slot->running_cgroup_id = cgroup_id_load(next);
	else
		enter_idle(slot, now_ns);
	slot->since_ns = now_ns;
	return 0;
}

/* Never attached: user space runs it on a CPU, where it interrupts the task that it charges. */
ENTRY(rotate, "raw_tp/rotate")
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct control *control = get_control();
	struct cpu_slot *slot = get_slot(bpf_get_smp_processor_id());
	__u64 now_ns = bpf_ktime_get_ns();
	__u32 pid = READ(task, pid);

	if (!slot || !control || slot->epoch == control->epoch)
		return 0;
	if ((__u64)task != slot->running_task) {
		recover_slice(slot, task, 1, now_ns);
	} else if (pid && slot->since_ns) {
		charge_by_reads(slot, task, slot->running_cgroup_id, now_ns - slot->since_ns);
	}
	if (!pid)
		enter_idle(slot, now_ns);
	enter_epoch(slot, control->epoch, now_ns);
	slot->running = pid;
	slot->running_task = (__u64)task;
	slot->running_runtime_ns = READ(task, se.sum_exec_runtime);
	slot->running_cgroup_id = cgroup_id_read(task);
	slot->since_ns = now_ns;
	return 0;
}

/* Never attached: user space runs it to get its own pid and start as the host counts them. */
ENTRY(read_self, "raw_tp/read_self")
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct task_struct *leader = READ(task, group_leader);
	struct control *control = get_control();

	if (!control)
		return 0;
	control->self_tgid = bpf_get_current_pid_tgid() >> 32;
	control->self_start_ns = READ(leader, start_boottime);
	return 0;
}

static __always_inline int is_counted(__u32 hierarchy, const struct control *control)
{
	return !hierarchy || hierarchy == control->v1_hierarchy;
}

/* The kernel holds the lock of its path buffer here, so no two of these run at once. */
static __always_inline int record_cgroup(struct cgroup *cgroup, const char *path, __u32 removed)
{
	struct kernfs_node *kn = READ(cgroup, kn);
	struct cgroup_root *root = READ(cgroup, root);
	__u32 hierarchy = READ(root, hierarchy_id);
	struct control *control = get_control();
	struct cgroup_event *event = get_scratch();
	__u64 id = READ(kn, id);

	if (!control || !event || !is_counted(hierarchy, control))
		return 0;
	if (hierarchy)
		id |= KEPLER_CGROUP_V1;
	event->removed = removed;
	bpf_probe_read_kernel_str(event->path, sizeof(event->path), path);
	if (put_event(&id, event))
		control->cgroup_events_lost += 1;
	control->cgroup_events += 1;
	if (!removed)
		notify_cgroup(&id);
	return 0;
}

ENTRY(on_cgroup_mkdir, "raw_tp/cgroup_mkdir")
{
	return record_cgroup(ARG(struct cgroup *, 0), ARG(const char *, 1), 0);
}

ENTRY(on_cgroup_rmdir, "raw_tp/cgroup_rmdir")
{
	return record_cgroup(ARG(struct cgroup *, 0), ARG(const char *, 1), 1);
}

/*
 * The task is in its new cgroup already. If a thread of its process is running and has left the
 * cgroup in which its slice began, this instant divides the slice. Only the first move of a slice
 * counts: the rest is charged to the cgroup of its end.
 */
ENTRY(on_cgroup_attach_task, "raw_tp/cgroup_attach_task")
{
	struct cgroup *cgroup = ARG(struct cgroup *, 0);
	struct task_struct *moved = ARG(struct task_struct *, 2), *running;
	struct cgroup_root *root = READ(cgroup, root);
	struct control *control = get_control();
	__u32 tgid = READ(moved, tgid), cpu;
	__u64 now_ns = bpf_ktime_get_ns();
	struct cpu_slot *slot;

	if (!control || !is_counted(READ(root, hierarchy_id), control))
		return 0;
	for (cpu = 0; cpu < knobs.cpus && cpu < MAX_CPUS; cpu++) {
		slot = get_slot(cpu);
		if (!slot)
			break;
		running = (struct task_struct *)slot->running_task;
		if (READ(running, tgid) == tgid && slot->moved_ns <= slot->since_ns &&
		    cgroup_id_read(running) != slot->running_cgroup_id)
			slot->moved_ns = now_ns;
	}
	return 0;
}

/* By now self_exec_id is the new one, and a thread that called exec is the leader. */
ENTRY(on_exec, "raw_tp/sched_process_exec")
{
	record_exec(ARG(struct task_struct *, 0));
	return 0;
}

/*
 * The next four are loaded only where jobs are measured. Threads that the kernel makes for a
 * process pass task_newtask, and not sched_process_fork.
 */
ENTRY(on_fork, BY_TYPE_INFO("task_newtask"))
{
	mark_child(ARG(struct task_struct *, 0));
	return 0;
}

ENTRY(on_job_exec, "raw_tp/sched_process_exec")
{
	note_exec(ARG(struct task_struct *, 0));
	move_mark(ARG(struct task_struct *, 0), ARG(__u32, 1));
	return 0;
}

ENTRY(on_free, BY_TYPE_INFO("sched_process_free"))
{
	drop_mark_of(ARG(struct task_struct *, 0));
	return 0;
}

/* Never attached: begins a job of the next task that the calling thread starts. */
ENTRY(arm, "raw_tp/arm")
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct control *control = get_control();
	struct job_mark mark = { .flags = KEPLER_JOB_ARMED };

	if (!control)
		return 0;
	mark.start_ns = READ(task, start_boottime);
	mark.job = ++control->jobs;
	put_mark(READ(task, pid), &mark);
	return 0;
}

#ifdef SAMPLES_BYTES
/* Loaded only where tasks are sampled; user space attaches it to a timer of each CPU. */
ENTRY(on_sample, "perf_event")
{
	record_sample(ctx, (struct task_struct *)bpf_get_current_task());
	return 0;
}
#endif
