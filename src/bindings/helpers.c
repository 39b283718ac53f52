// SPDX-License-Identifier: GPL-2.0
/* Inline functions and per-CPU data of the kernel that bindgen can't bind. */

#include <linux/bottom_half.h>
#include <linux/if_tun.h>
#include <linux/kcsan-checks.h>
#include <linux/netdevice.h>
#include <linux/nsproxy.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/skbuff.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <net/net_namespace.h>
#include <net/rtnetlink.h>

#include "helpers.h"

static DEFINE_PER_CPU(u64, counters[TUNTAP_RING_COUNTERS]);

#ifdef CONFIG_KCSAN
/* What the compiler puts before each access of C, see src/access.rs. */
void tuntap_ring_helper_announce(const void *place, size_t size, bool write, bool marked)
{
	__kcsan_check_access(place, size, (write ? KCSAN_ACCESS_WRITE : 0) |
			     (marked ? KCSAN_ACCESS_ATOMIC : 0));
}

/* Those of C, which KCSAN is told of. */
void tuntap_ring_helper_smp_mb(void)
{
	/* What it pairs with, its Rust caller says. */
	smp_mb();
}

void tuntap_ring_helper_smp_wmb(void)
{
	/* As above. */
	smp_wmb();
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
 * What that function is made of can be had inline.
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

/*
 * One call out of line for both. Preemption is off as long as the lock is held,
 * but with PREEMPT_RT.
 */
void tuntap_ring_helper_count_and_unlock(u64 entries, spinlock_t *lock)
{
	/* There is none for calls, as each is in a batch. */
	int batch = min(TUNTAP_RING_BATCHES + fls64(entries), TUNTAP_RING_LAST_BATCH);

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

/* The CPU that a packet in a ring of tun comes from; -1 where that is not known. */
int tuntap_ring_helper_sender(void *entry)
{
	struct sk_buff *skb = entry;

	return tun_is_xdp_frame(entry) ? -1 : skb->alloc_cpu;
}

/* A qdisc that is to run on another CPU: one at a time for each CPU that asks. */
struct remote {
	call_single_data_t csd;
	struct netdev_queue *queue;	/* NULL: at rest */
};

static DEFINE_PER_CPU(struct remote, remotes);

/*
 * On the other CPU: mostly in an interrupt, and NET_TX and with it the qdisc run
 * on the way out of it; a CPU that polls while idle leaves them to ksoftirqd.
 */
static void schedule_remote(void *info)
{
	struct remote *remote = info;
	struct netdev_queue *queue = remote->queue;

	netif_schedule_queue(queue);
	dev_put(queue->dev);
	/*
	 * Pairs with smp_load_acquire() in tuntap_ring_helper_wake(): all of it was
	 * read before it is written again. Litmus test: `remote-wake`
	 */
	smp_store_release(&remote->queue, NULL);
}

/*
 * As netif_tx_wake_queue(), but the qdisc runs on another CPU. The stop is
 * cleared here and now, as the caller holds the ring's locks; that the qdisc is
 * scheduled later harms nobody, whatever becomes of queue and device meanwhile.
 * Not inlined, so that tests see its calls.
 */
static noinline void tuntap_ring_wake_on(struct netdev_queue *queue, int cpu,
					 struct remote *remote)
{
	dev_hold(queue->dev);
	remote->queue = queue;
	INIT_CSD(&remote->csd, schedule_remote, remote);
	/*
	 * Seen as running by whoever schedules it: the call is put into a list by a
	 * cmpxchg(), and taken out by an xchg(). Litmus test: `remote-schedule`
	 */
	netif_tx_start_queue(queue);
	/* The CPU can't go while preemption is off; if it has gone before, then here. */
	if (smp_call_function_single_async(cpu, &remote->csd))
		schedule_remote(remote);
	else
		__this_cpu_inc(counters[TUNTAP_RING_REMOTE]);
}

/*
 * Wakes a stopped queue whose ring's locks are held; CPU is where its qdisc should
 * run, -1 for here. With PREEMPT_RT it is always here: the locks leave preemption
 * on, and a task could meet another one at its CPU's struct remote.
 */
void tuntap_ring_helper_wake(struct netdev_queue *queue, int cpu)
{
	struct remote *remote;

	if (IS_ENABLED(CONFIG_PREEMPT_RT) || cpu < 0 || cpu >= nr_cpu_ids ||
	    cpu == smp_processor_id() || !cpu_online(cpu))
		goto here;
	remote = this_cpu_ptr(&remotes);
	/* Pairs with smp_store_release() in schedule_remote(). Litmus test: `remote-wake` */
	if (!smp_load_acquire(&remote->queue)) {
		tuntap_ring_wake_on(queue, cpu, remote);
		return;
	}
here:
	netif_tx_wake_queue(queue);
}

/* Before the module goes: nobody is called back any more. Its users are gone. */
void tuntap_ring_helper_finish_wakes(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		while (READ_ONCE(per_cpu(remotes, cpu).queue))
			cond_resched();
	/* Who has written that last may still be in the function, with interrupts off. */
	synchronize_rcu();
}

/*
 * Calls FOUND for each queue of a tun device that is up, in the network namespace
 * of the current process, whose driver has stopped it just now.
 */
void tuntap_ring_helper_tell_stopped(tuntap_ring_found_t found, void *data)
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
