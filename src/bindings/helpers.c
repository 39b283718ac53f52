// SPDX-License-Identifier: GPL-2.0
/* Inline functions and per-CPU data of the kernel that bindgen can't bind. */

#include <linux/bottom_half.h>
#include <linux/percpu.h>
#include <linux/spinlock.h>

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
 * The kernel crate's helper calls _raw_spin_lock(): two calls where C makes one.
 * What that function is made of can be had inline.
 */
void tuntap_ring_helper_spin_lock(spinlock_t *lock)
{
#if defined(CONFIG_SMP) && !defined(CONFIG_PREEMPT_RT)
	__raw_spin_lock(&lock->rlock);
#else
	spin_lock(lock);
#endif
}

void tuntap_ring_helper_spin_unlock(spinlock_t *lock)
{
	spin_unlock(lock);
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

/* One call out of line for both, and preemption is off as long as the lock is held. */
void tuntap_ring_helper_count_and_unlock(u64 entries, spinlock_t *lock)
{
	u64 *here = this_cpu_ptr(counters);

	here[TUNTAP_RING_CALLS]++;
	here[TUNTAP_RING_ENTRIES] += entries;
	spin_unlock(lock);
}

u64 tuntap_ring_helper_sum(enum tuntap_ring_counter counter)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(&counters[counter], cpu));
	return sum;
}
