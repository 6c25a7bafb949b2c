/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The few kernel fields we read. CO-RE finds their real offsets at load, by name, in the BTF of
 * the running kernel; the bcc loader generates the same declarations from it with the offsets in.
 */
#ifndef KERNEL_TYPES_H
#define KERNEL_TYPES_H

#define CO_RE __attribute__((preserve_access_index))

typedef struct {
	int counter;
} CO_RE atomic_t;

struct kernfs_node {
	__u64 id;
} CO_RE;

struct cgroup_root {
	int hierarchy_id;
} CO_RE;

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
} CO_RE;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
} CO_RE;

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
} CO_RE;

struct signal_struct {
	atomic_t live;
} CO_RE;

struct rq {
	__u64 clock;
} CO_RE;

struct cfs_rq {
	struct rq *rq;
} CO_RE;

struct sched_entity {
	struct cfs_rq *cfs_rq;
	__u64 sum_exec_runtime;
	__u64 prev_sum_exec_runtime;
} CO_RE;

struct vfsmount {
	struct dentry *mnt_root;
} CO_RE;

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
} CO_RE;

struct qstr {
	const unsigned char *name;
} CO_RE;

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
} CO_RE;

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
} CO_RE;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} CO_RE;

struct file {
	struct path f_path;
} CO_RE;

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	unsigned long arg_end;
} CO_RE;

struct task_struct {
	int pid;
	int tgid;
	unsigned int flags;
	int wake_cpu;
	__u64 self_exec_id;
	__u64 start_boottime;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct mm_struct *mm;
	struct sched_entity se;
	char comm[16];
} CO_RE;

#endif
