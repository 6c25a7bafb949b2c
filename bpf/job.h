/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Jobs: a task that user space has marked, and all that it starts from then on.
 *
 * A mark goes from the task that makes another to the new one, whatever parent that is given. So
 * daemons that fork twice, other cgroups, other PID namespaces, and the threads that the kernel
 * makes for a process (for io_uring, from Linux 5.12 on) stay in the job. A mark is dropped when
 * the task is freed, and not at its exit, since the last slice is charged after that. A record has
 * the job that its task had when the record was made.
 */
#ifndef JOB_H
#define JOB_H

/* The current task makes the child. */
static __always_inline void mark_child(struct task_struct *child)
{
	struct task_struct *parent = (struct task_struct *)bpf_get_current_task();
	__u32 parent_pid = bpf_get_current_pid_tgid();
	struct control *control = get_control();
	struct job_mark *mark, fresh = {};

	if (!control || !control->jobs)
		return;
	mark = get_mark(parent_pid);
	if (!mark || (mark->start_ns && mark->start_ns != READ(parent, start_boottime)))
		return;
	fresh.start_ns = LOAD(child, start_boottime);
	fresh.job = mark->job;
	if (mark->flags & KEPLER_JOB_ARMED) {
		fresh.flags = KEPLER_JOB_PENDING;
		control->pending_pid = LOAD(child, pid);
		drop_mark(parent_pid);
	}
	__sync_fetch_and_add(&control->job_tasks, 1);
	if (put_mark(LOAD(child, pid), &fresh))
		__sync_fetch_and_add(&control->marks_lost, 1);
}

/* What the first task ran until now: its record of this interval, and its running slice. */
static __always_inline void note_exec(struct task_struct *task)
{
	struct cpu_slot *slot = get_slot(bpf_get_smp_processor_id());
	struct task_key key = { .pid = READ(task, pid) };
	struct control *control = get_control();
	struct task_usage *usage;
	struct job_mark *mark;

	if (!control || !slot || key.pid != control->pending_pid)
		return;
	control->pending_pid = 0;
	mark = get_mark(key.pid);
	if (!mark || !(mark->flags & KEPLER_JOB_PENDING))
		return;
	mark->flags = 0;
	key.start_ns = READ(task, start_boottime);
	key.cgroup_id = slot->running_cgroup_id;
	key.socket = slot->socket;
	usage = get_task(slot->epoch, &key);
	control->pre_exec_ns = bpf_ktime_get_ns() - slot->since_ns + (usage ? usage->cpu_ns : 0);
}

/* A thread that calls exec takes the pid and the start of its process's first: its mark follows. */
static __always_inline void move_mark(struct task_struct *task, __u32 old_pid)
{
	struct control *control = get_control();
	__u32 pid = READ(task, pid);
	struct job_mark *mark, moved;

	if (!control || !control->jobs || pid == old_pid)
		return;
	mark = get_mark(old_pid);
	if (!mark)
		return;
	moved = *mark;
	moved.start_ns = READ(task, start_boottime);
	drop_mark(old_pid);
	if (put_mark(pid, &moved))
		__sync_fetch_and_add(&control->marks_lost, 1);
}

static __always_inline void drop_mark_of(struct task_struct *task)
{
	struct control *control = get_control();
	__u32 pid = LOAD(task, pid);
	struct job_mark *mark;

	if (!control || !control->jobs)
		return;
	mark = get_mark(pid);
	if (mark && (!mark->start_ns || mark->start_ns == LOAD(task, start_boottime)))
		drop_mark(pid);
}

#endif
