/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a process has become by exec: the path of its executable and its first arguments.
 *
 * The path is that of /proc/PID/exe, up to the root of the process's mount namespace. bpf_d_path()
 * is not allowed in a raw tracepoint, so dentries and mounts are followed by checked reads.
 */
#ifndef EXEC_H
#define EXEC_H

#define MAX_PATH_STEPS 48 /* components and mounts together */

/*
 * Adds one component to the path, which lies behind the arguments; 0 where there is no room. The
 * length is kept in the map and not in a register. So the verifier has the same state after each
 * step, and need not follow all combinations of steps.
 */
static __always_inline int add_component(struct exec_event *event, struct dentry *dentry)
{
	volatile __u32 *length = &event->path_len;
	__u32 at = event->arguments_len + *length;
	long size;

	if (at > KEPLER_ARGUMENTS_LEN + KEPLER_PATH_LEN)
		return 0;
	size =
	    bpf_probe_read_kernel_str(event->text + at, KEPLER_NAME_LEN, READ(dentry, d_name.name));
	if (size <= 0)
		return 0;
	*length += size;
	return *length <= KEPLER_PATH_LEN;
}

static __always_inline int is_root(struct dentry *dentry)
{
	return READ(dentry, d_parent) == dentry;
}

/* Returns 1 if the path is complete. */
static __always_inline int read_path(struct exec_event *event, struct file *file)
{
	struct vfsmount *vfsmount = READ(file, f_path.mnt);
	struct mount *mount = (void *)vfsmount - OFFSET_OF(struct mount, mnt), *parent;
	struct dentry *dentry = READ(file, f_path.dentry), *mount_root;
	__u32 step;

	for (step = 0; step < MAX_PATH_STEPS; step++) {
		mount_root = READ(mount, mnt.mnt_root);
		if (dentry == mount_root) {
			parent = READ(mount, mnt_parent);
			if (parent == mount)
				return 1;
			dentry = READ(mount, mnt_mountpoint);
			mount = parent;
			continue;
		}
		if (!add_component(event, dentry))
			return 0;
		/* A file in no folder, as memfd_create() makes it. */
		if (is_root(dentry))
			return 1;
		dentry = READ(dentry, d_parent);
	}
	return 0;
}

static __always_inline int is_deleted(struct file *file)
{
	struct vfsmount *vfsmount = READ(file, f_path.mnt);
	struct dentry *dentry = READ(file, f_path.dentry);

	return !READ(dentry, d_hash.pprev) &&
	       !(is_root(dentry) && dentry == READ(vfsmount, mnt_root));
}

static __always_inline void read_arguments(struct exec_event *event, struct mm_struct *mm)
{
	__u64 start = READ(mm, arg_start), length = READ(mm, arg_end) - start;

	if (length > KEPLER_ARGUMENTS_LEN) {
		length = KEPLER_ARGUMENTS_LEN;
		event->flags |= KEPLER_ARGUMENTS_CUT;
	}
	if (bpf_probe_read_user(event->text, length, (void *)start) == 0)
		event->arguments_len = length;
}

static __always_inline void record_exec(struct task_struct *task)
{
	struct exec_event *event = get_exec_scratch();
	struct task_struct *leader = READ(task, group_leader);
	struct mm_struct *mm = READ(task, mm);
	struct file *file = READ(mm, exe_file);
	struct control *control = get_control();
	__u64 size;

	if (!event || !control)
		return;
	event->start_ns = READ(leader, start_boottime);
	event->exec_id = READ(task, self_exec_id);
	event->tgid = READ(task, tgid);
	event->flags = event->arguments_len = event->path_len = 0;
	read_arguments(event, mm);
	if (is_deleted(file))
		event->flags |= KEPLER_PATH_DELETED;
	if (!read_path(event, file)) {
		event->flags |= KEPLER_PATH_UNKNOWN;
		event->path_len = 0;
	}
	size = sizeof(*event) - sizeof(event->text) + event->arguments_len + event->path_len;
	if (size > sizeof(*event) || put_exec(event, size))
		__sync_fetch_and_add(&control->exec_events_lost, 1);
}

#endif
