/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Uses CPU time in two functions, 70 % in hot() and 30 % in warm(), in children if wanted:
 *
 *   two_functions MS [fork|exec COUNT]
 *
 * runs for MS milliseconds of CPU time, or starts COUNT children that do, one after the other.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUND 1000

/* Each round waits for the one before it: so no processor does a part of them faster. */
static volatile unsigned long sink;

__attribute__((noinline)) static void hot(void)
{
	for (int round = 0; round < ROUND * 70; round++)
		sink = sink * round + 1;
}

__attribute__((noinline)) static void warm(void)
{
	for (int round = 0; round < ROUND * 30; round++)
		sink = sink * round + 1;
}

__attribute__((noinline)) static void work(double cpu_s)
{
	struct timespec used;

	do {
		hot();
		warm();
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	} while (used.tv_sec + used.tv_nsec / 1e9 < cpu_s);
}

int main(int count, char **arguments)
{
	double cpu_s = atof(arguments[1]) / 1e3;
	int children = count > 3 ? atoi(arguments[3]) : 0;

	if (!children)
		work(cpu_s);
	for (int child = 0; child < children; child++) {
		pid_t pid = fork();

		if (!pid && !strcmp(arguments[2], "exec"))
			execl("/proc/self/exe", arguments[0], arguments[1], (char *)0);
		if (!pid) {
			work(cpu_s);
			_exit(0);
		}
		waitpid(pid, 0, 0);
	}
	return 0;
}
