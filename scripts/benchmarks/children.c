/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Starts so many children a second, one after the other, that end at once; for ever:
 *
 *   children RATE
 *
 * What is missed is made up for. Until the next child is due it uses its CPU.
 */
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000 + now.tv_nsec;
}

int main(int argc, char **argv)
{
	long period_ns, due_ns = now_ns();
	pid_t child;

	if (argc != 2 || atol(argv[1]) <= 0)
		return 2;
	period_ns = 1000000000 / atol(argv[1]);
	for (;;) {
		child = vfork();
		if (child == 0)
			_exit(0);
		if (child > 0)
			waitpid(child, NULL, 0);
		due_ns += period_ns;
		while (now_ns() < due_ns)
			;
	}
}
