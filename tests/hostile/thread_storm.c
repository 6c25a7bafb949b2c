/* Starts threads that end at once, one after the other in each of two threads, until killed. */
#include <pthread.h>

static void *end_at_once(void *nothing)
{
	return nothing;
}

static void *storm(void *nothing)
{
	pthread_t thread;

	for (;;)
		if (!pthread_create(&thread, 0, end_at_once, 0))
			pthread_join(thread, 0);
	return nothing;
}

int main(void)
{
	pthread_t other;

	pthread_create(&other, 0, storm, 0);
	storm(0);
}
