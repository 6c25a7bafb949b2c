/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Maps, fields and entries as CO-RE and libbpf want them; dialect_bcc.h has the same for bcc. */
#ifndef DIALECT_CO_RE_H
#define DIALECT_CO_RE_H

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "kepler.h"
#include "kernel_types.h"

/* User space sets these sizes before loading. */
#define TASK_ENTRIES 1
#define CPU_ENTRIES 1
#define EXECS_BYTES 65536
#define ENDS_BYTES 65536
#define JOB_ENTRIES 1
#define SAMPLES_BYTES 65536

#define MAP(name, kind, key_type, value_type, entries, flags)                                      \
	struct {                                                                                   \
		__uint(type, kind);                                                                \
		__uint(max_entries, entries);                                                      \
		__uint(map_flags, flags);                                                          \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} name SEC(".maps")

#define HASH(name, key_type, value_type, entries)                                                  \
	MAP(name, BPF_MAP_TYPE_HASH, key_type, value_type, entries, 0)
#define SHARED_ARRAY(name, value_type, entries)                                                    \
	MAP(name, BPF_MAP_TYPE_ARRAY, __u32, value_type, entries, BPF_F_MMAPABLE)
#define RING(name, bytes)                                                                          \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                \
		__uint(max_entries, bytes);                                                        \
	} name SEC(".maps")
#define SCRATCH(name, value_type) MAP(name, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, value_type, 1, 0)

/* A field of a pointer that the tracepoint itself handed over: a plain load, no helper call. */
#define LOAD(ptr, field) ((ptr)->field)
#define BY_TYPE_INFO(tracepoint) "tp_btf/" tracepoint

#define CURRENT_PID(task) LOAD(task, pid)

/* The scheduler's clock on a task's CPU, 0 where this kernel has no way from the task to it. */
#define RQ_CLOCK(task) (bpf_core_field_exists((task)->se.cfs_rq) ? (task)->se.cfs_rq->rq->clock : 0)

#define OFFSET_OF(type, field)                                                                     \
	__builtin_preserve_field_info(((type *)0)->field, BPF_FIELD_BYTE_OFFSET)

#define ENTRY(name, section)                                                                       \
	SEC(section)                                                                               \
	int name(unsigned long long *ctx)
#define ARG(type, n) ((type)ctx[n])

/* Set by the loader, constant to the verifier. */
const volatile struct knobs knobs SEC(".rodata.knobs") = { KEPLER_NO_SUBSYS, CPU_ENTRIES };

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#endif
