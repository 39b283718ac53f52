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

void tuntap_ring_helper_count(enum tuntap_ring_counter counter, u64 n)
{
	this_cpu_add(counters[counter], n);
}

u64 tuntap_ring_helper_sum(enum tuntap_ring_counter counter)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(&counters[counter], cpu));
	return sum;
}
