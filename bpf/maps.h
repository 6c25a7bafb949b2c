/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps, and the only places that touch them. bcc rewrites `map.lookup()` but refuses to do so
 * inside a macro, so each access is spelt out once for either dialect.
 */
#ifndef MAPS_H
#define MAPS_H

#define CGROUP_ENTRIES 4096
#define MAX_CPUS 1024 /* that one program looks at: the verifier follows each branch of each */
#define NOTIFIER_BYTES 65536 /* a multiple of every page size */

SHARED_ARRAY(control, struct control, 1);
SHARED_ARRAY(slots, struct cpu_slot, CPU_ENTRIES);
HASH(tasks_0, struct task_key, struct task_usage, TASK_ENTRIES);
HASH(tasks_1, struct task_key, struct task_usage, TASK_ENTRIES);
HASH(cgroups_0, struct cgroup_key, struct cgroup_usage, CGROUP_ENTRIES);
HASH(cgroups_1, struct cgroup_key, struct cgroup_usage, CGROUP_ENTRIES);
HASH(cgroup_events, __u64, struct cgroup_event, CGROUP_ENTRIES);
/* Never read: that something is in it wakes user space, which then drains cgroup_events. */
RING(cgroup_notifier, NOTIFIER_BYTES);
SCRATCH(event_scratch, struct cgroup_event);
RING(execs, EXECS_BYTES);
SCRATCH(exec_scratch, struct exec_event);

#ifdef KEPLER_BCC

static __always_inline struct control *get_control(void)
{
	__u32 zero = 0;

	return control.lookup(&zero);
}

static __always_inline struct cpu_slot *get_slot(__u32 cpu)
{
	return slots.lookup(&cpu);
}

static __always_inline struct cgroup_event *get_scratch(void)
{
	__u32 zero = 0;

	return event_scratch.lookup(&zero);
}

static __always_inline struct task_usage *get_task(__u64 epoch, struct task_key *key)
{
	return epoch & 1 ? tasks_1.lookup(key) : tasks_0.lookup(key);
}

static __always_inline void add_task(__u64 epoch, struct task_key *key, struct task_usage *usage)
{
	if (epoch & 1)
		tasks_1.insert(key, usage);
	else
		tasks_0.insert(key, usage);
}

static __always_inline struct cgroup_usage *get_cgroup(__u64 epoch, struct cgroup_key *key)
{
	return epoch & 1 ? cgroups_1.lookup(key) : cgroups_0.lookup(key);
}

static __always_inline void add_cgroup(__u64 epoch, struct cgroup_key *key,
				       struct cgroup_usage *usage)
{
	if (epoch & 1)
		cgroups_1.insert(key, usage);
	else
		cgroups_0.insert(key, usage);
}

static __always_inline long put_event(__u64 *id, struct cgroup_event *event)
{
	return cgroup_events.update(id, event);
}

static __always_inline struct exec_event *get_exec_scratch(void)
{
	__u32 zero = 0;

	return exec_scratch.lookup(&zero);
}

/* Wakes nobody: user space looks when it wants to. */
static __always_inline long put_exec(struct exec_event *event, __u64 size)
{
	return execs.ringbuf_output(event, size, BPF_RB_NO_WAKEUP);
}

static __always_inline void notify_cgroup(__u64 *id)
{
	cgroup_notifier.ringbuf_output(id, sizeof(*id), 0);
}

#else

static __always_inline struct control *get_control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

static __always_inline struct cpu_slot *get_slot(__u32 cpu)
{
	return bpf_map_lookup_elem(&slots, &cpu);
}

static __always_inline struct cgroup_event *get_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&event_scratch, &zero);
}

static __always_inline struct task_usage *get_task(__u64 epoch, struct task_key *key)
{
	return epoch & 1 ? bpf_map_lookup_elem(&tasks_1, key) : bpf_map_lookup_elem(&tasks_0, key);
}

static __always_inline void add_task(__u64 epoch, struct task_key *key, struct task_usage *usage)
{
	if (epoch & 1)
		bpf_map_update_elem(&tasks_1, key, usage, BPF_NOEXIST);
	else
		bpf_map_update_elem(&tasks_0, key, usage, BPF_NOEXIST);
}

static __always_inline struct cgroup_usage *get_cgroup(__u64 epoch, struct cgroup_key *key)
{
	return epoch & 1 ? bpf_map_lookup_elem(&cgroups_1, key)
			 : bpf_map_lookup_elem(&cgroups_0, key);
}

static __always_inline void add_cgroup(__u64 epoch, struct cgroup_key *key,
				       struct cgroup_usage *usage)
{
	if (epoch & 1)
		bpf_map_update_elem(&cgroups_1, key, usage, BPF_NOEXIST);
	else
		bpf_map_update_elem(&cgroups_0, key, usage, BPF_NOEXIST);
}

static __always_inline long put_event(__u64 *id, struct cgroup_event *event)
{
	return bpf_map_update_elem(&cgroup_events, id, event, BPF_ANY);
}

static __always_inline struct exec_event *get_exec_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&exec_scratch, &zero);
}

static __always_inline long put_exec(struct exec_event *event, __u64 size)
{
	return bpf_ringbuf_output(&execs, event, size, BPF_RB_NO_WAKEUP);
}

static __always_inline void notify_cgroup(__u64 *id)
{
	bpf_ringbuf_output(&cgroup_notifier, id, sizeof(*id), 0);
}

#endif

#endif
