/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the kernel side and user space share: the records in the maps and their limits.
 * kepler_ebpf/kernel/layout.py mirrors every struct; a test compares the two through BTF.
 * Only __u32, __u64 and char arrays, every struct free of padding.
 */
#ifndef KEPLER_H
#define KEPLER_H

#define KEPLER_COMM_LEN 16
#define KEPLER_PATH_LEN 512
#define KEPLER_NAME_LEN 256 /* one component of a path, with its terminator */
#define KEPLER_ARGUMENTS_LEN 256
/* The last name is read before it is known to be too long. */
#define KEPLER_EXEC_TEXT_LEN (KEPLER_ARGUMENTS_LEN + KEPLER_PATH_LEN + KEPLER_NAME_LEN)

/* A cgroup id read from a v1 hierarchy carries this bit, since ids repeat across hierarchies. */
#define KEPLER_CGROUP_V1 (1ULL << 63)
#define KEPLER_NO_SUBSYS 0xffffffffU

#define KEPLER_ENDED 1U	   /* task_usage.flags: the last thread of the process has exited */
#define KEPLER_JOB_SHIFT 8 /* and above this bit the job of the task, 0 for none */

/* One task on one socket in one cgroup: a reused pid has another start, so it is another task. */
struct task_key {
	__u64 start_ns;
	__u64 cgroup_id;
	__u32 pid;
	__u32 socket;
};

struct task_usage {
	__u64 cpu_ns;
	__u64 process_start_ns;
	__u32 tgid;
	__u32 parent_tgid;
	__u32 switches;
	__u32 flags;
	__u64 exec_id;	  /* changes when the process calls exec */
	__u64 runtime_ns; /* the scheduler's own sum for the task, when it was charged last */
	char comm[KEPLER_COMM_LEN];
	char process_comm[KEPLER_COMM_LEN];
};

/* Holds the time of tasks that found no room in the task map, and who shares the last of it. */
struct cgroup_key {
	__u64 cgroup_id;
	__u64 socket;
};

struct cgroup_usage {
	__u64 cpu_ns;
	__u64 switches;
	__u64 tasks; /* its records among the last that the task map has room for */
};

/* A process whose last thread has exited and had no record in which to note it. */
struct process_end {
	__u64 start_ns; /* of the process */
	__u64 epoch;
	__u32 tgid;
	__u32 reserved;
};

/*
 * One CPU, written by that CPU alone but for moved_ns (and the socket, which user space sets before
 * attaching).
 *
 * idle_ns holds cumulative idle time and the fact of being idle in one word, so that a reader
 * never sees half of a change: minus the start is added on entering idle, the end on leaving.
 * Negative means idle since then, and idle time at t is idle_ns + t.
 */
struct cpu_slot {
	__u64 since_ns; /* start of the running slice */
	__s64 idle_ns;
	__u64 busy_ns;	    /* cumulative, lost and overflow included */
	__u64 lost_ns;	    /* cumulative: no owner can be charged */
	__u64 overflow_ns;  /* cumulative: in the cgroup map only */
	__u64 closed_at_ns; /* the last change of epoch, and the figures at that instant */
	__s64 closed_idle_ns;
	__u64 closed_busy_ns;
	__u64 closed_lost_ns;
	__u64 closed_overflow_ns;
	__u64 epoch; /* its lowest bit picks the set of maps */
	__u32 socket;
	__u32 running;	    /* pid switched in last, 0 for idle */
	__u64 running_task; /* its task_struct, and its own run time at that switch */
	__u64 running_runtime_ns;
	__u64 running_cgroup_id; /* where the slice began */
	__u64 moved_ns;		 /* when the running task was moved to another; any CPU writes */
};

/* What is fixed at load. */
struct knobs {
	__u32 v1_subsys; /* index of the v1 controller, KEPLER_NO_SUBSYS for none */
	__u32 cpus;
};

