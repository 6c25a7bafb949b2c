/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The same maps, fields and entries as dialect_co_re.h, as bcc wants them. The loader defines
 * TASK_ENTRIES, CPU_ENTRIES, EXECS_BYTES, ENDS_BYTES, JOB_ENTRIES, V1_SUBSYS and, where tasks are
 * sampled, SAMPLES_BYTES, and puts kernel_types.h, made from the running kernel's BTF or its
 * headers, before this.
 */
#ifndef DIALECT_BCC_H
#define DIALECT_BCC_H

#include "kepler.h"

#define HASH(name, key_type, value_type, entries)                                                  \
	BPF_F_TABLE("hash", key_type, value_type, name, entries, 0)
#define SHARED_ARRAY(name, value_type, entries)                                                    \
	BPF_F_TABLE("array", u32, value_type, name, entries, BPF_F_MMAPABLE)
#ifndef PAGE_SIZE
#define PAGE_SIZE 4096
#endif
#ifndef EEXIST
#define EEXIST 17
#endif
#define RING(name, bytes) BPF_RINGBUF_OUTPUT(name, (bytes) / PAGE_SIZE)
#define SCRATCH(name, value_type) BPF_PERCPU_ARRAY(name, value_type, 1)

/* bcc runs raw tracepoints without BTF: every field is a checked read. */
#define LOAD(ptr, field) READ(ptr, field)
/* Of the current task, which the outgoing one is at a switch: cheaper than a read. */
#define CURRENT_PID(task) ((__u32)bpf_get_current_pid_tgid())

#ifdef NO_cfs_rq
#define RQ_CLOCK(task) 0
#else
#define RQ_CLOCK(task)                                                                             \
	({                                                                                         \
		struct cfs_rq *cfs_rq_ = READ(task, se.cfs_rq);                                    \
		struct rq *rq_ = READ(cfs_rq_, rq);                                                \
		READ(rq_, clock);                                                                  \
	})
#endif

#define OFFSET_OF(type, field) __builtin_offsetof(type, field)

static const struct knobs knobs = { V1_SUBSYS, CPU_ENTRIES };

#define ENTRY(name, section) int name(struct bpf_raw_tracepoint_args *ctx)
#define ARG(type, n) ((type)ctx->args[n])

#endif
