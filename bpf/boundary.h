/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The instant that divides the slices of two tasks.
 *
 * The scheduler reads its clock at the wake-up of a task that is to preempt the running one, and
 * not again at the switch: the rest of the interrupt and the way into the scheduler count for the
 * woken task. The tracepoint comes some microseconds later, so that instant is moved back to where
 * the scheduler ended the slice. kepler_ebpf/kernel/README.md has the figures.
 */
#ifndef BOUNDARY_H
#define BOUNDARY_H

#define SHORT_NS 1000	     /* below it a difference is the way through the scheduler */
#define LEAD_PERIOD_SHIFT 17 /* the clocks are compared every 131 us at most */

/*
 * How long before now_ns the slice of prev ended, whose run time is runtime_ns now.
 *
 * What the slice has beyond the scheduler's sum is this delay and, where the scheduler subtracts
 * them, interrupts and stolen time. So if it is not short, the delay is taken from the scheduler's
 * clock. The monotonic clock leads that clock by an amount that changes slowly. The lead is known
 * after a slice with little beyond the sum. It is too large if it gives a negative delay.
 */
static __always_inline __u64 switch_delay_ns(struct cpu_slot *slot, struct task_struct *prev,
					     __u64 runtime_ns, __u64 now_ns)
{
	__u64 sum_ns = runtime_ns - slot->running_runtime_ns, *lead_ns, clock_ns;
	__u64 beyond_ns = now_ns - slot->since_ns - sum_ns; /* wraps below 0 */
	__s64 delay_ns;

	if (!sum_ns) /* rotate ran after the wake-up: a record without time would be left */
		return 0;
	if (beyond_ns < SHORT_NS && !((now_ns ^ slot->since_ns) >> LEAD_PERIOD_SHIFT))
		return beyond_ns;
	lead_ns = get_clock_lead();
	clock_ns = RQ_CLOCK(prev);
	if (!lead_ns || !clock_ns)
		return 0;
	delay_ns = now_ns - clock_ns - *lead_ns;
	if (beyond_ns < SHORT_NS)
		*lead_ns += delay_ns - beyond_ns;
	else if (delay_ns < 0)
		*lead_ns += delay_ns;
	if (delay_ns < 0 || (__s64)beyond_ns < 0)
		return 0;
	return lesser(delay_ns, beyond_ns);
}

#endif
