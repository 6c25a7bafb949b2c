/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps. map_helpers.h has all the code that reads or writes them. */
#ifndef MAPS_H
#define MAPS_H

#define CGROUP_ENTRIES 4096
#define NOTIFIER_BYTES 65536 /* a multiple of every page size */

SHARED_ARRAY(control, struct control, 1);
SHARED_ARRAY(slots, struct cpu_slot, CPU_ENTRIES);
HASH(tasks_0, struct task_key, struct task_usage, TASK_ENTRIES);
HASH(tasks_1, struct task_key, struct task_usage, TASK_ENTRIES);
HASH(cgroups_0, struct cgroup_key, struct cgroup_usage, CGROUP_ENTRIES);
HASH(cgroups_1, struct cgroup_key, struct cgroup_usage, CGROUP_ENTRIES);
HASH(cgroup_events, __u64, struct cgroup_event, CGROUP_ENTRIES);
/* Its records are not read: each wakes user space, which then drains cgroup_events. */
RING(cgroup_notifier, NOTIFIER_BYTES);
SCRATCH(event_scratch, struct cgroup_event);
SCRATCH(clock_lead, __u64);
/* Rings that wake nobody: user space reads them when it closes an interval, or accounts for it. */
RING(ends, ENDS_BYTES);
SCRATCH(end_scratch, struct process_end);
RING(execs, EXECS_BYTES);
SCRATCH(exec_scratch, struct exec_event);
HASH(jobs, __u32, struct job_mark, JOB_ENTRIES);
#ifdef SAMPLES_BYTES
RING(samples, SAMPLES_BYTES);
SCRATCH(sample_scratch, struct sample);
#endif

#endif
