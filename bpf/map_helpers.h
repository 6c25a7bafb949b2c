/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * All access to the maps. bcc rewrites `map.lookup()` but refuses to do so inside a macro, so each
 * access is written once for either dialect.
 */
#ifndef MAP_HELPERS_H
#define MAP_HELPERS_H

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

static __always_inline __u64 *get_clock_lead(void)
{
	__u32 zero = 0;

	return clock_lead.lookup(&zero);
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

static __always_inline long insert_task(__u64 epoch, struct task_key *key, struct task_usage *usage)
{
	return epoch & 1 ? tasks_1.insert(key, usage) : tasks_0.insert(key, usage);
}

static __always_inline struct cgroup_usage *get_cgroup(__u64 epoch, struct cgroup_key *key)
{
	return epoch & 1 ? cgroups_1.lookup(key) : cgroups_0.lookup(key);
}

static __always_inline long insert_cgroup(__u64 epoch, struct cgroup_key *key,
					  struct cgroup_usage *usage)
{
	return epoch & 1 ? cgroups_1.insert(key, usage) : cgroups_0.insert(key, usage);
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

static __always_inline long put_exec(struct exec_event *event, __u64 size)
{
	return execs.ringbuf_output(event, size, BPF_RB_NO_WAKEUP);
}

static __always_inline struct process_end *get_end_scratch(void)
{
	__u32 zero = 0;

	return end_scratch.lookup(&zero);
}

static __always_inline long put_end(struct process_end *end)
{
	return ends.ringbuf_output(end, sizeof(*end), BPF_RB_NO_WAKEUP);
}

static __always_inline struct job_mark *get_mark(__u32 pid)
{
	return jobs.lookup(&pid);
}

static __always_inline long put_mark(__u32 pid, struct job_mark *mark)
{
	return jobs.update(&pid, mark);
}

static __always_inline void drop_mark(__u32 pid)
{
	jobs.delete(&pid);
}

static __always_inline void notify_cgroup(__u64 *id)
{
	cgroup_notifier.ringbuf_output(id, sizeof(*id), 0);
}

#ifdef SAMPLES_BYTES
static __always_inline struct sample *get_sample_scratch(void)
{
	__u32 zero = 0;

	return sample_scratch.lookup(&zero);
}

static __always_inline long put_sample(struct sample *sample, __u64 size)
{
	return samples.ringbuf_output(sample, size, BPF_RB_NO_WAKEUP);
}
#endif

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

static __always_inline __u64 *get_clock_lead(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&clock_lead, &zero);
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

static __always_inline long insert_task(__u64 epoch, struct task_key *key, struct task_usage *usage)
{
	return epoch & 1 ? bpf_map_update_elem(&tasks_1, key, usage, BPF_NOEXIST)
			 : bpf_map_update_elem(&tasks_0, key, usage, BPF_NOEXIST);
}

static __always_inline struct cgroup_usage *get_cgroup(__u64 epoch, struct cgroup_key *key)
{
	return epoch & 1 ? bpf_map_lookup_elem(&cgroups_1, key)
			 : bpf_map_lookup_elem(&cgroups_0, key);
}

static __always_inline long insert_cgroup(__u64 epoch, struct cgroup_key *key,
					  struct cgroup_usage *usage)
{
	return epoch & 1 ? bpf_map_update_elem(&cgroups_1, key, usage, BPF_NOEXIST)
			 : bpf_map_update_elem(&cgroups_0, key, usage, BPF_NOEXIST);
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

static __always_inline struct process_end *get_end_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&end_scratch, &zero);
}

static __always_inline long put_end(struct process_end *end)
{
	return bpf_ringbuf_output(&ends, end, sizeof(*end), BPF_RB_NO_WAKEUP);
}

static __always_inline struct job_mark *get_mark(__u32 pid)
{
	return bpf_map_lookup_elem(&jobs, &pid);
}

static __always_inline long put_mark(__u32 pid, struct job_mark *mark)
{
	return bpf_map_update_elem(&jobs, &pid, mark, BPF_ANY);
}

static __always_inline void drop_mark(__u32 pid)
{
	bpf_map_delete_elem(&jobs, &pid);
}

static __always_inline void notify_cgroup(__u64 *id)
{
	bpf_ringbuf_output(&cgroup_notifier, id, sizeof(*id), 0);
}

static __always_inline struct sample *get_sample_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&sample_scratch, &zero);
}

static __always_inline long put_sample(struct sample *sample, __u64 size)
{
	return bpf_ringbuf_output(&samples, sample, size, BPF_RB_NO_WAKEUP);
}

#endif

/*
 * Adds a record that was not found; NULL where the map is full. Another CPU may have added it in
 * between: only that error leads to a record.
 */
#define DEFINE_ADD(name)                                                                           \
	static __always_inline struct name##_usage *add_##name(                                    \
	    __u64 epoch, struct name##_key *key, struct name##_usage *fresh)                       \
	{                                                                                          \
		long error = insert_##name(epoch, key, fresh);                                     \
                                                                                                   \
		return !error || error == -EEXIST ? get_##name(epoch, key) : 0;                    \
	}

DEFINE_ADD(task)
DEFINE_ADD(cgroup)

#endif
