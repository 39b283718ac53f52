// SPDX-License-Identifier: GPL-2.0
/* Inline functions of the kernel and per-CPU data, which bindgen cannot bind. */

#include <linux/bottom_half.h>
#include <linux/kcsan-checks.h>
#include <linux/netdevice.h>
#include <linux/nsproxy.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <net/net_namespace.h>
#include <net/rtnetlink.h>

#include "helpers.h"

static DEFINE_PER_CPU(u64, counters[TUNTAP_RING_COUNTERS]);

#ifdef CONFIG_KCSAN
/* Announces an access to KCSAN, as the C compiler does, see src/access.rs. */
void tuntap_ring_helper_announce(const void *place, size_t size, bool write, bool marked)
{
	__kcsan_check_access(place, size, (write ? KCSAN_ACCESS_WRITE : 0) |
			     (marked ? KCSAN_ACCESS_ATOMIC : 0));
}

/* The C barrier, which KCSAN instruments. */
void tuntap_ring_helper_smp_mb(void)
{
	/* Its Rust caller names the barrier that it pairs with. */
	smp_mb();
}
#endif

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
 * The body of that function can be inlined.
 */
void tuntap_ring_helper_spin_lock(spinlock_t *lock)
{
#if defined(CONFIG_SMP) && !defined(CONFIG_PREEMPT_RT) && \
	!defined(CONFIG_GENERIC_LOCKBREAK) && !defined(CONFIG_DEBUG_SPINLOCK)
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
 * Nothing is counted in softirq or interrupt context, so it is enough to turn
 * preemption off. this_cpu_add() would turn interrupts off on an architecture
 * that cannot add to per-CPU data in one instruction.
 */
void tuntap_ring_helper_count(enum tuntap_ring_counter counter)
{
	preempt_disable();
	__this_cpu_inc(counters[counter]);
	preempt_enable();
}

/*
 * Counts a call that took at least one entry, and releases the lock: one call out
 * of line for both. Preemption is off as long as the lock is held, except with
 * PREEMPT_RT.
 */
void tuntap_ring_helper_count_and_unlock(unsigned long entries, spinlock_t *lock)
{
	/* The sum of these counters is the number of calls. */
	int batch = min(TUNTAP_RING_BATCHES + __fls(entries), TUNTAP_RING_LAST_BATCH);

	if (IS_ENABLED(CONFIG_PREEMPT_RT)) {
		this_cpu_inc(counters[batch]);
		this_cpu_add(counters[TUNTAP_RING_ENTRIES], entries);
	} else {
		u64 *here = this_cpu_ptr(counters);

		here[batch]++;
		here[TUNTAP_RING_ENTRIES] += entries;
	}
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

/*
 * Calls FOUND for each queue that its driver has stopped, of the tun devices that
 * are up in the network namespace of the current process.
 */
void tuntap_ring_helper_list_stopped(tuntap_ring_found_t found, void *data)
{
	struct net_device *dev;
	unsigned int i;

	rcu_read_lock();
	for_each_netdev_rcu(current->nsproxy->net_ns, dev) {
		if (!dev->rtnl_link_ops || strcmp(dev->rtnl_link_ops->kind, "tun") ||
		    !netif_running(dev))
			continue;
		for (i = 0; i < dev->real_num_tx_queues; i++)
			if (netif_tx_queue_stopped(netdev_get_tx_queue(dev, i)))
				found(dev->name, i, data);
	}
	rcu_read_unlock();
}
