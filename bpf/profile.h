/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the running task is doing: its stacks in the kernel and in user space, by frame pointers.
 *
 * The kernel finds the file of each frame here and writes its build id, so that a frame has a name
 * after its process is gone. Where it cannot (code in no file, or memory maps that change just
 * now), the frame has its address.
 */
#ifndef PROFILE_H
#define PROFILE_H

#ifdef SAMPLES_BYTES

#define PF_IO_WORKER 0x10
#define PF_USER_WORKER 0x4000 /* from Linux 6.4 on; before, of tasks that load modules */
#define PF_KTHREAD 0x00200000
#define KERNEL_STACK_BYTES (KEPLER_MAX_FRAMES * 8)
#define USER_STACK_BYTES (KEPLER_MAX_FRAMES * KEPLER_FRAME_BYTES)

/* Of a job, whose first task belongs to it from its exec on. */
static __always_inline int is_sampled(struct control *control, __u32 pid, __u64 start_ns)
{
	struct job_mark *mark;

	if (control->sample_all)
		return 1;
	mark = get_mark(pid);
	return mark && !mark->flags && (!mark->start_ns || mark->start_ns == start_ns);
}

static __always_inline void record_sample(void *ctx, struct task_struct *task)
{
	struct cpu_slot *slot = get_slot(bpf_get_smp_processor_id());
	struct control *control = get_control();
	struct sample *sample = get_sample_scratch();
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns = READ(task, start_boottime);
	long kernel_bytes, user_bytes = 0;

	if (!slot || !control || !sample || !(__u32)pid_tgid ||
	    !is_sampled(control, (__u32)pid_tgid, start_ns))
		return;
	sample->pid = pid_tgid;
	sample->tgid = pid_tgid >> 32;
	sample->start_ns = start_ns;
	sample->process_start_ns = process_start_ns(task, sample->tgid);
	sample->epoch = slot->epoch;
	sample->has_user = !(READ(task, flags) & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER));
	kernel_bytes = bpf_get_stack(ctx, sample->stack, KERNEL_STACK_BYTES, 0);
	if (kernel_bytes < 0)
		kernel_bytes = 0;
	if (kernel_bytes > KERNEL_STACK_BYTES)
		return;
	if (sample->has_user)
		user_bytes = bpf_get_stack(ctx, sample->stack + kernel_bytes, USER_STACK_BYTES,
					   BPF_F_USER_STACK | BPF_F_USER_BUILD_ID);
	if (user_bytes < 0)
		user_bytes = 0;
	if (user_bytes > USER_STACK_BYTES)
		return;
	sample->kernel_bytes = kernel_bytes;
	sample->user_bytes = user_bytes;
	if (put_sample(sample,
		       __builtin_offsetof(struct sample, stack) + kernel_bytes + user_bytes))
		__sync_fetch_and_add(&control->samples_lost, 1);
}

#endif
#endif
