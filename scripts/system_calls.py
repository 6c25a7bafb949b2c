"""The system calls that a run may use: the one source of every filter in deploy/.

A family is here because a run uses one of its calls; tests/deploy/test_system_calls.py traces runs
and finds each call that is missing and each family that is not used. The rule for the others of a
family: what another Python (3.11 to 3.13), C library, kernel or CPU uses in place of a call that
is used here. What gives power over other processes, mounts, namespaces or the kernel is in none.
"""

from dataclasses import dataclass

ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")

NAMESPACES = 0x7E020000
"""The flags of clone() that make a namespace: cgroup, ipc, mnt, net, pid, user, uts."""

SOCKETS = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
"""The address families of sockets: the journal's and systemd's, and those of HTTP."""

NO_SUCH_CALL = 38
"""ENOSYS: the C library then uses clone(), whose flags a filter can see."""


@dataclass(frozen=True)
class Family:
    """Calls with one purpose; ``calls`` are separated by spaces."""

    purpose: str
    calls: str

    @property
    def names(self) -> tuple[str, ...]:
        """The calls, one by one."""
        return tuple(self.calls.split())


FAMILIES = (
    Family("the work: BPF, the power PMU", "bpf perf_event_open"),
    Family("a cgroup by its id", "open_by_handle_at name_to_handle_at"),
    Family(
        "start and end of a program",
        "execve execveat exit exit_group arch_prctl prctl set_tid_address set_robust_list "
        "get_robust_list rseq getrlimit prlimit64 restart_syscall",
    ),
    Family(
        "memory",
        "brk mmap munmap mremap mprotect madvise mincore membarrier mbind get_mempolicy",
    ),
    Family("threads", "futex futex_waitv sched_yield sched_getaffinity getcpu gettid"),
    Family("who and where we are", "getpid getppid getpgrp getpgid getsid uname sysinfo getcwd"),
    Family(
        "users and capabilities, read",
        "getuid geteuid getgid getegid getresuid getresgid getgroups capget",
    ),
    Family("our own rights, given up", "capset"),
    Family("our own priority", "getpriority setpriority"),
    Family(
        "signals to ourselves",
        "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait rt_sigpending rt_sigsuspend "
        "sigaltstack pause signalfd signalfd4",
    ),
    Family(
        "time",
        "clock_gettime clock_getres gettimeofday time times getrusage nanosleep clock_nanosleep",
    ),
    Family(
        "waiting",
        "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait "
        "epoll_pwait2 eventfd eventfd2 pipe pipe2 timerfd_create timerfd_settime timerfd_gettime",
    ),
    Family("random numbers", "getrandom"),
    Family(
        "files, read and written",
        "open openat openat2 close close_range read readv pread64 preadv preadv2 write writev "
        "pwrite64 pwritev pwritev2 lseek dup dup2 dup3 fcntl ioctl flock fadvise64 sendfile "
        "memfd_create",
    ),
    Family(
        "files, looked at",
        "stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink "
        "readlinkat getdents getdents64",
    ),
    Family(
        "folders and temporary files",
        "chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 ftruncate "
        "fsync fdatasync umask",
    ),
    Family(
        "connections",
        "bind listen accept accept4 connect shutdown getsockname getpeername getsockopt "
        "setsockopt sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg",
    ),
)

# Behind a condition in the profile, which systemd's filter has settings of its own for.
CONDITIONAL = ("clone", "clone3", "socket", "socketpair")


def seccomp_profile() -> dict[str, object]:
    """Return the profile as the OCI's runtime specification has it; all runtimes read that."""
    allow = "SCMP_ACT_ALLOW"
    plain = [{"names": list(family.names), "action": allow} for family in FAMILIES]
    threads = {"index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": list(ARCHITECTURES),
        "syscalls": [
            *plain,
            {"names": ["clone"], "action": allow, "args": [threads]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": NO_SUCH_CALL},
            *(
                {
                    "names": ["socket", "socketpair"],
                    "action": allow,
                    "args": [{"index": 0, "value": number, "op": "SCMP_CMP_EQ"}],
                }
                for number in SOCKETS.values()
            ),
        ],
    }


def unit_lines() -> list[str]:
    """Return the lines of the systemd unit that allow the calls, with the purpose of each."""
    lines = []
    for family in (*FAMILIES, Family("new threads and sockets", " ".join(CONDITIONAL))):
        lines += [f"# {family.purpose}", f"SystemCallFilter={family.calls}"]
    return lines