struct control {
	__u64 epoch;
	__u64 self_start_ns; /* the sampler's own process, in the host's terms */
	__u32 self_tgid;
	__u32 v1_hierarchy; /* hierarchy id of the v1 controller, 0 for none */
	__u64 cgroup_events;
	__u64 cgroup_events_lost;
	__u64 hidden_ns; /* cumulative: of the lost time, that of switches not seen */
	__u64 exec_events_lost;
	__u64 recovered; /* switches that were not traced and were made up for */
	__u64 ends_lost; /* of processes, neither in a record nor in the ring */
	__u64 scarce;	 /* with so much room left in a task map, cgroups share it */
	__u64 room_0;	 /* records for which each task map has room; user space sets it anew */
	__u64 room_1;
	__u64 jobs;	 /* jobs so far: 0 spares each new task and each new record the look-up */
	__u64 job_tasks; /* tasks that were started in a job */
	__u64 marks_lost;
	__u64 pre_exec_ns; /* what the first task of the last job ran before its exec */
	__u64 pending_pid; /* that task, until its exec */
	__u64 sample_all;  /* also tasks of no job; user space sets it */
	__u64 samples_lost;
};

#define KEPLER_JOB_ARMED 1U   /* job_mark.flags: its next child is the first task of the job */
#define KEPLER_JOB_PENDING 2U /* the first task of a job, before its exec */

/* By pid: a task of a job. start_ns is 0 where user space made the mark of whoever has the pid. */
struct job_mark {
	__u64 start_ns;
	__u32 job;
	__u32 flags;
};

#define KEPLER_MAX_FRAMES 127 /* as many as the kernel has in a stack by default */
#define KEPLER_FRAME_BYTES 32
#define KEPLER_STACK_BYTES (KEPLER_MAX_FRAMES * (8 + KEPLER_FRAME_BYTES))

/*
 * What a task was doing, as long as its stacks: the addresses in the kernel, then the frames in
 * user space, each of the kernel's struct bpf_stack_build_id. The innermost frame is first. A
 * stack that could not be read has no frames.
 */
struct sample {
	__u64 start_ns;		/* of the task */
	__u64 process_start_ns; /* of its process */
	__u64 epoch;		/* in which its running slice is charged */
	__u32 pid;
	__u32 tgid;
	__u32 kernel_bytes;
	__u32 user_bytes;
	__u32 has_user; /* no thread of the kernel, nor one it made for a process */
	__u32 reserved;
	char stack[KEPLER_STACK_BYTES];
};

struct cgroup_event {
	__u32 removed;
	__u32 reserved;
	char path[KEPLER_PATH_LEN];
};

#define KEPLER_PATH_UNKNOWN 1U	/* exec_event.flags: too long, too deep, or not readable */
#define KEPLER_PATH_DELETED 2U	/* the file has no name in any folder (any more) */
#define KEPLER_ARGUMENTS_CUT 4U /* there are more of them than fit */

/*
 * One exec, as long as its text: the arguments, each with its terminator, then the components of
 * the executable's path, each with its terminator, the last component first.
 */
struct exec_event {
	__u64 start_ns; /* of the process */
	__u64 exec_id;
	__u32 tgid;
	__u32 flags;
	__u32 arguments_len;
	__u32 path_len;
	char text[KEPLER_EXEC_TEXT_LEN];
};

#define KEPLER_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)
KEPLER_SIZE(task_key, 24);
KEPLER_SIZE(task_usage, 80);
KEPLER_SIZE(cgroup_key, 16);
KEPLER_SIZE(cgroup_usage, 24);
KEPLER_SIZE(process_end, 24);
KEPLER_SIZE(cpu_slot, 128);
KEPLER_SIZE(knobs, 8);
KEPLER_SIZE(control, 152);
KEPLER_SIZE(job_mark, 16);
KEPLER_SIZE(sample, 5128);
KEPLER_SIZE(cgroup_event, 520);
KEPLER_SIZE(exec_event, 1056);

#endif
