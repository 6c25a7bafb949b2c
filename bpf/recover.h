/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Switches that were not traced. Two causes are known:
 *
 * - A CPU that goes offline, on every kernel: tracepoints do nothing on a CPU that is not online,
 *   so its last switches, to its stopper and to idle, are missing. The first switch when it is
 *   online again is from a task that its slot does not know.
 * - Kernels of some micro virtual machines (seen with Linux 6.18) do not trace certain tasks, PID 1
 *   above all: both the switch to such a task and the switch from it are missing.
 *
 * Then slot->running_task is not the task that is found on the CPU, and the time since the last
 * traced switch is divided by the scheduler's own sums of run time. What no task accounts for is
 * lost, and counted in control->hidden_ns.
 */
#ifndef RECOVER_H
#define RECOVER_H

/* The slowest tick (HZ=100): the scheduler's sum of a running task is not older than this. */
#define TICK_NS 10000000

/*
 * Before the slice is charged: the CPU may have missed a change of epoch, while it was offline or
 * counted as idle. It then enters the epoch at since_ns, so that the slice belongs to the running
 * interval, or to the one that is being closed.
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
 * The run time that the task switched in last had when it left this CPU. If it runs on another CPU
 * now, that is its run time at the switch there.
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
 * How long the current task has run untraced: its run time now, less that when it was charged last
 * in this interval under this key. Without such a record, less that when the scheduler put it on
 * the CPU. The scheduler may have done so again since (at exit, on a change of nice, on a move to
 * another group), and only the fair class keeps that figure at all: so this is an upper bound, and
 * is charged after the task that was switched in last.
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

	/* A thread that calls exec gets its leader's key, and the leader may have run longer. */
	if (!since_ns || since_ns > now_ns)
		since_ns = READ(task, se.prev_sum_exec_runtime);
	return now_ns - since_ns;
}

/* What did not run has no record, unless it is that of its process's end. */
static __always_inline void charge_recovered(struct cpu_slot *slot, struct task_struct *task,
					     __u64 cgroup_id, __u64 ran_ns)
{
	if (ran_ns || ended_flag(task, READ(task, flags)))
		charge_by_reads(slot, task, cgroup_id, ran_ns);
}

/*
 * Divides the time since the last traced switch: first the run time of the task switched in then,
 * then that of the current task. When an interval is closed the current task still runs, and its
 * run time is up to a tick late. The rest is idle time if the CPU is idle now, else it is lost.
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
		charge_recovered(slot, task, slot->running_cgroup_id, ran_ns);
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
	charge_recovered(slot, current_task, cgroup_id_read(current_task), current_ns);
	slot->busy_ns += rest_ns;
	slot->lost_ns += rest_ns;
	if (control && rest_ns)
		__sync_fetch_and_add(&control->hidden_ns, rest_ns);
}

#endif
