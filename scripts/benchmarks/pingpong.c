/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Two processes wake each other through pipes, so many times each:
 *
 *   pingpong COUNT
 *
 * Prints the CPU time of both in nanoseconds, and their context switches.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static long cpu_ns, switches;

static void add(int who)
{
	struct rusage used;

	getrusage(who, &used);
	cpu_ns += (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000;
	cpu_ns += (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000;
	switches += used.ru_nvcsw + used.ru_nivcsw;
}

int main(int argc, char **argv)
{
	int to[2], from[2];
	char byte = 0;
	long count;
	pid_t child;

	if (argc != 2 || pipe(to) || pipe(from))
		return 2;
	count = atol(argv[1]);
	child = fork();
	if (child < 0)
		return 1;
	for (; count > 0; count--) {
		if (child && write(to[1], &byte, 1) != 1)
			return 1;
		if (read(child ? from[0] : to[0], &byte, 1) != 1)
			return 1;
		if (!child && write(from[1], &byte, 1) != 1)
			return 1;
	}
	if (!child)
		return 0;
	waitpid(child, NULL, 0);
	add(RUSAGE_SELF);
	add(RUSAGE_CHILDREN);
	printf("%ld %ld\n", cpu_ns, switches);
	return 0;
}
