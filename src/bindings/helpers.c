// SPDX-License-Identifier: GPL-2.0
/* Inline functions and per-CPU data of the kernel that bindgen can't bind. */

#include <linux/bottom_half.h>
#include <linux/percpu.h>

#include "helpers.h"

static DEFINE_PER_CPU(u64, counters[TUNTAP_RING_COUNTERS]);

void tuntap_ring_helper_local_bh_disable(void)
{
	local_bh_disable();
}

void tuntap_ring_helper_local_bh_enable(void)
{
	local_bh_enable();
}

/*
 * Nothing is counted in softirq or interrupt context, so preemption is all that
 * has to be off. this_cpu_add() would turn interrupts off on an architecture
 * that can't add to per-CPU data in one instruction.
 */
void tuntap_ring_helper_count(enum tuntap_ring_counter counter)
{
	preempt_disable();
	__this_cpu_inc(counters[counter]);
	preempt_enable();
}

void tuntap_ring_helper_count_call(u64 entries)
{
	preempt_disable();
	__this_cpu_inc(counters[TUNTAP_RING_CALLS]);
	__this_cpu_add(counters[TUNTAP_RING_ENTRIES], entries);
	preempt_enable();
}

u64 tuntap_ring_helper_sum(enum tuntap_ring_counter counter)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(&counters[counter], cpu));
	return sum;
}
